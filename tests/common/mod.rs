//! What the tests of whole runs have in common.
// Each test program is compiled with its own copy, and none uses all of it.
#![allow(dead_code)]

pub mod leaks;
pub mod machine;
pub mod node;
pub mod site;
pub mod stockade;
