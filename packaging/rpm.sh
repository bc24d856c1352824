#!/bin/bash
# rpm.sh TREE OUT: an .rpm of the tree that stage.sh made, written to the directory OUT.
#
# STOCKADE_VERSION: instead of the version in Cargo.toml. MAINTAINER: whom the package names. COMPRESSION: its level, 1 to 19.
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
cp -a "$tree" "$work/tree"

# Where rpm's distributions keep completions and documents.
share=$work/tree/usr/share
mkdir -p "$share/zsh/site-functions"
mv "$share/zsh/vendor-completions/_stockade" "$share/zsh/site-functions/"
rmdir "$share/zsh/vendor-completions"
mv "$share/doc/stockade/changelog.gz" "$share/doc/stockade/NEWS.gz"
mkdir -p "$share/licenses/stockade"
install -m 644 LICENSE "$share/licenses/stockade/LICENSE"
find "$work/tree" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

files() {
    (cd "$work/tree" && find . ! -type d | sort) | sed 's|^\.||' | while read -r file; do
        case $file in
        /etc/*) echo "%config(noreplace) $file" ;;
        /usr/share/doc/*) echo "%doc $file" ;;
        /usr/share/licenses/*) echo "%license $file" ;;
        *) echo "$file" ;;
        esac
    done
    for directory in /etc/stockade /etc/stockade/policies /etc/stockade/stockaded.d /usr/lib/stockade /usr/lib/stockade/policies \
        /usr/lib/stockade/policies/agents /usr/share/stockade /usr/share/stockade/apparmor /usr/share/stockade/grafana \
        /usr/share/doc/stockade /usr/share/licenses/stockade; do
        echo "%dir $directory"
    done
}
files >"$work/FILES"
for script in post preun postun; do packaging/scripts/assemble.sh "packaging/rpm/$script" >"$work/${script^^}"; done
release=1
sed -e "s/@VERSION@/$version/g" -e "s/@RELEASE@/$release/g" -e "s/@MAINTAINER@/$maintainer/g" -e "s|@TREE@|$work/tree|" \
    -e "s/@DATE@/$(date -d "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')/" packaging/rpm/stockade.spec.in |
    sed -e "/^@FILES@$/{r $work/FILES
d}" -e "/^@POST@$/{r $work/POST
d}" -e "/^@PREUN@$/{r $work/PREUN
d}" -e "/^@POSTUN@$/{r $work/POSTUN
d}" >"$work/stockade.spec"
mkdir -p "$out"
rpmbuild -bb --quiet --target x86_64-linux --define "_topdir $work/rpmbuild" --define "_rpmdir $(realpath "$out")" \
    --define "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm" --define "_buildhost stockade" \
    --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
    --define "_binary_payload w${COMPRESSION:-19}.zstdio" --noclean "$work/stockade.spec"
