//! An agent reaches the names of its policy, without knowing that there is a gateway, and nothing else. Needs root, and
//! machines of their own for the tests (tests/common/machine.sh).

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::leaks::{Census, eventually};
use common::site::{SITE, Server, Site, add_address, apart, attempt, refusals};
use common::stockade::{Running, STOCKADE, directory, output, shell, text, told};
use serde_json::Value;

const NAME: &str = "api.example.test";
const ALLOW: &str = "'api.example.test:443,80'";

fn shown(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), told(output))
}

#[test]
fn tools_reach_an_allowed_name_without_any_setting() {
    apart("tools_reach_an_allowed_name_without_any_setting", || {
        let site = Site::named(&[NAME]);
        let served = site.around.path().join("site/repository.git");
        let script = "git init -q -b main . && git config user.name a && git config user.email a@b && echo one >file \
            && git add file && git commit -qm one && git clone -q --bare . \"$0\" && git -C \"$0\" update-server-info";
        let made = directory();
        let status = Command::new("sh").args(["-ec", script]).arg(&served).current_dir(made.path()).status();
        assert!(status.expect("sh").success());
        let policy = site.policy(ALLOW, &[NAME]);
        for script in [
            "getent ahostsv4 api.example.test | grep -q STREAM && getent hosts api.example.test >/dev/null && echo hello from outside",
            "curl -sS --fail --cacert ca.pem https://api.example.test/hello",
            "curl -sS --fail http://api.example.test/hello",
            "python3 -c 'import ssl, urllib.request as r; c = ssl.create_default_context(cafile=\"ca.pem\"); \
             print(r.urlopen(\"https://api.example.test/hello\", context=c).read().decode(), end=\"\")'",
            "NODE_EXTRA_CA_CERTS=ca.pem node -e 'fetch(\"https://api.example.test/hello\").then(r => r.text()) \
             .then(t => process.stdout.write(t))'",
            "GIT_SSL_CAINFO=$PWD/ca.pem git clone -q https://api.example.test/repository.git clone && cat clone/file \
             | sed 's/one/hello from outside/'",
        ] {
            if script.contains("node -e") && Command::new("node").arg("-v").output().is_err() {
                println!("left out: this host has no node");
                continue;
            }
            let (output, report) = site.run(&policy, &[], script);
            assert!(output.status.success(), "{script}: {}", shown(&output));
            assert_eq!(String::from_utf8_lossy(&output.stdout), "hello from outside\n", "{script}");
            assert_eq!(refusals(&report), [], "{script}");
        }
    });
}

#[test]
fn a_go_program_speaks_http_2_with_an_allowed_name() {
    apart("a_go_program_speaks_http_2_with_an_allowed_name", || {
        let site = Site::named(&["h2.example.test"]);
        let at = |name: &str| site.around.path().join(name);
        let program = site.workspace.path().join("h2");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/h2.go");
        // Without cgo Go resolves names itself; its cache of compiled packages is the test's own.
        let mut build = Command::new("go");
        build
            .args(["build", "-o", text(&program), source])
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-trimpath");
        let built = build.env("GOCACHE", at("cache")).env("GOPATH", at("path")).stdin(Stdio::null()).output();
        let built = built.expect("go(1) from golang-go starts");
        assert!(built.status.success(), "{}", shown(&built));
        let listening = format!("{SITE}:8443");
        let mut server = Command::new(&program);
        server.args(["serve", &listening, text(&at("cert.pem")), text(&at("key.pem"))]);
        let mut server = Running::start(server.stdin(Stdio::null()));
        let policy = site.policy("'h2.example.test:8443'", &["h2.example.test"]);

        let script = "SSL_CERT_FILE=$PWD/ca.pem ./h2 get https://h2.example.test:8443/";
        let (output, report) = site.run(&policy, &[], script);

        assert!(output.status.success(), "{}", shown(&output));
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(answer.starts_with("HTTP/2.0 for h2.example.test:8443 x"), "{}", shown(&output));
        assert!(answer.len() > 100_000, "{} bytes", answer.len());
        assert_eq!(refusals(&report), []);
        server.child.kill().and_then(|()| server.child.wait()).expect("it is ended");
    });
}

