//! Bad input and hostile surroundings: one clear line, the documented exit code, and nothing left behind.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::leaks::Census;
use common::machine::alone;
use common::stockade::{STOCKADE, directory, output, run, shell, text, told};

const FAILED: i32 = 125;
const REFUSED: i32 = 77;

/// Exactly one line, from Stockade, with each of these words in it.
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let told = told(output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    let is_one_line = told.ends_with('\n') && told.matches('\n').count() == 1;
    assert!(is_one_line && told.starts_with("stockade: "), "not one line of Stockade's: {told:?}");
    assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "control characters: {told:?}");
    for word in words {
        assert!(told.contains(word), "{word:?} is not in {told:?}");
    }
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
}

/// `stockade run ARGUMENTS`, which must be refused like that.
fn refuse(arguments: &[&str], code: i32, words: &[&str]) {
    let output = output(&mut run(arguments));
    assert_refused(&output, code, words);
}

/// Runs a script of the host in which `"$STOCKADE"` is the program: for surroundings that a process has to make first.
fn script(text: &str) -> Output {
    let mut command = Command::new("bash");
    command.args(["-ec", text]).env("STOCKADE", STOCKADE).stdin(Stdio::null());
    output(&mut command)
}

#[test]
fn words_that_make_no_sense_are_refused_in_one_line() {
    alone("words_that_make_no_sense_are_refused_in_one_line", || {
        let before = Census::take(&[]);
        let long = "x".repeat(100_000);
        for (arguments, words) in [
            (&["--policy", "nonesuch", "--", "true"][..], &["nonesuch"][..]),
            (&["--policy", "sheII", "--", "true"], &["sheII", "shell"]),
            (&["--policy", "cluade", "--", "true"], &["cluade", "claude"]),
            (&["--policy", "", "--", "true"], &[]),
            (&["--policy", "../../etc/passwd", "--", "true"], &["passwd"]),
            (&["--policy", "evil\x1b[31m\npolicy", "--", "true"], &[]),
            (&["--policy", &long, "--", "true"], &[]),
            (&["--workspace", "/nonexistent/place", "--", "true"], &["/nonexistent/place"]),
            (&["--workspace", "/etc/passwd", "--", "true"], &["/etc/passwd"]),
            (&["--workspace", "", "--", "true"], &["--workspace"]),
            (&["--home", "/nonexistent/place", "--", "true"], &["/nonexistent/place"]),
            (&["--memory", "0", "--", "true"], &["--memory"]),
            (&["--memory", "-1", "--", "true"], &[]),
            (&["--memory", "lots", "--", "true"], &["lots"]),
            (&["--memory", "18014398509481984", "--", "true"], &["memory"]),
            (&["--memory", "18446744073709551615", "--", "true"], &["memory"]),
            (&["--memory", "99999999999999999999", "--", "true"], &["memory"]),
            (&["--cpus", "0", "--", "true"], &["cpus"]),
            (&["--cpus", "nan", "--", "true"], &["cpus"]),
            (&["--cpus", "inf", "--", "true"], &["cpus"]),
            (&["--cpus", "-1", "--", "true"], &[]),
            (&["--cpus", "1e300", "--", "true"], &["cpus"]),
            (&["--processes", "0", "--", "true"], &["processes"]),
            (&["--processes", "-1", "--", "true"], &[]),
            (&["--processes", "4194305", "--", "true"], &["processes"]),
            (&["--env", "novalue", "--", "true"], &["novalue"]),
            (&["--env", "=x", "--", "true"], &["=x"]),
            (&["--env", "A B=x", "--", "true"], &["A B"]),
            (&["--env", "LD\nX=x", "--", "true"], &[]),
            (&["--report", "/nonexistent/report", "--", "true"], &["/nonexistent/report"]),
            (&["--report", "/", "--", "true"], &["report"]),
            (&["--nonesuch", "--", "true"], &["--nonesuch"]),
            (&["--memroy", "1G", "true"], &["--memroy"]),
        ] {
            refuse(arguments, FAILED, words);
        }
        before.assert_restored("refusals");
    });
}

