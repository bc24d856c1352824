//! What is in etcd under agents' keys, as far as this daemon has seen; and what has to be written so that it is what should be.

use std::collections::BTreeMap;

use crate::registry::Entry;
use crate::registry::entry::{self, Mark};

/// What lies under one agent's key.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// This node's. `entry`: what it says, if that is known to be under this daemon's lease.
    Ours { revision: i64, entry: Option<Box<Entry>> },
    /// Somebody else's: hands off.
    Foreign { owner: String },
}

/// One write. It applies only while the key is as it was seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// `revision` 0: it must not be there yet.
    Put { id: String, revision: i64, entry: Box<Entry> },
    /// Only one of ours.
    Delete { id: String, revision: i64 },
}

/// By id.
#[derive(Debug, Default)]
pub struct Picture {
    pub keys: BTreeMap<String, Seen>,
    /// Keys that this daemon has deleted, and when: a watch still tells of what was before.
    deleted: BTreeMap<String, i64>,
    /// The revision of the last listing: a watch still tells of what was before.
    listed: i64,
}

impl Picture {
    /// A listing begins.
    pub fn begin_anew(&mut self) {
        self.keys.clear();
    }

    /// A listing at this revision has been gone through.
    pub fn listed(&mut self, revision: i64) {
        self.listed = revision;
    }

    /// A key as a listing has it.
    pub fn found(&mut self, id: &str, value: &[u8], revision: i64, is_own_lease: bool, own: &Mark) {
        let seen = match entry::mark_of(id, value) {
            Some(mark) if mark.node_id == own.node_id => {
                let current = is_own_lease && mark.generation == own.generation;
                let entry = current.then(|| Entry::read(value)).flatten().map(Box::new);
                Seen::Ours { revision, entry }
            }
            Some(mark) => Seen::Foreign { owner: format!("node {}", mark.node) },
            None => Seen::Foreign { owner: "somebody who does not say who".into() },
        };
        self.keys.insert(id.to_owned(), seen);
    }

    /// Whether a change at `revision` is news: neither a write of ours nor older than one, nor than the last listing.
    pub fn is_news(&mut self, id: &str, revision: i64) -> bool {
        if revision <= self.listed {
            return false;
        }
        if let Some(deleted) = self.deleted.get(id).copied() {
            if revision <= deleted {
                return false;
            }
            self.deleted.remove(id);
        }
        match self.keys.get(id) {
            Some(Seen::Ours { revision: known, .. }) => revision > *known,
            Some(Seen::Foreign { .. }) | None => true,
        }
    }

    /// The watch has told everything up to `revision`.
    pub fn told(&mut self, revision: i64) {
        self.deleted.retain(|_, deleted| *deleted > revision);
    }

    /// The ids that are this node's.
    pub fn ours(&self) -> impl Iterator<Item = &String> {
        self.keys.iter().filter(|(_, seen)| matches!(seen, Seen::Ours { .. })).map(|(id, _)| id)
    }

    /// Agents that should be registered and cannot, because somebody else has their keys.
    pub fn conflicts(&self, wanted: &BTreeMap<String, Entry>) -> Vec<String> {
        let held = |id: &String| match self.keys.get(id) {
            Some(Seen::Foreign { owner }) => Some(format!("{id}: its key belongs to {owner}")),
            _ => None,
        };
        wanted.keys().filter_map(held).collect()
    }

    /// What has to be written so that this node's keys are what should be. Deletions first: they are what is waited for.
    pub fn differences(&self, wanted: &BTreeMap<String, Entry>) -> Vec<Write> {
        let gone = self.keys.iter().filter_map(|(id, seen)| match seen {
            Seen::Ours { revision, .. } if !wanted.contains_key(id) => {
                Some(Write::Delete { id: id.clone(), revision: *revision })
            }
            _ => None,
        });
        let due = wanted.iter().filter_map(|(id, entry)| {
            let revision = match self.keys.get(id) {
                None => 0,
                Some(Seen::Foreign { .. }) => return None,
                Some(Seen::Ours { entry: Some(there), .. }) if there.says_what(entry) => return None,
                Some(Seen::Ours { revision, .. }) => *revision,
            };
            Some(Write::Put { id: id.clone(), revision, entry: Box::new(entry.clone()) })
        });
        gone.chain(due).collect()
    }

