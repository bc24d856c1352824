#!/bin/bash
# smoke.sh [PATTERN]: what `stockade run` promises on a machine whose cgroup tree is pure v2, as claims, each with the
# command and the evidence that it expects. Run inside a machine (run-in-vm KERNEL smoke.sh) as root; with a
# PATTERN only the claims whose text matches it. Every claim is tried; a failed one is shown whole.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=claims.sh
. "$here/claims.sh"
only "${1-}"

[ "${STOCKADE_VM-}" ] || { echo "smoke.sh runs inside a test machine: run-in-vm KERNEL $0" >&2; exit 125; }
hog=$(cat "$here/hog.py")
before=$(belongings)

# A command in a sandbox; options of `stockade run` come before the `--`.
inside() { when stockade run --policy shell "$@"; }

# --- the machine is the one that the claims are about

claim 'the cgroup tree is pure v2, with the controllers that limits need'
when sh -c 'stat -f -c %T /sys/fs/cgroup; cat /sys/fs/cgroup/cgroup.controllers'
ends 0
says '^cgroup2fs$'
for controller in cpu io memory pids; do says "\\b$controller\\b"; done

# --- the host is described honestly

landlock=(landlock-truncate landlock-tcp landlock-ioctl-dev landlock-scope)
claim 'doctor names exactly the shortfalls that this kernel has'
when stockade doctor
case $STOCKADE_VM in
    6.1) for name in "${landlock[@]}"; do says "$name"; done ;;
    *) ends 0; for name in "${landlock[@]}"; do is_silent_about "(degraded|missing).*$name"; done ;;
esac
for name in memory-limit swap-limit cpu-limit process-limit cgroup-kill; do is_silent_about "(degraded|missing).*$name"; done

claim 'doctor --json is one JSON document'
when sh -c 'stockade doctor --json | python3 -m json.tool >/dev/null && echo parsed'
says '^parsed$'

claim 'the report names the shortfalls that base tolerates on this kernel, and no others'
when sh -c 'stockade run --policy base --report /tmp/report.json -- true; cat /tmp/report.json'
case $STOCKADE_VM in
    6.1) for name in "${landlock[@]}"; do says "\"$name\""; done ;;
    *) for name in "${landlock[@]}"; do is_silent_about "\"$name\""; done ;;
esac
for name in memory-limit swap-limit cpu-limit process-limit cgroup-kill; do is_silent_about "\"$name\""; done

# --- exit codes

claim 'a sandbox starts'
inside -- true
ends 0
or_stop

claim 'sandboxes that start at the same moment, the first of the machine among them, all start'
# shellcheck disable=SC2016 # for the shell that is started
when bash -c 'for round in {1..8}; do for one in {1..4}; do stockade run -- echo up & done; wait; done | grep -c "^up$"'
says '^32$'

claim "the exit code is the command's own"
inside -- sh -c 'echo inside; exit 7'
ends 7
says '^inside$'

claim 'death by a signal is 128 and its number'
inside -- sh -c 'kill -TERM $$'
ends 143

claim 'a command that does not exist is 127, one that cannot be executed 126'
inside -- /nonexistent/command
ends 127
inside -- /etc/passwd
ends 126

claim 'an unknown policy is refused with its name'
when stockade run --policy no-such-policy -- true
ends_other_than 0
says 'no-such-policy'

# --- limits

claim 'a memory hog is killed whole and the user is told that it was memory'
# shellcheck disable=SC2016 # the shell inside fills in $0
inside --memory 64M -- sh -c 'python3 -c "$0" memory 200; echo survived' "$hog"
ends 137
says '[Mm]emory'
is_silent_about '^survived$'

claim 'swap does not stretch the memory limit'
inside --memory 64M -- python3 -c "$hog" memory 120
ends 137
is_silent_about '^had 120 MiB$'

