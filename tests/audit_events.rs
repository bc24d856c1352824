//! The events are a closed set, and `docs/audit.md` describes each of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use stockade::audit::Event;

#[test]
fn the_document_describes_every_event_and_every_field_and_invents_none() {
    let document = read("docs/audit.md");
    let tables =
        document.split("## Events").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("events");
    let described: BTreeSet<&str> =
        tables.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let kinds: BTreeSet<&str> = Event::KINDS.iter().copied().collect();
    assert_eq!(described, kinds);
    for (kind, fields) in fields() {
        let row = tables.lines().find(|line| line.starts_with(&format!("| `{kind}`"))).expect("its row");
        for field in fields {
            assert!(row.contains(&format!("`{field}`")), "docs/audit.md: {kind} lacks `{field}`");
        }
    }
}

#[test]
fn no_event_has_a_field_for_any_text() {
    for file in ["src/audit/event.rs", "src/audit/parts.rs"] {
        for line in read(file).lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            // A key's id, and a signature, are the log's own.
            let own = ["key_id: String", "by: String", "signature: String"];
            let is_own = own.iter().any(|own| line.contains(own));
            assert!(is_own || !line.contains("String"), "{file}: {line}");
            assert!(!line.contains("Value"), "{file}: {line}");
        }
    }
}

/// The variants of `Event` with their fields, as JSON has them, from the source.
fn fields() -> Vec<(String, Vec<String>)> {
    let source = read("src/audit/event.rs");
    let (_, rest) = source.split_once("pub enum Event {").expect("the enum");
    let (body, _) = rest.split_once("\n}\n").expect("its end");
    let code: String =
        body.lines().map(str::trim).filter(|l| !l.starts_with("//") && !l.starts_with('#')).collect();
    let mut found = Vec::new();
    for variant in code.split('}').filter_map(|variant| variant.split_once('{')) {
        let (name, fields) = (variant.0.trim_matches([',', ' ']), variant.1);
        let names =
            fields.split(',').filter_map(|field| field.split_once(':')).map(|(name, _)| camel(name.trim()));
        let mut kind = name.to_owned();
        kind[..1].make_ascii_lowercase();
        found.push((kind, names.collect()));
    }
    assert_eq!(found.len(), Event::KINDS.len(), "{found:?}");
    found
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| all + &word[..1].to_uppercase() + &word[1..])
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file")
}
