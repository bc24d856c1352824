//! Whatever happens to `stockade run`, nothing of the sandbox is left: not after a thousand runs, and not after SIGKILL
//! at any moment. Needs root, and machines of their own for the tests (tests/common/machine.sh).

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::leaks::{Census, eventually};
use common::machine::alone;
use common::stockade::{Running, directory, field, kill, output, shell, text, told};

/// What a sandbox leaves behind if it leaves anything: a child that has left its session, and protected paths.
const AGENT: &str = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo up; exec sleep 1000";

/// More in a night's run: STOCKADE_TEST_RUNS=1000.
fn runs(by_default: usize) -> usize {
    std::env::var("STOCKADE_TEST_RUNS")
        .map_or(by_default, |n| n.parse().expect("STOCKADE_TEST_RUNS is a number"))
}

#[test]
fn many_runs_in_a_row_leave_nothing() {
    alone("many_runs_in_a_row_leave_nothing", || {
        let workspace = directory();
        let before = Census::take(&[workspace.path()]);
        for run in 0..runs(200) {
            let script = format!("setsid sleep 1000 >/dev/null 2>&1 & exit {}", run % 120);
            let output = output(&mut shell(&["--workspace", text(workspace.path())], &script));
            assert_eq!(output.status.code(), Some((run % 120) as i32), "run {run}: {}", told(&output));
            if run % 50 == 49 {
                before.assert_restored(&format!("run {run}"));
            }
        }
        before.assert_restored("all runs");
    });
}

#[test]
fn fifty_at_once_leave_nothing() {
    alone("fifty_at_once_leave_nothing", || {
        let workspace = directory();
        let before = Census::take(&[workspace.path()]);
        let start = || {
            let mut command = shell(&["--workspace", text(workspace.path())], "echo up; read end; exit 7");
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("started")
        };
        let all: Vec<_> = (0..50).map(|_| start()).collect();
        eventually("fifty groups are up", || groups() >= 50);
        for child in all {
            // Drops its stdin, which ends `read`.
            let output = child.wait_with_output().expect("it ends");
            let told = told(&output);
            assert_eq!((output.status.code(), &*output.stdout), (Some(7), &b"up\n"[..]), "{told}");
        }
        before.assert_restored("fifty runs at once");
    });
}

/// How many agents have a group now.
fn groups() -> usize {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", "*run-*"])
        .output()
        .expect("find");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let names: std::collections::BTreeSet<_> =
        text.lines().filter_map(|path| path.rsplit('-').next()).collect();
    names.len()
}

#[test]
fn sigkill_at_any_moment_leaves_nothing() {
    alone("sigkill_at_any_moment_leaves_nothing", || sweep(&[], |pid| kill(pid, libc::SIGKILL)));
}

#[test]
fn sigkill_of_the_whole_process_group_at_any_moment_leaves_nothing() {
    alone("sigkill_of_the_whole_process_group_at_any_moment_leaves_nothing", || {
        sweep(&[], |pid| {
            let group = nix::unistd::Pid::from_raw(pid.cast_signed());
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        });
    });
}

#[test]
fn sigterm_at_any_moment_leaves_nothing() {
    alone("sigterm_at_any_moment_leaves_nothing", || sweep(&[], |pid| kill(pid, libc::SIGTERM)));
}

#[test]
fn a_run_with_a_gateway_that_is_killed_at_any_moment_leaves_nothing() {
    let options = ["--allow", "nobody.example.test", "--publish", "127.0.0.1:18082:3000"];
    alone("a_run_with_a_gateway_that_is_killed_at_any_moment_leaves_nothing", || {
        sweep(&options, |pid| kill(pid, libc::SIGKILL));
    });
}

