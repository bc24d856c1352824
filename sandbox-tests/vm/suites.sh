# shellcheck shell=bash
# Suites on machines, those of one kernel after another and the kernels at the same time: a machine keeps one processor
# busy. What each came to, and how long it took. A suite that has passed is not run again before something that it sees has
# changed, as `go test` does it; STOCKADE_VM_AGAIN=1 runs it all the same. Sourced by test-vm and test-packages, not run.

# shellcheck source=machine.sh
. "$(dirname "${BASH_SOURCE[0]}")/machine.sh"

failed=()

# checksum REPOSITORY FILE…: of all that a suite sees: the repository's files, and these, with their modes.
checksum() {
    local repository=$1
    shift
    {
        git -C "$repository" ls-files -z --cached --others --exclude-standard |
            (cd "$repository" && xargs -0 sh -c 'stat -c "%a %n" -- "$@"; sha256sum -- "$@"' of) 2>/dev/null || true
        stat -c '%a' -- "$@"
        sha256sum -- "$@"
    } | sha256sum | cut -d ' ' -f 1
}

# suite SERIES NAME COMMAND…: runs the command, unless it has passed with what `seen` says now, on the same image; carries on
# if it fails, and remembers. What has changed meanwhile has not passed.
suite() {
    local series=$1 name=$2 began=$SECONDS before passed
    shift 2
    before=$(seen_on "$series")
    passed=$cache/passed/$(printf '%s\n' "$before" "$name" | sha256sum | cut -d ' ' -f 1)
    if [ -e "$passed" ] && [ -z "${STOCKADE_VM_AGAIN-}" ]; then
        echo "== $name: passed with the very same files $(cat "$passed"); STOCKADE_VM_AGAIN=1 runs it again"
        return
    fi
    echo "== $name"
    if ! "$@"; then
        failed+=("$name")
    elif [ "$(seen_on "$series")" = "$before" ]; then
        mkdir -p "${passed%/*}"
        echo "on $(date --utc '+%F at %R UTC'), in $((SECONDS - began)) s" >"$passed"
    else
        echo "== $name: passed, but something that it sees was changed meanwhile: it will be run again"
    fi
    echo "== $name: $((SECONDS - began)) s, this machine's load $(cut -d ' ' -f 1 /proc/loadavg)"
}

# seen_on SERIES: what `seen` says (the script's own), and which image it is.
seen_on() {
    seen
    stat -c '%n %s %Y' "$(image_of "$1")"/* 2>/dev/null || true
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
