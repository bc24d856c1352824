//! The gateway as a process beside its sandbox: replaced if it ends, gone with it, and with no more than it needs. Needs
//! root, and machines of their own for the tests (tests/common/machine.sh).

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use common::leaks::{Census, eventually, pids};
use common::site::{SITE, Site, apart, attempt};
use common::stockade::{Running, STOCKADE, field, kill, output, shell, text, told};
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

/// Bytes in the sockets of the process's memory group, and their bound where that is one of its own (v1).
fn in_sockets(pid: u32) -> (u64, Option<u64>) {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
    let path = |controller: &str| {
        let of =
            |line: &str| line.split(':').nth(1).is_some_and(|all| all.split(',').any(|c| c == controller));
        groups.lines().find(|line| of(line)).and_then(|line| line.splitn(3, ':').nth(2)).map(str::to_owned)
    };
    let number = |file: String| fs::read_to_string(file).ok()?.trim().parse().ok();
    if let Some(group) = path("memory") {
        let files = format!("/sys/fs/cgroup/memory{group}/memory.kmem.tcp");
        let used = number(format!("{files}.usage_in_bytes")).expect("v1 counts them");
        return (used, number(format!("{files}.limit_in_bytes")));
    }
    let group = path("").expect("a v2 group");
    let stat = fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.stat")).expect("its statistics");
    let sock = stat.lines().find_map(|line| line.strip_prefix("sock "));
    (sock.expect("v2 counts them").trim().parse().expect("a number"), None)
}

#[test]
fn what_nobody_reads_waits_in_the_gateways_own_memory_within_its_bound() {
    apart("what_nobody_reads_waits_in_the_gateways_own_memory_within_its_bound", || {
        let site = Site::named(&[NAME]);
        let listener = TcpListener::bind((SITE, 8080)).expect("a port");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || std::io::copy(&mut std::io::repeat(7), &mut stream));
            }
        });
        let policy = site.policy("'api.example.test:8080'", &[NAME]);
        let script = format!(
            "python3 -c 'import socket, sys; held = [socket.create_connection((\"{NAME}\", 8080)) for n in range(8)]; \
             [s.recv(1) for s in held]; print(\"up\", flush=True); sys.stdin.read()'"
        );
        let mut running = Running::start(site.command(&policy, &[], &script).stdin(Stdio::piped()));
        let (gateway, _) =
            gateways().into_iter().find(|(_, name)| name == "stockade-egress").expect("a gateway");
        eventually("the gateway's sockets hold what nobody reads", || in_sockets(gateway).0 > 1 << 20);
        if let (_, Some(bound)) = in_sockets(gateway) {
            assert_eq!(bound, 128 << 20);
        }
        drop(running.child.stdin.take());
        running.wait();
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
