//! The ledger on records in the form of the kernel's documentation.

use proptest::prelude::*;

use super::*;

const INIT: (u32, Range<u32>) = (289, 1_879_048_192..1_879_113_728);

fn ledger() -> Ledger {
    Ledger { owner: Some(INIT), ..Ledger::default() }
}

fn enter(ledger: &mut Ledger, kind: u16, fields: &str) {
    ledger.enter(&Record { kind, text: format!("audit(1729738800.221:33): {fields}") });
}

/// A ledger that knows its domain from the self-check.
fn settled() -> Ledger {
    let mut ledger = ledger();
    enter(
        &mut ledger,
        LANDLOCK_ACCESS,
        r#"domain=1a6fdc679 blockers=fs.read_file path="/.stockade" dev="tmpfs" ino=9"#,
    );
    enter(
        &mut ledger,
        LANDLOCK_DOMAIN,
        r#"domain=1a6fdc679 status=allocated mode=enforcing pid=289 uid=1879048192 exe="/usr/bin/stockade" comm="stockade-init""#,
    );
    ledger
}

fn counted(ledger: &Ledger) -> Vec<(String, u64)> {
    let object = |r: &Refusal| r.path.clone().or(r.port.map(|p| p.to_string())).unwrap_or_default();
    ledger.counts.iter().map(|(r, count)| (format!("{} {}", r.right, object(r)), *count)).collect()
}

#[test]
fn the_self_check_names_the_domain_and_is_not_counted() {
    let ledger = settled();
    assert_eq!(ledger.domain, Some(0x1_a6fd_c679));
    assert_eq!(counted(&ledger), []);
}

#[test]
fn refusals_are_counted_by_right_and_object() {
    let mut ledger = settled();
    let write = r#"domain=1a6fdc679 blockers=fs.write_file path="/etc/passwd" dev="vda2" ino=143821"#;
    enter(&mut ledger, LANDLOCK_ACCESS, write);
    enter(&mut ledger, LANDLOCK_ACCESS, write);
    enter(
        &mut ledger,
        LANDLOCK_ACCESS,
        r#"domain=1a6fdc679 blockers=fs.make_reg,fs.refer path="/usr/local" dev="vda2" ino=365"#,
    );
    enter(&mut ledger, LANDLOCK_ACCESS, "domain=1a6fdc679 blockers=net.connect_tcp daddr=127.0.0.1 dest=443");
    enter(&mut ledger, LANDLOCK_ACCESS, "domain=1a6fdc679 blockers=net.bind_tcp src=8080");
    enter(&mut ledger, LANDLOCK_ACCESS, r#"domain=1a6fdc679 blockers=scope.signal opid=1 ocomm="systemd""#);
    let expected = [
        ("fs.make_reg /usr/local", 1),
        ("fs.refer /usr/local", 1),
        ("fs.write_file /etc/passwd", 2),
        ("net.bind_tcp 8080", 1),
        ("net.connect_tcp 443", 1),
        ("scope.signal ", 1),
    ];
    assert_eq!(counted(&ledger), expected.map(|(what, count)| (what.to_owned(), count)));
}

#[test]
fn nobody_elses_refusals_are_counted() {
    let mut ledger = settled();
    enter(
        &mut ledger,
        LANDLOCK_ACCESS,
        r#"domain=1a6fdc680 blockers=fs.write_file path="/x" dev="vda2" ino=1"#,
    );
    // A domain that the agent made inside: another process of the same uid. And a reused pid of another uid.
    for other in ["pid=301 uid=1879049192", "pid=289 uid=0", "pid=289 uid=1879113728"] {
        let mut fresh = self::ledger();
        enter(&mut fresh, LANDLOCK_ACCESS, r#"domain=7 blockers=fs.write_file path="/x" dev="vda2" ino=1"#);
        enter(&mut fresh, LANDLOCK_DOMAIN, &format!("domain=7 status=allocated mode=enforcing {other}"));
        assert_eq!((fresh.domain, counted(&fresh)), (None, vec![]));
    }
    assert_eq!(counted(&ledger), []);
}

#[test]
fn without_a_self_check_the_first_refusal_is_not_lost() {
    let mut ledger = ledger();
    enter(&mut ledger, LANDLOCK_ACCESS, "domain=1a6fdc66f blockers=net.connect_tcp daddr=127.0.0.1 dest=80");
    enter(
        &mut ledger,
        LANDLOCK_DOMAIN,
        "domain=1a6fdc66f status=allocated mode=enforcing pid=289 uid=1879049192",
    );
    assert_eq!(counted(&ledger), [("net.connect_tcp 80".to_owned(), 1)]);
}

#[test]
fn the_release_says_how_many_were_missed() {
    let mut ledger = settled();
    enter(
        &mut ledger,
        LANDLOCK_ACCESS,
        r#"domain=1a6fdc679 blockers=fs.write_file path="/x" dev="vda2" ino=1"#,
    );
    assert!(ledger.is_open());
    enter(&mut ledger, LANDLOCK_DOMAIN, "domain=1a6fdc679 status=deallocated denials=2");
    assert_eq!((ledger.is_open(), ledger.missed()), (false, 0));
    enter(&mut ledger, LANDLOCK_DOMAIN, "domain=1a6fdc679 status=deallocated denials=7");
    assert_eq!(ledger.missed(), 5);
}

#[test]
fn an_agent_that_tries_every_path_fills_no_memory() {
    let mut ledger = settled();
    for number in 0..2 * MOST {
        let fields =
            format!(r#"domain=1a6fdc679 blockers=fs.write_file path="/x/{number}" dev="vda2" ino=1"#);
        enter(&mut ledger, LANDLOCK_ACCESS, &fields);
    }
    assert_eq!((ledger.counts.len(), ledger.missed()), (MOST, MOST as u64));
    let mut ledger = self::ledger();
    for number in 0..1000 {
        enter(&mut ledger, LANDLOCK_ACCESS, &format!("domain={number} blockers=scope.signal opid=1"));
    }
    assert_eq!(ledger.unclaimed.len(), MOST_UNCLAIMED);
}

#[test]
fn a_name_that_could_pose_as_a_record_is_one_path() {
    let mut ledger = settled();
    // 20: a blank, 1B: escape. The kernel writes such a path in hexadecimal.
    let posing: String = "/a path=/b\u{1b}[2J".bytes().map(|byte| format!("{byte:02X}")).collect();
    enter(
        &mut ledger,
        LANDLOCK_ACCESS,
        &format!("domain=1a6fdc679 blockers=fs.read_dir path={posing} dev=\"vda2\""),
    );
    assert_eq!(counted(&ledger), [(r"fs.read_dir /a path=/b\u{1b}[2J".to_owned(), 1)]);
}

#[test]
fn what_is_known_is_said_in_one_line() {
    let says = |coverage: Coverage| coverage.to_string();
    assert_eq!(says(Coverage::Complete), "complete");
    assert_eq!(says(Coverage::Lost(3)), "incomplete: at least 3 not recorded");
    assert_eq!(says(Coverage::Unavailable("audit is off".into())), "unavailable: audit is off");
}

proptest! {
    #[test]
    fn no_record_makes_the_ledger_panic(kind in 1422_u16..1426, text in "[ -~]{0,200}|(domain=1a6fdc679 |blockers=[a-z.,]{0,9} |path=[\"0-9A-F]{0,9} |status=deallocated ){0,6}") {
        let mut ledger = settled();
        ledger.enter(&Record { kind, text });
        prop_assert!(ledger.counts.len() <= MOST);
    }
}
