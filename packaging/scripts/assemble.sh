#!/bin/bash
# assemble.sh SCRIPT: a package's script, with the files that its `#include NAME` lines name in their place.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
while IFS= read -r line; do
    case $line in
    *'#include '*) indent=${line%%#*}; sed "s/^\(.\)/$indent\1/" "$here/${line#*#include }" ;;
    *) printf '%s\n' "$line" ;;
    esac
done <"$1"
