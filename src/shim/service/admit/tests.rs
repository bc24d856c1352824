//! What an order may not say.

use super::*;

fn node(root: &Path, opened: &[&Path]) -> Settings {
    Settings {
        root: root.into(),
        daemon_uid: 7,
        daemon_gid: 7,
        workspace_roots: opened.iter().map(|path| path.to_path_buf()).collect(),
        policies: Vec::new(),
    }
}

fn order(change: serde_json::Value) -> Order {
    let mut order = serde_json::json!({
        "id": "a-1", "tenant": "t", "policy": "shell", "size": { "cols": 80, "rows": 24 }, "logBytes": 1 << 20,
        "command": ["true"],
    });
    for (key, value) in change.as_object().expect("fields") {
        order[key] = value.clone();
    }
    serde_json::from_value(order).expect("an order")
}

fn refusal(node: &Settings, change: serde_json::Value) -> Refusal {
    let said = change.to_string();
    admit(&order(change), node).err().unwrap_or_else(|| panic!("{said:.200} was admitted"))
}

#[test]
fn a_plain_order_is_admitted_with_the_policy_or_less() {
    let tree = tempfile::tempdir().expect("a directory");
    let node = node(tree.path(), &[]);
    let change = serde_json::json!({
        "memory": 64 << 20, "millicpus": 250, "processes": 20, "workspace": { "kind": "named", "name": "w" },
        "home": { "kind": "named", "name": "h" }, "arguments": ["x"],
    });
    let admitted = admit(&order(change), &node).expect("admitted");
    assert_eq!(admitted.policy.limits.memory.get(), 64 << 20);
    assert_eq!(admitted.policy.limits.cpus.millis(), 250);
    assert_eq!(admitted.policy.limits.processes, 20);
    assert_eq!(admitted.words.command, ["true", "x"]);
    let state = tree.path().join("var/lib/stockade");
    assert_eq!(admitted.places, [state.join("workspaces/t/w"), state.join("homes/t/h")]);
}

#[test]
fn a_name_that_could_be_a_path_is_no_name() {
    let tree = tempfile::tempdir().expect("a directory");
    let node = node(tree.path(), &[]);
    for evil in ["..", "../x", "a/b", "/etc", "", "-x", ".", "a\nb", "a\0b", "%2e%2e", "a;b"] {
        for field in ["id", "tenant", "policy"] {
            let refusal = refusal(&node, serde_json::json!({ field: evil }));
            assert_eq!(
                (refusal.reason, refusal.field.as_deref()),
                (Reason::Malformed, Some(field)),
                "{evil:?}"
            );
        }
        for (field, kind) in [("workspace", "named"), ("home", "named")] {
            let refusal = refusal(&node, serde_json::json!({ field: { "kind": kind, "name": evil } }));
            assert_eq!(
                (refusal.reason, refusal.field.as_deref()),
                (Reason::Malformed, Some(field)),
                "{evil:?}"
            );
        }
    }
    assert_eq!(refusal(&node, serde_json::json!({ "policy": "nothere" })).reason, Reason::UnknownPolicy);
    // `x.toml` is a name, and never a file.
    assert_eq!(refusal(&node, serde_json::json!({ "policy": "base.toml" })).reason, Reason::UnknownPolicy);
}

#[test]
fn whatever_goes_beyond_the_policy_is_refused_by_the_name_of_its_field() {
    let tree = tempfile::tempdir().expect("a directory");
    let node = node(tree.path(), &[]);
    let beyond = [
        ("memory", serde_json::json!(1_u64 << 45)),
        ("millicpus", serde_json::json!(4_000_000)),
        ("processes", serde_json::json!(4_000_000)),
        ("allow", serde_json::json!(["example.invalid:443"])),
    ];
    for (field, value) in beyond {
        let refusal = refusal(&node, serde_json::json!({ field: value }));
        assert_eq!((refusal.reason, refusal.field.as_deref()), (Reason::Exceeds, Some(field)));
    }
}

