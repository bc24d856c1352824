//! Holds the source to the picture in `docs/architecture.md`: which module may know which, and the rules of the house.
//!
//! It reads the source as text, so that code behind a feature or a `cfg` is checked like any other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every module at the top of `src/`, and the ones it may name. A new module is declared here first.
const ARROWS: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("ordered", &[]),
    ("sys", &[]),
    ("wire", &[]),
    ("api", &[]),
    ("audit", &["id"]),
    ("policy", &["id", "ordered"]),
    ("agents", &["api", "id", "policy"]),
    ("cgroup", &["id", "ordered", "policy", "sys"]),
    ("host", &["cgroup", "id", "ordered", "policy", "sys"]),
    ("netns", &["sys"]),
    ("plan", &["host", "id", "ordered", "policy"]),
    ("jail", &["netns", "plan", "sys", "wire"]),
    ("shim", &["cgroup", "host", "id", "jail", "netns", "ordered", "plan", "policy", "sys", "wire"]),
    ("egress", &["policy", "sys", "wire"]),
    ("launcher", &["cgroup", "host", "id", "policy", "shim", "sys", "wire"]),
    ("registry", &[]),
    // What reads the network has no way to privileged code but a message.
    ("daemon", &["agents", "api", "audit", "host", "id", "policy", "registry", "sys", "wire"]),
    // Not `jail`: whoever wants a sandbox goes through `shim`.
    ("cli", &["api", "cgroup", "host", "id", "netns", "plan", "policy", "shim", "sys", "wire"]),
    ("client", &["agents", "api", "audit", "cli", "host", "id", "policy", "registry", "sys", "wire"]),
];

/// What the privileged processes must not be able to reach, whatever a dependency drags in.
const NEVER_PRIVILEGED: &[&str] = &["axum", "hyper", "rustls", "tokio"];

const MOST_LINES: usize = 500;
const MOST_LINES_OF_A_BINARY: usize = 5;

#[test]
fn arrows_point_one_way() {
    let wrong: Vec<String> =
        sources("src").iter().flat_map(|(path, text)| wrong_arrows(path, text)).collect();
    assert!(wrong.is_empty(), "arrows that docs/architecture.md does not have:\n{}", wrong.join("\n"));
}

#[test]
fn the_declared_arrows_form_no_circle() {
    let mut settled = BTreeSet::new();
    while settled.len() < ARROWS.len() {
        let before = settled.len();
        settled.extend(
            ARROWS
                .iter()
                .filter(|(_, may)| may.iter().all(|m| settled.contains(m)))
                .map(|(m, _)| *m)
                .collect::<Vec<_>>(),
        );
        assert!(settled.len() > before, "a circle, or an undeclared name, among everything but {settled:?}");
    }
}

#[test]
fn a_planted_wrong_arrow_is_caught_in_every_form() {
    let planted = [
        ("src/policy/mod.rs", "use crate::host::Host;"),
        ("src/policy/size.rs", "use crate::{id::PolicyName, sys};"),
        ("src/policy/size.rs", "use crate::{\n    id,\n    host::{self, Probe},\n};"),
        ("src/policy/mod.rs", "use super::host;"),
        ("src/policy/size.rs", "use super::super::host::Host;"),
        ("src/policy/size.rs", "use super::{shortfall, super::host};"),
        ("src/policy/mod.rs", "mod tests { use super::super::host::Host; }"),
        ("src/policy/mod.rs", "mod a { mod b { } use super::super::sys; }"),
        ("src/policy/mod.rs", "fn f() -> crate :: host::Host { todo() }"),
        ("src/policy/mod.rs", "fn f() { g::<crate::sys::Fd>() }"),
        ("src/policy/mod.rs", "macro_rules! m { () => { $crate::sys::call() } }"),
        ("src/policy/mod.rs", "fn f<'a>(_: &'a u8) { crate::sys::call('\"', '\\'', b'x') }"),
        ("src/policy/mod.rs", "use crate::*;"),
        ("src/policy/mod.rs", "use crate as root;"),
        ("src/policy/mod.rs", "use crate::{self as root};"),
        ("src/policy/mod.rs", "use super as root;"),
        ("src/policy/mod.rs", "use super::*;"),
        ("src/policy/mod.rs", "use ::stockade::host::Host;"),
        ("src/policy/mod.rs", "extern crate self as root;"),
        ("src/policy/mod.rs", "#[path = \"../host/mod.rs\"] mod host;"),
        ("src/policy/mod.rs", "include!(\"../host/mod.rs\");"),
        ("src/cli/run.rs", "crate::jail::enter(plan)"),
        ("src/stranger/mod.rs", "//! A module that nobody declared."),
    ];
    for (path, text) in planted {
        assert_ne!(wrong_arrows(path, text), Vec::<String>::new(), "{path}: {text:?} went unnoticed");
    }
}

