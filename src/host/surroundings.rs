//! What the host's own settings say: read, never changed.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, open, statvfs};

use super::attempt::{FIRST_HOST_ID, LAST_HOST_ID};
use super::examine::Finding;
use super::feature::Feature;

/// Everything that is settled by reading.
pub(super) fn findings(homes: &[PathBuf]) -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    vec![
        uid_range(&claims(Path::new("/etc"))),
        run_directory(),
        executable_homes(homes),
        tiocsti(read("/proc/sys/dev/tty/legacy_tiocsti").as_deref()),
        core_pattern(read("/proc/sys/kernel/core_pattern").as_deref()),
        note(
            Feature::AppArmor,
            read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            "restricts nobody; irrelevant to root in any case",
        ),
        note(Feature::Yama, read("/proc/sys/kernel/yama/ptrace_scope"), "not built in"),
        note(
            Feature::Lockdown,
            read("/sys/kernel/security/lockdown"),
            "not built in, or securityfs is not mounted",
        ),
    ]
}

/// A range of host ids that a file in /etc hands to somebody.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    by: String,
    first: u64,
    count: u64,
}

impl Claim {
    fn overlaps(&self) -> bool {
        let last = self.first.saturating_add(self.count.saturating_sub(1));
        self.count > 0 && self.first <= u64::from(LAST_HOST_ID) && last >= u64::from(FIRST_HOST_ID)
    }
}

fn claims(etc: &Path) -> Vec<Claim> {
    let mut claims = Vec::new();
    for file in ["passwd", "group", "subuid", "subgid"] {
        let text = fs::read_to_string(etc.join(file)).unwrap_or_default();
        claims.extend(text.lines().filter_map(|line| claim(file, line)));
    }
    claims
}

/// passwd(5), group(5): `name:password:id:…`. subuid(5), subgid(5): `name:first:count`.
fn claim(file: &str, line: &str) -> Option<Claim> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let (first, count) = if file.starts_with("sub") {
        (fields.next()?, fields.next()?.trim().parse().ok()?)
    } else {
        (fields.nth(1)?, 1)
    };
    Some(Claim { by: format!("{name} in /etc/{file}"), first: first.trim().parse().ok()?, count })
}

fn uid_range(claims: &[Claim]) -> Finding {
    let overlapping: Vec<&str> =
        claims.iter().filter(|claim| claim.overlaps()).map(|claim| claim.by.as_str()).collect();
    if overlapping.is_empty() {
        return Finding::ok(Feature::UidRange, format!("{FIRST_HOST_ID} to {LAST_HOST_ID} belong to nobody"));
    }
    Finding::missing(Feature::UidRange, format!("also used by {}", overlapping.join(", ")))
}

fn run_directory() -> Finding {
    // An unnamed file: it is gone when the descriptor closes (open(2), O_TMPFILE).
    match open("/run", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR) {
        Ok(_) => Finding::ok(Feature::RunDirectory, "/run is writable"),
        Err(error) => Finding::missing(Feature::RunDirectory, format!("cannot write to /run: {error}")),
    }
}

fn executable_homes(homes: &[PathBuf]) -> Finding {
    let is_noexec = |home: &&PathBuf| {
        statvfs(home.as_path()).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOEXEC))
    };
    let noexec: Vec<String> = homes.iter().filter(is_noexec).map(|home| home.display().to_string()).collect();
    if noexec.is_empty() {
        return Finding::ok(Feature::ExecutableHomes, "no home or workspace is on a noexec mount");
    }
    Finding::degraded(Feature::ExecutableHomes, format!("noexec: {}", noexec.join(", ")))
}

fn tiocsti(legacy: Option<&str>) -> Finding {
    match legacy {
        Some("0") => Finding::ok(Feature::Tiocsti, "dev.tty.legacy_tiocsti is 0"),
        Some(_) => Finding::degraded(
            Feature::Tiocsti,
            "dev.tty.legacy_tiocsti is 1; only the system-call filter refuses it",
        ),
        None => Finding::degraded(
            Feature::Tiocsti,
            "this kernel cannot switch it off; only the system-call filter refuses it",
        ),
    }
}

fn core_pattern(pattern: Option<&str>) -> Finding {
    match pattern {
        Some(pipe) if pipe.starts_with('|') => {
            let program = pipe.trim_start_matches('|').split_whitespace().next().unwrap_or_default();
            Finding::degraded(Feature::CorePattern, format!("{program} runs as root when a process crashes"))
        }
        Some(_) => {
            Finding::ok(Feature::CorePattern, "dumps go to a file, and an agent's core limit allows none")
        }
        None => Finding::degraded(Feature::CorePattern, "kernel.core_pattern cannot be read"),
    }
}

/// Nothing that Stockade depends on, but what people ask about first.
fn note(feature: Feature, setting: Option<String>, absent: &str) -> Finding {
    Finding::ok(feature, setting.unwrap_or_else(|| absent.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::examine::Status;
    use super::*;

    #[test]
    fn an_account_or_range_that_reaches_into_the_agents_ids_is_named() {
        let etc = tempfile::tempdir().expect("a directory");
        let write = |file: &str, text: &str| fs::write(etc.path().join(file), text).expect("written");
        write(
            "passwd",
            "root:x:0:0::/root:/bin/sh\nlow:x:1879048191:1::/:/bin/sh\nhigh:x:2147483648:1::/:/bin/sh\n",
        );
        write("subuid", "ann:100000:65536\nbelow:1878982656:65536\n\n# comment\n");
        assert_eq!(uid_range(&claims(etc.path())).status, Status::Ok);

        for (file, line) in [
            ("passwd", "eve:x:1879048192:0::/:/bin/sh"),
            ("passwd", "eve:x:2147483647:0::/:/bin/sh"),
            ("group", "eve:x:2000000000:"),
            ("subuid", "eve:1879048191:2"),
            ("subgid", "eve:1:4294967294"),
        ] {
            let claim = claim(file, line).expect("a claim");
            let found = uid_range(&[claim]);
            assert_eq!(found.status, Status::Missing, "{file}: {line}");
            assert!(found.detail.contains(&format!("eve in /etc/{file}")), "{}", found.detail);
        }
    }

    #[test]
    fn a_dump_program_and_the_old_tiocsti_are_named() {
        let piped = core_pattern(Some("|/usr/lib/systemd/systemd-coredump %P %u"));
        assert_eq!(piped.status, Status::Degraded);
        assert!(
            piped.detail.starts_with("/usr/lib/systemd/systemd-coredump runs as root"),
            "{}",
            piped.detail
        );
        assert_eq!(core_pattern(Some("core")).status, Status::Ok);
        assert_eq!(core_pattern(None).status, Status::Degraded);
        assert_eq!(tiocsti(Some("0")).status, Status::Ok);
        assert_eq!(tiocsti(Some("1")).status, Status::Degraded);
        assert_eq!(tiocsti(None).status, Status::Degraded);
    }
}
