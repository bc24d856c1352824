//! Attacks on the start itself: what lies in the workspace, in the environment and in the arguments before anything runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use sandbox_tests::kernel::{call, text};
use sandbox_tests::runner::stockade::{self, contents, directory};
use sandbox_tests::runner::{belt, leak, workspace};

/// A directory that belongs to somebody else.
fn victim() -> std::path::PathBuf {
    let victim = directory("victim");
    workspace::repository(&victim.join(".git")).expect("a repository");
    fs::write(victim.join("settings.json"), "{}").expect("a file");
    victim
}

/// `stockade run --policy base --workspace WORKSPACE -- /bin/sh -c SCRIPT`
fn arguments<'a>(workspace: &'a Path, script: &'a str) -> [&'a str; 8] {
    let workspace = workspace.to_str().expect("a plain path");
    ["--policy", "base", "--workspace", workspace, "--", "/bin/sh", "-c", script]
}

#[test]
fn an_ordinary_workspace_can_be_written_and_nothing_is_left_of_the_run() {
    belt::inside("an_ordinary_workspace_can_be_written_and_nothing_is_left_of_the_run", || {
        let workspace = directory("workspace");
        let run = leak::none_after(|| stockade::run(arguments(&workspace, "echo made > file")));
        assert_eq!(run.code(), 0, "{run:?}");
        assert_eq!(contents(&workspace).len(), 1, "placeholders stayed: {:?}", contents(&workspace));
    });
}

#[test]
fn a_protected_path_that_is_a_link_is_not_followed() {
    belt::inside("a_protected_path_that_is_a_link_is_not_followed", || {
        let victim = victim();
        let before = contents(&victim);
        for name in [".git", ".vscode", ".claude", ".envrc", ".git/hooks"] {
            let workspace = directory("workspace");
            let link = workspace.join(name);
            fs::create_dir_all(link.parent().expect("below the workspace")).expect("a directory");
            symlink(&victim, &link).expect("a link");
            let script = format!(
                "echo evil > {name}/config; echo evil > {name}/settings.json; echo evil > {name}/new; true"
            );
            let run = leak::none_after(|| stockade::run(arguments(&workspace, &script)));
            assert!([0, stockade::REFUSED, stockade::FAILED].contains(&run.code()), "{name}: {run:?}");
            assert_eq!(contents(&victim), before, "{name}: {run:?}");
        }
    });
}

#[test]
fn a_parent_swapped_for_a_link_during_the_start_leads_nowhere() {
    belt::inside("a_parent_swapped_for_a_link_during_the_start_leads_nowhere", || {
        let (victim, workspace) = (victim(), directory("workspace"));
        let before = contents(&victim);
        fs::create_dir(workspace.join(".claude")).expect("a directory");
        symlink(&victim, workspace.join("other")).expect("a link");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, two) = (workspace.join(".claude"), workspace.join("other"));
                while !stop.load(Ordering::Relaxed) {
                    exchange(&one, &two);
                }
            });
            // Dropped by a failed assertion too: the scope waits for its thread.
            let _stop = Stop(&stop);
            for _ in 0..60 {
                let run = stockade::run(arguments(&workspace, "echo evil > .claude/settings.json; true"));
                assert!([0, stockade::REFUSED, stockade::FAILED].contains(&run.code()), "{run:?}");
            }
        });
        assert_eq!(contents(&victim), before);
    });
}

/// Ends a loop in another thread.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Swaps two names in one step, so that neither is ever missing.
fn exchange(one: &Path, two: &Path) {
    let [one, two] = [one, two].map(|path| text(&path.to_string_lossy()));
    let here = libc::AT_FDCWD as usize;
    let arguments =
        [here, one.as_ptr() as usize, here, two.as_ptr() as usize, libc::RENAME_EXCHANGE as usize];
    let _ = call(libc::SYS_renameat2, &arguments);
}

