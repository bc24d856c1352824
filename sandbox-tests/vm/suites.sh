# shellcheck shell=bash
# Suites, one after another: what each came to and how long it took. Sourced by test-vm and test-packages, not run.

failed=()

# suite NAME COMMAND…: runs the command; carries on if it fails, and remembers.
suite() {
    local name=$1 began=$SECONDS
    shift
    echo "== $name"
    "$@" || failed+=("$name")
    echo "== $name: $((SECONDS - began)) s, this machine's load $(cut -d ' ' -f 1 /proc/loadavg)"
}

# Names the suites that failed; the result is that of all.
all_suites() {
    for name in "${failed[@]}"; do echo "failed: $name" >&2; done
    [ ${#failed[@]} = 0 ]
}
