#!/bin/bash
# Makes sure that what a make target needs is there: prerequisites.sh [root] [build] [lint] [test] [agents] [demo] [dist] [bench]
#
# Installs Debian packages only if a command is missing, asks nothing, and never touches the Rust toolchain
# beyond adding the two components that the lints need.
set -euo pipefail

die() {
    printf 'stockade: %s\n' "$*" >&2
    exit 1
}

# One line each: the command that must exist, and the Debian package that brings it.
needs() {
    case $1 in
    build) echo "cc gcc" ;;
    lint) ;;
    test)
        printf "%s\n" "unshare util-linux" "ip iproute2" "bwrap bubblewrap" "git git" "python3 python3" "node nodejs" \
            "npm npm" "curl curl" "openssl openssl" "make make" "top procps" "less less" "vi vim-tiny" \
            "ssh openssh-client" "rsyslogd rsyslog" "go golang-go" "dpkg-deb dpkg" "objdump binutils" "systemd-sysusers systemd"
        ;;
    agents) printf "%s\n" "git git" "python3 python3" "node nodejs" "npm npm" ;;
    demo) printf "%s\n" "unshare util-linux" "git git" "python3 python3" "pgrep procps" "curl curl" ;;
    dist)
        printf '%s\n' "dpkg-deb dpkg" "rpmbuild rpm" "objdump binutils" "python3 python3" "git git" "lintian lintian" "rpmlint rpmlint"
        ;;
    bench) printf '%s\n' "hyperfine hyperfine" "bwrap bubblewrap" "crun crun" "git git" "python3 python3" ;;
    *) die "prerequisites.sh: unknown group '$1'" ;;
    esac
}

require_root() {
    [ "$(id -u)" = 0 ] && return
    die "this needs root, for namespaces, cgroups and idmapped mounts. Run it as: sudo -E env \"PATH=\$PATH\" make …"
}

require_rust() {
    command -v cargo >/dev/null ||
        die "cargo is not on the PATH of $(id -un): install Rust 1.88 or later (https://rustup.rs), or keep your PATH: sudo -E env \"PATH=\$PATH\" make …"
}

require_lints() {
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        command -v rustup >/dev/null || die "cargo $component is missing: install it beside cargo"
        rustup component add "${component/#fmt/rustfmt}" || die "cannot add $component to the Rust toolchain"
    done
}

# A compiler without the C library's headers and start files cannot link.
links() {
    command -v cc >/dev/null && echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null
}

# etcd-client generates its messages with protoc, which must find the messages that come with protobuf itself.
generates() {
    local in
    command -v protoc >/dev/null || return
    in=$(mktemp -d)
    echo 'syntax = "proto3"; import "google/protobuf/struct.proto"; import "google/protobuf/descriptor.proto";' >"$in/a.proto"
    protoc "--proto_path=$in" --descriptor_set_out=/dev/null "$in/a.proto" 2>/dev/null
    local rc=$?
    rm -r "$in"
    return $rc
}

missing=()
for group in "$@"; do
    case $group in
    root) require_root && continue ;;
    build)
        links || missing+=(libc6-dev)
        generates || missing+=(protobuf-compiler libprotobuf-dev)
        ;;
    agents) python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv) ;;
    test)
        # The driver for TLS is a package of its own, and brings no command.
        compgen -G "/usr/lib/*/rsyslog/lmnsd_gtls.so" >/dev/null || missing+=(rsyslog-gnutls)
        [ -n "$("$(dirname "$0")"/etcd.sh path)" ] || fetch_etcd=1
        [ -n "$("$(dirname "$0")"/etcd.sh path newer)" ] || fetch_newer_etcd=1
        ;;
    esac
    while read -r program package; do
        [ -z "$program" ] || command -v "$program" >/dev/null || missing+=("$package")
    done < <(needs "$group")
done

if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    command -v apt-get >/dev/null || die "missing, and there is no apt-get to install them: ${missing[*]}"
    require_root
    echo "== installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null || die "apt-get update failed; needed: ${missing[*]}"
    # What brings a service (rsyslog) does not start it here: invoke-rc.d(8) asks this first.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null || die "cannot install ${missing[*]}"
fi

if [ -n "${fetch_etcd:-}" ]; then
    "$(dirname "$0")"/etcd.sh fetch || die "cannot get etcd for the tests: install etcd-server"
fi

if [ -n "${fetch_newer_etcd:-}" ]; then
    "$(dirname "$0")"/etcd.sh fetch newer || echo "== left out: tests against a newer etcd, which this host's mirror does not have"
fi

for group in "$@"; do
    case $group in
    build) require_rust ;;
    lint) require_lints ;;
    esac
done
