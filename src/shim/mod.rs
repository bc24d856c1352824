//! The parent's side of one sandbox: from a plan to a cgroup that is proved empty.

pub mod backlog;
pub mod ends;
pub mod modes;
pub mod relay;
pub mod streams;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;
