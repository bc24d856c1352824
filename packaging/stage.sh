#!/bin/bash
# stage.sh BINARIES TREE: what both packages install, as one tree, from programs that build.sh has built.
#
# All programs lie in /usr/lib/stockade, for they find each other beside themselves; what people type is a link to there.
set -euo pipefail
cd "$(dirname "$0")/.."
binaries=$(realpath "$1") tree=$2
umask 022
rm -rf "$tree"
mkdir -p "$tree"
tree=$(realpath "$tree")

at() { mkdir -p "$tree/$1" && printf '%s' "$tree/$1"; }
put() { install -m 644 -t "$(at "$1")" "${@:2}"; }

install -m 755 -t "$(at usr/lib/stockade)" "$binaries"/*
ln -s ../lib/stockade/stockade "$(at usr/bin)/stockade"
for program in stockaded stockade-launcher; do ln -s "../lib/stockade/$program" "$(at usr/sbin)/$program"; done
put usr/lib/stockade/policies policies/*.toml
put usr/lib/stockade/policies/agents policies/agents/*.toml
put etc/stockade packaging/etc/*.toml
mkdir -p "$tree/etc/stockade/policies" "$tree/etc/stockade/stockaded.d"
put usr/lib/systemd/system packaging/systemd/*.service packaging/systemd/*.socket
install -m 644 packaging/systemd/sysusers.conf "$(at usr/lib/sysusers.d)/stockade.conf"
install -m 644 packaging/systemd/tmpfiles.conf "$(at usr/lib/tmpfiles.d)/stockade.conf"
install -m 644 packaging/apparmor/stockade "$(at usr/share/stockade/apparmor)/stockade"
put usr/share/stockade/grafana packaging/grafana/stockade.json

stockade=$binaries/stockade
"$stockade" completions bash >"$(at usr/share/bash-completion/completions)/stockade"
"$stockade" completions zsh >"$(at usr/share/zsh/vendor-completions)/_stockade"
"$stockade" completions fish >"$(at usr/share/fish/vendor_completions.d)/stockade.fish"

man=$(at usr/share/man)
mkdir -p "$man"/man{1,5,8}
"$stockade" man >"$man/man1/stockade.1"
python3 packaging/man.py stockaded.toml 5 docs/configuration.md >"$man/man5/stockaded.toml.5"
python3 packaging/man.py stockade-policy 5 docs/policies.md >"$man/man5/stockade-policy.5"
for page in stockaded stockade-launcher stockade-shim stockade-egress; do
    python3 packaging/man.py "$page" 8 "packaging/man/$page.md" >"$man/man8/$page.8"
done
python3 packaging/man.py launcher.toml 5 packaging/man/launcher.toml.md >"$man/man5/launcher.toml.5"
gzip -9n "$man"/man*/*

doc=usr/share/doc/stockade
put $doc README.md SECURITY.md docs/*.md
gzip -9nc CHANGELOG.md >"$tree/$doc/changelog.gz"
python3 packaging/sbom.py >"$tree/$doc/sbom.cdx.json"

# Times of this build are nobody's business, and differ.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
find "$tree" -exec touch --no-dereference --date="@$epoch" {} +
