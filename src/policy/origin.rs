//! Which file of an `extends` chain decided each value of a policy.

use std::collections::BTreeMap;

use super::load::Layer;

/// One value of the effective policy; a list has one for each entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// `limits.memory`
    pub key: String,
    /// As the policy file writes it.
    pub value: String,
    /// The last layer that changed it, by its place in the chain; none: nobody did, it is the strictest there is.
    pub layer: Option<usize>,
}

/// Every value of the last layer, in the order of keys.
pub fn origins(layers: &[Layer]) -> Vec<Origin> {
    let mut decided: BTreeMap<(String, String), Option<usize>> = BTreeMap::new();
    for (index, layer) in layers.iter().enumerate() {
        let mut values = BTreeMap::new();
        let table =
            toml::Table::try_from(&layer.policy).expect("every field of a policy can be written as TOML");
        for (section, value) in table.iter().filter(|(_, value)| value.is_table()) {
            flatten(section, value, &mut values);
        }
        let first = index == 0;
        // What was there before keeps its layer, what is gone is forgotten, what is new or different is this one's.
        // In the first layer, what is still at its strictest was decided by nobody.
        let nothing = if first { strictest(&layer.policy) } else { BTreeMap::new() };
        decided = values
            .into_keys()
            .map(|entry| {
                let before = decided.get(&entry).copied();
                let layer = before.unwrap_or((!nothing.contains_key(&entry)).then_some(index));
                (entry, layer)
            })
            .collect();
    }
    decided.into_iter().map(|((key, value), layer)| Origin { key, value, layer }).collect()
}

fn strictest(policy: &super::Policy) -> BTreeMap<(String, String), ()> {
    let nothing = super::Policy::nothing(policy.name.clone());
    let table = toml::Table::try_from(nothing).expect("every field of a policy can be written as TOML");
    let mut values = BTreeMap::new();
    for (section, value) in table.iter().filter(|(_, value)| value.is_table()) {
        flatten(section, value, &mut values);
    }
    values
}

fn flatten(key: &str, value: &toml::Value, into: &mut BTreeMap<(String, String), ()>) {
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(name, value)| flatten(&format!("{key}.{name}"), value, into))
        }
        // An entry with a name of its own is told apart by it.
        toml::Value::Array(list)
            if list.iter().all(|entry| entry.get("name").is_some()) && !list.is_empty() =>
        {
            for entry in list {
                let name = entry["name"].as_str().unwrap_or_default();
                flatten(&format!("{key}.{name}"), entry, into);
            }
        }
        // A command is one value: its arguments belong to their program.
        toml::Value::Array(list) if key != "agent.command" => {
            list.iter().for_each(|entry| match entry {
                toml::Value::Table(_) => drop(into.insert((key.to_owned(), entry.to_string()), ())),
                entry => flatten(key, entry, into),
            });
        }
        value => {
            into.insert((key.to_owned(), value.to_string()), ());
        }
    }
}
