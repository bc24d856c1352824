//! An agent that takes all it can get hurts only itself: another one still starts, `stockade run` stays small, and nothing
//! is left.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::leaks::{Census, eventually};
use common::machine::alone;
use common::stockade::{Running, field, kill, output, shell, told};

/// What `stockade run` itself may take, whatever its agent does: a debug build with its two 64 KiB buffers.
const SMALL_KIB: u64 = 32 << 10;

fn resident_kib(pid: u32) -> u64 {
    let text = field(pid, "VmHWM");
    text.split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("VmHWM: {text:?}"))
}

/// While the greedy one goes on: another agent runs from start to end, and the greedy one's run is small.
fn assert_harmless(greedy: &Running) {
    let other = output(&mut shell(&[], "exit 9"));
    assert_eq!(other.status.code(), Some(9), "{}", told(&other));
    let (keeper, _) = greedy.keeper_and_init();
    for pid in [greedy.pid(), keeper] {
        assert!(resident_kib(pid) < SMALL_KIB, "{} KiB", resident_kib(pid));
    }
}

#[test]
fn a_fork_bomb_hurts_only_itself() {
    alone("a_fork_bomb_hurts_only_itself", || {
        let before = Census::take(&[]);
        let limits = ["--processes", "64", "--cpus", "0.5", "--memory", "256M"];
        let bomb = "import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
while True:
    try: os.fork()
    except OSError: pass";
        let mut command = common::stockade::run(&["--policy", "shell"]);
        command.args(limits).args(["--", "python3", "-c", bomb]);
        let mut greedy = Running::start(command.stderr(Stdio::piped()));
        let inside =
            || common::leaks::pids().into_iter().filter(|pid| field(*pid, "NSpid").contains('\t')).count();
        eventually("the bomb has gone off", || inside() > 50);
        assert_harmless(&greedy);
        assert!(inside() <= 65, "{} processes", inside());
        kill(greedy.agent(), libc::SIGKILL);
        assert_eq!(greedy.wait().code(), Some(128 + libc::SIGKILL));
        let told = greedy.told();
        assert!(told.contains("limit of 64 processes"), "{told}");
        before.assert_restored("a fork bomb");
    });
}

#[test]
fn a_fork_bomb_dies_with_stockade_run() {
    alone("a_fork_bomb_dies_with_stockade_run", || {
        let before = Census::take(&[]);
        let bomb =
            "echo up; b() { setsid sh -c 'while :; do sleep 0; done' & b; }; trap '' TERM HUP; b 2>/dev/null";
        for signal in [libc::SIGKILL, libc::SIGTERM] {
            let mut greedy = Running::start(&mut shell(&["--processes", "64", "--cpus", "0.5"], bomb));
            greedy.signal(signal);
            greedy.wait();
            before.assert_restored("the end of a fork bomb");
        }
    });
}

#[test]
fn a_memory_hog_is_ended_with_all_its_processes_and_its_user_is_told() {
    alone("a_memory_hog_is_ended_with_all_its_processes_and_its_user_is_told", || {
        let before = Census::take(&[]);
        let hog = "python3 -c \"x = []\nwhile True: x.append(bytearray(1 << 20))\"";
        for script in [
            format!("exec {hog}"),
            // The kernel takes the child; the parent would go on, and say 0.
            format!("sleep 1000 & {hog}; sleep 1000; exit 0"),
            format!("{hog} & {hog} & {hog} & wait; sleep 1000"),
            "head -c 1G /dev/zero | tail; sleep 1000".to_owned(),
        ] {
            let mut command = shell(&["--memory", "64M", "--cpus", "1"], &script);
            let output = output(&mut command);
            assert_eq!(output.status.code(), Some(128 + libc::SIGKILL), "{script}: {}", told(&output));
            assert!(told(&output).contains("memory limit of 64"), "{script}: {}", told(&output));
            before.assert_restored(&script);
        }
    });
}

#[test]
fn a_full_disk_is_the_agents_own() {
    alone("a_full_disk_is_the_agents_own", || {
        let before = Census::take(&[]);
        let around = common::stockade::directory();
        let policy = around.path().join("small.toml");
        let sizes = "home-size = '16MiB'\ntmp-size = '16MiB'\nshm-size = '8MiB'\n";
        fs::write(&policy, format!("extends = 'shell'\ndescription = 'x'\n[filesystem]\n{sizes}"))
            .expect("written");
        for place in ["$HOME", "/tmp", "/dev/shm"] {
            let fill = format!(
                "head -c 1G /dev/zero >{place}/fill; echo code $?; rm {place}/fill; echo on >{place}/x"
            );
            let mut command = common::stockade::run(&["--policy", common::stockade::text(&policy), "--"]);
            let output = output(command.args(["sh", "-c", &fill]));
            let told = told(&output);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "code 1\n", "{place}: {told}");
            assert!(told.contains("No space left") && output.status.success(), "{place}: {told}");
        }
        before.assert_restored("full disks");
    });
}

