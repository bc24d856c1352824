#!/bin/bash
# A machine of its own for one test: PIDs, mounts, /run, /tmp and the cgroups that an agent may have a group in. So a
# test can count what is there before and after, whatever else this host runs meanwhile.
#
#   machine.sh outside COMMAND…     started by the test; makes the groups and the namespaces, and removes the groups
#   machine.sh inside  COMMAND…     pid 1 of the machine: reaps what is orphaned, as an init does
set -euo pipefail

# Where agents have groups: the v2 tree, and the v1 hierarchies that limit or freeze.
hierarchies() {
    awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /(^|,)(memory|cpu|pids|blkio|freezer)(,|$)/) { print $2 }' \
        /proc/self/mounts
}

outside() {
    local group="stockade-machine-$$" root controller
    export STOCKADE_TEST_GROUP="$group"
    trap leave EXIT
    for root in $(hierarchies); do
        # Pure v2 hands controllers down only where it is told to.
        for controller in memory cpu pids io; do
            [ ! -f "$root/cgroup.subtree_control" ] || ! grep -qw "$controller" "$root/cgroup.controllers" ||
                echo "+$controller" >"$root/cgroup.subtree_control"
        done
        mkdir "$root/$group"
    done
    (
        for root in $(hierarchies); do echo "$BASHPID" >"$root/$group/cgroup.procs"; done
        exec unshare --mount --pid --cgroup --fork --kill-child bash "$0" inside "$@"
    ) &
    for root in $(hierarchies); do
        if is_strict "$root"; then make_room "$root/$group" $!; fi
    done
    wait $!
}

# v2 has no processes beside groups with controllers.
is_strict() { [ -n "$(cat "$1/cgroup.controllers" 2>/dev/null)" ]; }

# Moves the parent of the machine out of the group that the machine takes for the root, once its namespace is made.
make_room() {
    until [ -d "$1/tests" ]; do
        kill -0 "$2" 2>/dev/null || return 0
        sleep 0.01
    done
    mkdir "$1/outside"
    echo "$2" >"$1/outside/cgroup.procs"
}

leave() {
    local root
    for root in $(hierarchies); do
        [ -d "$root/$STOCKADE_TEST_GROUP" ] || continue
        echo $$ >"$root/cgroup.procs"
        find "$root/$STOCKADE_TEST_GROUP" -depth -type d -exec rmdir {} +
    done
}

inside() {
    local root
    mount --make-rprivate /
    mount -t proc proc /proc
    # A checkout below /tmp or /run stays where it is.
    local checkout
    checkout=$(cd "$(dirname "$0")/../.." && pwd -P)
    case $checkout in /tmp/* | /run/*) mount --rbind "$checkout" /mnt ;; esac
    mount -t tmpfs -o mode=0755 run /run
    mount -t tmpfs -o mode=1777 tmp /tmp
    case $checkout in
    /tmp/* | /run/*)
        mkdir -p "$checkout"
        mount --move /mnt "$checkout"
        ;;
    esac
    for root in $(hierarchies); do
        # In a group below the one that this machine takes for the root.
        mkdir "$root/$STOCKADE_TEST_GROUP/tests"
        echo 0 >"$root/$STOCKADE_TEST_GROUP/tests/cgroup.procs"
        if is_strict "$root"; then
            until [ -z "$(cat "$root/$STOCKADE_TEST_GROUP/cgroup.procs")" ]; do sleep 0.01; done
        fi
        mount --bind "$root/$STOCKADE_TEST_GROUP" "$root"
    done
    cd /
    "$@"
}

"$@"