#[test]
fn a_command_that_cannot_be_started_is_126_or_127() {
    alone("a_command_that_cannot_be_started_is_126_or_127", || {
        let before = Census::take(&[]);
        let long = "x".repeat(100_000);
        refuse(&["--", "/nonexistent/command"], 127, &["/nonexistent/command", "not found"]);
        refuse(&["--", "nonesuch"], 127, &["nonesuch", "not found"]);
        refuse(&["--", ""], 127, &["not found"]);
        refuse(&["--", "a\nb"], 127, &["not found"]);
        refuse(&["--", "\x1b]0;title\x07"], 127, &["not found"]);
        refuse(&["--", "/etc/ld.so.cache"], 126, &["/etc/ld.so.cache", "cannot be executed"]);
        refuse(&["--", "/usr"], 126, &["/usr"]);
        // The kernel's word (ENAMETOOLONG), and a name that does not fit into one message.
        let output = output(&mut run(&["--", &long]));
        assert!(matches!(output.status.code(), Some(126 | 127)), "{}", told(&output));
        assert!(told(&output).starts_with("stockade: ") && told(&output).matches('\n').count() == 1);
        before.assert_restored("commands that cannot be started");
    });
}

#[test]
fn arguments_arrive_as_they_were_given() {
    alone("arguments_arrive_as_they_were_given", || {
        let hostile = ["", " ", "\n", "a\nb", "$(id)", "`id`", "-c", "--", "\x1b[31m", "ü"];
        let output = output(run(&["--policy", "shell", "--", "printf", "%s\\0"]).args(hostile));
        let wanted: String = hostile.iter().map(|argument| format!("{argument}\0")).collect();
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted, "{}", told(&output));

        // Nearly all that execve(2) takes: 2 MiB of arguments in pieces of less than 128 KiB.
        let piece = "y".repeat(120_000);
        let mut command = run(&["--policy", "shell", "--", "sh", "-c", "echo $#", "sh"]);
        command.args(std::iter::repeat_n(&piece, 14));
        let output = common::stockade::output(&mut command);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "14\n", "{}", told(&output));
    });
}

#[test]
fn the_directories_of_the_system_are_nobodys_workspace() {
    alone("the_directories_of_the_system_are_nobodys_workspace", || {
        let before = Census::take(&[]);
        for place in ["/", "/etc", "/usr", "/proc", "/sys", "/dev", "/home", "/usr/../etc", "//"] {
            refuse(&["--workspace", place, "--", "true"], REFUSED, &["cannot be given to an agent"]);
            refuse(&["--home", place, "--", "true"], REFUSED, &["cannot be given to an agent"]);
        }
        let around = directory();
        symlink("/etc", around.path().join("innocent")).expect("symlink");
        let innocent = around.path().join("innocent");
        refuse(&["--workspace", text(&innocent), "--", "true"], REFUSED, &["cannot be given to an agent"]);
        before.assert_restored("refused workspaces");
    });
}

#[test]
fn a_policy_that_others_could_write_is_refused() {
    alone("a_policy_that_others_could_write_is_refused", || {
        let around = directory();
        let policy = around.path().join("mine.toml");
        let write = |content: &str, mode, owner| {
            fs::write(&policy, content).expect("written");
            fs::set_permissions(&policy, fs::Permissions::from_mode(mode)).expect("chmod");
            std::os::unix::fs::chown(&policy, Some(owner), Some(owner)).expect("chown");
        };
        let good = "extends = 'shell'\ndescription = 'test'\n";
        let policy_option = ["--policy", text(&policy), "--", "true"];
        write(good, 0o644, 0);
        let control = output(&mut run(&policy_option));
        assert!(control.status.success(), "{}", told(&control));

        write(good, 0o666, 0);
        refuse(&policy_option, REFUSED, &["mine.toml"]);
        write(good, 0o664, 0);
        refuse(&policy_option, REFUSED, &["mine.toml"]);
        write(good, 0o644, 1234);
        refuse(&policy_option, REFUSED, &["mine.toml"]);
        write("extends = 'shell'\ndescription = 'test'\n[limits]\nmemroy = '1G'\n", 0o644, 0);
        refuse(&policy_option, FAILED, &["memroy", "memory", "mine.toml"]);
        write("this is = = not toml", 0o644, 0);
        refuse(&policy_option, FAILED, &["mine.toml"]);
        write("\0\u{1b}[31m", 0o644, 0);
        refuse(&policy_option, FAILED, &["mine.toml"]);
        refuse(&["--policy", text(around.path()), "--", "true"], FAILED, &[]);
    });
}

