#!/bin/bash
# package.sh [PATTERN]: what an administrator does with the package, on a machine that systemd started, as claims, each with its
# command and evidence: install, set up, start, limits, upgrade and restart under load, downgrade, remove, purge. Run inside a
# machine by test-packages, which brings /packages/old and /packages/new.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=claims.sh
. "$here/claims.sh"
only "${1-}"

[ "${STOCKADE_VM-}" ] || { echo "package.sh runs inside a test machine: test-packages $0" >&2; exit 125; }
# Packages are unpacked, and the processor is emulated.
# shellcheck disable=SC2034 # claims.sh waits so long
patience=300
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
hog=$(cat "$here/hog.py")
agents=${STOCKADE_VM_AGENTS:-50}
old=(/packages/old/*.deb) new=(/packages/new/*.deb)
traces() {
    find / -xdev \( -path /proc -o -path /packages -o -path "${here%/sandbox-tests/vm}" -o -path /tmp \) -prune \
        -o -iname '*stockade*' ! -name 'stockade-vm*' -print | sort
    find /sys/fs/cgroup -iname '*stockade*' ! -name 'stockade-vm*'
    getent passwd stockade
    getent group stockade
    pgrep -al '^stockade'
    awk '/stockade/ { print "mount", $5 }' /proc/self/mountinfo
    systemctl list-units --all --no-legend 'stockade*' | grep -v stockade-vm
}
before=$(traces)

# --- install

claim 'the package installs without a network, and says what to do next'
when apt-get install -y "${old[0]}"
ends 0
says 'next: stockade pki init && systemctl enable --now stockaded'
or_stop

claim 'before there are certificates the service does not start, says what to do, and is not tried again and again'
when systemctl start stockaded
ends_other_than 0
when sh -c 'sleep 3; systemctl show -p NRestarts -p ExecMainStatus -p Result stockaded; journalctl -u stockaded --no-pager -o cat'
says '^NRestarts=0$'
says '^ExecMainStatus=78$'
says 'there is no /etc/stockade/pki/ca.crt: run `stockade pki init`'
systemctl reset-failed stockaded

# --- the quick start, as the README has it

claim 'four commands after the installation an agent answers, over mTLS'
when stockade pki init
ends 0
when systemctl enable --now stockaded
ends 0
when stockade spawn --type shell --id one
ends 0
says '^one$'
when stockade send one 'echo $((6 * 7))' --wait --timeout 60s
ends 0
says '^42$'
or_stop

claim 'the service is no root, has no capability, and systemd finds little to say against it'
when sh -c 'grep -E "^(Uid|Cap(Prm|Eff|Bnd)|NoNewPrivs)" /proc/$(systemctl show -p MainPID --value stockaded)/status'
says '^Uid:.*[1-9]'
is_silent_about '^Uid:\s+0'
is_silent_about '^Cap[A-Z][a-z]+:.*[1-9a-f]'
when sh -c 'systemd-analyze security stockaded.service --threshold=20 --no-pager | tail -n 1; systemd-analyze security stockade-launcher.service --no-pager | tail -n 1'
says 'stockaded.service: (0\.[0-9]|1\.[0-9]|2\.0) OK'
echo "        $(sed 's/→//' <<<"$output" | tr '\n' ';')"

claim 'its log has fields'
when sh -c 'journalctl -u stockaded -o json --no-pager | grep "\"MESSAGE\":\"serving\"" | head -n 1'
says '"ADDRESS":"0.0.0.0:7443"'
says '"VERSION":'

claim 'the launcher says what this host cannot enforce'
when journalctl -u stockade-launcher --no-pager -o cat
says 'This host can'

# --- configuration

claim 'a mistake in the configuration is named with its place, a reload refuses it, and what was in force stays in force'
when stockade config check
ends 0
says '^ok: would listen on 0.0.0.0:7443, with 1 grants$'
printf '[tls]\nclient_ca = "x"\n' >/etc/stockade/stockaded.d/wrong.toml
when stockade config check
ends 78
says 'wrong.toml:2:1: .*did you mean "client-ca"'
when systemctl reload stockaded
ends_other_than 0
when stockade get one
ends 0
rm /etc/stockade/stockaded.d/wrong.toml

claim 'a grant that is added counts after a reload'
stockade pki issue --name viewer --uri spiffe://example.org/viewer >/dev/null
viewer=(stockade --cert /etc/stockade/pki/viewer.crt --key /etc/stockade/pki/viewer.key)
when "${viewer[@]}" ls
ends 4
printf '[[grant]]\nidentity = "spiffe://example.org/viewer"\nrole = "viewer"\ntenant = "default"\n' >/etc/stockade/stockaded.d/viewer.toml
when systemctl reload stockaded
ends 0
when sh -c 'for i in $(seq 50); do '"${viewer[*]}"' ls && exit 0; sleep 0.2; done; exit 1'
ends 0
says '^one '

# --- limits, by a pure v2 tree

claim 'an agent that takes too much memory is killed whole, and it is said why; the service goes on'
when stockade spawn --type shell --id greedy --memory 64M --processes 40 --cpus 0.5
ends 0
when stockade exec greedy -- cat /proc/self/cgroup
group=$(find /sys/fs/cgroup/stockade -mindepth 1 -maxdepth 1 -exec grep -lx 67108864 {}/memory.max \; 2>/dev/null | head -n 1)
when sh -c "cd ${group%/*} && grep -H . memory.max memory.swap.max memory.oom.group pids.max cpu.max"
says '^memory.max:67108864$'
says '^memory.swap.max:0$'
says '^memory.oom.group:1$'
says '^pids.max:40$'
says '^cpu.max:50000 100000$'
# Its forks would keep the answer open.
# shellcheck disable=SC2016 # for the shell inside
when stockade exec greedy -- sh -c 'python3 -c "$0" forks 500 >/tmp/forks 2>&1 </dev/null & sleep 10; cat /tmp/forks; pkill -9 python3' "$hog"
says 'refused after [23][0-9]'
when stockade exec greedy -- python3 -c "$hog" cpu 4
says '^share 0\.[3-5]'
stockade send greedy "exec python3 -c 'b\"x\" * (256 << 20)'"
when stockade wait greedy --timeout 60s
ends 0
says '[Mm]emory|137'
when stockade get one
says 'ready'

claim "a disk is as slow as a site's policy says"
printf 'extends = "shell"\ndescription = "a slow disk"\n[limits]\nio = { read = "4MiB", write = "4MiB" }\n' >/etc/stockade/policies/slow.toml
when stockade spawn --type shell --policy slow --id slow --home slow
ends 0
when sh -c 'cat /sys/fs/cgroup/stockade/*/io.max'
says 'rbps=4194304 wbps=4194304'
# shellcheck disable=SC2016 # for the shell inside
when stockade exec slow -- sh -c 'cd && python3 -c "$0" disk 24' "$hog"
ends 0
says '^rate [2-5]\.[0-9] MiB/s$'
stockade stop slow >/dev/null
stockade rm slow >/dev/null

# --- the demo, installed

claim 'the demo shows every claim on an installed host'
when stockade demo
ends 0
says '[0-9]+ claims, each with its evidence'

# --- upgrade and restart under load

# Every agent counts, a line a second, and never ends by itself.
counting='i=0; while echo "line $((i += 1))"; do read -rt 1; done'
claim "$agents agents count, a line a second"
# shellcheck disable=SC2016 # for the shell that xargs starts
when sh -c 'seq "$1" | xargs -P 4 -I N sh -c "stockade spawn --type shell --id count-N >/dev/null && stockade --quiet send count-N \"\$0\" >/dev/null" "$0"' "$counting" "$agents"
ends 0
when stockade ls --json
ends 0
# Which process keeps each, as it has written down: pid and start.
shims() { grep -Ho '"shim":{[^}]*}' /run/stockade/shims/count-*.json | sed 's|.*/||'; }
running=$(shims)
when echo "$(wc -l <<<"$running") shims"
says "^$agents shims$"
or_stop

# Whether all are there: the same shims, each agent running, each log growing.
all_go_on() {
    local now
    now=$(shims)
    [ "$now" = "$running" ] || fails "shims: $(diff <(echo "$running") <(echo "$now") | tr '\n' ' ')"
    when sh -c 'for i in $(seq 100); do stockade ls >/tmp/ls 2>&1 && [ "$(grep -cE "^count-.* (ready|busy|starting|unknown) " /tmp/ls)" = '"$agents"' ] && exit 0; sleep 0.3; done; cat /tmp/ls; exit 1'
    ends 0
    when sh -c 'a=$(stockade logs count-1 --tail 1); for i in $(seq 40); do b=$(stockade logs count-1 --tail 1); [ "$a" != "$b" ] && exit 0; sleep 0.5; done; echo "$a"; exit 1'
    ends 0
}

claim 'apt installs a new version over them'
when apt-get install -y "${new[0]}"
ends 0
when sh -c 'dpkg-query -W -f "\${Version}\n" stockade; systemctl is-active stockaded stockade-launcher.socket'
says '^[0-9.]+\+next$'
is_silent_about 'inactive|failed'
all_go_on

claim 'both parts of the service are restarted'
when systemctl restart stockade-launcher.service stockaded.service
ends 0
all_go_on

claim 'the service is stopped, and started'
when systemctl stop stockaded.service stockade-launcher.socket stockade-launcher.service
ends 0
when sh -c 'pgrep -x "stockaded|stockade-launch"'
ends 1
sleep 3
when systemctl start stockaded
ends 0
all_go_on

claim 'both are killed'
when sh -c 'kill -9 $(systemctl show -p MainPID --value stockaded) $(systemctl show -p MainPID --value stockade-launcher); for i in $(seq 100); do sleep 0.3; systemctl is-active stockaded && exit 0; done; exit 1'
ends 0
all_go_on

site=/etc/systemd/system/stockaded.service.d/site.conf
claim 'a daemon that hangs is started anew by the watchdog, as soon as the administrator wants'
mkdir -p "${site%/*}"
printf '[Service]\nWatchdogSec=10\nTimeoutStopSec=5\n' >"$site"
systemctl daemon-reload
systemctl restart stockaded.service
when sh -c 'hung=$(systemctl show -p MainPID --value stockaded); kill -STOP "$hung"; for i in $(seq 200); do sleep 0.5; now=$(systemctl show -p MainPID --value stockaded); [ "$now" != 0 ] && [ "$now" != "$hung" ] && systemctl is-active stockaded && exit 0; done; exit 1'
ends 0
when journalctl -u stockaded --no-pager -o cat
says 'Watchdog timeout'
all_go_on

claim 'the old version is installed over the new one'
when apt-get install -y --allow-downgrades "${old[0]}"
ends 0
all_go_on

claim 'after all of that no line of any agent is lost, doubled or out of order'
when python3 "$here/lines.py" "$agents" 20
ends 0
says "^$agents logs, each without a gap"

claim 'an agent is started after it all'
when stockade spawn --type shell --id two
ends 0
when stockade send two 'echo $((6 * 7))' --wait --timeout 60s
says '^42$'

claim 'stop-all ends every agent, and the service goes on'
when stockade node stop-all
ends 0
says "^$((agents + 2)) agents ended$"
# By what shims have written down: the launcher keeps one more ready, which has no agent.
when sh -c 'find /run/stockade/shims -name "*.json"; find /sys/fs/cgroup/stockade -mindepth 1 -maxdepth 1 2>/dev/null'
is_silent_about .
when systemctl is-active stockaded
ends 0

claim 'the audit log is whole'
when stockade audit verify /var/log/stockade/audit
ends 0

# --- the end

claim 'removing it ends agents, and keeps data and configuration'
when stockade spawn --type shell --id last
when apt-get remove -y stockade
ends 0
when sh -c 'pgrep -al ^stockade | grep -v stockade-vm; ls /var/lib/stockade/agents/last/exit.json /etc/stockade/pki/ca.key /var/log/stockade/audit'
is_silent_about '^[0-9]+ '
says '^/var/lib/stockade/agents/last/exit.json$'
says '^/etc/stockade/pki/ca.key$'

claim 'installed again it goes on with what was there'
when apt-get install -y "${new[0]}"
ends 0
when systemctl start stockaded
ends 0
when stockade get last
says 'exited'

claim 'a purge leaves nothing but what the administrator has added to the unit'
when apt-get purge -y stockade
ends 0
when cat "$site"
ends 0
rm -r "${site%/*}"
left=$(diff <(echo "$before") <(traces)) || fails "left behind: $left"

verdict
