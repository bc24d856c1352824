#!/bin/bash
# apparmor.sh PROFILE: whether a parser takes the profile that knows what Ubuntu 24.04's knows: ABI 4.0, and the rule `userns`.
#
# Debian 12's does not. There, Debian 13's is unpacked below target/, with the C library that it wants; nothing is installed.
set -euo pipefail
profile=$(realpath "$1")
cd "$(dirname "$0")/.."
unpacked=${CARGO_TARGET_DIR:-target}/apparmor

fetch() {
    local mirror work
    echo "== unpacking Debian 13's apparmor into $unpacked (it is not installed)" >&2
    work=$(mktemp -d)
    # shellcheck disable=SC2016 # apt's variable, not the shell's
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p)
    [ -n "$mirror" ] || { echo "apparmor.sh: apt knows no Debian repository: run apt-get update" >&2; return 1; }
    mkdir -p "$work"/{lists/partial,cache/archives/partial} "$unpacked.new"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
    cat >"$work/apt.conf" <<CONF
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
CONF
    APT_CONFIG=$work/apt.conf apt-get update -qq </dev/null
    (cd "$work" && APT_CONFIG=$work/apt.conf apt-get download -qq apparmor libc6 </dev/null)
    for package in "$work"/*.deb; do dpkg-deb -x "$package" "$unpacked.new"; done
    rm -rf "$work" "$unpacked"
    mv "$unpacked.new" "$unpacked"
}

if [ -e /etc/apparmor.d/abi/4.0 ] && command -v apparmor_parser >/dev/null; then
    parser=(apparmor_parser) base=/etc/apparmor.d
else
    [ -d "$unpacked" ] || fetch
    libraries=$unpacked/usr/lib/x86_64-linux-gnu base=$unpacked/etc/apparmor.d
    parser=("$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$unpacked/usr/sbin/apparmor_parser"
        --config-file /dev/null)
    [ -x "${parser[3]}" ] || parser[3]=$unpacked/sbin/apparmor_parser
fi

# Only read and compiled, with the features of the ABI: no kernel is asked, and none is told.
parse() { "${parser[@]}" --skip-kernel-load --skip-cache --base "$base" --policy-features "$base/abi/4.0" "$@"; }

parse "$profile"
# A parser that takes anything would prove nothing.
if sed 's/userns,/usernss,/' "$profile" | parse >/dev/null 2>&1; then
    echo "apparmor.sh: the parser takes a rule that does not exist" >&2
    exit 1
fi
echo "AppArmor takes $profile ($("${parser[@]}" --version 2>/dev/null | sed -n 1p))"
