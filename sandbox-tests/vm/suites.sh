# shellcheck shell=bash
# Suites on machines, those of one kernel after another and the kernels at the same time: a machine keeps one processor
# busy. What each came to, and how long it took. Sourced by test-vm and test-packages, not run.

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
    for name in "${failed[@]}"; do echo "failed: $name"; done
    [ ${#failed[@]} = 0 ]
}

# on_each FUNCTION SERIES…: calls it for each kernel, all at once, every line with the kernel before it. Fails if it does for one.
on_each() {
    local function=$1 series machines=() machine bad=0
    shift
    # Each in a process group of its own, to be ended with all that it has started.
    set -m
    trap 'end_machines 130' INT
    trap 'end_machines 143' TERM HUP
    for series; do
        { "$function" "$series" && all_suites; } 2>&1 | sed -u "s/^/$series | /" &
        machines+=($!)
    done
    for machine in "${machines[@]}"; do wait "$machine" || bad=1; done
    return $bad
}

end_machines() {
    for group in $(jobs -p); do kill -TERM -- "-$group" 2>/dev/null || true; done
    wait
    exit "$1"
}
