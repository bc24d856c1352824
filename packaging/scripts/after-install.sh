# After the files are there. $1: fresh, or upgrade.
systemd-sysusers stockade.conf
systemd-tmpfiles --create stockade.conf
apparmor_profile
if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload
    if [ "$1" = upgrade ]; then
        # Agents go on: their shims outlive both, and the daemon that comes finds each where it was.
        units try-restart stockade-launcher.service stockaded.service
    fi
fi
if [ "$1" = fresh ]; then
    echo "stockade: next: stockade pki init && systemctl enable --now stockaded (stockade demo shows what it is for)"
fi