#[test]
fn inodes_descriptors_and_terminals_run_out_inside_only() {
    alone("inodes_descriptors_and_terminals_run_out_inside_only", || {
        let before = Census::take(&[]);
        let inodes = "import os, sys
n = 0
try:
    while True:
        os.mkdir(sys.argv[1] + '/' + str(n)); n += 1
except OSError as error:
    print(error.strerror)";
        for place in ["/tmp", "/dev/shm", "/home/agent"] {
            let mut command = common::stockade::run(&["--policy", "shell", "--memory", "256M", "--"]);
            let output = output(command.args(["python3", "-c", inodes, place]));
            let (shown, told) = (String::from_utf8_lossy(&output.stdout).into_owned(), told(&output));
            assert!(
                shown == "No space left on device\n" || told.contains("memory limit"),
                "{place}: {shown} {told}"
            );
        }
        for (object, wanted) in
            [("'/dev/null'", "Too many open files"), ("'/dev/ptmx'", "No space left on device")]
        {
            let hog = format!(
                "import os
held = []
try:
    while True: held.append(os.open({object}, os.O_RDWR | os.O_NOCTTY))
except OSError as error:
    print(error.strerror)"
            );
            let mut command = common::stockade::run(&["--policy", "shell", "--"]);
            let output = output(command.args(["python3", "-c", &hog]));
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(shown, format!("{wanted}\n"), "{object}: {}", told(&output));
        }
        before.assert_restored("hogs");
    });
}

#[test]
fn a_writer_waits_for_a_reader_that_is_stuck() {
    alone("a_writer_waits_for_a_reader_that_is_stuck", || {
        let before = Census::take(&[]);
        // Into a pipe, which the agent has itself.
        let mut greedy = Running::start(&mut shell(&["--cpus", "1"], "echo up; exec cat /dev/zero"));
        let agent = greedy.agent();
        eventually("the pipe is full", || field(agent, "State").starts_with('S'));
        assert_harmless(&greedy);
        greedy.signal(libc::SIGTERM);
        assert_eq!(greedy.wait().code(), Some(128 + libc::SIGTERM));
        before.assert_restored("a full pipe");
    });
}

#[test]
fn a_terminal_that_is_not_read_slows_the_writer_and_not_the_end() {
    alone("a_terminal_that_is_not_read_slows_the_writer_and_not_the_end", || {
        let before = Census::take(&[]);
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            let master = rustix::pty::openpt(flags).expect("a pty");
            rustix::pty::unlockpt(&master).expect("unlocked");
            let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("its slave");
            let mut command = shell(&["--cpus", "1"], "exec cat /dev/zero");
            command.stdout(Stdio::from(slave));
            let mut child = command.spawn().expect("started");
            drop(command);
            let cat = || common::leaks::pids().into_iter().find(|pid| field(*pid, "Name") == "cat");
            eventually("the terminal is full", || cat().is_some_and(blocked_in_write));
            assert!(resident_kib(child.id()) < SMALL_KIB, "{} KiB", resident_kib(child.id()));
            kill(child.id(), signal);
            eventually("it has ended, though nobody reads", || child.try_wait().expect("ours").is_some());
            drop(master);
            before.assert_restored("a terminal that is not read");
        }
    });
}

/// Whether the agent waits in its write to a terminal.
fn blocked_in_write(pid: u32) -> bool {
    let now = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let sleeps = field(pid, "State").starts_with('S');
    sleeps && (now.contains("write") || now.contains("wait") || now == "0")
}

#[test]
fn output_reaches_a_slow_reader_whole() {
    alone("output_reaches_a_slow_reader_whole", || {
        let mut writer = shell(&["--cpus", "1"], "head -c 3000000 /dev/zero");
        let mut writer = writer.stdout(Stdio::piped()).spawn().expect("started");
        let reader = Command::new("sh")
            .args([
                "-c",
                "while dd bs=65536 count=1 iflag=fullblock status=none | wc -c | grep -v '^0$'; do :; done",
            ])
            .stdin(Stdio::from(writer.stdout.take().expect("piped")))
            .output()
            .expect("sh");
        let counts = String::from_utf8_lossy(&reader.stdout).into_owned();
        let total: u64 = counts.lines().map(|line| line.trim().parse::<u64>().expect("a count")).sum();
        assert_eq!(total, 3_000_000);
        assert!(writer.wait().expect("ours").success());
    });
}
