//! The user's own terminal, raw while an agent has it and given back as it was found: the same for `run` and `attach`.

pub use crate::shim::terminal::HostTerminal;
