//! An agent reaches the names of its policy, without knowing that there is a gateway, and nothing else. Needs root, and
//! machines of their own for the tests (tests/common/machine.sh).

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::leaks::{Census, eventually, pids};
use common::site::{SITE, Server, Site, add_address, apart, refusals};
use common::stockade::{Running, STOCKADE, directory, field, kill, output, shell, text, told};
use serde_json::Value;

const NAME: &str = "api.example.test";
const ALLOW: &str = "'api.example.test:443,80'";

fn shown(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), told(output))
}

/// The gateway's processes of this machine: its warden and itself.
fn gateways() -> Vec<(u32, String)> {
    let named =
        |pid: u32| Some((pid, fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned()));
    let all = pids().into_iter().filter_map(named);
    all.filter(|(_, name)| matches!(name.as_str(), "stockade-warden" | "stockade-egress")).collect()
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

/// Tries a connection or a datagram, and prints the error's name; `reached` if an answer came.
const ATTEMPT: &str = "import errno, socket, sys
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ':' in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
s.settimeout(60)
try:
    s.connect((host, port))
    if kind == 'udp':
        s.send(b'knock')
        s.recv(100)
    elif port == 80:
        s.send(b'GET /hello HTTP/1.0\\r\\n\\r\\n')
        if not s.recv(1):
            raise ConnectionResetError(errno.ECONNRESET, '')
    print('reached')
except OSError as e:
    print(errno.errorcode.get(e.errno, 'timeout'))";

fn attempt(kind: &str, host: &str, port: u16) -> String {
    format!("python3 -c '{}' {kind} {host} {port}", ATTEMPT.replace('\'', "\""))
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
        // What is refused without a listener, and by the gateway: which of the two it is makes no difference to an agent.
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
            assert!(
                ["ECONNREFUSED", "ECONNRESET"].contains(&said.as_str()),
                "{host}:{port}: {}",
                shown(&output)
            );
            let refused = refusals(&report);
            assert_eq!(refused.len(), 1, "{host}:{port}: {report}");
            assert!(refused[0].0 == reason || refused[0].0 == "ipv6", "{host}:{port}: {refused:?}");
            assert!(refused[0].1.ends_with(&format!(":{port}")), "{refused:?}");
        }
        echo.iter().for_each(|echo| assert_eq!(echo.heard(), ["datagram knock"], "once, from this host"));
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
fn a_gateway_that_is_killed_is_replaced_and_the_agent_goes_on() {
    apart("a_gateway_that_is_killed_is_replaced_and_the_agent_goes_on", || {
        let before = Census::take(&[]);
        let site = Site::named(&[NAME]);
        let policy = site.policy(ALLOW, &[NAME]);
        let report = site.around.path().join("report.json");
        let fetch =
            "curl -sS --retry 5 --retry-all-errors --cacert ca.pem https://api.example.test/hello >/dev/null";
        let script =
            format!("echo up; for n in 1 2 3; do read go; {fetch} && echo fetched || echo failed; done");
        let mut command = site.command(&policy, &["--report", text(&report)], &script);
        let mut running = Running::start(command.stdin(Stdio::piped()));
        let mut stdin = running.child.stdin.take().expect("piped");
        for killed in 0..3 {
            stdin.write_all(b"go\n").expect("told");
            running.expect("fetched\n");
            if killed == 2 {
                break;
            }
            let (pid, _) =
                gateways().into_iter().find(|(_, name)| name == "stockade-egress").expect("a gateway");
            kill(pid, libc::SIGKILL);
            eventually("another gateway", || {
                gateways().iter().any(|(other, name)| name == "stockade-egress" && *other != pid)
            });
        }
        assert!(running.wait().success());
        let report: Value = serde_json::from_slice(&fs::read(report).expect("a report")).expect("JSON");
        assert_eq!(report["network"]["restarts"], 2, "{}", report["network"]);
        drop((site, running));
        before.assert_restored("a run whose gateway was killed twice");
    });
}

#[test]
fn gateways_that_end_as_fast_as_they_come_are_the_end_of_the_network_and_not_of_the_agent() {
    apart("gateways_that_end_as_fast_as_they_come_are_the_end_of_the_network_and_not_of_the_agent", || {
        let before = Census::take(&[]);
        let site = Site::named(&[NAME]);
        let policy = site.policy(ALLOW, &[NAME]);
        let report = site.around.path().join("report.json");
        let script = format!("echo up; read go; {}", attempt("tcp", "198.18.0.1", 80));
        let mut command = site.command(&policy, &["--report", text(&report)], &script);
        let mut running = Running::start(command.stdin(Stdio::piped()));
        eventually("no gateway is started any more", || {
            let all = gateways();
            all.iter()
                .filter(|(_, name)| name == "stockade-egress")
                .for_each(|(pid, _)| kill(*pid, libc::SIGKILL));
            all.is_empty()
        });
        drop(running.child.stdin.take());
        running.expect("ECONNREFUSED\n");
        assert!(running.wait().success());
        let report: Value = serde_json::from_slice(&fs::read(report).expect("a report")).expect("JSON");
        assert!(report["network"]["incomplete"].is_string(), "{}", report["network"]);
        drop((site, running));
        before.assert_restored("a run that lost its network");
    });
}

#[test]
fn without_a_loopback_of_its_own_an_agent_connects_and_listens_to_nobody() {
    apart("without_a_loopback_of_its_own_an_agent_connects_and_listens_to_nobody", || {
        let site = Site::named(&[NAME]);
        let policy = site.policy(ALLOW, &[NAME]);
        let own = fs::read_to_string(&policy).expect("read");
        fs::write(&policy, own.replace("[network]", "[network]\nloopback = false")).expect("written");
        let listen =
            "python3 -c 'import socket; socket.create_server((\"127.0.0.1\", 3000))' 2>&1 | grep -o Errno.13";
        let script = format!("curl -sS --fail http://{NAME}/hello; {listen}");
        let (output, report) = site.run(&policy, &[], &script);
        // Before ABI 4 Landlock knows nothing of TCP, and the policy tolerates that.
        let refused = report["attestation"]["landlock"]["abi"].as_u64() >= Some(4);
        let expected = if refused { "hello from outside\nErrno 13\n" } else { "hello from outside\n" };
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{}", told(&output));
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
fn nothing_is_left_of_a_gateway_however_its_sandbox_ends() {
    apart("nothing_is_left_of_a_gateway_however_its_sandbox_ends", || {
        let before = Census::take(&[]);
        let start = || Running::start(&mut shell(&["--allow", NAME], "echo up; exec sleep 1000"));
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            let mut running = start();
            assert_eq!(gateways().len(), 2, "{:?}", gateways());
            running.signal(signal);
            running.wait();
            before.assert_restored(&format!("signal {signal}"));
        }
        let mut running = start();
        let (warden, _) =
            gateways().into_iter().find(|(_, name)| name == "stockade-warden").expect("a warden");
        kill(warden, libc::SIGKILL);
        eventually("no gateway without its warden", || gateways().is_empty());
        running.signal(libc::SIGTERM);
        running.wait();
        before.assert_restored("a killed warden");
    });
}

#[test]
fn the_gateway_has_a_uid_of_its_own_and_no_privilege() {
    apart("the_gateway_has_a_uid_of_its_own_and_no_privilege", || {
        let mut running = Running::start(&mut shell(&["--allow", NAME], "echo up; exec sleep 1000"));
        let agent: u32 =
            field(running.agent(), "Uid").split_whitespace().next().expect("uids").parse().expect("uid");
        for (pid, name) in gateways() {
            let uids: Vec<u32> =
                field(pid, "Uid").split_whitespace().map(|uid| uid.parse().expect("a uid")).collect();
            assert!(
                uids.iter().all(|uid| *uid == uids[0] && *uid > agent),
                "{name}: {uids:?}, the agent's {agent}"
            );
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(field(pid, set).trim_start_matches('0'), "", "{name} {set}");
            }
            assert_eq!(field(pid, "NoNewPrivs"), "1", "{name}");
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
            assert!(groups.contains(".egress"), "{name}: {groups}");
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            assert!(name == "stockade-warden" || environment.is_empty(), "{name}");
        }
        let (gateway, _) =
            gateways().into_iter().find(|(_, name)| name == "stockade-egress").expect("a gateway");
        assert_eq!(field(gateway, "Seccomp"), "2");
        running.signal(libc::SIGTERM);
        running.wait();
    });
}

#[test]
fn without_a_destination_there_is_no_gateway_and_no_route() {
    apart("without_a_destination_there_is_no_gateway_and_no_route", || {
        let script = "echo up; grep -c 'local' /proc/net/fib_trie; read end";
        let mut command = shell(&[], &script.replace("-c 'local'", "-q 'LOCAL.*0.0.0.0' || echo none"));
        let mut running = Running::start(command.stdin(Stdio::piped()));
        assert_eq!(gateways(), []);
        drop(running.child.stdin.take());
        running.wait();
        let refused = shell(&[], &attempt("tcp", "192.0.2.7", 443)).output().expect("stockade");
        assert_eq!(String::from_utf8_lossy(&refused.stdout).trim(), "ENETUNREACH", "{}", shown(&refused));
    });
}

#[test]
fn without_its_gateway_nothing_starts() {
    apart("without_its_gateway_nothing_starts", || {
        let before = Census::take(&[]);
        let around = tempfile::tempdir_in("/tmp").expect("a directory");
        let (program, gateway) = (around.path().join("stockade"), around.path().join("stockade-egress"));
        fs::copy(STOCKADE, &program).expect("copied");
        let run = |reason: &str| {
            let mut command = Command::new(&program);
            command.args(["run", "--policy", "shell", "--allow", NAME, "--", "echo", "started"]);
            let output = output(command.stdin(Stdio::null()));
            assert_eq!((output.status.code(), &*output.stdout), (Some(77), &b""[..]), "{}", shown(&output));
            assert!(
                told(&output).contains(reason) && told(&output).contains("stockade-egress"),
                "{}",
                told(&output)
            );
        };
        run("No such file");
        fs::copy("/bin/true", &gateway).expect("copied");
        run("exit code");
        std::os::unix::fs::chown(&gateway, Some(1001), None).expect("chown");
        run("uid 1001");
        drop(around);
        before.assert_restored("starts without a gateway");
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
