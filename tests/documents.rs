//! Holds the documents to the source: no link that leads nowhere, no test named that does not exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const FOLDERS: &[&str] = &["", "docs", "docs/adr"];

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut checked = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a readable document");
        for link in links(&text).filter(|l| !l.starts_with("http") && !l.starts_with('#')) {
            let file = link.split('#').next().expect("the part before the anchor");
            let target = document.parent().expect("a folder").join(file);
            assert!(target.exists(), "{} links to {link}, which does not exist", document.display());
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} links found: this test reads nothing");
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let text = fs::read_to_string(root().join("docs/threat-model.md")).expect("the threat model");
    let tests = functions();
    for name in claims(&text) {
        assert!(tests.contains(name), "docs/threat-model.md names the test {name}, which does not exist");
    }
    let attempts = texts(&root().join("sandbox-tests/src")).concat();
    for id in attempted(&text) {
        let is_spelt = |text: &str| attempts.contains(&format!("\"{text}\""));
        // Those of a table: `format!("socket_{name}")`, and a row that begins with the rest.
        let is_a_row =
            |(kind, name): (&str, &str)| attempts.contains(&format!("\"{kind}_{{name}}\"")) && is_spelt(name);
        assert!(
            is_spelt(id) || id.split_once('_').is_some_and(is_a_row),
            "docs/threat-model.md names the attempt {id}, which does not exist"
        );
    }
}

#[test]
fn a_link_to_nowhere_and_an_invented_test_are_noticed() {
    let text = "see [this](gone.md#part) and [that](https://example.org); proved by `a_wall_stands_for_ever`, not `path_beneath`; attempts `a`, `b_2`";
    assert_eq!(links(text).collect::<Vec<_>>(), ["gone.md#part", "https://example.org"]);
    assert_eq!(claims(text).collect::<Vec<_>>(), ["a_wall_stands_for_ever"]);
    assert_eq!(attempted(text).collect::<Vec<_>>(), ["a", "b_2"]);
    assert!(functions().contains("a_link_to_nowhere_and_an_invented_test_are_noticed"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let entries = FOLDERS.iter().flat_map(|f| fs::read_dir(root().join(f)).expect("a folder of documents"));
    entries
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "md"))
        .collect()
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// What stands in backticks and reads like the name of a test: a sentence of at least four words.
fn claims(text: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split('`').skip(1).step_by(2).filter(move |s| s.matches('_').count() >= 3 && s.chars().all(word))
}

/// What stands in backticks after the word "attempts", up to the end of the table's cell.
fn attempted(text: &str) -> impl Iterator<Item = &str> {
    let cells = text.split("attempts `").skip(1).filter_map(|rest| rest.split(['|', '\n', ';']).next());
    cells.flat_map(|cell| cell.split('`').step_by(2)).filter(|id| !id.is_empty())
}

/// The names of all functions in the source.
fn functions() -> BTreeSet<String> {
    let name = |rest: &str| rest.split('(').next().unwrap_or_default().trim().to_owned();
    let sources = ["src", "tests", "sandbox-tests"].into_iter().flat_map(|f| texts(&root().join(f)));
    sources
        .flat_map(|t| {
            t.lines().filter_map(|l| l.trim_start().strip_prefix("fn ")).map(name).collect::<Vec<_>>()
        })
        .collect()
}

/// Every Rust source below a folder.
fn texts(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            texts.extend(self::texts(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            texts.push(fs::read_to_string(&path).expect("a readable source"));
        }
    }
    texts
}
