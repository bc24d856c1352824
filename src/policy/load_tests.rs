//! Loading, told from the outside: what a file says, where it lies, who could have written it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::load::{Library, Reference, Source};
use super::{Access, Policy, PolicyError, hash};

/// Two directories, searched in this order, that belong to whoever runs the tests.
struct Site {
    root: tempfile::TempDir,
    library: Library,
}

impl Site {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directories = ["etc", "lib"].map(|name| root.path().join(name));
        directories.iter().for_each(|directory| fs::create_dir(directory).unwrap());
        Self { root, library: Library::of(directories, rustix::process::getuid().as_raw()) }
    }

    fn with(self, file: &str, content: &str) -> Self {
        fs::write(self.root.path().join(file), content).unwrap();
        self
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    fn load(&self, reference: &str) -> Result<Policy, PolicyError> {
        self.library.load(&reference.parse::<Reference>().unwrap())
    }

    fn refusal(&self, reference: &str) -> String {
        self.load(reference).expect_err("the policy was accepted").to_string()
    }
}

/// The refusal of a file with this content.
fn fault(content: &str) -> String {
    let site = Site::new().with("etc/site.toml", content);
    let refusal = site.refusal("site");
    let prefix = format!("{}:", site.path("etc/site.toml").display());
    refusal
        .strip_prefix(&prefix)
        .unwrap_or_else(|| panic!("{refusal:?} does not start with {prefix:?}"))
        .to_owned()
}

#[test]
fn every_shipped_policy_loads_and_extends_base() {
    let library = Library::of([], 0);
    let base = library.load(&"base".parse().unwrap()).unwrap();
    for name in library.names().into_keys() {
        let layers = library.layers(&Reference::Name(name.clone())).unwrap();
        assert_eq!(layers[0].policy, base, "{name}");
        assert!(
            layers
                .iter()
                .all(|layer| layer.source == Source::BuiltIn && !layer.policy.description.is_empty())
        );
    }
    assert_eq!(library.names().len(), 7);
}

#[test]
fn base_is_the_narrowest_shipped_policy_that_holds_a_new_repository_back() {
    let library = Library::of([], 0);
    let load = |name: &str| library.load(&name.parse().unwrap()).unwrap();
    for name in ["offline", "claude", "codex", "gemini", "aider"] {
        assert_eq!(load("base").is_within(&load(name)), Ok(()), "{name}");
        assert!(load(name).is_within(&load("base")).is_err(), "{name}");
    }
    let excess = load("shell").is_within(&load("base")).unwrap_err().to_string();
    assert!(excess.contains("filesystem.protected without .git/hooks"), "{excess}");
}

#[test]
fn a_secret_is_passed_only_to_the_agent_it_belongs_to() {
    let library = Library::of([], 0);
    for (variable, agents) in [
        ("ANTHROPIC_API_KEY", &["aider", "claude"][..]),
        ("OPENAI_API_KEY", &["aider", "codex"]),
        ("GEMINI_API_KEY", &["aider", "gemini"]),
        ("AWS_SECRET_ACCESS_KEY", &[]),
    ] {
        let names = library.names();
        let passes = |name: &&crate::id::PolicyName| {
            let policy = library.load(&Reference::Name((*name).clone())).unwrap();
            policy.environment.pass.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => variable.starts_with(beginning),
                None => pattern == variable,
            })
        };
        let passed: Vec<&str> = names.keys().filter(passes).map(|name| name.as_str()).collect();
        assert_eq!(passed, agents, "{variable}");
    }
}

