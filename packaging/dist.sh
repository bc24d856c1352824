#!/bin/bash
# dist.sh: the .deb and the .rpm, in target/dist/packages, from one tree; linted, and held to their sizes.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=${CARGO_TARGET_DIR:-target}/dist
mkdir -p "$dist"
dist=$(realpath "$dist")
rm -rf "$dist/bin" "$dist/packages"
packaging/build.sh "$dist/bin"
packaging/stage.sh "$dist/bin" "$dist/tree"
packaging/deb.sh "$dist/tree" "$dist/packages"
packaging/rpm.sh "$dist/tree" "$dist/packages"

echo "== linting"
packaging/apparmor.sh "$dist/tree/usr/share/stockade/apparmor/stockade"
lintian --fail-on error,warning --allow-root "$dist"/packages/*.deb
rpmlint --config packaging/rpm/rpmlint.toml "$dist"/packages/*.rpm

# no_more_than BYTES FILE: a package that has grown past what we promise is not built in silence.
no_more_than() {
    local size
    size=$(stat -c %s "$2")
    if [ "$size" -gt "$1" ]; then
        echo "dist.sh: $2 has $size bytes, more than $1" >&2
        exit 1
    fi
}
for deb in "$dist"/packages/*.deb; do no_more_than 15000000 "$deb"; done
# There is one for each agent: a mebibyte.
no_more_than 1048576 "$dist/bin/stockade-shim"
sha256sum "$dist"/packages/*
