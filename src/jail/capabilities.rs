//! Ids and capabilities: first the sandbox's root, then nobody special.

use std::collections::BTreeSet;
use std::io;

use caps::CapSet;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitiesSecureBits, set_capabilities_secure_bits, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::step::{Fault, On};
use crate::plan::{Capability, User};

/// Takes uid and gid 0 of the user namespace: on the host, the first uid of the sandbox's own range.
pub fn become_root_inside() -> io::Result<()> {
    set_thread_groups(&[])?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    Ok(())
}

/// Becomes the agent's user, with exactly `keep` in the capability sets and the securebits locked.
pub fn give_up(user: &User, keep: &BTreeSet<Capability>) -> Result<(), Fault> {
    let keep: caps::CapsHashSet = keep.iter().map(|capability| number(*capability)).collect();
    let numbers: Vec<u8> = keep.iter().map(caps::Capability::index).collect();
    crate::sys::process::keep_bounded(&numbers).on("bounding set")?;
    // NO_SETUID_FIXUP keeps the sets as they are while the uid changes; they are set explicitly below.
    set_capabilities_secure_bits(securebits(keep.is_empty())).on("securebits")?;
    set_thread_groups(&[]).on("groups")?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.uid));
    set_thread_res_gid(gid, gid, gid).on("gid")?;
    set_thread_res_uid(uid, uid, uid).on("uid")?;
    caps::clear(None, CapSet::Ambient).map_err(caps_error).on("ambient")?;
    caps::set(None, CapSet::Inheritable, &keep).map_err(caps_error).on("inheritable")?;
    for capability in &keep {
        caps::raise(None, CapSet::Ambient, *capability).map_err(caps_error).on(capability)?;
    }
    caps::set(None, CapSet::Effective, &keep).map_err(caps_error).on("effective")?;
    caps::set(None, CapSet::Permitted, &keep).map_err(caps_error).on("permitted")?;
    Ok(())
}

fn securebits(lock_ambient: bool) -> CapabilitiesSecureBits {
    use CapabilitiesSecureBits as Bits;
    let ambient = if lock_ambient {
        Bits::NO_CAP_AMBIENT_RAISE | Bits::NO_CAP_AMBIENT_RAISE_LOCKED
    } else {
        Bits::empty()
    };
    Bits::NO_ROOT
        | Bits::NO_ROOT_LOCKED
        | Bits::NO_SETUID_FIXUP
        | Bits::NO_SETUID_FIXUP_LOCKED
        | Bits::KEEP_CAPS_LOCKED
        | ambient
}

fn number(capability: Capability) -> caps::Capability {
    match capability {
        Capability::NetBindService => caps::Capability::CAP_NET_BIND_SERVICE,
    }
}

fn caps_error(error: caps::errors::CapsError) -> io::Error {
    io::Error::other(error.to_string())
}
