//! What earlier agents, and the caller's surroundings, can do to a start: real runs on this host.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::leaks::Census;
use common::machine::alone;
use common::stockade::{STOCKADE, directory, output, run, shell, text, told};

const REFUSED: i32 = 77;
const FAILED: i32 = 125;

/// A directory, canonical, and a workspace in it.
fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = directory();
    let root = fs::canonicalize(directory.path()).expect("canonical");
    let workspace = root.join("workspace");
    fs::create_dir(&workspace).expect("a directory");
    (directory, root, workspace)
}

fn git(directory: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=a", "-c", "user.email=a@b.example", "-C", text(directory)])
        .args(arguments);
    let output = command.output().expect("git starts");
    assert!(output.status.success(), "{arguments:?}: {}", told(&output));
}

fn base(workspace: &Path, options: &[&str], script: &str) -> Output {
    let mut command = run(&["--policy", "base", "--workspace", text(workspace)]);
    output(command.args(options).args(["--", "sh", "-c", script]))
}

#[test]
fn a_home_is_no_way_round_the_fences_of_a_workspace() {
    let (_keep, root, workspace) = place();
    git(&workspace, &["init", "-q"]);
    for home in [&root, &workspace, &workspace.join(".git"), &workspace.join(".git/hooks")] {
        let ended = base(&workspace, &["--home", text(home)], "find ~ -name hooks -exec touch {}/evil \\;");
        assert_eq!(ended.status.code(), Some(REFUSED), "{home:?}: {}", told(&ended));
        assert!(!workspace.join(".git/hooks/evil").exists(), "{home:?}");
    }
    let beside = workspace.join("home");
    fs::create_dir(&beside).expect("a directory");
    let ended = base(&workspace, &["--home", text(&beside)], "echo kept > ~/file");
    assert!(ended.status.success() && beside.join("file").exists(), "{}", told(&ended));
}

#[test]
fn what_a_worktree_takes_its_repository_from_is_held_and_it_can_be_worked_in() {
    let (_keep, root, workspace) = place();
    let (mine, other) = (root.join("mine"), root.join("other"));
    git(&workspace, &["init", "-q"]);
    git(&workspace, &["commit", "-q", "--allow-empty", "-m", "first"]);
    git(&workspace, &["worktree", "add", "-q", text(&mine)]);
    git(&workspace, &["worktree", "add", "-q", text(&other)]);
    let worktrees = workspace.join(".git/worktrees");
    let script = format!(
        "cd {0}; for w in mine other; do for f in commondir config.worktree gitdir; do echo /evil > $w/$f; done; done; \
         mv mine yours; mkdir new; cd {1}; touch file; git add file && \
         git -c user.name=a -c user.email=a@b.example commit -q -m second",
        worktrees.display(),
        mine.display()
    );
    let ended = base(&mine, &[], &script);
    assert!(ended.status.success(), "{}", told(&ended));
    for worktree in ["mine", "other"] {
        let says = fs::read_to_string(worktrees.join(worktree).join("commondir")).expect("it is there");
        assert_eq!(says, "../..\n", "{worktree}");
        assert!(!worktrees.join(worktree).join("config.worktree").exists(), "{worktree}");
    }
    assert!(!worktrees.join("new").exists() && !worktrees.join("yours").exists());
    // Nor from the repository's own directory.
    let ended = base(&workspace, &[], "echo /evil > .git/worktrees/other/commondir");
    assert!(!ended.status.success());
    assert_eq!(fs::read_to_string(worktrees.join("other/commondir")).expect("it is there"), "../..\n");
}

#[test]
fn a_report_follows_no_link_and_opens_no_pipe_that_an_agent_planted() {
    let (_keep, root, workspace) = place();
    let victim = root.join("victim");
    fs::write(&victim, "precious").expect("a file");
    symlink(&victim, workspace.join("link")).expect("a link");
    symlink(root.join("new"), workspace.join("dangling")).expect("a link");
    symlink(&root, workspace.join("directory")).expect("a link");
    symlink(&workspace, root.join("alias")).expect("a link");
    symlink(workspace.join("link"), root.join("through")).expect("a link");
    fs::hard_link(&victim, workspace.join("hard")).expect("a link");
    let pipe = workspace.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .expect("a pipe");
    for planted in [
        "workspace/link",
        "workspace/dangling",
        "workspace/directory/victim",
        "alias/link",
        "through",
        "workspace/hard",
        "workspace/pipe",
    ] {
        let ended = base(&workspace, &["--report", text(&root.join(planted))], "true");
        assert_eq!(ended.status.code(), Some(FAILED), "{planted}: {}", told(&ended));
        assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious", "{planted}");
        assert!(!root.join("new").exists(), "{planted}");
    }
}