/// Ends a run after each of many delays, from the moment of its start to the time when the agent has been up.
fn sweep(options: &[&str], end: impl Fn(u32)) {
    use std::os::unix::process::CommandExt;
    let workspace = directory();
    let before = Census::take(&[workspace.path()]);
    let options = [&["--workspace", text(workspace.path())], options].concat();
    let mut command = shell(&options, AGENT);
    command.process_group(0).stderr(Stdio::null());

    let started = Instant::now();
    let mut running = Running::start(&mut command);
    let start_up = started.elapsed();
    end(running.pid());
    running.wait();
    before.assert_restored("a run that was up");

    let steps = runs(200) as u32;
    for step in 0..steps {
        let delay = start_up * step * 5 / (steps * 4);
        let mut child = command.stdout(Stdio::null()).spawn().expect("started");
        let deadline = Instant::now() + delay;
        while Instant::now() < deadline {
            std::hint::spin_loop();
        }
        end(child.id());
        child.wait().expect("it is our child");
        before.assert_restored(&format!("a kill {delay:?} after the start, of {start_up:?}"));
    }
}

#[test]
fn whoever_of_the_three_processes_is_killed_nothing_is_left() {
    alone("whoever_of_the_three_processes_is_killed_nothing_is_left", || {
        let workspace = directory();
        let before = Census::take(&[workspace.path()]);
        for victims in 1..8 {
            let mut running = Running::start(&mut shell(&["--workspace", text(workspace.path())], AGENT));
            let (keeper, init) = running.keeper_and_init();
            let all = [("keeper", keeper), ("init", init), ("run", running.pid())];
            let chosen: Vec<_> = (0..3).filter(|bit| victims >> bit & 1 == 1).map(|bit| all[bit]).collect();
            for (_, pid) in &chosen {
                kill(*pid, libc::SIGKILL);
            }
            let names: Vec<_> = chosen.iter().map(|(name, _)| *name).collect();
            match names[..] {
                // The agent goes on, and is ended as always.
                ["keeper"] => {
                    running.signal(libc::SIGTERM);
                    assert_eq!(running.wait().code(), Some(128 + libc::SIGTERM));
                }
                ["init"] | ["keeper", "init"] => assert_eq!(running.wait().code(), Some(128 + libc::SIGKILL)),
                _ => drop(running.wait()),
            }
            if names.contains(&"keeper") && names.contains(&"run") {
                // Nobody was left to clean up; the agent is dead all the same, and the next run takes over.
                eventually("the agent died with both", || {
                    [keeper, init].iter().all(|pid| field(*pid, "State").is_empty())
                });
                let next = output(&mut shell(&["--workspace", text(workspace.path())], "true"));
                assert!(next.status.success(), "{}", told(&next));
            }
            before.assert_restored(&format!("SIGKILL of {names:?}"));
        }
    });
}

#[test]
fn a_run_that_is_killed_while_it_says_how_it_ended_takes_no_other_along() {
    alone("a_run_that_is_killed_while_it_says_how_it_ended_takes_no_other_along", || {
        let before = Census::take(&[]);
        let (_reader, writer) = std::io::pipe().expect("a pipe");
        // The pipe is full when the agent ends, and what was refused is told on it.
        let script = "unshare -U true 2>&-; head -c 65536 /dev/zero >&2; echo up; exit 1";
        let mut ended = Running::start(shell(&[], script).stderr(writer));
        eventually("it waits for its reader", || {
            groups() == 0 && field(ended.pid(), "State").starts_with('S')
        });
        // It has the same place, by a lock on another file: the first has removed its own.
        let mut other =
            Running::start(&mut shell(&[], "trap 'exit 42' TERM; echo up; while :; do sleep 0.01; done"));
        let of_the_first = |pid: &u32| field(*pid, "PPid") == ended.pid().to_string();
        let children: Vec<u32> = common::leaks::pids().into_iter().filter(of_the_first).collect();
        ended.signal(libc::SIGKILL);
        ended.wait();
        eventually("whoever cleaned up after it has done so", || {
            children.iter().all(|pid| field(*pid, "State").is_empty())
        });
        other.signal(libc::SIGTERM);
        assert_eq!(other.wait().code(), Some(42));
        before.assert_restored("both");
    });
}