#[test]
fn without_root_the_remedy_is_named() {
    alone("without_root_the_remedy_is_named", || {
        let before = Census::take(&[]);
        // The build's directory may be closed to others: a copy is not.
        let around = tempfile::tempdir_in("/tmp").expect("directory");
        fs::set_permissions(around.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let program = around.path().join("stockade");
        fs::copy(STOCKADE, &program).expect("copied");
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
        command.args(["run", "--policy", "base", "--", "true"]).stdin(Stdio::null()).current_dir("/");
        let output = output(&mut command);
        assert_refused(&output, REFUSED, &["root"]);
        drop(around);
        before.assert_restored("a start without root");
    });
}

#[test]
fn streams_may_be_missing_but_not_directories() {
    alone("streams_may_be_missing_but_not_directories", || {
        let before = Census::take(&[]);
        for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
            let output =
                script(&format!("\"$STOCKADE\" run --policy shell -- sh -c 'exit 42' {closed}; exit $?"));
            assert_eq!(output.status.code(), Some(42), "{closed}: {}", told(&output));
        }
        // The agent's first file must not become its standard input.
        let output = script("\"$STOCKADE\" run --policy shell -- sh -c 'readlink /proc/self/fd/0' <&-");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/dev/null\n", "{}", told(&output));
        assert_refused(&script("\"$STOCKADE\" run -- true </"), REFUSED, &["stdin", "directory"]);
        before.assert_restored("missing streams");
    });
}

#[test]
fn inherited_descriptors_do_not_reach_the_agent() {
    alone("inherited_descriptors_do_not_reach_the_agent", || {
        let output = script(
            "exec 3</etc/shadow 7</ 9>/tmp/file 200</proc/1/status
            ls -l /proc/self/fd/200 >/dev/null
            \"$STOCKADE\" run --policy shell -- sh -c 'cd /proc/self/fd; echo *'",
        );
        // The shell's own, and none of those above.
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        let above: Vec<&str> =
            seen.split_whitespace().filter(|fd| !["0", "1", "2", "3"].contains(fd)).collect();
        assert!(output.status.success() && above.is_empty(), "{seen} {}", told(&output));
        let output = script("exec 3</etc/shadow; \"$STOCKADE\" run --policy shell -- sh -c 'cat <&3'");
        assert!(!output.status.success() && output.stdout.is_empty());
    });
}

#[test]
fn a_home_that_cannot_execute_is_refused_where_the_policy_needs_it() {
    alone("a_home_that_cannot_execute_is_refused_where_the_policy_needs_it", || {
        let around = directory();
        let policy = around.path().join("mine.toml");
        fs::write(&policy, "extends = 'shell'\ndescription = 'x'\n[filesystem]\nhome-exec = true\n")
            .expect("written");
        let setup = format!(
            "mkdir /tmp/home; mount -t tmpfs -o noexec,mode=0700 t /tmp/home; \"$STOCKADE\" run --policy {}",
            text(&policy)
        );
        assert_refused(
            &script(&format!("{setup} --home /tmp/home -- true")),
            REFUSED,
            &["/tmp/home", "noexec"],
        );
    });
}

#[test]
fn home_may_be_unset_relative_or_missing() {
    alone("home_may_be_unset_relative_or_missing", || {
        for home in [None, Some("relative/home"), Some(""), Some("/nonexistent"), Some("/dev/null")] {
            let mut command = shell(&[], "echo $HOME");
            match home {
                None => command.env_remove("HOME"),
                Some(home) => command.env("HOME", home),
            };
            let output = output(&mut command);
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                "/home/agent\n",
                "{home:?}: {}",
                told(&output)
            );
        }
    });
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_half_made() {
    alone("a_full_disk_is_named_and_leaves_nothing_half_made", || {
        let before = Census::take(&[]);
        let full = "mount -t tmpfs -o size=4k,nr_inodes=8 t /mnt; trap 'umount /mnt' EXIT; ";
        // For the report: opened, but not written.
        let output = script(&format!(
            "{full} head -c 4096 /dev/zero >/mnt/fill; \"$STOCKADE\" run --report /mnt/report -- true; exit $?"
        ));
        assert_refused(&output, FAILED, &["/mnt/report", "No space left"]);
        // For the placeholders of a workspace: some are made before the inodes are used up.
        let output = script(&format!(
            "{full} code=0; \"$STOCKADE\" run --workspace /mnt -- true || code=$?; ls -A /mnt; exit $code"
        ));
        assert_refused(&output, FAILED, &["/mnt", "No space left"]);
        before.assert_restored("a full disk");
    });
}

