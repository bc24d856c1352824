//! Narrower is narrower: by example for each field, and by property for all of them together.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::document::Document;
use super::{Policy, Request};

fn read(toml: &str) -> Policy {
    let document: Document = toml::from_str(toml).unwrap();
    Policy::nothing("test".parse().unwrap()).changed_by("test".parse().unwrap(), document).unwrap()
}

/// The keys in which the second policy goes beyond the first.
fn beyond(ceiling: &str, wanted: &str) -> BTreeSet<&'static str> {
    match read(wanted).is_within(&read(ceiling)) {
        Ok(()) => BTreeSet::new(),
        Err(excess) => excess.iter().map(|exceeded| exceeded.key).collect(),
    }
}

#[test]
fn every_right_that_is_added_is_named() {
    for (key, wanted) in [
        ("filesystem.system", "[filesystem]\nsystem = ['/usr']"),
        ("filesystem.read-only", "[filesystem]\nread-only = ['/usr']"),
        ("filesystem.read-write", "[filesystem]\nread-write = ['/usr']"),
        ("filesystem.workspace", "[filesystem]\nworkspace = 'read-only'"),
        ("filesystem.git-worktree", "[filesystem]\ngit-worktree = true"),
        ("filesystem.expose-command", "[filesystem]\nexpose-command = true"),
        ("filesystem.home-size", "[filesystem]\nhome-size = '1B'"),
        ("filesystem.home-exec", "[filesystem]\nhome-exec = true"),
        ("filesystem.tmp-size", "[filesystem]\ntmp-size = '1B'"),
        ("filesystem.tmp-exec", "[filesystem]\ntmp-exec = true"),
        ("filesystem.shm-size", "[filesystem]\nshm-size = '1B'"),
        ("network.loopback", "[network]\nloopback = true"),
        ("network.allow", "[network]\nallow = ['a.example:443']"),
        ("network.resolve", "[network.resolve]\n'a.example' = ['127.0.0.1']"),
        (
            "network.inject",
            "[[network.inject]]\nname = 'a.internal'\nupstream = 'https://a.example'\nheader = 'x'\nsecret = '/x'",
        ),
        ("limits.memory", "[limits]\nmemory = '1B'"),
        ("limits.cpus", "[limits]\ncpus = 0.01"),
        ("limits.processes", "[limits]\nprocesses = 1"),
        ("limits.open-files", "[limits]\nopen-files = 1"),
        ("syscalls.allow", "[syscalls]\nallow = ['ptrace']"),
        ("syscalls.nested-namespaces", "[syscalls]\nnested-namespaces = true"),
        ("capabilities.keep", "[capabilities]\nkeep = ['net-bind-service']"),
        ("environment.pass", "[environment]\npass = ['TOKEN']"),
        ("terminal.allocate", "[terminal]\nallocate = true"),
        ("terminal.report-urls", "[terminal]\nreport-urls = true"),
        ("tolerate.shortfalls", "[tolerate]\nshortfalls = ['landlock']"),
    ] {
        assert_eq!(beyond("", wanted), BTreeSet::from([key]), "{wanted}");
        assert_eq!(beyond(wanted, ""), BTreeSet::new(), "less than {wanted}");
    }
}

#[test]
fn every_restriction_that_is_dropped_is_named() {
    let workspace = "[filesystem]\nworkspace = 'read-write'\n";
    for (key, ceiling) in [
        ("filesystem.protected", format!("{workspace}protected = ['.git/hooks/']")),
        ("filesystem.protected-if-present", format!("{workspace}protected-if-present = ['.git/hooks/']")),
        ("syscalls.deny", format!("{workspace}[syscalls]\ndeny = ['ptrace']")),
        ("limits.file-size", format!("{workspace}[limits]\nfile-size = '1GiB'")),
    ] {
        assert_eq!(beyond(&ceiling, workspace), BTreeSet::from([key]), "{ceiling}");
    }
    let io = "[limits]\nio = { read = '1M', write = '1M' }";
    assert_eq!(beyond(io, ""), BTreeSet::from(["limits.io.read", "limits.io.write"]));
    assert_eq!(
        beyond(io, "[limits]\nio = { read = '1M', write = '2M' }"),
        BTreeSet::from(["limits.io.write"])
    );
}

#[test]
fn host_paths_are_compared_by_what_can_be_reached() {
    let ceiling = "[filesystem]\nread-write = ['/srv']\nread-only = ['/srv/keep']\nsystem = ['/usr']";
    let within = |wanted: &str| beyond(ceiling, &format!("[filesystem]\n{wanted}")).is_empty();
    assert!(within("read-write = ['/srv/a']\nread-only = ['/usr/lib']"));
    assert!(within("read-write = ['/srv']\nread-only = ['/srv/keep']"));
    assert!(!within("read-write = ['/srv']"), "what lay read-only in a writable directory became writable");
    assert!(!within("read-write = ['/srv/keep/x']"));
    assert!(!within("read-write = ['/usr/lib']"));
    assert!(!within("read-only = ['/usrlocal']"), "a name is not a path's beginning");
}