#[test]
fn a_report_in_the_workspace_is_stockades_or_the_run_says_so() {
    let (_keep, _root, workspace) = place();
    let report = workspace.join("report.json");
    let ended = base(&workspace, &["--report", text(&report)], "echo forged >> report.json");
    let written = fs::read_to_string(&report).expect("a report");
    assert!(written.starts_with('{') && !written.contains("forged"), "{}: {written}", told(&ended));
    let ended = base(&workspace, &["--report", text(&report)], "rm report.json; echo forged > report.json");
    assert_eq!(ended.status.code(), Some(FAILED), "{}", told(&ended));
    assert!(told(&ended).contains("replaced"), "{}", told(&ended));
}

#[test]
fn an_agent_cannot_write_the_policy_it_is_started_with() {
    let (_keep, root, workspace) = place();
    let policy = workspace.join("settings/site.toml");
    fs::create_dir(workspace.join("settings")).expect("a directory");
    fs::write(&policy, "extends = \"base\"\n").expect("a policy");
    let script = "cd settings; echo evil >> site.toml; rm site.toml; cd ..; mv settings other; echo evil > settings/site.toml";
    let mut command = run(&["--policy", text(&policy), "--workspace", text(&workspace)]);
    let ended = output(command.args(["--", "sh", "-c", script]));
    assert_ne!(ended.status.code(), Some(FAILED), "{}", told(&ended));
    assert_eq!(fs::read_to_string(&policy).expect("it is there"), "extends = \"base\"\n");
    let mut command = run(&["--policy", text(&policy), "--home", text(&root), "--", "true"]);
    assert_eq!(output(&mut command).status.code(), Some(REFUSED));
}

#[test]
fn a_git_file_that_never_ends_does_not_stop_a_start() {
    let (_keep, _root, workspace) = place();
    let pointer = workspace.join(".git");
    fs::File::create(&pointer).expect("a file").set_len(1 << 40).expect("a sparse file");
    let ended = output(&mut shell(&["--workspace", text(&workspace)], "echo works"));
    assert_eq!(ended.stdout, b"works\n", "{}", told(&ended));
}

#[test]
fn a_workspace_may_have_a_name_that_is_no_text() {
    let (_keep, root, _) = place();
    let workspace = root.join(OsStr::from_bytes(b"caf\xe9 \\ $(x)"));
    fs::create_dir(&workspace).expect("a directory");
    let mut command = run(&["--policy", "base", "--workspace"]);
    let ended = output(command.arg(&workspace).args(["--", "sh", "-c", "echo kept > file"]));
    assert!(ended.status.success(), "{}", told(&ended));
    assert!(workspace.join("file").exists());
}

#[test]
fn limits_that_the_caller_has_already_do_not_stop_a_start() {
    for limit in ["-c 0", "-n 256", "-l 1", "-q 1000"] {
        let script =
            format!("ulimit -S {limit}; ulimit -H {limit}; exec {STOCKADE} run -- sh -c 'ulimit -n'");
        let ended = Command::new("bash").args(["-c", &script]).output().expect("bash starts");
        assert!(ended.status.success(), "{limit}: {}", told(&ended));
    }
}

#[test]
fn an_agent_inherits_no_advantage_in_scheduling() {
    let script =
        "read -r _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ nice _ < /proc/self/stat; echo $nice; chrt -p $$";
    for wrapper in [&["nice", "-n", "-5"][..], &["chrt", "-f", "10"], &["chrt", "-r", "1"]] {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).args([STOCKADE, "run", "--", "sh", "-c", script]);
        let ended = output(&mut command);
        let shown = String::from_utf8_lossy(&ended.stdout);
        assert!(
            !shown.starts_with('-') && shown.contains("SCHED_OTHER"),
            "{wrapper:?}: {shown} {}",
            told(&ended)
        );
    }
    let ended = output(Command::new("nice").args(["-n", "19", STOCKADE, "run", "--", "sh", "-c", script]));
    let nice = String::from_utf8_lossy(&ended.stdout).lines().next().and_then(|nice| nice.parse().ok());
    assert!(nice.is_some_and(|nice: i32| nice >= 7), "a disadvantage stays: {nice:?} {}", told(&ended));
}

