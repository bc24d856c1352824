//! `stockade run` at a real terminal: it must feel like one, and leave the caller's as it was.

#[path = "common/pty.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod pty;

use std::fs;
use std::time::{Duration, Instant};

use pty::Session;

const RUN: &str = concat!(env!("CARGO_BIN_EXE_stockade"), " run --policy shell --");

/// A shell at an ordinary terminal, from which Stockade is called.
fn caller() -> Session {
    Session::bash(100, 30)
}

/// A shell in a sandbox, at a terminal.
fn agent() -> Session {
    let mut session = caller();
    session.send(&format!("{RUN} bash --norc --noprofile --noediting -i\n"));
    session.expect("-i\r\n");
    session.send("PS1='inside$ '\n");
    session.expect("'\r\n");
    session.expect("inside$ ");
    session
}

#[test]
fn a_resize_is_seen_inside() {
    let mut session = agent();
    assert_eq!(session.run("stty size").trim(), "30 100");
    session.resize(133, 41);
    // The size travels as a signal, the keys as bytes: the shell inside looks until it has arrived.
    session.run("until [ \"$(stty size)\" = '41 133' ]; do :; done");
}

#[test]
fn a_window_without_a_size_counts_as_80x24() {
    let mut session = Session::bash(0, 0);
    assert_eq!(session.run(&format!("{RUN} stty size")).trim(), "24 80");
}

#[test]
fn ctrl_c_interrupts_the_command_and_not_the_shell_inside() {
    let mut session = agent();
    session.send("sh -c 'echo sle\"\"eps; exec sleep 1000'\n");
    session.expect("sleeps");
    session.send("\x03");
    session.expect("inside$ ");
    assert_eq!(session.run("echo $?").trim(), "130");
}

#[test]
fn ctrl_z_stops_a_job_of_the_shell_inside() {
    let mut session = agent();
    session.send("sh -c 'echo sle\"\"eps; exec sleep 1000'\n");
    session.expect("sleeps");
    session.send("\x1a");
    session.expect("Stopped");
    session.expect("inside$ ");
    assert!(session.run("jobs").contains("Stopped"));
    session.run("kill -9 %1");
}

#[test]
fn ctrl_z_stops_the_agent_as_a_job_of_the_callers_shell() {
    let mut session = caller();
    let before = session.run("stty -a");
    session.send(&format!("{RUN} sh -c 'printf \"\\033[?1049h\"; echo sle\"\"eps; exec sleep 1000'\n"));
    session.expect("sleeps");
    session.send("\x1a");
    session.expect("\x1b[?1049l");
    session.expect("Stopped");
    session.expect("$ ");
    assert_eq!(session.run("stty -a"), before, "a stopped agent leaves the terminal as it was");

    session.send("fg\n");
    session.expect("\x1b[?1049h");
    session.send("\x03");
    session.expect("\x1b[?1049l");
    session.expect("$ ");
    assert_eq!(session.run("echo $?").trim(), "130");
    assert_eq!(session.run("stty -a"), before);
}

#[test]
fn ctrl_z_without_a_shell_to_continue_the_agent_lets_it_go_on() {
    // It forks nothing: a stop that meets dash between vfork and exec leaves it waiting for a stopped child, anywhere.
    let nap = "trap 'echo con\"\"tinued' CONT; echo sle\"\"eps; read -r line";
    let mut argv: Vec<&str> = RUN.split(' ').collect();
    argv.extend(["sh", "-c", nap]);
    let mut session = Session::start(&argv, 100, 30);
    session.expect("sleeps");
    session.send("\x1a");
    session.expect("continued");
}

#[test]
fn a_background_agent_leaves_the_terminal_alone_and_is_not_stopped() {
    let mut session = caller();
    let before = session.run("stty -a");
    session.send(&format!("{RUN} sh -c 'echo sle\"\"eps; exec sleep 1000' &\n"));
    session.expect("sleeps");
    assert_eq!(session.run("stty -a"), before);
    assert!(session.run("jobs").contains("Running"));

    // bash tells a running job nothing when it brings it to the foreground.
    session.send("fg\n");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !session.is_raw() {
        assert!(Instant::now() < deadline, "never took the terminal");
        std::thread::yield_now();
    }
    session.send("\x03");
    session.expect("$ ");
    assert_eq!(session.run("echo $?").trim(), "130");
    assert_eq!(session.run("stty -a"), before);
}

