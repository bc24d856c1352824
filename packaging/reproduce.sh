#!/bin/bash
# reproduce.sh: builds this commit once more, from a clean clone in a directory of another name and depth, and says whether all six
# programs and both packages have the bytes that dist.sh has made here.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=$(realpath "${CARGO_TARGET_DIR:-target}/dist")
die() {
    printf 'reproduce.sh: %s\n' "$*" >&2
    exit 1
}
[ -d "$dist/packages" ] || die "there is nothing to compare with: run make dist"
[ -z "$(git status --porcelain)" ] || die "the tree has changes that no commit has: commit them, then run make dist"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
clone=$scratch/somewhere/else/another-name
git clone --quiet --no-hardlinks . "$clone"
(
    cd "$clone"
    unset CARGO_TARGET_DIR
    packaging/build.sh target/dist/bin
    packaging/stage.sh target/dist/bin target/dist/tree
    packaging/deb.sh target/dist/tree target/dist/packages
    packaging/rpm.sh target/dist/tree target/dist/packages
)
hashes() { (cd "$1" && sha256sum bin/* packages/*); }
hashes "$dist"
if ! differing=$(diff <(hashes "$dist") <(hashes "$clone/target/dist")); then
    printf '%s\n' "$differing" >&2
    die "the same commit gave other bytes"
fi
echo "the same six programs and two packages from two directories"