#[test]
fn a_protected_parent_and_a_wider_pattern_cover_what_lies_below() {
    let workspace = |lists: &str| format!("[filesystem]\nworkspace = 'read-write'\n{lists}");
    let hooks = workspace("protected = ['.git/hooks/']");
    assert!(beyond(&hooks, &workspace("protected = ['.git/']")).is_empty());
    assert!(!beyond(&hooks, &workspace("protected-if-present = ['.git/hooks/']")).is_empty());
    assert!(beyond(&hooks, "[filesystem]\nworkspace = 'read-only'").is_empty());
    assert!(beyond("[environment]\npass = ['LC_*']", "[environment]\npass = ['LC_ALL', 'LC_T*']").is_empty());
    assert!(!beyond("[environment]\npass = ['LC_*']", "[environment]\npass = ['L*']").is_empty());
}

#[test]
fn a_destination_is_covered_port_by_port_and_as_strictly() {
    let within = |ceiling: &str, wanted: &str| {
        let network = |list: &str| format!("[network]\nallow = [{list}]");
        beyond(&network(ceiling), &network(wanted)).is_empty()
    };
    assert!(within("'*.example.org:443,8443'", "'a.example.org:443', 'b.c.example.org:8443'"));
    assert!(within("'a.example.org:443', 'a.example.org:22'", "'a.example.org:22,443'"));
    assert!(within("{ to = 'a.example.org:443', sni = 'any' }", "'a.example.org:443'"));
    assert!(!within("'a.example.org:443'", "{ to = 'a.example.org:443', sni = 'any' }"));
    assert!(!within("'*.example.org:443'", "'example.org:443'"));
    assert!(!within("'a.example.org:443'", "'a.example.org:443,80'"));
    assert!(!within("'10.2.0.0/16:80'", "'10.0.0.0/8:80'"));
}

#[test]
fn where_a_name_leads_is_decided_once() {
    let policy =
        |resolve: &str| format!("[network]\nallow = ['a.example:443']\n[network.resolve]\n{resolve}");
    let (decided, elsewhere) = (policy("'a.example' = ['10.0.0.1']"), policy("'a.example' = ['10.0.0.2']"));
    assert!(beyond(&decided, &decided).is_empty());
    for (ceiling, wanted) in [(&decided, &elsewhere), (&decided, &policy("")), (&policy(""), &decided)] {
        assert_eq!(beyond(ceiling, wanted), BTreeSet::from(["network.resolve"]), "{wanted}");
    }
    assert!(beyond(&decided, "").is_empty(), "a name that cannot be reached leads nowhere");
}

#[test]
fn where_a_secret_is_sent_is_decided_once() {
    let inject = "[[network.inject]]\nname = 'a.internal'\nupstream = 'https://a.example:444'\nheader = 'x'\nsecret = '/x'\n";
    let policy = |resolve: &str| format!("[network.resolve]\n{resolve}\n{inject}");
    let (decided, elsewhere) = (policy("'a.example' = ['10.0.0.1']"), policy("'a.example' = ['10.0.0.2']"));
    assert!(beyond(&decided, &decided).is_empty());
    for (ceiling, wanted) in [(&decided, &elsewhere), (&decided, &policy("")), (&policy(""), &decided)] {
        assert_eq!(beyond(ceiling, wanted), BTreeSet::from(["network.resolve"]), "{wanted}");
    }
    assert!(beyond(&decided, "").is_empty(), "without the rule nothing is sent there");
}

#[test]
fn a_request_is_told_what_it_widens() {
    let policy = read("[limits]\nmemory = '1GiB'\ncpus = 1\nprocesses = 10");
    let (asked, excess) =
        Request { memory: Some("2GiB".parse().unwrap()), processes: Some(5), ..Request::default() }
            .on(&policy);
    assert_eq!(excess.unwrap().to_string(), "limits.memory 2GiB (allowed: 1GiB)");
    assert_eq!((asked.limits.processes, asked.limits.cpus), (5, policy.limits.cpus));
}

fn some(choices: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(choices, 0..=choices.len())
}