#[test]
fn a_declared_arrow_passes_and_so_do_words_that_only_look_like_one() {
    let harmless = [
        ("src/policy/mod.rs", "use crate::id::PolicyName;\nuse crate::policy::size::Bytes;"),
        (
            "src/policy/size.rs",
            "use super::Shortfall;\nmod tests { use super::*; use super::super::Policy; }",
        ),
        (
            "src/policy/mod.rs",
            "// use crate::host;\n/* crate::sys /* nested */ crate::sys */ //! [`crate::host`]",
        ),
        ("src/policy/mod.rs", "const A: &str = \"crate::host\"; const B: &str = r#\"crate::\"sys\"#;"),
        ("src/policy/mod.rs", "pub(crate) fn f() {}\npub(super) fn g() {}\npub(in crate::policy) fn h() {}"),
        ("src/lib.rs", "pub mod id;\npub mod policy;"),
    ];
    for (path, text) in harmless {
        assert_eq!(wrong_arrows(path, text), Vec::<String>::new(), "{path}: {text:?}");
    }
}

#[test]
fn unsafe_code_is_in_sys_and_nowhere_else() {
    for (path, text) in sources("src") {
        if path.starts_with("src/sys/") || path == "src/sys.rs" {
            continue;
        }
        for word in words(&text) {
            assert_ne!(word, "unsafe", "{path}: wrap the call in src/sys");
            // The root names the lint in order to deny it.
            assert!(word != "unsafe_code" || path == "src/lib.rs", "{path} loosens the lint on unsafe code");
        }
    }
}

#[test]
fn every_module_is_declared_here_and_explained_in_the_table_of_lib_rs() {
    let root = read(Path::new("src/lib.rs"));
    let tokens = words(&root);
    let in_code: BTreeSet<&str> =
        tokens.windows(2).filter(|w| w[0] == "mod").map(|w| w[1].as_str()).collect();
    assert!(in_code.contains("policy"), "no modules found in src/lib.rs: this test reads nothing");
    for module in in_code {
        assert!(declared(module).is_some(), "{}", undeclared(module));
        assert!(
            root.contains(&format!("//! | [`{module}`] |")),
            "the module table of src/lib.rs has no row for `{module}`"
        );
    }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let all: Vec<_> = ["src", "tests", "sandbox-tests"].into_iter().flat_map(sources).collect();
    assert!(all.len() > 5, "only {} files found: this test reads nothing", all.len());
    for (path, text) in all {
        assert!(text.starts_with("//!"), "{path} does not start with a `//!` line that says what it is for");
        let (lines, most) = match path.starts_with("src/bin/") {
            true => (text.lines().count(), MOST_LINES_OF_A_BINARY),
            false => (text.lines().count(), MOST_LINES),
        };
        assert!(lines <= most, "{path} has {lines} lines, more than {most}: which second noun is in it?");
    }
}

#[test]
fn privileged_code_cannot_reach_a_network_stack() {
    let cargo = std::env::var_os("CARGO").expect("cargo names itself to the tests that it runs");
    let tree = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--package", "stockade", "--no-default-features"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("package names are text");
    assert_eq!(network_stacks(&tree), Vec::<&str>::new(), "reachable with all features off");
    assert!(tree.lines().any(|l| l.starts_with("libc v")), "not a dependency tree:\n{tree}");
    assert_eq!(
        network_stacks("stockade v0.1.0\nnix v0.31.0\ntokio-util v0.7.0\nrustls v0.23.0 (*)"),
        ["tokio-util v0.7.0", "rustls v0.23.0 (*)"]
    );
}

/// The lines of `cargo tree` that name one of [`NEVER_PRIVILEGED`] or its satellites (`tokio-util`).
fn network_stacks(tree: &str) -> Vec<&str> {
    let family = |line: &&str| NEVER_PRIVILEGED.iter().any(|n| line.split([' ', '-', '_']).next() == Some(n));
    tree.lines().filter(family).collect()
}

fn declared(module: &str) -> Option<&'static [&'static str]> {
    ARROWS.iter().find(|(name, _)| *name == module).map(|(_, may)| *may)
}

fn undeclared(module: &str) -> String {
    format!(
        "`{module}` is not a declared module: say in ARROWS (tests/architecture.rs) which modules it may know, \
         and add a row to the table in src/lib.rs"
    )
}

/// Every `.rs` file below `folder`, with its path relative to the repository.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let absolute = Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder);
        for entry in
            fs::read_dir(&absolute).unwrap_or_else(|e| panic!("cannot list {}: {e}", absolute.display()))
        {
            let entry = entry.expect("a directory entry");
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("a file type").is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push((path.display().to_string(), read(&path)));
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    let absolute = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&absolute).unwrap_or_else(|e| panic!("cannot read {}: {e}", absolute.display()))
}