#[test]
fn each_connection_is_in_the_report() {
    apart("each_connection_is_in_the_report", || {
        let site = Site::named(&[NAME]);
        let policy = site.policy(ALLOW, &[NAME]);
        let script = "for n in 1 2 3; do curl -sS --cacert ca.pem https://api.example.test/hello; done";
        let (output, report) = site.run(&policy, &[], script);
        assert!(output.status.success(), "{}", shown(&output));
        let network = &report["network"];
        let connection = &network["connections"][0];
        assert_eq!(network["connections"].as_array().map(Vec::len), Some(1), "{network}");
        assert_eq!((&connection["name"], &connection["address"]), (&NAME.into(), &SITE.into()), "{network}");
        assert_eq!((&connection["port"], &connection["count"]), (&443.into(), &3.into()), "{network}");
        assert!(connection["sent"].as_u64() > Some(1000) && connection["received"].as_u64() > Some(1000));
        assert!(connection["rule"].as_str().is_some_and(|rule| rule.contains(NAME)), "{network}");
        assert_eq!(network["incomplete"], Value::Null, "{network}");
    });
}

/// The same on this host, without a sandbox.
fn on_the_host(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output().expect("sh");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn whatever_no_rule_covers_is_refused_at_once_and_reported() {
    apart("whatever_no_rule_covers_is_refused_at_once_and_reported", || {
        let site = Site::named(&[NAME]);
        for address in ["169.254.169.254/32", "192.0.2.7/32", "fd00:ec2::254/128", "2001:db8::7/128"] {
            add_address(address);
        }
        let _everywhere = TcpListener::bind("[::]:8443").expect("a port");
        let _other = Server::start(&[
            "web",
            "192.0.2.7",
            text(site.around.path()),
            text(&site.around.path().join("cert.pem")),
            text(&site.around.path().join("key.pem")),
        ]);
        let echo =
            [Server::start(&["echo", "192.0.2.7", "123"]), Server::start(&["echo", "2001:db8::7", "123"])];
        let policy = site.policy(ALLOW, &[NAME]);
        let attempts: [(&str, &str, u16, &str); 8] = [
            ("tcp", "192.0.2.7", 8443, "address"),
            ("tcp", "192.0.2.7", 80, "address"),
            ("tcp", "169.254.169.254", 8443, "address"),
            ("tcp", "2001:db8::7", 8443, "ipv6"),
            ("tcp", "fd00:ec2::254", 8443, "ipv6"),
            ("udp", "192.0.2.7", 123, "udp"),
            ("udp", "2001:db8::7", 123, "udp"),
            ("tcp", "::ffff:192.0.2.7", 8443, "address"),
        ];
        for (kind, host, port, reason) in attempts {
            let script = attempt(kind, host, port);
            assert_eq!(on_the_host(&script), "reached", "the way to {host}:{port} is open: {script}");
            let (output, report) = site.run(&policy, &[], &script);
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            assert_eq!(said, "ECONNREFUSED", "{host}:{port}: {}", shown(&output));
            let refused = refusals(&report);
            assert_eq!(refused.len(), 1, "{host}:{port}: {report}");
            assert!(refused[0].0 == reason || refused[0].0 == "ipv6", "{host}:{port}: {refused:?}");
            assert!(refused[0].1.ends_with(&format!(":{port}")), "{refused:?}");
        }
        echo.iter().for_each(|echo| assert_eq!(echo.heard(), ["datagram knock"], "once, from this host"));
    });
}

#[test]
fn on_a_port_of_a_suffix_or_a_range_other_addresses_are_refused_at_once_and_reported() {
    apart("on_a_port_of_a_suffix_or_a_range_other_addresses_are_refused_at_once_and_reported", || {
        let site = Site::named(&[NAME]);
        let at = |name: &str| site.around.path().join(name);
        let (certificate, key) = (at("cert.pem"), at("key.pem"));
        let others = ["192.0.2.7", "198.51.100.7"].map(|address| {
            add_address(&format!("{address}/32"));
            Server::start(&["web", address, text(site.around.path()), text(&certificate), text(&key)])
        });
        let policy = site.policy("'*.example.test:443,80', '198.51.100.7:80'", &[NAME]);
        for (host, port, said) in [
            ("192.0.2.7", 443, "ECONNREFUSED"),
            ("192.0.2.7", 80, "ECONNREFUSED"),
            ("198.51.100.7", 443, "ECONNREFUSED"),
            ("198.51.100.7", 80, "reached"),
            (NAME, 80, "reached"),
        ] {
            let script = attempt("tcp", host, port);
            if host != NAME {
                assert_eq!(on_the_host(&script), "reached", "the way to {host}:{port} is open: {script}");
            }
            let (output, report) = site.run(&policy, &[], &script);
            assert_eq!(
                String::from_utf8_lossy(&output.stdout).trim(),
                said,
                "{host}:{port}: {}",
                shown(&output)
            );
            let refused = refusals(&report);
            assert_eq!(refused.len(), usize::from(said != "reached"), "{host}:{port}: {report}");
            assert!(refused.iter().all(|(_, to)| to.ends_with(&format!("{host}:{port}"))), "{refused:?}");
        }
        drop(others);
    });
}

#[test]
fn a_failed_command_is_told_which_destination_was_refused_and_how_to_allow_it() {
    apart("a_failed_command_is_told_which_destination_was_refused_and_how_to_allow_it", || {
        let site = Site::named(&[NAME, "other.example.test"]);
        let policy = site.policy(ALLOW, &[NAME, "other.example.test"]);
        let script = "curl -sS --cacert ca.pem https://other.example.test/hello";
        let (output, report) = site.run(&policy, &[], script);
        assert_eq!(output.status.code(), Some(6), "curl found no such name: {}", shown(&output));
        assert!(told(&output).contains("--allow other.example.test:443"), "{}", told(&output));
        assert_eq!(refusals(&report)[0].0, "name");
        // And so it is.
        let (output, report) = site.run(&policy, &["--allow", "other.example.test"], script);
        assert!(output.status.success(), "{}", shown(&output));
        let widened = report["attestation"]["widened"].to_string();
        assert!(widened.contains("network.allow other.example.test:443"), "{widened}");
    });
}

#[test]
fn an_agent_reads_what_it_was_refused() {
    apart("an_agent_reads_what_it_was_refused", || {
        let site = Site::named(&[NAME]);
        let policy = site.policy(ALLOW, &[NAME]);
        let script = "getent hosts secret.example.net; curl -sS --fail http://stockade.internal/denials";
        let (output, _) = site.run(&policy, &[], script);
        let said = String::from_utf8_lossy(&output.stdout);
        let document: Value =
            serde_json::from_str(said.trim()).unwrap_or_else(|_| panic!("{}", shown(&output)));
        assert!(document.to_string().contains("secret.example.net"), "{document}");
    });
}

#[test]
fn without_a_loopback_of_its_own_an_agent_connects_and_listens_to_nobody() {
    apart("without_a_loopback_of_its_own_an_agent_connects_and_listens_to_nobody", || {
        let site = Site::named(&[NAME]);
        let policy = site.policy(ALLOW, &[NAME]);
        let own = fs::read_to_string(&policy).expect("read");
        fs::write(&policy, own.replace("[network]", "[network]\nloopback = false")).expect("written");
        let bind = "python3 -c 'import socket; socket.create_server((\"127.0.0.1\", 3000))' 2>&1 | grep -o 'Errno 1[3]*'";
        // Without bind(2), listen(2) takes a port by itself.
        let listen = "python3 -c 'import socket; s = socket.socket(); s.listen(); \
             socket.create_connection((\"127.0.0.1\", s.getsockname()[1])); print(\"connected\")' 2>&1 \
             | grep -o -e connected -e Errno.1";
        let script = format!("curl -sS --fail http://{NAME}/hello; {bind}; {listen}");
        let (output, report) = site.run(&policy, &[], &script);
        let said = String::from_utf8_lossy(&output.stdout);
        // Before ABI 4 Landlock knows nothing of TCP; listening is refused there as well, by the filter.
        let knows_tcp = report["attestation"]["landlock"]["abi"].as_u64() >= Some(4);
        let bound = if knows_tcp { "Errno 13" } else { "Errno 1" };
        assert_eq!(said, format!("hello from outside\n{bound}\nErrno 1\n"), "{}", told(&output));
        let refused = report["denials"].to_string();
        assert!(refused.contains("\"listen\"") && refused.contains("[network] loopback = true"), "{refused}");
        fs::write(&policy, own.replace("[network]", "[network]\nloopback = true")).expect("written");
        let (output, _) = site.run(&policy, &[], listen);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "connected\n", "the way is open: {}", told(&output));
    });
}