prop_compose! {
    /// A policy as a file could say it, from few enough values that two of them often meet.
    fn policy()(
        system in some(&["/usr", "/usr/lib", "/srv", "/srv/a", "/srv/a/b"]),
        read_write in some(&["/srv", "/srv/a", "/srv/a/b", "~/x"]),
        workspace in proptest::sample::select(&["none", "read-only", "read-write"][..]),
        protected in some(&[".git/", ".git/hooks/", ".envrc"]),
        if_present in some(&[".git/", ".git/hooks/", ".envrc"]),
        flags in proptest::array::uniform4(any::<bool>()),
        sizes in proptest::array::uniform4(1u32..4),
        file_size in proptest::option::of(1u32..4),
        allow in some(&["ptrace", "bpf", "mount"]),
        deny in some(&["ptrace", "bpf", "mount"]),
        pass in some(&["A*", "AB", "AB*", "C"]),
        shortfalls in some(&["landlock", "swap-limit"]),
        hosts in some(&["a.b.org:443", "*.b.org:443", "a.b.org:443,80", "10.0.0.0/8:80", "10.1.0.0/16:80"]),
    ) -> Policy {
        let [loopback, exec, nested, terminal] = flags;
        let [memory, cpus, processes, home] = sizes;
        let file_size = file_size.map(|size| format!("file-size = '{size}K'")).unwrap_or_default();
        // No loaded policy names a path as both.
        let system: Vec<_> = system.into_iter().filter(|path| !read_write.contains(path)).collect();
        read(&format!(
            "[filesystem]\nsystem = {system:?}\nread-write = {read_write:?}\nworkspace = {workspace:?}\n\
             protected = {protected:?}\nprotected-if-present = {if_present:?}\nhome-exec = {exec}\nhome-size = '{home}K'\n\
             [network]\nloopback = {loopback}\nallow = {hosts:?}\n[limits]\nmemory = '{memory}K'\ncpus = {cpus}\nprocesses = {processes}\n{file_size}\n\
             [syscalls]\nallow = {allow:?}\ndeny = {deny:?}\nnested-namespaces = {nested}\n\
             [environment]\npass = {pass:?}\n[terminal]\nallocate = {terminal}\n[tolerate]\nshortfalls = {shortfalls:?}\n",
        ))
    }
}

proptest! {
    #[test]
    fn a_request_for_less_never_widens(
        policy in policy(), memory in 1u32..4, cpus in 1u32..4, processes in 1u32..4,
    ) {
        let request = Request {
            memory: Some(format!("{memory}K").parse().unwrap()),
            cpus: Some(cpus.to_string().parse().unwrap()),
            processes: Some(processes),
            ..Request::default()
        };
        let (asked, excess) = request.on(&policy);
        let less = asked.limits.memory <= policy.limits.memory
            && asked.limits.cpus <= policy.limits.cpus
            && asked.limits.processes <= policy.limits.processes;
        prop_assert_eq!(excess.is_none(), less);
        prop_assert_eq!(asked.is_within(&policy).is_ok(), less);
    }

    #[test]
    fn taking_away_never_widens(policy in policy(), ceiling in policy()) {
        // The nothing-allowed policy is within all, and what is within a policy stays so with more denied.
        let nothing = Policy::nothing(policy.name.clone());
        // Except where the ceiling restricts what nothing leaves out: denied calls and the largest file.
        let mut nothing = nothing;
        nothing.syscalls.deny = ceiling.syscalls.deny.clone();
        nothing.limits.file_size = ceiling.limits.file_size;
        prop_assert_eq!(nothing.is_within(&ceiling), Ok(()));
        if policy.is_within(&ceiling).is_ok() {
            let mut less = policy.clone();
            less.syscalls.deny.insert("openat".into());
            less.environment.pass.clear();
            less.syscalls.allow.clear();
            less.tolerate.shortfalls.clear();
            prop_assert_eq!(less.is_within(&ceiling), Ok(()));
        }
    }

    #[test]
    fn within_is_reflexive(policy in policy()) {
        prop_assert_eq!(policy.is_within(&policy), Ok(()));
    }

    #[test]
    fn within_is_transitive(a in policy(), b in policy(), c in policy()) {
        if a.is_within(&b).is_ok() && b.is_within(&c).is_ok() {
            prop_assert_eq!(a.is_within(&c), Ok(()));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = toml::from_str::<Document>(&text) {
            let fault = super::Fault::from_toml("x.toml", &text, &error);
            prop_assert!(fault.line >= 1 && fault.column >= 1);
        }
    }

    #[test]
    fn no_policy_like_text_makes_the_reader_panic(
        parts in proptest::collection::vec("\\[|\\]|\\.|=|\"|'|\n|,|\\{|\\}|limits|memory|`|expected|ä|remove|system|-1|1e99|[a-z]{1,4}", 0..40),
    ) {
        let text = parts.concat();
        if let Err(error) = toml::from_str::<Document>(&text) {
            let fault = super::Fault::from_toml("x.toml", &text, &error);
            prop_assert!(!fault.message.contains('\n'));
        }
    }
}
