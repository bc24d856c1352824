//! What the shim keeps of root once the sandbox stands: enough to end the agent and to clean up after it.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};

/// `KILL`: the agent has another uid. `DAC_OVERRIDE`: placeholders lie in somebody else's workspace; `FOWNER`: which may
/// have the sticky bit.
const KEPT: [Capability; 3] = [Capability::CAP_KILL, Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER];

/// The same as a set of bits.
pub fn kept() -> u64 {
    KEPT.iter().map(Capability::bitmask).sum()
}

/// Gives up every other capability, and every way to get one back by executing something. From here on this process
/// carries bytes that an agent wrote.
pub fn give_up() -> io::Result<()> {
    let kept = KEPT.into_iter().collect();
    rustix::thread::set_no_new_privs(true)?;
    for (set, wanted) in
        [(CapSet::Inheritable, &CapsHashSet::new()), (CapSet::Effective, &kept), (CapSet::Permitted, &kept)]
    {
        caps::set(None, set, wanted).map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}