/// Connects by sending (TCP Fast Open), which Landlock is not asked about, to a port that listen(2) has taken by itself.
const FAST_OPEN: &str = "python3 -c 'import socket; s = socket.socket(); s.listen(); c = socket.socket(); \
    c.sendto(b\"x\", socket.MSG_FASTOPEN, (\"127.0.0.1\", s.getsockname()[1])); print(s.accept()[0].recv(1))' 2>&1 | tail -n 1";

#[test]
fn without_a_loopback_of_its_own_nothing_is_connected_by_sending_either() {
    apart("without_a_loopback_of_its_own_nothing_is_connected_by_sending_either", || {
        assert_eq!(on_the_host(FAST_OPEN), "b'x'", "the way is open");
        let mut command = Command::new(STOCKADE);
        let output = output(command.args(["run", "--policy", "base", "--", "sh", "-c", FAST_OPEN]));
        let said = String::from_utf8_lossy(&output.stdout);
        // By the filter; or by Landlock, which Linux 6.12 asks with its later fixes.
        assert!(said.contains("Errno 95]") || said.contains("Errno 13]"), "{}", shown(&output));
    });
}

#[test]
fn ssh_reaches_a_host_by_its_name() {
    apart("ssh_reaches_a_host_by_its_name", || {
        let site = Site::named(&[NAME]);
        let listener = TcpListener::bind((SITE, 22)).expect("a port");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("ssh comes");
            stream.write_all(b"SSH-2.0-test\r\n").expect("greeted");
            let mut greeting = [0; 16];
            stream.read_exact(&mut greeting).expect("greeted");
            String::from_utf8_lossy(&greeting).into_owned()
        });
        let policy = site.policy("'api.example.test:22'", &[NAME]);
        // A whole sshd is not needed to see that it arrives: the greeting is its own, and sent to nobody else.
        let (output, report) = site.run(&policy, &[], &format!("ssh -v -o BatchMode=yes git@{NAME} true"));
        assert!(told(&output).contains("remote software version test"), "{}", shown(&output));
        assert_eq!(server.join().expect("served"), "SSH-2.0-OpenSSH_");
        assert_eq!(report["network"]["connections"][0]["name"], NAME, "{}", report["network"]);
        assert_eq!(refusals(&report), []);
    });
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    apart("a_server_that_speaks_first_is_heard", || {
        let site = Site::named(&[NAME]);
        let listener = TcpListener::bind((SITE, 22)).expect("a port");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.write_all(b"SSH-2.0-test\r\n");
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        });
        let policy = site.policy("'api.example.test:22'", &[NAME]);
        let greet =
            format!("python3 -c 'import socket; print(socket.create_connection((\"{NAME}\", 22)).recv(99))'");
        let (output, _) = site.run(&policy, &[], &greet);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "b'SSH-2.0-test\\r\\n'\n", "{}", told(&output));
    });
}