/// What this file names and may not, in words for whoever wrote it.
fn wrong_arrows(path: &str, text: &str) -> Vec<String> {
    let module: Vec<String> = Path::new(path)
        .strip_prefix("src")
        .expect("a path below src")
        .with_extension("")
        .components()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .filter(|c| c != "mod")
        .collect();
    // The root only lists modules; binaries name the library from outside.
    if path == "src/lib.rs" || path.starts_with("src/bin/") {
        return Vec::new();
    }
    let top = module[0].clone();
    let Some(may) = declared(&top) else { return vec![format!("{path}: {}", undeclared(&top))] };
    let mut names = Names { words: words(text), at: 0, module, found: BTreeSet::new() };
    names.collect();
    let wrong = names.found.into_iter().filter(|n| *n != top && !may.contains(&n.as_str()));
    wrong.map(|n| format!("{path}: `{top}` may not name `{n}` (it may name {may:?})")).collect()
}

/// Walks over a file's words and gathers the modules at the top of the crate that it names.
struct Names {
    words: Vec<String>,
    at: usize,
    /// Where the walk is: the file's module, and the `mod x { … }` blocks that it is in.
    module: Vec<String>,
    found: BTreeSet<String>,
}

impl Names {
    fn collect(&mut self) {
        // For each open brace: whether it is a module's.
        let mut braces = Vec::new();
        while self.at < self.words.len() {
            match (self.word(0), self.word(1), self.word(2)) {
                ("mod", name, "{") => {
                    self.module.push(name.to_owned());
                    braces.push(true);
                    self.at += 2;
                }
                ("{", ..) => braces.push(false),
                ("}", ..) if braces.pop() == Some(true) => drop(self.module.pop()),
                ("(", "crate" | "super", ")") => self.at += 2,
                ("crate", ..) => self.path(Vec::new()),
                ("super", ..) => self.path(self.above(&self.module)),
                ("::", "stockade", _)
                | ("extern", "crate", "self")
                | ("[", "path", "=")
                | ("include", "!", _) => {
                    self.found.insert(format!("{} {}", self.word(0), self.word(1)));
                    self.at += 1;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Reads on after a path's first word, which stood for `prefix`; ends on the last word of the path.
    fn path(&mut self, prefix: Vec<String>) {
        if self.word(1) != "::" {
            if prefix.is_empty() {
                self.found.insert("the root itself".into());
            }
            return;
        }
        self.at += 2;
        self.branch(prefix);
    }

    fn branch(&mut self, prefix: Vec<String>) {
        match self.word(0).to_owned().as_str() {
            "super" => self.path(self.above(&prefix)),
            "{" => {
                self.at += 1;
                while !matches!(self.word(0), "}" | "") {
                    self.branch(prefix.clone());
                    self.at += 1;
                    // What follows a branch (`as name`, a deeper path) ends at the comma or the brace.
                    let mut depth = 0;
                    while !self.word(0).is_empty() && (depth > 0 || !matches!(self.word(0), "," | "}")) {
                        depth += i32::from(self.word(0) == "{") - i32::from(self.word(0) == "}");
                        self.at += 1;
                    }
                    self.at += usize::from(self.word(0) == ",");
                }
            }
            name => {
                if let Some(top) = prefix.first() {
                    self.found.insert(top.clone());
                } else {
                    self.found.insert(name.to_owned());
                }
            }
        }
    }

    fn above(&self, module: &[String]) -> Vec<String> {
        module[..module.len().saturating_sub(1)].to_vec()
    }

    fn word(&self, ahead: usize) -> &str {
        self.words.get(self.at + ahead).map_or("", String::as_str)
    }
}

/// The words and signs of Rust source, without comments and without what stands in quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character_or_lifetime(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            end
        } else if rest.starts_with("::") {
            words.push("::".into());
            2
        } else {
            if !first.is_whitespace() {
                words.push(first.into());
            }
            first.len_utf8()
        };
        rest = &rest[skip..];
    }
    words
}

fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (1, 2),
            [b'*', b'/', ..] => (-1, 2),
            _ => (0, 1),
        };
        depth += step.0;
        at += step.1;
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let count = hashes.len() - hashes.trim_start_matches('#').len();
    hashes[count..].starts_with('"').then_some(())?;
    let open = text.len() - hashes.len() + count + 1;
    let close = format!("\"{}", "#".repeat(count));
    Some(text[open..].find(&close).map_or(text.len(), |end| open + end + close.len()))
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// `'a'` and `'\''` are characters, `'a` is a lifetime.
fn character_or_lifetime(text: &str) -> usize {
    let mut after = text[1..].chars();
    match (after.next(), after.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 1,
    }
}
