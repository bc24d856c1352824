//! Two pages are made from the source: the keys of a policy, the routes of the API. These tests hold them current, and write them anew
//! with `STOCKADE_WRITE_REFERENCES=1 cargo test --test references`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use stockade::daemon::api::openapi;

#[test]
fn the_reference_of_policies_names_every_key_with_what_its_type_says() {
    let mut page = String::from(
        "# Policy reference\n\nEvery key of a policy file, made from the source (`make test` holds it current). How policies are found, \
         merged and written is in\n[policies.md](policies.md). Sizes are `512MiB` or `512M`, times `30s`; every default is the \
         strictest value.\n\nBefore the first section stand `extends`, the name of the policy that this one starts from, and \
         `description`.\n",
    );
    let sources = ["mod", "network", "inject"].map(|name| source(&format!("src/policy/{name}.rs"))).concat();
    let mut keys = 0;
    for (section, structure) in [
        ("[agent]", "Agent"),
        ("[filesystem]", "Filesystem"),
        ("[network]", "Network"),
        ("[[network.inject]]", "Inject"),
        ("[limits]", "Limits"),
        ("[limits.io]", "Io"),
        ("[syscalls]", "Syscalls"),
        ("[capabilities]", "Capabilities"),
        ("[environment]", "Environment"),
        ("[terminal]", "Terminal"),
        ("[tolerate]", "Tolerate"),
    ] {
        let fields = fields(&sources, structure);
        assert!(!fields.is_empty(), "no fields of {structure} found in src/policy");
        keys += fields.len();
        write!(page, "\n## `{section}`\n\n| Key | |\n|---|---|\n").expect("a string takes it");
        for (name, says) in fields {
            writeln!(page, "| `{}` | {says} |", name.replace('_', "-")).expect("a string takes it");
        }
    }
    page.push_str("\n## What may be tolerated\n\n`tolerate.shortfalls` names protections that may be missing:\n\n| Name | |\n|---|---|\n");
    for (name, says) in variants(&source("src/policy/shortfall.rs"), "Shortfall") {
        writeln!(page, "| `{name}` | {says} |").expect("a string takes it");
    }
    assert!(keys > 25, "only {keys} keys: this test reads nothing");
    is_current("docs/policy-reference.md", &page);
}

#[test]
fn the_reference_of_the_api_names_every_route_that_is_served() {
    let document: Value = serde_json::from_str(openapi::document()).expect("a description");
    let mut page = String::from(
        "# API reference\n\nEvery route, made from the OpenAPI description that the service answers at `GET /openapi.json` (`make test` \
         holds it current). How they go\ntogether is in [api.md](api.md); every one of them can also answer with an error.\n",
    );
    let mut routes = 0;
    for tag in document["tags"].as_array().expect("tags") {
        let (name, says) =
            (tag["name"].as_str().expect("a name"), tag["description"].as_str().expect("text"));
        write!(page, "\n## {says}\n\n| Route | | Asks | Answers |\n|---|---|---|---|\n")
            .expect("a string takes it");
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                if operation["tags"][0] != name {
                    continue;
                }
                routes += 1;
                let says = operation["summary"].as_str().unwrap_or_default().trim_end_matches('.');
                writeln!(
                    page,
                    "| `{} {path}` | {} | {} | {} |",
                    method.to_uppercase(),
                    cell(says),
                    asks(operation),
                    answers(operation)
                )
                .expect("a string takes it");
            }
        }
    }
    assert!(routes > 30, "only {routes} routes: this test reads nothing");
    page.push_str("\n## What travels\n\n`?` marks what may be left out.\n");
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        let Some(properties) = schema["properties"].as_object() else { continue };
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
        write!(page, "\n### {name}\n\n").expect("a string takes it");
        if let Some(says) = schema["description"].as_str() {
            write!(page, "{}\n\n", cell(says)).expect("a string takes it");
        }
        page.push_str("| Field | Type | |\n|---|---|---|\n");
        for (field, property) in properties {
            let mark = if required.iter().any(|one| *one == field) { "" } else { "?" };
            let says = property["description"].as_str().unwrap_or_default();
            writeln!(page, "| `{field}`{mark} | {} | {} |", kind(property), cell(says))
                .expect("a string takes it");
        }
    }
    is_current("docs/api-reference.md", &page);
}

