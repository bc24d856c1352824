#!/bin/bash
# Installs the real agents that the tests start, from their registries, and prints where: agents.sh [DIR]
#
# Done once: an installation with the same versions is used again. Progress goes to standard error.
set -euo pipefail

npm=(@anthropic-ai/claude-code@2.1.197 @openai/codex@0.169.0 @google/gemini-cli@0.61.0)
python=(aider-chat==0.86.2)

directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/stockade/agents}
versions="${npm[*]} ${python[*]}"

die() {
    printf 'stockade: %s\n' "$*" >&2
    exit 1
}

install() {
    local major
    major=$(node -p 'process.versions.node.split(".")[0]')
    [ "$major" -ge 20 ] || die "Gemini CLI needs Node.js 20 or later, and this is $(node --version): install one from https://nodejs.org"
    python3 -c 'import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' ||
        die "aider needs Python 3.10 to 3.12 with venv, and this is $(python3 --version): apt-get install python3-venv"
    mkdir -p "$directory/npm"
    echo "== installing ${npm[*]}"
    npm install --prefix "$directory/npm" --no-audit --no-fund "${npm[@]}"
    echo "== installing ${python[*]}"
    python3 -m venv "$directory/aider"
    "$directory/aider/bin/pip" install --quiet --disable-pip-version-check "${python[@]}"
    printf '%s\n' "$versions" >"$directory/versions"
}

[ "$(cat "$directory/versions" 2>/dev/null)" = "$versions" ] || install >&2
printf '%s\n' "$directory"