#[test]
fn the_keeper_is_out_of_reach_of_who_kills_its_callers_session() {
    let running = Running::start(&mut shell(&[], AGENT));
    let (keeper, _) = running.keeper_and_init();
    let id = |pid: u32, of: fn(Option<nix::unistd::Pid>) -> nix::Result<nix::unistd::Pid>| {
        of(Some(nix::unistd::Pid::from_raw(pid.cast_signed()))).expect("it lives")
    };
    assert_ne!(id(keeper, nix::unistd::getsid), id(running.pid(), nix::unistd::getsid));
    assert_ne!(id(keeper, nix::unistd::getpgid), id(running.pid(), nix::unistd::getpgid));
    assert_eq!(field(keeper, "CapEff"), field(running.pid(), "CapEff"), "worth no more than its owner");
    assert_eq!(field(keeper, "NoNewPrivs"), "1");
    running.signal(libc::SIGTERM);
}

#[test]
fn signals_reach_the_agent() {
    alone("signals_reach_the_agent", || {
        let before = Census::take(&[]);
        for (number, name) in [
            (libc::SIGTERM, "TERM"),
            (libc::SIGINT, "INT"),
            (libc::SIGHUP, "HUP"),
            (libc::SIGQUIT, "QUIT"),
            (libc::SIGUSR1, "USR1"),
            (libc::SIGUSR2, "USR2"),
        ] {
            let script = format!("trap 'echo got; exit 42' {name}; echo up; while :; do sleep 0.01; done");
            let mut running = Running::start(&mut shell(&[], &script));
            running.signal(number);
            running.expect("got\n");
            assert_eq!(running.wait().code(), Some(42), "{name}");

            let mut running = Running::start(&mut shell(&[], "echo up; exec sleep 1000"));
            running.signal(number);
            assert_eq!(running.wait().code(), Some(128 + number), "{name}");
        }
        before.assert_restored("signals");
    });
}

#[test]
fn an_agent_that_ignores_sigterm_is_killed_after_its_grace() {
    alone("an_agent_that_ignores_sigterm_is_killed_after_its_grace", || {
        let before = Census::take(&[]);
        for signal in [libc::SIGTERM, libc::SIGHUP] {
            let script = "trap '' TERM HUP INT; setsid sleep 1000 & echo up; while :; do sleep 1000; done";
            let mut running = Running::start(&mut shell(&[], script));
            let asked = Instant::now();
            running.signal(signal);
            assert_eq!(running.wait().code(), Some(128 + libc::SIGKILL));
            assert!(asked.elapsed() >= Duration::from_secs(4), "it had no grace: {:?}", asked.elapsed());
        }
        before.assert_restored("an agent that ignores signals");
    });
}

#[test]
fn a_stopped_agent_ends_like_any_other() {
    alone("a_stopped_agent_ends_like_any_other", || {
        let before = Census::take(&[]);
        for end in [libc::SIGTERM, libc::SIGKILL] {
            let mut running = Running::start(&mut shell(&[], AGENT));
            kill(running.agent(), libc::SIGSTOP);
            running.signal(end);
            running.wait();
        }
        // As `kill -STOP` and `kill -CONT` of the agent, from the inside and through `stockade run`.
        let mut running = Running::start(&mut shell(&[], "echo up; kill -STOP $$; echo on"));
        let agent = running.agent();
        eventually("the agent has stopped", || field(agent, "State").starts_with('T'));
        running.signal(libc::SIGCONT);
        running.expect("on\n");
        assert_eq!(running.wait().code(), Some(0));
        before.assert_restored("stopped agents");
    });
}

#[test]
fn a_run_outlives_its_parent_and_still_leaves_nothing() {
    alone("a_run_outlives_its_parent_and_still_leaves_nothing", || {
        let before = Census::take(&[]);
        let started = Command::new("sh")
            .args(["-c", "\"$@\" >/dev/null 2>&1 & echo $!", "sh", common::stockade::STOCKADE, "run"])
            .args(["--policy", "shell", "--", "sh", "-c", "trap '' HUP; exec sleep 1000"])
            .stdin(Stdio::null())
            .output()
            .expect("sh starts");
        let pid: u32 = String::from_utf8_lossy(&started.stdout).trim().parse().expect("a pid");
        eventually("the agent runs", || {
            common::leaks::pids().iter().any(|pid| field(*pid, "Name") == "sleep")
        });
        assert_eq!(field(pid, "PPid"), "1", "its parent is gone");
        kill(pid, libc::SIGHUP);
        eventually("it is ended after its grace", || field(pid, "State").is_empty());
        before.assert_restored("an orphan");
    });
}
