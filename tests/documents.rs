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
}

#[test]
fn a_link_to_nowhere_and_an_invented_test_are_noticed() {
    let text = "see [this](gone.md#part) and [that](https://example.org); proved by `a_wall_stands_for_ever`, not `path_beneath`";
    assert_eq!(links(text).collect::<Vec<_>>(), ["gone.md#part", "https://example.org"]);
    assert_eq!(claims(text).collect::<Vec<_>>(), ["a_wall_stands_for_ever"]);
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

/// The names of all functions in the source.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders: Vec<PathBuf> = ["src", "tests", "sandbox-tests"].map(|f| root().join(f)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                names.extend(functions_in(&path));
            }
        }
    }
    names
}

fn functions_in(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("a readable source");
    let name = |rest: &str| rest.split('(').next().unwrap_or_default().trim().to_owned();
    text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")).map(name).collect()
}