#[test]
fn a_workspace_on_a_read_only_disk_is_named() {
    alone("a_workspace_on_a_read_only_disk_is_named", || {
        let before = Census::take(&[]);
        let output = script(
            "mount -t tmpfs t /mnt; mount -o remount,ro /mnt; trap 'umount /mnt' EXIT
            \"$STOCKADE\" run --workspace /mnt -- true; exit $?",
        );
        assert_refused(&output, FAILED, &["/mnt", "Read-only file system"]);
        before.assert_restored("a read-only workspace");
    });
}

#[test]
fn a_directory_that_is_gone_is_named() {
    alone("a_directory_that_is_gone_is_named", || {
        let output = script("mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone; \"$STOCKADE\" run -- true");
        assert_refused(&output, FAILED, &["current directory"]);
    });
}

#[test]
fn a_read_only_run_is_named() {
    alone("a_read_only_run_is_named", || {
        let output = script("mount -o remount,ro /run; \"$STOCKADE\" run -- true");
        assert_refused(&output, FAILED, &["/run/stockade-uid-ranges", "Read-only file system"]);
    });
}

#[test]
fn a_host_without_a_limit_is_refused_by_the_name_of_the_limit() {
    alone("a_host_without_a_limit_is_refused_by_the_name_of_the_limit", || {
        let hide = |controller: &str| {
            format!(
                "mounts=$(awk '$3 ~ /^cgroup/ && (\"{controller}\" == \"all\" || $4 ~ /(^|,){controller}(,|$)/ || $3 == \
                 \"cgroup2\" && !/unified/) {{ print $2 }}' /proc/self/mounts)
                [ \"$mounts\" ]; for m in $mounts; do umount -l $m; umount -l $m || :; done 2>/dev/null
                \"$STOCKADE\" run -- true"
            )
        };
        for (controller, shortfall) in [
            ("memory", "memory-limit"),
            ("cpu", "cpu-limit"),
            ("pids", "process-limit"),
            ("all", "memory-limit"),
        ] {
            // Each in mounts of its own.
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "bash", "-c", &hide(controller)])
                .env("STOCKADE", STOCKADE)
                .stdin(Stdio::null());
            assert_refused(&output(&mut command), REFUSED, &[shortfall]);
        }
    });
}

#[test]
fn a_host_without_a_free_range_of_uids_says_so() {
    alone("a_host_without_a_free_range_of_uids_says_so", || {
        use nix::fcntl::{FcntlArg, fcntl};
        let path = Path::new("/run/stockade-uid-ranges");
        let lock = fs::File::create(path).expect("made");
        let all = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 4096,
            l_pid: 0,
        };
        fcntl(&lock, FcntlArg::F_OFD_SETLK(&all)).expect("locked");
        refuse(&["--", "true"], FAILED, &["4096"]);
        assert!(path.exists(), "it is in use");
        drop(lock);
        let output = output(&mut run(&["--policy", "shell", "--", "true"]));
        assert!(output.status.success(), "{}", told(&output));
        assert!(!path.exists(), "the last one removes it");
    });
}

#[test]
fn where_everybody_can_write_to_run_the_lock_is_in_a_directory_of_roots() {
    alone("where_everybody_can_write_to_run_the_lock_is_in_a_directory_of_roots", || {
        fs::set_permissions("/run", fs::Permissions::from_mode(0o1777)).expect("chmod");
        let look = "\"$STOCKADE\" run --policy shell -- sleep 1000 & agent=$!; for i in $(seq 6000); do \
                    [ -e /run/stockade/uid-ranges ] && break; sleep 0.01; done; \
                    stat -c '%n %a %U' /run/stockade /run/stockade*/uid-ranges; kill $agent; wait $agent; ls /run | grep stockade";
        let output = script(look);
        let wanted = "/run/stockade 700 root\n/run/stockade/uid-ranges 600 root\n";
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted, "{}", told(&output));
    });
}

#[test]
fn a_run_without_a_terminal_or_a_group_of_its_own_works() {
    alone("a_run_without_a_terminal_or_a_group_of_its_own_works", || {
        let mut command = Command::new("setsid");
        command.args(["--wait", STOCKADE, "run", "--policy", "shell", "--", "sh", "-c", "tty; exit 3"]);
        command.stdin(Stdio::null()).process_group(0);
        let output = output(&mut command);
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "not a tty\n");
    });
}