#[test]
fn a_git_file_does_not_open_a_repository_that_does_not_know_it() {
    belt::inside("a_git_file_does_not_open_a_repository_that_does_not_know_it", || {
        let (victim, workspace) = (victim(), directory("workspace"));
        let git = victim.join(".git");
        let entry = git.join("worktrees/theirs");
        fs::create_dir_all(&entry).expect("a directory");
        fs::write(entry.join("gitdir"), "/srv/belt/theirs/.git\n").expect("a file");
        fs::write(entry.join("commondir"), "../..\n").expect("a file");
        let before = contents(&victim);
        for target in [&git, &entry, Path::new("/etc"), Path::new("/srv/belt")] {
            fs::write(workspace.join(".git"), format!("gitdir: {}\n", target.display())).expect("a file");
            let script =
                format!("cat {0}/config {0}/HEAD /etc/shadow; echo evil > {0}/config; true", git.display());
            let run = leak::none_after(|| stockade::run(arguments(&workspace, &script)));
            assert!(
                !run.stdout.contains("bare") && !run.stdout.contains("refs/heads"),
                "{target:?}: {run:?}"
            );
            assert_eq!(contents(&victim), before, "{target:?}: {run:?}");
        }
    });
}

#[test]
fn a_workspace_given_by_a_link_shows_what_the_link_leads_to_and_nothing_else() {
    belt::inside("a_workspace_given_by_a_link_shows_what_the_link_leads_to_and_nothing_else", || {
        let (victim, real) = (victim(), directory("real"));
        let before = contents(&victim);
        let link = Path::new("/srv/belt/link");
        symlink(&real, link).expect("a link");
        let run = leak::none_after(|| {
            stockade::run(arguments(link, "echo made > file; echo evil > ../victim/new; true"))
        });
        assert!([0, stockade::REFUSED, stockade::FAILED].contains(&run.code()), "{run:?}");
        assert_eq!(contents(&victim), before, "{run:?}");
    });
}

#[test]
fn directories_that_are_the_machine_are_no_workspace() {
    belt::inside("directories_that_are_the_machine_are_no_workspace", || {
        for path in ["/", "/proc", "/sys", "/dev", "/etc", "/run", "/proc/self/root", "/sys/fs/cgroup"] {
            let run = leak::none_after(|| stockade::run(arguments(Path::new(path), "echo the command ran")));
            assert_eq!(run.stdout, "", "{path} was shown: {run:?}");
            run.assert_refused(&[path, "workspace", "directory of the system"]);
        }
    });
}

