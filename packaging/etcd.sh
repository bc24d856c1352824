#!/bin/bash
# The etcds that tests start and stop themselves: `etcd.sh path [newer]` prints where one is, or nothing; `etcd.sh fetch [newer]` gets it.
#
# Without a word: this host's, or that of its Debian (3.4 in bookworm). `newer`: that of a later Debian (3.5 in trixie), from the
# same mirror that apt takes this host's packages from, checked against the same keys.
# They are unpacked below target/ instead of installed: the package would start a service on this host, and enable it.
set -euo pipefail
cd "$(dirname "$0")/.."
# The release after the one that `etcd.sh` itself is for.
newer=trixie

usage() {
    echo "usage: etcd.sh path | fetch [newer]" >&2
    exit 2
}

[ $# -le 2 ] || usage
case ${2:-} in
"") unpacked="${CARGO_TARGET_DIR:-target}/etcd" ;;
newer) unpacked="${CARGO_TARGET_DIR:-target}/etcd-newer" ;;
*) usage ;;
esac

# apt's settings under which it knows of nothing but the later release; the list is signed by a key that this host trusts already.
only_newer() {
    local mirror keys
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 'Component: main' | head -1)
    [ -n "$mirror" ] || { echo "etcd.sh: apt has no Debian mirror" >&2; return 1; }
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
    echo "deb [signed-by=$keys] $mirror $newer main" >"$1/sources.list"
    settings=(
        -o "Dir::Etc::SourceList=$1/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$1/lists"
        -o "Dir::Cache=$1/cache" -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    )
}

case ${1:-} in
path)
    if [ -z "${2:-}" ] && command -v etcd; then :; elif [ -x "$unpacked/usr/bin/etcd" ]; then realpath "$unpacked/usr/bin/etcd"; fi
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
    settings=()
    [ -z "${2:-}" ] || only_newer "$fetched"
    apt-get "${settings[@]}" update -qq </dev/null
    (cd "$fetched" && apt-get "${settings[@]}" download -qq etcd-server </dev/null && dpkg-deb -x etcd-server_*.deb "$unpacked")
    ;;
*)
    usage
    ;;
esac
