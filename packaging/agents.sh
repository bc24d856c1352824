#!/bin/bash
# Installs the real agents that the tests start, from their registries, and prints where: agents.sh [DIR]
#
# Done once: an installation of the same files is used again. What is installed is exactly what the lock files in agents/ name, by hash.
# Progress goes to standard error. STOCKADE_AGENTS_CACHE names another place to keep it.
set -euo pipefail
locks=$(cd "$(dirname "$0")/agents" && pwd)
directory=${1:-${STOCKADE_AGENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stockade/agents}}
python=python3
versions=$(cat "$locks"/* | sha256sum | cut -d' ' -f1)

die() {
    printf 'stockade: %s\n' "$*" >&2
    printf '%s\n' "stockade: without the real agents: STOCKADE_AGENTS=skip make test" >&2
    exit 1
}

# Registries are not always there: what fails is tried again, after a while.
insist() {
    local pause
    for pause in 5 20 60 ''; do
        "$@" && return
        [ -n "$pause" ] || return
        echo "== again in $pause s: $*"
        sleep "$pause"
    done
}

install_npm() {
    # Each that is needed by itself: no script of a package's runs, but the one that puts Claude Code's program in its place.
    insist npm ci --prefix "$1/npm" --ignore-scripts --no-audit --no-fund --fetch-retries=2 --fetch-retry-maxtimeout=10000 ||
        die "npm could not get what $locks/package-lock.json names"
    node=$1/npm/node_modules/.bin/node
    (cd "$1/npm/node_modules/@anthropic-ai/claude-code" && "$node" install.cjs) ||
        die "Claude Code could not put its program in its place"
}

install_aider() {
    "$python" -m venv "$1/aider"
    insist "$1/aider/bin/pip" install --quiet --disable-pip-version-check --retries 3 --only-binary :all: \
        --require-hashes --no-deps -r "$locks/aider.txt" || die "pip could not get what $locks/aider.txt names"
}

install() {
    "$python" -c 'import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' ||
        die "aider needs Python 3.10 to 3.12 with venv, and this is $("$python" --version): apt-get install python3-venv"
    # A script's first line names the place where it was installed: in the end's place from the beginning, and known to be
    # whole only by the last file.
    rm -rf "$directory/versions" "$directory/npm" "$directory/aider"
    mkdir -p "$directory/npm"
    cp "$locks"/package*.json "$directory/npm"
    echo "== installing Claude Code, Codex and Gemini CLI into $directory"
    install_npm "$directory"
    echo "== installing aider"
    install_aider "$directory"
    for agent in npm/node_modules/.bin/{claude,codex,gemini} aider/bin/aider; do
        echo "$agent $(PATH="$directory/npm/node_modules/.bin:$PATH" "$directory/$agent" --version | tail -n 1)"
    done
    printf '%s\n' "$versions" >"$directory/versions"
}

[ "$(cat "$directory/versions" 2>/dev/null)" = "$versions" ] || install >&2
printf '%s\n' "$directory"