#[test]
fn a_mistake_is_shown_where_it_stands_with_what_was_meant() {
    for (content, expected) in [
        ("extends = \"base\"\n\n[netwrok]\n", "3:2: unknown key \"netwrok\" at the top level"),
        ("extends = \"base\"\n[network]\nlopback = true\n", "3:1: unknown key \"lopback\" in [network]"),
        ("[remove.filesystem]\nprotekted = []\n", "2:1: unknown key \"protekted\" in [remove.filesystem]"),
        ("[limits]\nmemory = \"lots\"\n", "2:10: \"lots\" is not a size"),
        ("[limits]\nmemory = \"18014398509481984\"\n", "2:10: the size"),
        ("[limits]\nmemory = -1\n", "2:10: invalid type"),
        ("[limits]\nprocesses = -1\n", "2:13: -1 is out of range"),
        ("[limits]\nprocesses = 0\n", "2:13: 0 is out of range"),
        ("[limits]\ncpus = 0\n", "2:8: \"0\" is not a number of CPUs"),
        ("[limits]\ncpus = nan\n", "2:8: "),
        ("[network]\nloopback = \"yes\"\n", "2:12: invalid type"),
        ("[network]\nloopback = true\nloopback = false\n", "3:1: duplicate key"),
        ("[network\n", "1:9: "),
        ("[filesystem]\nsystem = [\"/usr\", \"../x\"]\n", "2:19: \"../x\" is not a host path"),
        ("[filesystem]\nread-write = [\"/srv/../etc\"]\n", "2:15: \"/srv/../etc\" has"),
        ("[filesystem]\nread-only = [\"/a\\u0000b\"]\n", "2:14: \"/a\\0b\" has a NUL"),
        ("[filesystem]\nprotected = [\"/etc\"]\n", "2:14: \"/etc\" is not a path inside"),
        (
            "[filesystem]\nworkspace = \"writable\"\n",
            "2:13: \"writable\" is not one of none, read-only, read-write",
        ),
        (
            "[syscalls]\nallow = [\"ptrace\", \"openn\"]\n",
            "2:20: no system call is named \"openn\"; did you mean \"open\"?",
        ),
        ("[capabilities]\nkeep = [\"sys-admin\"]\n", "2:9: \"sys-admin\" is not one of net-bind-service"),
        ("[tolerate]\nshortfalls = [\"swap-limt\"]\n", "2:15: \"swap-limt\" is not one of"),
        ("[environment]\npass = [\"*\"]\n", "2:9: \"*\" is not a variable's name"),
        ("[environment]\nset = { HOME = \"/\" }\n", "2:9: HOME is decided by stockade"),
        ("extends = \"../etc/passwd\"\n", "1:11: policy \"../etc/passwd\" is not a name"),
        (
            "extends = \"bsae\"\n",
            "1:11: extends \"bsae\", but there is no such policy; did you mean \"base\"?",
        ),
        ("extends = \"site\"\n", "1:11: extends \"site\", but there is no other such policy"),
        (
            "extends = \"base\"\n[remove.filesystem]\nprotected = [\".git/hoks/\"]\n",
            "3:14: cannot remove \".git/hoks/\": the parent policy does not have it in filesystem.protected; did you mean \".git/hooks/\"?",
        ),
        ("extends = \"base\"\n[remove]\nlimits = [\"io\"]\n", "3:11: cannot remove \"io\""),
    ] {
        let fault = fault(content);
        assert!(fault.starts_with(expected), "{content:?}\n  gave     {fault}\n  expected {expected}");
        assert!(!fault.contains('\n'), "{fault:?} is more than one line");
    }
    assert!(fault("[netwrok]\n").ends_with("; did you mean \"network\"?"));
}

#[test]
fn a_value_replaces_and_a_list_adds() {
    let site = Site::new().with(
        "etc/site.toml",
        "extends = 'base'\n[limits]\nmemory = '64MiB'\n[filesystem]\nread-only = ['/srv/data']\nworkspace = 'read-only'\n\
         [syscalls]\ndeny = ['ptrace']\n[environment]\nset = { A = 'b' }\n[remove.environment]\npass = ['LC_*']\n",
    );
    let (base, policy) = (site.load("base").unwrap(), site.load("site").unwrap());
    assert_eq!(policy.limits.memory.to_string(), "64MiB");
    assert_eq!(policy.limits.cpus, base.limits.cpus);
    assert_eq!(policy.filesystem.workspace, Access::ReadOnly);
    assert!(policy.filesystem.system.is_superset(&base.filesystem.system));
    assert!(policy.filesystem.read_only.contains(&"/srv/data".parse().unwrap()));
    assert_eq!(policy.environment.set.len(), base.environment.set.len() + 1);
    assert!(base.environment.pass.contains("LC_*") && !policy.environment.pass.contains("LC_*"));
    assert_ne!(hash(&policy), hash(&base));
}

#[test]
fn a_site_changes_a_shipped_policy_under_its_own_name() {
    let site = Site::new()
        .with("etc/base.toml", "extends = 'base'\n[limits]\nmemory = '1GiB'\n")
        .with("lib/base.toml", "extends = 'base'\n[limits]\nmemory = '3GiB'\ncpus = 1\n");
    let policy = site.load("claude").unwrap();
    let base = site.library.layers(&"base".parse().unwrap()).unwrap();
    assert_eq!(base.len(), 3);
    assert_eq!(base[2].policy.limits.memory.to_string(), "1GiB");
    assert_eq!(policy.limits.cpus.millis(), 1000, "claude extends the site's base");
}