#[test]
fn a_port_of_this_host_that_is_taken_is_named_and_nothing_starts() {
    apart("a_port_of_this_host_that_is_taken_is_named_and_nothing_starts", || {
        let before = Census::take(&[]);
        let _taken = TcpListener::bind("127.0.0.1:18081").expect("a port");
        let output = output(&mut shell(&["--publish", "127.0.0.1:18081:3000"], "echo started"));
        assert_eq!((output.status.code(), &*output.stdout), (Some(125), &b""[..]), "{}", shown(&output));
        assert!(told(&output).contains("127.0.0.1:18081"), "{}", told(&output));
        before.assert_restored("a start on a port that is taken");
    });
}

#[test]
fn a_published_port_leads_from_this_host_to_a_server_inside() {
    apart("a_published_port_leads_from_this_host_to_a_server_inside", || {
        let site = Site::named(&[NAME]);
        let policy = site.policy("", &[]);
        let script = "cd /tmp && echo from inside >page && python3 -m http.server --bind 127.0.0.1 3000 >/dev/null 2>&1 & \
            until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 3000))' 2>/dev/null; do :; done; \
            echo up; read end";
        let mut command = site.command(&policy, &["--publish", "127.0.0.1:18080:3000"], script);
        let mut running = Running::start(command.stdin(Stdio::piped()));
        let fetch = |port: u16| {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(b"GET /page HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        for _ in 0..3 {
            let answer = fetch(18080).expect("an answer");
            assert!(answer.ends_with("from inside\n"), "{answer}");
        }
        assert!(fetch(3000).is_err(), "nothing but the published port is there");
        drop(running.child.stdin.take());
        running.wait();
        assert!(fetch(18080).is_err(), "the port is gone with the sandbox");
    });
}

#[test]
fn a_secret_is_added_outside_and_never_seen_inside() {
    apart("a_secret_is_added_outside_and_never_seen_inside", || {
        let site = Site::named(&[NAME]);
        let secret = site.around.path().join("secret");
        fs::write(&secret, "first-secret\n").expect("written");
        let policy = site.policy("", &[NAME]);
        let inject = format!(
            "[[network.inject]]\nname = 'raven.internal'\nupstream = 'https://{NAME}'\nheader = 'x-api-key'\n\
             secret = {secret:?}\nmethods = ['GET']\npaths = ['/hello', '/echo-headers']\n"
        );
        let own = fs::read_to_string(&policy).expect("read");
        let bundle = format!("ca-bundle = {:?}\n[network.resolve]", site.around.path().join("ca.pem"));
        fs::write(&policy, own.replace("[network.resolve]", &bundle) + &inject).expect("written");
        let fetch = "curl -sS -o /dev/null -w '%{http_code}\\n' http://raven.internal";
        let script = format!(
            "echo up; while read go && [ $go = go ]; do {fetch}/hello; done; {fetch}/other; {fetch}/hello -X POST; \
             curl -sS http://raven.internal/echo-headers | grep -c secret; env | grep -c secret"
        );
        let mut running = Running::start(site.command(&policy, &[], &script).stdin(Stdio::piped()));
        let mut stdin = running.child.stdin.take().expect("piped");
        let mut fetched_with = |key: &str| {
            stdin.write_all(b"go\n").expect("told");
            running.expect("200\n");
            let heard = site.web.heard();
            assert_eq!(heard.len(), 1, "{heard:?}");
            heard[0].ends_with(&format!("key={key}"))
        };
        assert!(fetched_with("first-secret"));
        replace(&secret, "second-secret");
        eventually("the new secret is used", || fetched_with("second-secret"));
        stdin.write_all(b"end\n").expect("told");
        running.expect("403\n403\n0\n0\n");
        running.wait();
    });
}

fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).expect("written");
    fs::rename(new, path).expect("renamed");
}
