//! What a policy can change, and what the user is told.

use std::collections::BTreeSet;

use proptest::prelude::*;
use stockade::plan::seccomp::compile::ALLOW;
use stockade::plan::seccomp::{FilterError, asked, explain, explain_under, filter, table};
use stockade::policy::{Policy, Syscalls};

use crate::arguments::cases;
use crate::*;

#[test]
fn a_policy_allows_and_denies_by_name() {
    let program =
        compiled(&syscalls(&["ptrace", "socket", "io_uring_setup"], &["socket", "getppid"], false), false);

    assert_eq!(says(&program, "ptrace", [0; 6]), ALLOW);
    assert_eq!(says(&program, "io_uring_setup", [0; 6]), ALLOW);
    assert_eq!(says(&program, "socket", [1, 1, 0, 0, 0, 0]), EPERM, "deny is the last word");
    assert_eq!(says(&program, "getppid", [0; 6]), EPERM);
    let denied = compiled(&syscalls(&["clone3"], &["clone3"], false), true);
    assert_eq!(says(&denied, "clone3", [0; 6]), ENOSYS, "libc falls back from ENOSYS only");
}

#[test]
fn a_name_that_is_no_call_is_an_error_that_suggests_one() {
    let error = filter(&syscalls(&["ptrase"], &[], false), false).expect_err("no such call");
    assert_eq!(
        error.to_string(),
        r#"[syscalls] allow names "ptrase", which is no system call; did you mean "ptrace"?"#
    );
    let error = filter(&syscalls(&[], &["!"], false), false).expect_err("no such call");
    assert_eq!(error.to_string(), r#"[syscalls] deny names "!", which is no system call"#);
    let error = filter(&syscalls(&[], &["execve"], false), false).expect_err("nothing could be started");
    assert_eq!(error, FilterError::Indispensable { name: "execve".to_owned() });
}

#[test]
fn equal_policies_have_equal_hashes_and_others_do_not() {
    let hash = |syscalls: &Syscalls, notify| filter(syscalls, notify).expect("known names").hash();
    let hashes: BTreeSet<String> =
        policies().iter().flat_map(|policy| [hash(policy, false), hash(policy, true)]).collect();

    assert_eq!(hashes.len(), 8);
    assert_eq!(hash(&Syscalls::default(), true), hash(&Syscalls::default(), true));
    assert!(hashes.iter().all(|hash| hash.len() == 64));
}

#[test]
fn a_refusal_is_explained_with_the_line_that_would_lift_it() {
    let numbers = numbers();
    let explained = |name: &str, syscalls: &Syscalls| explain(numbers[name], syscalls).to_string();
    let strict = Syscalls::default();

    assert!(explained("ptrace", &strict).ends_with(r#"to allow it: [syscalls] allow = ["ptrace"]"#));
    assert!(explained("mount", &strict).ends_with("to allow it: [syscalls] nested-namespaces = true"));
    assert!(explained("clone", &strict).contains("allowed only if no CLONE_NEW* flag"));
    assert!(explained("clone", &strict).ends_with("[syscalls] nested-namespaces = true"));
    assert!(explained("socket", &strict).contains("TCP or UDP over IPv4 or IPv6"));
    assert!(explained("setxattr", &syscalls(&[], &[], true)).ends_with(r#"allow = ["setxattr"]"#));
    assert!(
        explained("read", &syscalls(&[], &["read"], false))
            .ends_with(r#"remove "read" from [syscalls] deny"#)
    );
    assert_eq!(explained("read", &strict), "system call read: allowed by the filter");
    assert_eq!(explain(9999, &strict).to_string(), "system call #9999: unknown");
}

#[test]
fn listening_is_refused_where_processes_may_connect_but_not_to_each_other() {
    let listen = table::calls().into_iter().find(|(_, name)| *name == "listen").expect("a call").0;
    let verdict = |policy: &Policy| table::verdict("listen", &asked(policy));
    let mut policy = Policy::nothing("site".parse().expect("a name"));
    assert_eq!(verdict(&policy), table::Verdict::Allow, "nobody could connect");
    policy.network.allow = ["api.example.org:443".parse().expect("a destination")].into();
    assert_eq!(verdict(&policy), table::Verdict::Refuse);
    assert!(explain_under(&policy, listen).to_string().ends_with("to allow it: [network] loopback = true"));
    policy.syscalls.allow.insert("listen".into());
    assert_eq!(verdict(&policy), table::Verdict::Refuse, "it would be a loopback");
    policy.network.loopback = true;
    assert_eq!(verdict(&policy), table::Verdict::Allow);
}

#[test]
fn every_remedy_lifts_its_refusal() {
    for (number, name) in table::calls() {
        for nested in [false, true] {
            let before = syscalls(&[], &[], nested);
            let Some(remedy) = explain(number, &before).remedy else {
                assert_eq!(table::verdict(name, &before), table::Verdict::Allow, "{name} has no remedy");
                continue;
            };
            let after = match remedy.as_str() {
                "[syscalls] nested-namespaces = true" => syscalls(&[], &[], true),
                line => {
                    assert_eq!(line, format!("[syscalls] allow = [{name:?}]"));
                    syscalls(&[name], &[], nested)
                }
            };
            assert_eq!(table::verdict(name, &after), table::Verdict::Allow, "{name}: {remedy}");
        }
    }
}

fn some_calls() -> impl Strategy<Value = BTreeSet<String>> {
    let names: Vec<String> = table::calls().into_iter().map(|(_, name)| name.to_owned()).collect();
    let deniable = names
        .into_iter()
        .filter(|name| !["execve", "exit", "exit_group", "rt_sigreturn"].contains(&name.as_str()));
    prop::collection::btree_set(prop::sample::select(deniable.collect::<Vec<_>>()), 0..12)
}

fn argument() -> impl Strategy<Value = u64> {
    let telling: Vec<u64> =
        cases().iter().flat_map(|(_, low, _)| low.iter().map(|word| u64::from(*word))).collect();
    prop_oneof![prop::sample::select(telling), any::<u64>(), 0..64_u64]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn denying_more_never_allows_more_and_allowing_more_never_allows_less(
        allow in some_calls(), deny in some_calls(), more in some_calls(), nested: bool, notify: bool,
        arguments in prop::array::uniform6(argument()),
    ) {
        let with = |allow: &BTreeSet<String>, deny: &BTreeSet<String>| {
            compiled(&Syscalls { allow: allow.clone(), deny: deny.clone(), nested_namespaces: nested }, notify)
        };
        let both = |a: &BTreeSet<String>| a.union(&more).cloned().collect::<BTreeSet<_>>();
        let (before, denied, allowed) = (with(&allow, &deny), with(&allow, &both(&deny)), with(&both(&allow), &deny));
        for (number, name) in table::calls() {
            let let_through = |program| ask(program, X86_64, number, arguments).verdict == ALLOW;
            prop_assert!(let_through(&before) || !let_through(&denied), "denying {more:?} allowed {name}");
            prop_assert!(let_through(&allowed) || !let_through(&before), "allowing {more:?} refused {name}");
            let touched = more.contains(name);
            prop_assert!(touched || let_through(&before) == let_through(&allowed), "allowing {more:?} changed {name}");
            prop_assert!(touched || let_through(&before) == let_through(&denied), "denying {more:?} changed {name}");
        }
    }
}