#[test]
fn a_circle_and_a_tower_of_policies_are_refused() {
    let site = Site::new().with("etc/a.toml", "extends = 'b'").with("etc/b.toml", "extends = 'a'");
    assert!(
        site.refusal("a").ends_with("b.toml:1:11: extends in a circle: a extends b extends a"),
        "{}",
        site.refusal("a")
    );
    let tower = (0..9).fold(Site::new(), |site, n| {
        site.with(&format!("etc/t{n}.toml"), &format!("extends = 't{}'", n + 1))
    });
    assert!(
        tower.refusal("t0").contains("more than 8 policies extend each other"),
        "{}",
        tower.refusal("t0")
    );
}

#[test]
fn a_policy_that_leaves_a_limit_open_is_refused() {
    let site = Site::new().with("etc/empty.toml", "");
    assert_eq!(
        site.refusal("empty"),
        "policy empty does not set limits.memory: set it, or start from a policy that does with extends = \"base\""
    );
}

#[test]
fn what_others_can_write_is_not_believed() {
    let site = Site::new().with("etc/site.toml", "extends = 'base'");
    let (file, directory) = (site.path("etc/site.toml"), site.path("etc"));
    assert!(site.load("site").is_ok());
    let mode = |path: &PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();

    mode(&file, 0o664);
    assert!(
        site.refusal("site").contains(&format!("chmod go-w {}", file.display())),
        "{}",
        site.refusal("site")
    );
    assert!(matches!(site.load(&file.display().to_string()), Err(PolicyError::Untrusted { .. })));
    mode(&file, 0o644);

    mode(&directory, 0o777);
    assert!(site.refusal("site").contains(&format!("chmod go-w {}", directory.display())));
    assert!(
        matches!(site.load("base"), Err(PolicyError::Untrusted { .. })),
        "a file could appear at any time"
    );
    mode(&directory, 0o1777);
    assert!(site.load("site").is_ok(), "in a sticky directory nobody can replace another's file");
    mode(&directory, 0o755);

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(site.refusal("site").contains("is not a regular file"));
}

#[test]
fn what_another_user_owns_is_not_believed() {
    let site = Site::new().with("etc/site.toml", "extends = 'base'");
    // The temporary directory is this user's; a library that trusts root and uid 4294967294 alone must refuse it,
    // unless this user is root: then the file is given away.
    let stranger = Library::of([site.path("etc")], u32::MAX - 1);
    if rustix::process::getuid().is_root() {
        std::os::unix::fs::chown(site.path("etc/site.toml"), Some(65534), None).unwrap();
    }
    let refusal = stranger.load(&"site".parse().unwrap()).unwrap_err();
    assert!(matches!(refusal, PolicyError::Untrusted { .. }), "{refusal}");
    assert!(refusal.to_string().contains("chown root"), "{refusal}");
}