#[test]
fn no_program_of_a_hostile_path_is_executed() {
    belt::inside("no_program_of_a_hostile_path_is_executed", || {
        let (hostile, workspace) = (directory("hostile"), directory("workspace"));
        let names = [
            "mount",
            "umount",
            "ip",
            "newuidmap",
            "newgidmap",
            "modprobe",
            "nft",
            "git",
            "sh",
            "id",
            "getent",
            "true",
        ];
        for name in names {
            fs::write(hostile.join(name), "#!/bin/sh\n: > /srv/belt/ran\n").expect("a file");
            make_executable(&hostile.join(name));
        }
        let mut command = stockade::command(arguments(&workspace, "true"));
        command.env("PATH", format!("{}:/usr/bin:/bin", hostile.display())).current_dir(&hostile);
        let run = leak::none_after(|| stockade::finish(&mut command));
        assert_eq!(run.code(), 0, "{run:?}");
        assert!(!Path::new("/srv/belt/ran").exists(), "a program of the hostile PATH ran");
    });
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

#[test]
fn the_callers_environment_stays_outside() {
    belt::inside("the_callers_environment_stays_outside", || {
        let workspace = directory("workspace");
        let mut command = stockade::command(arguments(&workspace, "env"));
        let secrets = [
            "AWS_SECRET_ACCESS_KEY",
            "SSH_AUTH_SOCK",
            "GITHUB_TOKEN",
            "DBUS_SESSION_BUS_ADDRESS",
            "BASH_ENV",
            "ENV",
        ];
        command.envs(secrets.map(|name| (name, "s3cret")));
        let run = leak::none_after(|| stockade::finish(&mut command));
        assert_eq!(run.code(), 0, "{run:?}");
        assert!(run.stdout.contains("HOME="), "{run:?}");
        assert!(!run.stdout.contains("s3cret"), "{run:?}");
    });
}

#[test]
fn a_variable_whose_name_is_none_is_refused() {
    belt::inside("a_variable_whose_name_is_none_is_refused", || {
        for variable in [
            "=x",
            "A B=1",
            "A;B=1",
            "A\nB=1",
            "-A=1",
            "NOVALUE",
            "A\u{1b}[31m=1",
            "../A=1",
            "BASH_FUNC_ls%%=() { id; }",
        ] {
            let run = leak::none_after(|| {
                stockade::run(["--policy", "base", "--env", variable, "--", "/bin/echo", "the command ran"])
            });
            assert_ne!(run.code(), 0, "{variable:?} was accepted");
            assert_eq!(run.stdout, "", "{variable:?}: {run:?}");
            assert!(!run.stderr.contains('\u{1b}'), "{variable:?} reached the terminal as it is");
        }
    });
}

#[test]
fn a_directory_as_standard_input_is_refused() {
    belt::inside("a_directory_as_standard_input_is_refused", || {
        let workspace = directory("workspace");
        // `start::run` sets standard input, so the directory takes its place just before exec.
        let mut command =
            stockade::command(arguments(&workspace, "ls -l /proc/self/fd/0/; echo the command ran"));
        let root = File::open("/").expect("a directory");
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&root);
        // SAFETY: dup2 is async-signal-safe, and `root` outlives the start.
        unsafe {
            command.pre_exec(move || {
                if libc::dup2(descriptor, 0) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            })
        };
        let run = leak::none_after(|| stockade::finish(&mut command));
        assert_eq!(run.stdout, "", "{run:?}");
        run.assert_refused(&["standard input", "stdin", "descriptor 0", "directory"]);
    });
}

#[test]
fn a_host_whose_dev_null_was_replaced_hides_as_much() {
    belt::inside("a_host_whose_dev_null_was_replaced_hides_as_much", || {
        let (victim, workspace) = (victim(), directory("workspace"));
        let target = victim.join("settings.json");
        fs::remove_file("/dev/null").expect("the belt's own /dev");
        symlink(&target, "/dev/null").expect("a link");
        let before = contents(&victim);
        let script = "cat /proc/timer_list /proc/keys /proc/interrupts 2>/dev/null; cat /dev/null; echo evil > /dev/null; true";
        let mut command = stockade::command(arguments(&workspace, script));
        command.stdin(Stdio::piped());
        let run = leak::none_after(|| stockade::finish_as_is(&mut command));
        assert!([0, stockade::REFUSED, stockade::FAILED].contains(&run.code()), "{run:?}");
        assert_eq!(run.stdout, "", "{run:?}");
        assert_eq!(contents(&victim), before);
    });
}

#[test]
fn a_working_directory_that_is_gone_is_no_way_out() {
    belt::inside("a_working_directory_that_is_gone_is_no_way_out", || {
        let (gone, workspace) = (directory("gone"), directory("workspace"));
        let mut command = stockade::command(arguments(&workspace, "pwd; ls -a .."));
        command.current_dir(&gone);
        // SAFETY: rmdir is async-signal-safe; it runs in the child, which stands in that directory.
        unsafe {
            command.pre_exec(|| {
                if libc::rmdir(c"/srv/belt/gone".as_ptr()) < 0 {
                    Err(std::io::Error::last_os_error())
                } else {
                    Ok(())
                }
            })
        };
        let run = leak::none_after(|| stockade::finish(&mut command));
        assert!([0, stockade::REFUSED, stockade::FAILED].contains(&run.code()), "{run:?}");
        assert!(!run.stdout.contains("unreachable") && !run.stdout.contains("secret"), "{run:?}");
    });
}

