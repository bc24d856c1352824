#!/bin/bash
# The tests with the real agents: test-agents.sh [install]
#
# STOCKADE_AGENTS: a directory in which they are installed; or `skip`, to leave these tests out: whoever does that says so, and is told so.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${STOCKADE_AGENTS:-}" = skip ]; then
    printf '%s\n' "==" "== NOT TESTED: the real agents, their logins, messages and answers (STOCKADE_AGENTS=skip)" "==" >&2
    exit 0
fi
if [ -z "${STOCKADE_AGENTS:-}" ]; then
    packaging/prerequisites.sh agents
    STOCKADE_AGENTS=$(packaging/agents.sh)
fi
export STOCKADE_AGENTS
[ "${1:-}" = install ] || exec cargo test --locked --test agents
