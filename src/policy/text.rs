//! An effective policy as text: to show, to read back, to hash.

use sha2::{Digest, Sha256};

use super::Policy;
use super::memo::Memo;

impl Policy {
    /// The whole policy as a policy file that extends nothing. Reading it gives this policy again.
    pub fn to_toml(&self) -> String {
        let mut table = toml::Table::try_from(self).expect("every field of a policy can be written as TOML");
        table.remove("name");
        toml::to_string(&table).expect("a TOML table can be written")
    }
}

/// SHA-256 over everything in an effective policy, in hex. Equal policies have equal hashes: fields are written
/// in the order of their declaration, sets and maps in the order of their entries.
pub fn hash(policy: &Policy) -> String {
    if let Some(hash) = KNOWN.of(|known| known == policy) {
        return hash;
    }
    let canonical = toml::to_string(policy).expect("every field of a policy can be written as TOML");
    let hash: String = Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect();
    KNOWN.keep(policy.clone(), hash.clone());
    hash
}

static KNOWN: Memo<Policy, String> = Memo::new();
