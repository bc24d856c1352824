#!/bin/bash
# build.sh DIR: the six programs of a package, into DIR. The same commit gives the same bytes, in whatever directory.
#
# The privileged ones are built apart from the rest: what only the others ask of a shared library is not in them then, and
# they are optimised for size, for there is one shim per agent (docs/adr/0015-one-tree-two-packages.md).
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
target=${CARGO_TARGET_DIR:-target}/dist
registry=${CARGO_HOME:-$HOME/.cargo}

# Paths of this machine are nobody's business, and differ.
export RUSTFLAGS="--remap-path-prefix=$PWD=/usr/src/stockade --remap-path-prefix=$registry=/usr/src/cargo"
export CFLAGS="-ffile-prefix-map=$PWD=/usr/src/stockade -ffile-prefix-map=$registry=/usr/src/cargo"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC

# `cargo rustc`: the linker's script is for the programs themselves, and not for what is executed to build them.
for program in stockade-launcher stockade-shim; do
    echo "== building $program (without network code, for size)"
    cargo rustc --locked --target-dir "$target" --profile small --no-default-features --bin "$program" -- \
        -C "link-arg=-Wl,-T,packaging/privileged.ld"
done
echo "== building stockade, stockade-client, stockade-egress and stockaded"
cargo build --locked --target-dir "$target" --release --bin stockade --bin stockade-client --bin stockade-egress --bin stockaded

mkdir -p "$out"
install -m 755 -t "$out" "$target"/small/stockade-{launcher,shim} "$target"/release/stockade{,-client,-egress,d}
if readelf --program-headers --dynamic "$out/stockade" | grep -qE 'INTERP|NEEDED'; then
    echo "build.sh: stockade needs a loader: libc.a is missing (Debian: libc6-dev, Fedora: glibc-static)" >&2
    exit 1
fi
for program in stockade-launcher stockade-shim; do
    if grep -qaE 'tokio|rustls' "$out/$program"; then
        echo "build.sh: $program has a string of tokio or rustls in it" >&2
        exit 1
    fi
done
