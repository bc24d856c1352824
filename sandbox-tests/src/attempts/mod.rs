//! Every attempt, one file per class.

mod abi;
mod devices;
mod files;
mod identity;
mod ipc;
mod keys;
mod limits;
mod mounts;
mod namespaces;
mod network;
mod processes;
mod procfs;
mod protected;
mod set_id;
mod sockets;
mod surface;
mod terminal;

use crate::attempt::Attempt;

/// All attempts, class by class.
pub fn all() -> Vec<Attempt> {
    [
        abi::attempts(),
        devices::attempts(),
        files::attempts(),
        identity::attempts(),
        ipc::attempts(),
        keys::attempts(),
        limits::attempts(),
        mounts::attempts(),
        namespaces::attempts(),
        network::attempts(),
        processes::attempts(),
        procfs::attempts(),
        protected::attempts(),
        set_id::attempts(),
        sockets::attempts(),
        surface::attempts(),
        terminal::attempts(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The attempt of this name.
pub fn find(id: &str) -> Option<Attempt> {
    all().into_iter().find(|attempt| attempt.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_attempt_has_a_name_of_its_own() {
        let names: BTreeSet<_> = all().into_iter().map(|attempt| attempt.id).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn every_attempt_says_what_it_is_after_and_where_that_is_known_from() {
        for attempt in all() {
            assert!(!attempt.success.is_empty() && !attempt.reference.is_empty(), "{attempt:?}");
        }
    }
}
