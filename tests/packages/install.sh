#!/bin/bash
# install.sh OLD.deb NEW.deb SCRATCH: what an administrator does with the package, on a copy of this host that goes with the
# mount namespace it is in (run by `unshare --mount`). No systemd runs there: what units do is for the machines of `make test-vm`.
set -euo pipefail
old=$1 new=$2 scratch=$3

mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch"/{upper,work,host}
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/host"
host=$scratch/host
for shared in proc dev; do mount --rbind "/$shared" "$host/$shared"; done
mount -t tmpfs tmpfs "$host/run"
cp "$old" "$host/run/old.deb"
cp "$new" "$host/run/new.deb"

on() { DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$host" "$@"; }
fail() { echo "install.sh: $*" >&2; exit 1; }
traces() {
    on find /etc /usr /var /run -xdev -iname '*stockade*' ! -path '/usr/src/*' | sort
    on getent passwd stockade || true
    on getent group stockade || true
}

before=$(traces)
said=$(on dpkg --install /run/old.deb)
grep -q 'next: stockade pki init' <<<"$said" || fail "it does not say what comes next: $said"
on stockade --version | grep -q '^stockade ' || fail 'what it installs does not start'
on getent passwd stockade >/dev/null || fail 'there is no account'
[ "$(on stat -c '%U %a' /var/lib/stockade/daemon)" = 'stockade 700' ] || fail 'the records are not the daemon'"'"'s own'
[ "$(on dpkg --verify stockade)" = '' ] || fail "$(on dpkg --verify stockade)"

echo '# mine' >>"$host/etc/stockade/stockaded.toml"
echo kept >"$host/var/lib/stockade/homes/of-an-agent"
on dpkg --install /run/new.deb >/dev/null
grep -q '^# mine$' "$host/etc/stockade/stockaded.toml" || fail 'an upgrade has lost what was changed in the configuration'
on dpkg --install /run/old.deb >/dev/null 2>&1
grep -q '^# mine$' "$host/etc/stockade/stockaded.toml" || fail 'a downgrade has'

on dpkg --remove stockade >/dev/null
[ ! -e "$host/usr/bin/stockade" ] || fail 'it is still there'
grep -q '^# mine$' "$host/etc/stockade/stockaded.toml" || fail 'what was configured has gone with the package'
[ "$(cat "$host/var/lib/stockade/homes/of-an-agent")" = kept ] || fail 'an agent'"'"'s home has'

on dpkg --purge stockade >/dev/null
left=$(comm -13 <(echo "$before") <(traces))
[ -z "$left" ] || fail "a purge leaves: $left"
