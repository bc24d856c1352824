#!/bin/bash
# Installs the clients that Parallax has of etcd, gRPC and WebSockets, from npm, and prints where: parallax.sh [DIR]
#
# Done once: an installation with the same versions is used again. Progress goes to standard error.
set -euo pipefail

npm=(etcd3@1.1.2 @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.7.15 ws@8.23.0)

directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/stockade/parallax}

install() {
    mkdir -p "$directory"
    echo "== installing ${npm[*]}"
    npm install --prefix "$directory" --no-audit --no-fund "${npm[@]}"
    printf '%s\n' "${npm[*]}" >"$directory/versions"
}

[ "$(cat "$directory/versions" 2>/dev/null)" = "${npm[*]}" ] || install >&2
printf '%s\n' "$directory"
