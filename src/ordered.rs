//! Sets and maps that are filled one entry after another.
//!
//! `collect` sorts first, by an algorithm that is compiled anew for every type: 4 kB each, in a program of which there is one per agent.

use std::collections::{BTreeMap, BTreeSet};

/// All of `entries`.
pub fn set<T: Ord>(entries: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(entries);
    set
}

/// All of `entries`; of two with the same key the later one.
pub fn map<K: Ord, V>(entries: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(entries);
    map
}

/// All of `entries`, or the first error.
///
/// # Errors
/// That of the first entry that is one.
pub fn try_map<K: Ord, V, E>(
    entries: impl IntoIterator<Item = Result<(K, V), E>>,
) -> Result<BTreeMap<K, V>, E> {
    let mut map = BTreeMap::new();
    for entry in entries {
        let (key, value) = entry?;
        map.insert(key, value);
    }
    Ok(map)
}
