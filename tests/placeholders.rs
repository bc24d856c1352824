//! Several runs in one workspace share what stands in for its missing protected paths: it lasts as long as the last of
//! them, and then nothing is left but what the host has put there.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::leaks::{Census, eventually};
use common::machine::alone;
use common::stockade::{Running, directory, field, output, run, shell, text, told};

/// Tells whether each protected path can be made whenever it is asked to, until it is told to end.
const AGENT: &str = "echo up
while read word; do
    [ $word = try ] || exit 7
    bad=
    for path in .envrc .mcp.json .vscode/tasks.json .git/hooks/pre-commit .git/config .claude/settings.json; do
        mkdir -p ${path%/*} 2>/dev/null
        (echo planted >$path) 2>/dev/null && bad=\"$bad $path\"
    done
    rmdir .vscode .claude 2>/dev/null && bad=\"$bad directories\"
    mv .git .gone 2>/dev/null && bad=\"$bad moved\"
    echo \"refused$bad\"
done";

struct Agent(Running);

impl Agent {
    fn start(workspace: &Path) -> Self {
        let mut command = run(&["--policy", "base", "--workspace", text(workspace), "--", "sh", "-c", AGENT]);
        Self(Running::start(command.stdin(std::process::Stdio::piped())))
    }

    fn say(&mut self, word: &str) {
        use std::io::Write;
        writeln!(self.0.child.stdin.as_mut().expect("piped"), "{word}").expect("it listens");
    }

    fn assert_fenced(&mut self) {
        self.say("try");
        self.0.expect("refused\n");
    }

    fn end(&mut self) {
        self.say("end");
        assert_eq!(self.0.wait().code(), Some(7));
    }
}

#[test]
fn protection_lasts_until_the_last_run_in_a_workspace_ends() {
    alone("protection_lasts_until_the_last_run_in_a_workspace_ends", || {
        let workspace = directory();
        let before = Census::take(&[workspace.path()]);
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
            for by_kill in [false, true] {
                let mut agents: Vec<Agent> = (0..3).map(|_| Agent::start(workspace.path())).collect();
                for (ended, &next) in order.iter().enumerate() {
                    order[ended..].iter().for_each(|&agent| agents[agent].assert_fenced());
                    if by_kill {
                        agents[next].0.signal(libc::SIGKILL);
                        agents[next].0.wait();
                    } else {
                        agents[next].end();
                    }
                }
                before.assert_restored(&format!("{order:?}, killed: {by_kill}"));
            }
        }
    });
}

#[test]
fn nothing_is_left_in_a_workspace_of_somebody_else_where_only_owners_may_remove() {
    let workspace = directory();
    std::os::unix::fs::chown(workspace.path(), Some(12345), Some(12345)).expect("chown");
    fs::set_permissions(workspace.path(), fs::Permissions::from_mode(0o1777)).expect("chmod");
    let ended = output(&mut shell(&["--workspace", text(workspace.path())], "ls -d .envrc"));
    assert!(ended.status.success(), "{}", told(&ended));
    let left: Vec<_> = fs::read_dir(workspace.path()).expect("listed").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_the_host_puts_in_a_placeholder_stays() {
    alone("what_the_host_puts_in_a_placeholder_stays", || {
        let workspace = directory();
        let mut agent = Agent::start(workspace.path());
        let tasks = workspace.path().join(".vscode/tasks.json");
        eventually("the place of .vscode is held", || workspace.path().join(".vscode").is_dir());
        fs::write(&tasks, "the host's").expect("the host may");
        let envrc = workspace.path().join(".envrc");
        fs::remove_file(&envrc).expect("the host may");
        fs::write(&envrc, "").expect("the host may");
        agent.end();
        assert_eq!(fs::read_to_string(&tasks).expect("it stays"), "the host's");
        assert_eq!(fs::read_to_string(&envrc).expect("it stays, though it is empty"), "");
        let left: Vec<_> =
            fs::read_dir(workspace.path()).expect("dir").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    });
}

#[test]
fn runs_that_start_and_end_at_once_neither_fail_nor_leave_anything() {
    alone("runs_that_start_and_end_at_once_neither_fail_nor_leave_anything", || {
        let workspace = directory();
        let before = Census::take(&[workspace.path()]);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..15 {
                        let arguments =
                            ["--workspace", text(workspace.path()), "--", "sh", "-c", "! echo x >.envrc"];
                        let output = output(&mut run(&arguments));
                        assert!(output.status.success(), "{}", told(&output));
                    }
                });
            }
        });
        before.assert_restored("runs that start and end at once");
    });
}

#[test]
fn what_run_and_keeper_left_when_both_were_killed_goes_with_the_next_run_anywhere() {
    alone("what_run_and_keeper_left_when_both_were_killed_goes_with_the_next_run_anywhere", || {
        let workspace = directory();
        let mut agent = Agent::start(workspace.path());
        eventually("the place of .vscode is held", || workspace.path().join(".vscode").is_dir());
        let (keeper, _) = agent.0.keeper_and_init();
        // Stopped first, so that it cannot do its work between the two.
        common::stockade::kill(keeper, libc::SIGSTOP);
        common::stockade::kill(agent.0.pid(), libc::SIGKILL);
        common::stockade::kill(keeper, libc::SIGKILL);
        agent.0.wait();
        eventually("the keeper is gone, too", || field(keeper, "State").is_empty());
        let ledgers = || {
            let found = fs::read_dir("/run/stockade").map(|entries| entries.flatten().count());
            found.unwrap_or_default()
        };
        assert!(ledgers() > 0, "nothing was left, so nothing is shown");

        // Not in that workspace.
        let status = output(&mut run(&["--", "true"])).status;
        assert!(status.success());

        assert_eq!(fs::read_dir(workspace.path()).expect("dir").count(), 0);
        assert_eq!(ledgers(), 0);
    });
}
