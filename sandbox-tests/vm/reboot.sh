#!/bin/bash
# reboot.sh before | after: what is left of agents when the machine is started anew. `before` ends by switching the machine off,
# as `systemctl poweroff` does. Run inside a machine by test-packages, which brings /packages/old.
set -uo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source-path=SCRIPTDIR source=claims.sh
. "$here/claims.sh"
# shellcheck disable=SC2034 # claims.sh shortens commands by it
hog=none
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

if [ "${1-}" = before ]; then
    packages=(/packages/old/*.deb)
    claim 'a service with an agent that has a home, before the machine is switched off'
    when apt-get install -y "${packages[0]}"
    ends 0
    when stockade pki init
    when systemctl enable --now stockaded
    ends 0
    when stockade spawn --type shell --id survivor --home kept
    ends 0
    when stockade send survivor 'echo remembered >~/note; cat ~/note' --wait --timeout 60s
    says '^remembered$'
    verdict || exit 1
    echo STOCKADE-VM-EXIT=0
    systemctl poweroff
    sleep 120
    exit 1
fi

claim 'after the boot the service is there by itself'
when sh -c 'for i in $(seq 100); do stockade ls >/dev/null 2>&1 && exit 0; sleep 0.3; done; systemctl status stockaded --no-pager; exit 1'
ends 0

claim 'the agent is reported as ended by the reboot'
when stockade get survivor --json
ends 0
says '[Rr]eboot|boot'
is_silent_about '"state":"(ready|busy|starting)"'

claim 'its home is there for the next one'
when stockade spawn --type shell --id next --home kept
ends 0
when stockade send next 'cat ~/note' --wait --timeout 60s
says '^remembered$'

verdict