#[test]
fn a_link_is_followed_only_to_what_is_believed() {
    let site = Site::new().with("real.toml", "extends = 'base'\n[limits]\ncpus = 1\n");
    symlink("../real.toml", site.path("etc/linked.toml")).unwrap();
    assert_eq!(site.load("linked").unwrap().limits.cpus.millis(), 1000);
    fs::set_permissions(site.path("real.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(site.load("linked"), Err(PolicyError::Untrusted { .. })));
    symlink("loop.toml", site.path("etc/loop.toml")).unwrap();
    assert!(site.refusal("loop").contains("symbolic links"));
}

#[test]
fn what_is_not_text_or_too_long_is_refused() {
    let site = Site::new();
    fs::write(site.path("etc/binary.toml"), b"# \xc3\xa4\nname = \"\xff\"").unwrap();
    assert!(
        site.refusal("binary").ends_with("binary.toml:2:9: not UTF-8 text"),
        "{}",
        site.refusal("binary")
    );
    fs::write(site.path("etc/long.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(site.refusal("long").ends_with("is larger than 1MiB"));
    fs::write(site.path("etc/longest.toml"), vec![b'#'; 1 << 20]).unwrap();
    assert!(matches!(site.load("longest"), Err(PolicyError::Undecided { .. })));
}

#[test]
fn an_unknown_name_is_told_from_an_unreadable_file() {
    let site = Site::new();
    assert_eq!(site.refusal("cluade"), "there is no policy \"cluade\"; did you mean \"claude\"?");
    assert!(matches!(site.load("./nowhere.toml"), Err(PolicyError::Read { .. })));
    assert!("no such/name".parse::<Reference>().is_ok());
    assert!("no such name".parse::<Reference>().is_err());
}

#[test]
fn an_effective_policy_reads_back_as_itself() {
    let library = Library::of([], 0);
    for name in library.names().into_keys() {
        let policy = library.load(&Reference::Name(name.clone())).unwrap();
        let site = Site::new().with(&format!("etc/{name}.toml"), &policy.to_toml());
        assert_eq!(site.load(name.as_str()).unwrap(), policy);
        assert_eq!(hash(&site.load(name.as_str()).unwrap()), hash(&policy));
    }
}

#[test]
fn an_effective_policy_comes_to_a_shim_as_it_was_admitted() {
    let rich = "extends = 'claude'\n[limits]\nfile-size = '1MiB'\nio = { read = '1MiB', write = '2MiB' }\ncpus = 0.333\n\
                [network]\nca-bundle = '/etc/ca.pem'\nallow = ['*.example.org:80,443', '10.0.0.0/8:22', { to = 'b.example.org:443', sni = 'any' }]\n\
                [network.resolve]\n'a.example.org' = ['10.0.0.1', '::2']\n[environment.paths]\nTOOLS = '~/tools'\n\
                [[network.inject]]\nname = 'model.internal'\nupstream = 'https://a.example.org'\nheader = 'x-key'\nsecret = '/etc/stockade/key'\n";
    let site = Site::new().with("etc/rich.toml", rich);
    let library = Library::of([], 0);
    let shipped = library.names().into_keys().map(|name| library.load(&Reference::Name(name)).unwrap());
    for policy in shipped.chain([site.load("rich").unwrap()]) {
        let sent = serde_json::to_vec(&policy).unwrap();
        assert_eq!(serde_json::from_slice::<Policy>(&sent).unwrap(), policy);
    }
}

#[test]
fn an_edited_file_counts_from_the_next_load_on_wherever_in_the_chain_it_lies() {
    let memory = |text: &str| format!("{text}\n[limits]\nmemory = '2GiB'\n");
    let site =
        Site::new().with("lib/parent.toml", "extends = 'base'").with("etc/site.toml", "extends = 'parent'");
    let base = site.load("base").unwrap();
    let twice = |site: &Site| [site.load("site").unwrap(), site.load("site").unwrap()];
    assert!(twice(&site).iter().all(|policy| policy.limits == base.limits));
    let edited = site.with("lib/parent.toml", &memory("extends = 'base'"));
    assert!(twice(&edited).iter().all(|policy| policy.limits.memory.get() == 2 << 30));
    // Another one is found first.
    let hidden = edited.with("etc/parent.toml", "extends = 'base'\n[limits]\nmemory = '3GiB'\n");
    assert!(twice(&hidden).iter().all(|policy| policy.limits.memory.get() == 3 << 30));
    fs::remove_file(hidden.path("etc/parent.toml")).unwrap();
    assert!(twice(&hidden).iter().all(|policy| policy.limits.memory.get() == 2 << 30));
    fs::set_permissions(hidden.path("lib/parent.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(
        matches!(hidden.load("site"), Err(PolicyError::Untrusted { .. })),
        "what was trusted before is not now"
    );
    let broken = hidden.with("etc/site.toml", "extends = 'nobody'");
    assert!(broken.refusal("site").contains("no such policy"));
}

#[test]
fn every_example_in_the_reference_is_a_policy() {
    let page = include_str!("../../docs/policies.md");
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 6);
    for example in examples {
        let site = Site::new().with("etc/example.toml", example);
        assert!(site.load("example").is_ok(), "{example}\n{}", site.refusal("example"));
    }
}

#[test]
fn the_reference_names_every_key() {
    let page = include_str!("../../docs/policies.md");
    let policy = Library::of([], 0).load(&"base".parse().unwrap()).unwrap();
    let mut keys = vec!["limits.file-size".to_owned(), "limits.io".into(), "network.ca-bundle".into()];
    for (section, table) in toml::Table::try_from(&policy).unwrap() {
        keys.extend(table.as_table().into_iter().flatten().map(|(key, _)| format!("{section}.{key}")));
    }
    assert_eq!(keys.len(), 35, "{keys:?}");
    for key in keys {
        assert!(page.contains(&format!("| `{key}` |")), "{key} is missing");
    }
}

#[test]
fn a_path_cannot_be_both_read_only_and_writable() {
    let site = Site::new().with("etc/site.toml", "extends = 'base'\n[filesystem]\nread-write = ['/usr']\n");
    assert!(
        site.refusal("site").starts_with("policy site names /usr both as read-write and"),
        "{}",
        site.refusal("site")
    );
}