claim 'what fits into the limit runs'
inside --memory 128M -- python3 -c "$hog" memory 60
ends 0
says '^had 60 MiB$'

claim 'a fork bomb ends at its limit, inside'
inside --processes 40 -- python3 -c "$hog" forks 500
ends 0
says '^refused after [23][0-9]$'

claim 'half a processor is half a processor'
inside --cpus 0.5 -- python3 -c "$hog" cpu 4
ends 0
says '^share 0\.[3-5][0-9]$'

io=/root/slow.toml
printf 'extends = "shell"\ndescription = "a slow disk"\n[limits]\nio = { read = "4MiB", write = "4MiB" }\n' > "$io"
mkdir -p /srv/disk
claim 'writing to the workspace is as slow as the policy says'
when stockade run --policy "$io" --workspace /srv/disk -- python3 -c "$hog" disk 24
ends 0
says '^rate [2-5]\.[0-9] MiB/s$'

claim 'every limit stands in the control files of the group, as asked'
when python3 "$here/watch.py" limits stockade run --policy "$io" --workspace /srv/disk --memory 96M --cpus 0.5 --processes 33 -- sleep 600
ends 0
says '^memory.max 100663296$'
says '^memory.swap.max 0$'
says '^memory.oom.group 1$'
says '^pids.max 3[3-9]$'
says '^cpu.max 50000 100000$'
says '^io.max .*rbps=4194304 wbps=4194304'

claim 'systemd, going over its tree again, leaves the limits where they are'
when python3 "$here/watch.py" reload stockade run --policy shell --memory 96M --cpus 0.5 --processes 33 -- sleep 600
ends 0
says '^memory.max 100663296$'
says '^memory.swap.max 0$'
says '^pids.max 33$'
says '^cpu.max 50000 100000$'

# --- walls

claim 'root inside is nobody outside'
inside -- sh -c 'cat /proc/self/uid_map; grep -E "^Cap(Eff|Bnd|Prm|Inh|Amb)|^NoNewPrivs|^Seccomp:" /proc/self/status'
ends 0
is_silent_about '^ *0 +0 '
is_silent_about '^Cap[A-Z][a-z]+:.*[1-9a-f]'
says '^NoNewPrivs:.*1$'
says '^Seccomp:.*2$'

claim 'files made in the workspace belong to its owner'
install -d -o dev -g dev /srv/work
inside --workspace /srv/work -- sh -c 'echo x > made && stat -c "inside %U" made'
ends 0
when stat -c 'outside %U' /srv/work/made
says '^outside dev$'

claim 'no network but an empty loopback'
inside -- sh -c 'cat /proc/net/dev'
ends 0
is_silent_about '(eth|ens|enp)[0-9]'

# --- terminal

claim 'standard input and output work in pipes'
when sh -c 'echo x | stockade run --policy shell -- cat | wc -c'
says '^2$'

claim 'with a terminal there is a terminal inside, of the same size, with job control'
when python3 "$here/terminal.py" size stockade run --policy shell -- sh -c 'tty; stty size; set -m && echo jobs'
ends 0
says '^/dev/pts/[0-9]+'
says '^41 101'
says '^jobs'

claim 'Ctrl-C reaches the command, and the terminal is put back'
when python3 "$here/terminal.py" interrupt stockade run --policy shell -- sh -c 'echo waiting; sleep 600'
says '^exit 130$'
says '^terminal restored$'

claim 'a new window size arrives inside'
when python3 "$here/terminal.py" resize stockade run --policy shell -- sh -c 'echo waiting; read _; stty size'
says '^50 132'

# --- nothing stays

claim 'kill -9 of stockade takes the agent along'
when python3 "$here/watch.py" kill stockade run --policy shell -- sleep 7777
ends 0
says '^gone$'

claim 'no process, mount, group, namespace or file is left'
when sh -c 'true'
left=$(diff <(echo "$before") <(belongings)) || fails "left behind: $left"

verdict