#[test]
fn a_limit_that_would_mean_unlimited_starts_nothing() {
    belt::inside("a_limit_that_would_mean_unlimited_starts_nothing", || {
        let limits = [
            ("--memory", "18014398509481984"),
            ("--memory", "-1"),
            ("--memory", "0"),
            ("--memory", "max"),
            ("--memory", "17592186044416M"),
            ("--memory", "18446744073709551616"),
            ("--cpus", "0"),
            ("--cpus", "inf"),
            ("--cpus", "NaN"),
            ("--cpus", "-1"),
            ("--processes", "0"),
            ("--processes", "-1"),
            ("--processes", "4294967296"),
        ];
        for (option, value) in limits {
            let run = leak::none_after(|| {
                stockade::run(["--policy", "base", option, value, "--", "/bin/echo", "the command ran"])
            });
            assert_ne!(run.code(), 0, "{option} {value} was accepted");
            assert_eq!(run.stdout, "", "{option} {value}: {run:?}");
        }
    });
}

#[test]
fn a_policy_name_cannot_climb() {
    belt::inside("a_policy_name_cannot_climb", || {
        directory("policies");
        fs::write("/srv/belt/open.toml", "extends = \"base\"\ndescription = \"x\"\nnetwrok = \"deny\"\n")
            .expect("a file");
        for name in [
            "../../srv/belt/open",
            "base;true",
            "base\nx",
            "",
            "-x",
            "%2e%2e/open",
            "/srv/belt/open.toml",
            "nosuch",
        ] {
            let option = format!("--policy={name}");
            let run =
                leak::none_after(|| stockade::run([option.as_str(), "--", "/bin/echo", "the command ran"]));
            assert_ne!(run.code(), 0, "{name:?} was accepted");
            assert_eq!(run.stdout, "", "{name:?}: {run:?}");
        }
    });
}

#[test]
fn an_agent_dies_with_the_run_that_is_killed() {
    belt::inside("an_agent_dies_with_the_run_that_is_killed", || {
        let workspace = directory("workspace");
        leak::none_after(|| {
            let mut command = stockade::command(arguments(&workspace, "echo started; exec sleep 600"));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().expect("stockade starts");
            let mut word = [0; 8];
            let mut stdout = child.stdout.take().expect("a pipe");
            std::io::Read::read_exact(&mut stdout, &mut word).expect("the agent has started");
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        });
    });
}

#[test]
fn sandboxes_that_run_at_once_have_no_uid_of_the_host_in_common() {
    belt::inside("sandboxes_that_run_at_once_have_no_uid_of_the_host_in_common", || {
        let workspace = directory("workspace");
        leak::none_after(|| {
            let mut running: Vec<_> = (0..3).map(|_| with_map(&workspace)).collect();
            running.sort_by_key(|(_, uids)| uids.start);
            let apart = running.windows(2).all(|pair| pair[0].1.end <= pair[1].1.start);
            let ranges: Vec<_> = running.iter().map(|(_, uids)| uids.clone()).collect();
            for (mut child, _) in running {
                child.kill().expect("our own child");
                child.wait().expect("our own child");
            }
            assert!(apart && ranges.iter().all(|uids| uids.start > 0 && !uids.is_empty()), "{ranges:?}");
        });
    });
}

/// A sandbox that goes on running, and the uids of the host that its own stand for (user_namespaces(7)).
fn with_map(workspace: &Path) -> (std::process::Child, std::ops::Range<u64>) {
    let mut command = stockade::command(arguments(workspace, "cat /proc/self/uid_map; exec sleep 600"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("stockade starts");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("the agent has started");
    let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let [_, first, count] = numbers[..] else { panic!("{line:?} is not a map of one line") };
    (child, first..first + count)
}
