# After the files are gone. $1: keep, or purge.
if [ "$1" = purge ]; then
    # What `systemctl edit` has made is the administrator's, and stays.
    rm -rf /etc/stockade /var/lib/stockade /var/log/stockade /run/stockade /run/stockade-uid-ranges
    rm -f /etc/systemd/system/multi-user.target.wants/stockaded.service \
        /etc/systemd/system/sockets.target.wants/stockade-launcher.socket
    if [ -e /etc/apparmor.d/stockade ]; then
        apparmor_parser --remove /etc/apparmor.d/stockade 2>/dev/null || true
        rm -f /etc/apparmor.d/stockade
    fi
    if getent passwd stockade >/dev/null; then userdel stockade; fi
    if getent group stockade >/dev/null; then groupdel stockade; fi
fi
if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload
    systemctl reset-failed stockaded.service stockade-launcher.socket stockade-launcher.service 2>/dev/null || true
fi
