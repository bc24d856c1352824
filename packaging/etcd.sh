#!/bin/bash
# The etcd that tests start and stop themselves: `etcd.sh path` prints where one is, or nothing; `etcd.sh fetch` gets Debian's.
#
# It is unpacked below target/ instead of installed: the package would start a service on this host, and enable it.
set -euo pipefail
cd "$(dirname "$0")/.."
unpacked="${CARGO_TARGET_DIR:-target}/etcd"

case ${1:-} in
path)
    if command -v etcd; then :; elif [ -x "$unpacked/usr/bin/etcd" ]; then realpath "$unpacked/usr/bin/etcd"; fi
    ;;
fetch)
    command -v apt-get >/dev/null || exit 1
    echo "== unpacking etcd-server into $unpacked (it is not installed)"
    rm -rf "$unpacked"
    mkdir -p "$unpacked"
    unpacked=$(realpath "$unpacked")
    fetched=$(mktemp -d)
    trap 'rm -rf "$fetched"' EXIT
    # apt-get fetches as a user of its own, who must be able to write there.
    chmod 777 "$fetched"
    apt-get update -qq </dev/null
    (cd "$fetched" && apt-get download -qq etcd-server </dev/null && dpkg-deb -x etcd-server_*.deb "$unpacked")
    ;;
*)
    echo "usage: etcd.sh path | fetch" >&2
    exit 2
    ;;
esac
