# shellcheck shell=bash
# Claims and their evidence, for smoke.sh. A claim is opened by `claim`, `when` runs a command, and the lines after it
# say what must have come of it. Sourced, not run.

claims=0 failures=0 current='' output='' code=0 chosen='' wanted=1 failed_now=0 since=0

# Ends the script if the claim just made does not hold, since none after it could.
or_stop() { [ $failed_now = 0 ] || { echo 'nothing else was tried'; exit 1; }; }

# Only claims whose text matches this pattern are tried.
only() { chosen=$1; }

claim() {
    conclude
    wanted=1
    [ -z "$chosen" ] || [[ $1 =~ $chosen ]] || wanted=0
    current=$1 failed_now=0 since=$SECONDS
    claims=$((claims + wanted))
}

# Prints the claim that has ended, that it holds, if it does, and how long it took.
conclude() {
    [ -z "$current" ] || [ $wanted = 0 ] || [ $failed_now = 1 ] || printf 'ok %3ds  %s\n' $((SECONDS - since)) "$current"
    current=''
}

when() {
    [ $wanted = 1 ] || return 0
    code=0
    command_line=$*
    output=$(timeout --kill-after=5 "${patience:-60}" "$@" 2>&1 </dev/null) || code=$?
}

ends() { [ $wanted = 0 ] || [ "$code" = "$1" ] || fails "ended with $code, not $1"; }

ends_other_than() { [ $wanted = 0 ] || [ "$code" != "$1" ] || fails "ended with $code"; }

# An extended regular expression that some line of the output matches.
says() { [ $wanted = 0 ] || grep -Eq -- "$1" <<<"$output" || fails "does not say $1"; }

is_silent_about() { [ $wanted = 0 ] || ! grep -Eq -- "$1" <<<"$output" || fails "says $1"; }

fails() {
    [ $wanted = 1 ] || return 0
    if [ $failed_now = 0 ]; then
        printf 'FAILED  %s\n  $ %s\n  exit %s\n' "$current" "${command_line//"$hog"/HOG}" "$code"
        printf '  | %s\n' "${output//$'\n'/$'\n'  | }"
        failures=$((failures + 1)) failed_now=1
    fi
    printf '  -> %s\n' "$1"
}

# What a sandbox could leave: groups, mounts, namespaces, processes' names, files of the runtime.
belongings() {
    find /sys/fs/cgroup -type d -name '*stockade*' ! -name stockade-vm.service | sort
    awk '{ print "mount", $5 }' /proc/self/mountinfo | sort
    lsns -rno TYPE | sort | uniq -c
    pgrep -l '^(stockade|sleep|python3)' | cut -d ' ' -f 2 | sort
    find /run /tmp /var/tmp -name '*stockade*' ! -path '/run/systemd/*' 2>/dev/null | sort
}

verdict() {
    conclude
    [ "$claims" -gt 0 ] || { echo "no claim matches $chosen"; exit 1; }
    echo "$claims claims, $failures failed, Linux $(uname -r)"
    [ "$failures" = 0 ]
}