#[test]
fn an_agent_may_use_exactly_the_cpus_that_its_caller_may() {
    let script = "grep Cpus_allowed_list: /proc/self/status";
    let outside = output(Command::new("sh").args(["-c", script]));
    let inside = output(Command::new(STOCKADE).args(["run", "--", "sh", "-c", script]));
    assert_eq!(String::from_utf8_lossy(&inside.stdout), String::from_utf8_lossy(&outside.stdout));

    let pinned = output(Command::new("taskset").args(["-c", "0", STOCKADE, "run", "--", "sh", "-c", script]));
    assert_eq!(String::from_utf8_lossy(&pinned.stdout), "Cpus_allowed_list:\t0\n", "{}", told(&pinned));
}

#[test]
fn low_ports_can_be_bound_only_where_the_policy_keeps_net_bind_service() {
    let directory = directory();
    let policy = directory.path().join("low.toml");
    let text = "extends = 'shell'\ndescription = 'low ports'\n[capabilities]\nkeep = ['net-bind-service']\n";
    fs::write(&policy, text).expect("written");
    let script =
        "import socket as s; a = s.create_server(('127.0.0.1', 80)); s.create_connection(a.getsockname())";
    for (policy, code) in [(policy.as_os_str(), 0), ("shell".as_ref(), 1)] {
        let mut command = Command::new(STOCKADE);
        command.args(["run", "--policy"]).arg(policy).args(["--", "/usr/bin/python3", "-c", script]);
        let ended = output(&mut command);
        assert_eq!(ended.status.code(), Some(code), "{policy:?}: {}", told(&ended));
    }
}

#[test]
fn a_caller_that_ignores_the_end_of_its_children_gets_the_exit_code_all_the_same() {
    let script = format!("trap '' CHLD; exec {STOCKADE} run -- sh -c 'exit 42'");
    let ended = output(Command::new("bash").args(["-c", &script]));
    assert_eq!(ended.status.code(), Some(42), "{}", told(&ended));
}

#[test]
fn the_configuration_inside_is_roots_and_nobody_changes_it() {
    let script = "stat -c '%U:%G %a' /etc /etc/passwd /etc/ld.so.cache; readlink /etc/localtime; cksum < /etc/ld.so.cache; \
                  for deed in 'touch /etc/new' 'rm -f /etc/passwd' 'ln -s x /etc/link' 'chmod 666 /etc/group' 'mv /etc/hosts /etc/h'; \
                  do sh -c \"$deed\" 2>/dev/null && echo \"done: $deed\"; done; exit 0";
    let ended = output(run(&["--policy", "shell"]).args(["--", "sh", "-c", script]));
    let host = output(Command::new("sh").args(["-c", "readlink /etc/localtime; cksum < /etc/ld.so.cache"]));
    let wanted =
        format!("root:root 755\nroot:root 444\nroot:root 444\n{}", String::from_utf8_lossy(&host.stdout));
    assert_eq!(String::from_utf8_lossy(&ended.stdout), wanted, "{}", told(&ended));
}

#[test]
fn files_deep_in_the_configuration_are_shown_beside_and_below_what_is_mounted_there() {
    let (_keep, root, _) = place();
    let policy = root.join("deep.toml");
    let shown = ["/etc/ssl", "/etc/ssl/openssl.cnf", "/etc/security/limits.conf", "/etc/security/limits.d"];
    fs::write(&policy, format!("extends = \"shell\"\n[filesystem]\nread-only = {shown:?}\n"))
        .expect("a policy");
    let script = "cksum /etc/ssl/openssl.cnf /etc/security/limits.conf; ls -d /etc/security/*";
    let ended = output(run(&["--policy", text(&policy)]).args(["--", "sh", "-c", script]));
    let host =
        output(Command::new("sh").args(["-c", "cksum /etc/ssl/openssl.cnf /etc/security/limits.conf"]));
    let wanted = format!(
        "{}/etc/security/limits.conf\n/etc/security/limits.d\n",
        String::from_utf8_lossy(&host.stdout)
    );
    assert_eq!(String::from_utf8_lossy(&ended.stdout), wanted, "{}", told(&ended));
}

/// Of each program header (elf(5)) its type.
fn segments(program: &str) -> Vec<u32> {
    let bytes = fs::read(program).expect("a program");
    let number = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (first, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).map(|n| number(first + n * size, 4) as u32).collect()
}

