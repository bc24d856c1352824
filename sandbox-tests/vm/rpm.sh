#!/bin/bash
# rpm.sh: the .rpm is installed, set up, upgraded over a working agent, put back, removed. The machine is a Debian: its rpm knows of no
# other package, so that dependencies are left out of account. Run inside a machine by test-packages, which brings /packages.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=claims.sh
. "$here/claims.sh"
# shellcheck disable=SC2034 # claims.sh shortens commands by it
hog=none
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
old=(/packages/old/*.rpm) new=(/packages/new/*.rpm)

claim 'rpm -i installs it, and says what to do next'
when rpm -i --nodeps "${old[0]}"
ends 0
says 'next: stockade pki init && systemctl enable --now stockaded'
or_stop
when rpm -V --nodeps stockade
is_silent_about 'missing|^..5'

claim 'an agent works after the quick start'
when stockade pki init
ends 0
when systemctl enable --now stockaded
ends 0
when stockade spawn --type shell --id count-1
ends 0
when stockade --quiet send count-1 'i=0; while echo "line $((i += 1))"; do read -rt 1; done'
ends 0
shim=$(grep -o '"shim":{[^}]*}' /run/stockade/shims/count-1.json)

# The same shim, and the service is there.
goes_on() {
    when sh -c 'for i in $(seq 100); do stockade get count-1 && exit 0; sleep 0.3; done; exit 1'
    ends 0
    is_silent_about 'exited|failed'
    when grep -oF "$shim" /run/stockade/shims/count-1.json
    ends 0
}

claim 'rpm -U installs a new version over it'
echo '# of the site' >>/etc/stockade/stockaded.toml
when rpm -U --nodeps "${new[0]}"
ends 0
when rpm -q stockade
says '\+next-1'
when grep -c 'of the site' /etc/stockade/stockaded.toml
says '^1$'
goes_on

claim 'rpm -U --oldpackage puts the old one back'
when rpm -U --nodeps --oldpackage "${old[0]}"
ends 0
goes_on

claim 'no line is lost meanwhile'
when python3 "$here/lines.py" 1 5
ends 0

claim 'rpm -e ends the agent, and keeps data'
when rpm -e stockade
ends 0
when sh -c 'pgrep -al "^stockade" | grep -v stockade-vm; ls /etc/stockade/pki/ca.key /var/lib/stockade/agents/count-1/exit.json; ls /usr/lib/stockade /usr/bin/stockade'
is_silent_about '^[0-9]+ '
says '^/etc/stockade/pki/ca.key$'
says '^/var/lib/stockade/agents/count-1/exit.json$'
says "cannot access '/usr/bin/stockade'"
says "cannot access '/usr/lib/stockade'"

verdict