#[test]
fn the_exit_code_passes_and_the_terminal_is_as_before() {
    let mut session = caller();
    let before = session.run("stty -a");
    assert_eq!(session.run(&format!("{RUN} sh -c 'exit 42'; echo $?")).trim(), "42");
    assert_eq!(session.run("stty -a"), before);
}

#[test]
fn an_agent_that_is_killed_leaves_no_mode_behind() {
    let mut session = caller();
    let before = session.run("stty -a");
    let modes = r"\033[?1049h\033[?1000;1003;1006h\033[?2004h\033[?25l\033[>1u\033[>4;2m\033[1;31m";
    session.send(&format!("{RUN} sh -c 'stty raw -echo; printf \"{modes}\"; kill -9 $$'\n"));
    session.expect("\x1b[1;31m");
    let undone = session.expect("$ ");
    for undo in ["\x1b[?1049l", "\x1b[?1000l", "\x1b[?1003l", "\x1b[?1006l", "\x1b[?2004l", "\x1b[?25h"] {
        assert!(undone.contains(undo), "{undo:?} is missing in {undone:?}");
    }
    for undo in ["\x1b[<1u", "\x1b[>4m", "\x1b[m"] {
        assert!(undone.contains(undo), "{undo:?} is missing in {undone:?}");
    }
    assert_eq!(session.run("echo $?").trim(), "137");
    assert_eq!(session.run("stty -a"), before);
}

#[test]
fn a_person_at_a_terminal_reads_what_a_program_changes_letter_by_letter() {
    let mut session = caller();
    // "held" becomes "hold on": the e is written over, and the rest is added.
    session.send("printf 'he%s' ld; printf '\\r\\033[Co\\033[2C o%s\\n' n\n");
    session.sees("hold on");
}

#[test]
fn colours_pass_unaltered() {
    let mut session = caller();
    let shown =
        session.run(&format!(r"{RUN} printf '\033[38;2;1;2;3m\xe2\x98\x83\033[48:2::4:5:6mX\033[0m'"));
    assert!(shown.contains("\x1b[38;2;1;2;3m☃\x1b[48:2::4:5:6mX\x1b[0m"), "{shown:?}");
}

#[test]
fn pipes_work_on_either_side_of_a_terminal() {
    let mut session = caller();
    let before = session.run("stty -a");
    assert_eq!(session.run(&format!("echo piped | {RUN} cat")).trim(), "piped");
    assert_eq!(session.run(&format!("{RUN} echo piped | cat")).trim(), "piped");
    assert_eq!(session.run(&format!("echo piped | {RUN} cat | wc -c")).trim(), "6");
    assert_eq!(session.run(&format!("{RUN} cat </dev/null; echo $?")).trim(), "0");
    assert_eq!(session.run("stty -a"), before);
}

#[test]
fn a_hangup_ends_the_agent() {
    // A duration that no other process sleeps.
    let nap = format!("{}.25", 100_000 + std::process::id());
    let mut session = caller();
    session.send(&format!("{RUN} sh -c 'trap \"\" HUP; echo sle\"\"eps; sleep {nap}; sleep {nap}'\n"));
    session.expect("sleeps");
    let is_asleep = || {
        fs::read_dir("/proc").expect("/proc").flatten().any(|process| {
            fs::read(process.path().join("cmdline")).is_ok_and(|c| c == format!("sleep\0{nap}\0").as_bytes())
        })
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_asleep() {
        assert!(Instant::now() < deadline, "the agent never slept");
    }
    session.hang_up();
    while is_asleep() {
        assert!(Instant::now() < deadline, "the agent outlived its terminal");
    }
}

#[test]
fn nothing_is_typed_into_the_callers_terminal() {
    // What is typed holds `$((40+2))`, so that only a shell that executes it can show 42.
    let push = |place: &str| {
        let push = "ioctl(STDIN, 0x5412, $_) or print qq(refused\\n)";
        format!("perl -e 'for (split //, q{{echo $((40+2))-{place}}}.chr(10)) {{ {push} }}'")
    };
    let mut session = caller();
    session.send(&format!("{}\n", push("outside")));
    session.expect("42-outside");
    session.expect("$ ");

    let shown = session.run(&format!("{RUN} {}", push("inside")));
    assert!(shown.contains("refused"), "{shown:?}");
    assert_eq!(session.run("echo next").trim(), "next");
    assert!(!session.everything().contains("42-inside"));
}
