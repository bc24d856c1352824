//! The outside of an attempt: what surrounds the sandbox, starts it, and looks at what it leaves.

pub mod belt;
mod disk;
pub mod groups;
pub mod leak;
pub mod plant;
pub mod start;
pub mod stockade;
pub mod summary;
pub mod terminal;
pub mod workspace;