#[test]
fn a_field_is_found_with_its_comment() {
    let text = "/// A.\npub struct A {\n    /// One thing,\n    /// and more | less.\n    #[x]\n    pub first_key: Vec<u8>,\n    hidden: u8,\n}\n";
    assert_eq!(fields(text, "A"), [("first_key".to_owned(), "One thing, and more \\| less.".to_owned())]);
    assert_eq!(kind(&serde_json::json!({ "type": ["string", "null"] })), "string");
    assert_eq!(kind(&serde_json::json!({ "type": "array", "items": { "$ref": "#/x/Y" } })), "list of Y");
}

fn asks(operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let query = parameters.filter(|one| one["in"] == "query").filter_map(|one| one["name"].as_str());
    let mut asks: Vec<String> = query.map(|name| format!("`{name}`")).collect();
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        asks.extend(content.values().map(|body| kind(&body["schema"])));
    }
    asks.join(", ")
}

fn answers(operation: &Value) -> String {
    let answers = operation["responses"].as_object().expect("answers");
    let good = answers.iter().filter(|(status, _)| status.starts_with(['1', '2']));
    let one = |(status, answer): (&String, &Value)| {
        let body = answer["content"].as_object().and_then(|content| content.values().next());
        let body = body.map(|body| format!(" {}", kind(&body["schema"]))).unwrap_or_default();
        format!("{status}{body}")
    };
    good.map(one).collect::<Vec<_>>().join(", ")
}

/// A schema in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(options) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let words: Vec<_> = options.iter().map(kind).filter(|word| word != "null").collect();
        return words.join(" or ");
    }
    match &schema["type"] {
        Value::String(word) if word == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(word) => word.clone(),
        Value::Array(words) => {
            let words = words.iter().filter_map(Value::as_str).filter(|word| *word != "null");
            words
                .map(|word| match word {
                    "array" => format!("list of {}", kind(&schema["items"])),
                    other => other.to_owned(),
                })
                .collect::<Vec<_>>()
                .join(" or ")
        }
        _ => "anything".into(),
    }
}

/// The public fields of a structure, each with its comment.
fn fields(text: &str, structure: &str) -> Vec<(String, String)> {
    let Some((_, body)) = text.split_once(&format!("pub struct {structure} {{\n")) else { return Vec::new() };
    let body = body.split("\n}").next().unwrap_or_default();
    commented(body, |line| line.strip_prefix("pub ")?.split_once(':').map(|(name, _)| name.to_owned()))
}

/// The variants of an enumeration as they are written in a file, each with its comment.
fn variants(text: &str, enumeration: &str) -> Vec<(String, String)> {
    let (_, body) = text.split_once(&format!("pub enum {enumeration} {{\n")).expect("the enumeration");
    let body = body.split("\n}").next().unwrap_or_default();
    let found = commented(body, |line| {
        let name = line.strip_suffix(',')?;
        name.chars().all(char::is_alphanumeric).then(|| kebab(name))
    });
    assert!(found.len() > 5, "only {found:?} found");
    found
}

fn commented(body: &str, name: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let (mut found, mut comment) = (Vec::new(), Vec::new());
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push(text.trim());
        } else if !line.starts_with('#') {
            let text = cell(&comment.join(" "));
            found.extend(name(line).map(|name| (name, text)));
            comment.clear();
        }
    }
    found
}

fn kebab(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// For a cell of a table: one line, links to types as their names.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
        .replace("[`", "`")
        .replace("`]", "`")
}

fn source(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("a readable source")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn is_current(path: &str, page: &str) {
    let file = root().join(path);
    if std::env::var_os("STOCKADE_WRITE_REFERENCES").is_some() {
        fs::write(&file, page).expect("a page that can be written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "{path} is not what the source says: write it anew with STOCKADE_WRITE_REFERENCES=1 cargo test --test references"
    );
}