#[test]
fn no_library_of_the_caller_is_loaded_into_a_program_that_runs_as_root() {
    const INTERPRETER: u32 = 3; // PT_INTERP
    let segments_of_ours = segments(STOCKADE);
    assert!(!segments_of_ours.is_empty() && !segments_of_ours.contains(&INTERPRETER), "it asks for a loader");
    // Nor at run time: glibc's modules for names of users and hosts.
    let bytes = fs::read(STOCKADE).expect("a program");
    assert!(!bytes.windows(7).any(|word| word == b"libnss_"), "it would load modules of glibc");
    assert!(segments("/bin/true").contains(&INTERPRETER), "so that this would be seen");
    let (_keep, root, _) = place();
    let (source, library, mark) = (root.join("evil.c"), root.join("evil.so"), root.join("mark"));
    let text_of = format!(
        "#include <fcntl.h>\n__attribute__((constructor)) void f(void) {{ open(\"{}\", O_CREAT, 0600); }}\n",
        mark.display()
    );
    fs::write(&source, text_of).expect("a source");
    let compiled = output(Command::new("cc").args(["-shared", "-fPIC", "-o", text(&library), text(&source)]));
    assert!(compiled.status.success(), "{}", told(&compiled));
    let preloaded = |program: &str, arguments: &[&str]| {
        let _ = fs::remove_file(&mark);
        let ended = output(Command::new(program).args(arguments).env("LD_PRELOAD", &library));
        assert!(ended.status.success(), "{}", told(&ended));
        mark.exists()
    };
    assert!(preloaded("/bin/true", &[]), "the way is open to who asks for a loader");
    assert!(!preloaded(STOCKADE, &["run", "--policy", "shell", "--", "true"]));
}

#[test]
fn a_file_of_a_writable_directory_in_the_configuration_stays_read_only_where_the_policy_says_so() {
    alone(
        "a_file_of_a_writable_directory_in_the_configuration_stays_read_only_where_the_policy_says_so",
        || {
            // An /etc of the test's own, on a disk that knows idmapped mounts.
            let (_keep, root, _) = place();
            let script = "cp -a /etc \"$0\"/etc && mount --bind \"$0\"/etc /etc && mkdir /etc/app";
            let made = output(Command::new("sh").args(["-c", script, text(&root)]));
            assert!(made.status.success(), "{}", told(&made));
            let policy = root.join("app.toml");
            for file in ["secret.conf", "other.conf"] {
                fs::write(Path::new("/etc/app").join(file), "host's\n").expect("a file");
            }
            let lists = "read-write = [\"/etc/app\"]\nread-only = [\"/etc/app/secret.conf\"]\n";
            fs::write(&policy, format!("extends = \"shell\"\n[filesystem]\n{lists}")).expect("a policy");
            let script = "cd /etc/app; echo agent > other.conf; echo agent > secret.conf; rm -f secret.conf; mv secret.conf x; cat secret.conf";
            let ended = output(run(&["--policy", text(&policy)]).args(["--", "sh", "-c", script]));
            assert_eq!(String::from_utf8_lossy(&ended.stdout), "host's\n", "{}", told(&ended));
            assert_eq!(
                fs::read_to_string("/etc/app/other.conf").expect("it is there"),
                "agent\n",
                "the way is open"
            );
            assert_eq!(fs::read_to_string("/etc/app/secret.conf").expect("it is there"), "host's\n");
        },
    );
}

#[test]
fn what_was_begun_before_the_arguments_were_read_is_over_when_they_are_refused() {
    alone("what_was_begun_before_the_arguments_were_read_is_over_when_they_are_refused", || {
        let before = Census::take(&[]);
        for (arguments, code) in [
            (&["--help"][..], 0),
            (&["--polcy", "x"], FAILED),
            (&["--policy", "no-such-policy", "--", "true"], FAILED),
            (&["--cpus", "many"], FAILED),
        ] {
            let ended = output(&mut run(arguments));
            assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {}", told(&ended));
            before.assert_restored("a start that was refused");
        }
    });
}

#[test]
fn a_caller_who_ends_takes_along_a_run_that_is_tied_to_it() {
    alone("a_caller_who_ends_takes_along_a_run_that_is_tied_to_it", || {
        let before = Census::take(&[]);
        let script = "setpriv --pdeathsig KILL -- \"$STOCKADE\" run --policy shell -- sh -c 'echo up; sleep 1000' & read _; kill -9 $$";
        let mut caller = Command::new("bash");
        caller.args(["-c", script]).env("STOCKADE", STOCKADE).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut caller = caller.spawn().expect("bash starts");
        let mut up = [0; 3];
        caller.stdout.take().expect("piped").read_exact(&mut up).expect("it says that it is up");
        caller.stdin.take().expect("piped").write_all(b"\n").expect("told to end");
        caller.wait().expect("it ends");
        before.assert_restored("a run whose caller was killed");
    });
}
