# By the distribution's helper, which heeds what the administrator said about starting services, where there is one.
units() {
    if command -v deb-systemd-invoke >/dev/null; then deb-systemd-invoke "$@"; else systemctl "$@"; fi
}

# Where AppArmor keeps namespaces from ordinary users (Ubuntu 23.10 and later), agents whose policy allows nested namespaces need
# a profile that says so. Older parsers do not know the rule.
apparmor_profile() {
    if [ -e /etc/apparmor.d/abi/4.0 ]; then
        cp /usr/share/stockade/apparmor/stockade /etc/apparmor.d/stockade
        if command -v apparmor_parser >/dev/null && [ -e /sys/kernel/security/apparmor/profiles ]; then
            apparmor_parser --replace --write-cache /etc/apparmor.d/stockade || true
        fi
    fi
}

# Kills the shims that are left, as they wrote down where they are. The kernel ends an agent with its shim, and the shim's keeper
# removes the control group: ten seconds at most.
end_agents() {
    for file in /run/stockade/shims/*.json; do
        [ -e "$file" ] || continue
        shim=$(sed -n 's/.*"shim":{"pid":\([0-9]*\).*/\1/p' "$file")
        keeper=$(sed -n 's/.*"keeper":{"pid":\([0-9]*\).*/\1/p' "$file")
        [ "$(cat "/proc/$shim/comm" 2>/dev/null)" = stockade-shim ] || continue
        kill -KILL "$shim" || true
        tries=0
        while [ -d "/proc/$keeper" ] && [ "$tries" -lt 50 ]; do
            sleep 0.2
            tries=$((tries + 1))
        done
    done
}
