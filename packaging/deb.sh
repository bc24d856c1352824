#!/bin/bash
# deb.sh TREE OUT: a .deb of the tree that stage.sh made, written to the directory OUT.
#
# STOCKADE_VERSION: instead of the version in Cargo.toml. MAINTAINER: whom the package names. COMPRESSION: its level, 0 to 9.
set -euo pipefail
cd "$(dirname "$0")/.."
tree=$(realpath "$1") out=$2
version=${STOCKADE_VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)}
maintainer=${MAINTAINER:-Stockade maintainers <maintainers@stockade.example>}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
cp -a "$tree" "$work/root"
mkdir "$work/root/DEBIAN"
control=$work/root/DEBIAN
doc=$work/root/usr/share/doc/stockade

# What Debian wants to know beside: whose it is, and what changed, in its own format.
install -m 644 packaging/deb/copyright "$doc/copyright"
mv "$doc/changelog.gz" "$doc/NEWS.gz"
printf 'stockade (%s) unstable; urgency=medium\n\n  * What changed is in NEWS.gz.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"
mkdir -p "$work/root/usr/share/lintian/overrides"
install -m 644 packaging/deb/lintian-overrides "$work/root/usr/share/lintian/overrides/stockade"

# The newest symbol that any program takes from the C library.
libc=$(for program in "$work"/root/usr/lib/stockade/stockade*; do objdump -T "$program"; done |
    grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
sed -e "s/@VERSION@/$version/" -e "s/@LIBC@/${libc#GLIBC_}/" -e "s/@MAINTAINER@/$maintainer/" \
    -e "s/@SIZE@/$(du -k -s --apparent-size --exclude=DEBIAN "$work/root" | cut -f 1)/" packaging/deb/control >"$control/control"
(cd "$work/root" && find etc -type f | sort | sed 's|^|/|') >"$control/conffiles"
for script in postinst prerm postrm; do
    packaging/scripts/assemble.sh "packaging/deb/$script" >"$control/$script"
    chmod 755 "$control/$script"
done
(cd "$work/root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$control/md5sums"
find "$work/root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$out"
dpkg-deb --root-owner-group -Zxz -z"${COMPRESSION:-6}" --build "$work/root" "$out/stockade_${version}_amd64.deb"