    /// A write has been applied at `revision`.
    pub fn applied(&mut self, write: &Write, revision: i64) {
        match write {
            Write::Put { id, entry, .. } => {
                let seen = Seen::Ours { revision, entry: Some(entry.clone()) };
                self.keys.insert(id.clone(), seen);
            }
            Write::Delete { id, .. } => {
                self.keys.remove(id);
                self.deleted.insert(id.clone(), revision);
            }
        }
    }
}

impl Write {
    /// Whose key.
    pub fn id(&self) -> &str {
        match self {
            Self::Put { id, .. } | Self::Delete { id, .. } => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::entry::tests::entry;
    use proptest::prelude::*;

    fn own() -> Mark {
        Mark { node: "n".into(), node_id: "x".into(), generation: 1 }
    }

    fn wanted(ids: &[u8]) -> BTreeMap<String, Entry> {
        ids.iter().map(|id| (id.to_string(), entry(&id.to_string(), "name"))).collect()
    }

    #[test]
    fn a_key_of_another_node_or_of_nobody_is_never_written() {
        let mut picture = Picture::default();
        let mut theirs = entry("1", "name");
        theirs.metadata.stockade.node_id = "y".into();
        picture.found("1", &theirs.value(), 7, true, &own());
        picture.found("2", b"{}", 8, true, &own());
        // Of this node's making, and put under another key by somebody.
        picture.found("3", &entry("4", "name").value(), 9, true, &own());
        assert_eq!(picture.differences(&wanted(&[1, 2, 3])), []);
        assert_eq!(picture.differences(&wanted(&[])), []);
        assert_eq!(picture.conflicts(&wanted(&[1, 2, 3, 4])).len(), 3);
    }

    #[test]
    fn what_a_watch_tells_late_of_a_write_of_ours_is_no_news() {
        let mut picture = Picture::default();
        let put = Write::Put { id: "1".into(), revision: 0, entry: Box::new(entry("1", "name")) };
        picture.applied(&put, 5);
        assert!(!picture.is_news("1", 5) && picture.is_news("1", 6));
        picture.applied(&Write::Delete { id: "1".into(), revision: 5 }, 7);
        assert!(!picture.is_news("1", 5) && !picture.is_news("1", 7));
        assert!(picture.is_news("1", 8));
        picture.begin_anew();
        picture.listed(9);
        assert!(!picture.is_news("1", 9) && !picture.is_news("2", 8) && picture.is_news("2", 10));
    }

    #[test]
    fn a_key_under_another_lease_or_of_another_generation_is_written_again() {
        let value = entry("1", "name").value();
        let next = Mark { generation: 2, ..own() };
        for (is_own_lease, own, writes) in [(true, own(), 0), (false, own(), 1), (true, next, 1)] {
            let mut picture = Picture::default();
            picture.found("1", &value, 7, is_own_lease, &own);
            assert_eq!(picture.differences(&wanted(&[1])).len(), writes, "{own:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_was_there_applying_the_differences_leaves_what_should_be_and_all_that_is_foreign(
            there in prop::collection::btree_map(0_u8..12, 0_u8..4, 0..12),
            should in prop::collection::btree_set(0_u8..12, 0..12),
        ) {
            let mut picture = Picture::default();
            for (id, what) in &there {
                let mut value = entry(&id.to_string(), if *what == 1 { "old" } else { "name" });
                if *what == 2 {
                    value.metadata.stockade.node_id = "y".into();
                }
                picture.found(&id.to_string(), &value.value(), 1, *what != 3, &own());
            }
            let foreign = |picture: &Picture| -> Vec<String> {
                let is_foreign = |(_, seen): &(&String, &Seen)| matches!(seen, Seen::Foreign { .. });
                picture.keys.iter().filter(is_foreign).map(|(id, _)| id.clone()).collect()
            };
            let before = foreign(&picture);
            let wanted = wanted(&should.into_iter().collect::<Vec<_>>());
            for write in picture.differences(&wanted) {
                prop_assert!(!before.contains(&write.id().to_owned()));
                picture.applied(&write, 2);
            }
            prop_assert_eq!(foreign(&picture), before.clone());
            prop_assert_eq!(picture.differences(&wanted), vec![]);
            let ours: Vec<_> = picture.ours().cloned().collect();
            let expected: Vec<_> = wanted.keys().filter(|id| !before.contains(id)).cloned().collect();
            prop_assert_eq!(ours, expected);
        }
    }
}
