//! Limits that processes carry themselves.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::step::{Fault, On};
use crate::plan::Rlimit;

/// Sets each limit, soft and hard alike. What the caller was limited to before stays its limit.
pub fn set(limits: &[Rlimit]) -> Result<(), Fault> {
    for limit in limits {
        let resource = resource(limit.resource).on(limit.resource)?;
        let (_, hard) = getrlimit(resource).on(limit.resource)?;
        let value = limit.value.min(hard);
        setrlimit(resource, value, value).on(limit.resource)?;
    }
    Ok(())
}

fn resource(name: &str) -> io::Result<Resource> {
    Ok(match name {
        "core" => Resource::RLIMIT_CORE,
        "fsize" => Resource::RLIMIT_FSIZE,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        _ => return Err(io::Error::other("no such resource limit")),
    })
}
