//! Ids and capabilities: first the sandbox's root, then nobody special.

use std::io;

use caps::CapSet;
use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{
    CapabilitiesSecureBits, set_capabilities_secure_bits, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::step::{Fault, On};
use crate::plan::User;

/// Takes uid and gid 0 of the user namespace: on the host, the first uid of the sandbox's own range.
pub fn become_root_inside() -> io::Result<()> {
    set_thread_groups(&[])?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    Ok(())
}

/// Ends every privilege: the capability sets are empty, the securebits are locked.
///
/// Init itself stays uid 0 of the sandbox, a uid that owns nothing and has no capability, so that the agent can neither
/// limit nor schedule it (prlimit(2), sched_setaffinity(2)). The agent's uid is kept as the saved one: with it init can
/// signal the agent, and the agent-to-be can take it ([`become_agent`]).
pub fn give_up(user: &User) -> Result<(), Fault> {
    crate::sys::process::empty_bounding_set().on("bounding set")?;
    // NO_SETUID_FIXUP keeps the sets as they are while the uid changes; they are emptied explicitly below.
    set_capabilities_secure_bits(SECUREBITS).on("securebits")?;
    set_thread_groups(&[]).on("groups")?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.uid));
    set_thread_res_gid(gid, gid, gid).on("gid")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, uid).on("uid")?;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let cleared = caps::clear(None, set);
        cleared.map_err(|error| io::Error::other(error.to_string())).on(format!("{set:?}"))?;
    }
    Ok(())
}

/// Takes the agent's uid for good. Needs no capability: it is the saved one.
pub fn become_agent(user: &User) -> io::Result<()> {
    let uid = Uid::from_raw(user.uid);
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// Does something with the agent's effective uid, then goes back. A change of uid clears the parent-death signal and
/// makes a process dumpable (prctl(2)), so both are set again.
pub fn as_agent<T>(user: &User, deed: impl FnOnce() -> T) -> io::Result<T> {
    let keep = || Option::<Uid>::None;
    set_thread_res_uid(keep(), Some(Uid::from_raw(user.uid)), keep())?;
    let done = deed();
    set_thread_res_uid(keep(), Some(Uid::ROOT), keep())?;
    tether()?;
    Ok(done)
}

/// Ties this process's life to the shim's, and keeps the agent from reading or tracing it.
pub fn tether() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

const SECUREBITS: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);