#[test]
fn a_workspace_is_one_that_the_node_has_opened_whatever_links_lead_there() {
    let tree = tempfile::tempdir().expect("a directory");
    let opened = tempfile::tempdir().expect("a directory");
    let opened = fs::canonicalize(opened.path()).expect("canonical");
    let node = node(tree.path(), &[&opened]);
    fs::create_dir(opened.join("w")).expect("made");
    std::os::unix::fs::symlink("/etc", opened.join("etc")).expect("linked");
    std::os::unix::fs::symlink(opened.join("w"), tree.path().join("w")).expect("linked");
    let at = |path: &Path| serde_json::json!({ "workspace": { "kind": "directory", "path": path } });
    let admitted = admit(&order(at(&tree.path().join("w"))), &node).expect("it is really below it");
    assert_eq!(admitted.words.workspace, Some(opened.join("w")));
    for path in ["/etc", "/", "/proc", "/root", "w", "", "/nonexistent"].map(Path::new) {
        assert_eq!(refusal(&node, at(path)).field.as_deref(), Some("workspace"), "{}", path.display());
    }
    for path in [&opened, &opened.join("etc"), &opened.join("w/../.."), &opened.join("w/missing")] {
        let refusal = refusal(&node, at(path));
        assert_eq!(refusal.reason, Reason::Exceeds, "{}", path.display());
    }
}

#[test]
fn the_nodes_own_tree_is_no_workspace() {
    let tree = tempfile::tempdir().expect("a directory");
    let node = node(tree.path(), &[Path::new("/")]);
    for own in ["var/lib/stockade/agents", "run/stockade", "etc/stockade", ".", "var"] {
        fs::create_dir_all(tree.path().join(own)).expect("made");
        let path = tree.path().join(own);
        let change = serde_json::json!({ "workspace": { "kind": "directory", "path": path } });
        assert_eq!(refusal(&node, change).reason, Reason::Exceeds, "{own}");
    }
}

#[test]
fn what_makes_no_sense_is_malformed() {
    let tree = tempfile::tempdir().expect("a directory");
    let node = node(tree.path(), &[]);
    let long = "x".repeat(200 * 1024);
    for (field, value) in [
        ("command", serde_json::json!(["a\0b"])),
        ("command", serde_json::json!([long])),
        ("arguments", serde_json::json!(["a\0b"])),
        ("environment", serde_json::json!({ "A=B": "x" })),
        ("environment", serde_json::json!({ "": "x" })),
        ("environment", serde_json::json!({ "1A": "x" })),
        ("environment", serde_json::json!({ "A": "x\0y" })),
        ("size", serde_json::json!({ "cols": 0, "rows": 24 })),
        ("size", serde_json::json!({ "cols": 80, "rows": 1001 })),
        ("term", serde_json::json!("a b")),
        ("logBytes", serde_json::json!(0)),
        ("memory", serde_json::json!(0)),
        ("processes", serde_json::json!(0)),
        ("allow", serde_json::json!(["https://x"])),
        ("files", serde_json::json!([{ "path": "../x", "content": "" }])),
        ("files", serde_json::json!([{ "path": "/etc/passwd", "content": "" }])),
        ("files", serde_json::json!([{ "path": "a//b", "content": "" }])),
        ("files", serde_json::json!([{ "path": "", "content": "" }])),
    ] {
        let refusal = refusal(&node, serde_json::json!({ field: value }));
        assert_eq!((refusal.reason, refusal.field.as_deref()), (Reason::Malformed, Some(field)));
    }
}

#[test]
fn no_value_of_a_variable_is_in_a_refusal() {
    let tree = tempfile::tempdir().expect("a directory");
    let node = node(tree.path(), &[]);
    for environment in [serde_json::json!({ "A": "s3cret\0" }), serde_json::json!({ "A-": "s3cret" })] {
        let refusal = refusal(&node, serde_json::json!({ "environment": environment }));
        assert!(!format!("{refusal:?}").contains("s3cret"));
    }
}
