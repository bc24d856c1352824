//! What a gateway really is, read from the kernel once it says that it is ready.

use std::fs;

use crate::shim::inherited;

/// Whether the process has exactly this uid and gid, no capability, no way to get one, and a system-call filter.
pub fn check(pid: u32, uid: u32) -> Result<(), String> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    judge(&status, uid)
}

fn judge(status: &str, uid: u32) -> Result<(), String> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).ok_or_else(|| format!("its status has no {name}"))
    };
    let differs = |name: &str, found: &str| Err(format!("it is not confined: {name} is {found}"));
    for name in ["Uid", "Gid"] {
        let found = field(name)?;
        if !found.split_whitespace().map(str::parse::<u32>).eq([uid; 4].map(Ok)) {
            return differs(name, found);
        }
    }
    for name in ["Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let found = field(name)?;
        if !found.bytes().all(|c| c == b'0') {
            return differs(name, found);
        }
    }
    for (name, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let found = field(name)?;
        if found != wanted {
            return differs(name, found);
        }
    }
    match field("Seccomp_filters") {
        Ok(found) if found.parse().is_ok_and(|count: u32| count <= inherited::filters()) => {
            differs("Seccomp_filters", found)
        }
        // Before Linux 5.9 there is no such line.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFINED: &str = "Name:\tstockade-egress\nUid:\t7\t7\t7\t7\nGid:\t7\t7\t7\t7\nGroups:\t \n\
        CapInh:\t00\nCapPrm:\t00\nCapEff:\t00\nCapBnd:\t00\nCapAmb:\t00\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    #[test]
    fn a_gateway_with_anything_more_than_it_needs_is_refused_by_the_name_of_it() {
        assert_eq!(judge(CONFINED, 7), Ok(()));
        for (less, more, name) in [
            ("Uid:\t7\t7", "Uid:\t7\t0", "Uid"),
            ("Groups:\t ", "Groups:\t4 27", "Groups"),
            ("CapBnd:\t00", "CapBnd:\t01", "CapBnd"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "NoNewPrivs"),
            ("Seccomp:\t2", "Seccomp:\t0", "Seccomp"),
            ("Gid:", "G:", "Gid"),
        ] {
            let refused = judge(&CONFINED.replace(less, more), 7).expect_err(more);
            assert!(refused.contains(name), "{refused}");
        }
        assert!(judge(CONFINED, 8).is_err());
    }
}
