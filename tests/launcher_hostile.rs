//! A compromised daemon: it has the daemon's uid and all of its sockets, and says whatever it likes. It must not get a root
//! file, a mount of the host, a foreign uid or another agent's cgroup.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use common::leaks::eventually;
use common::node::{DAEMON, Node, Socket, order, pair};
use common::stockade::field;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use stockade::shim::service::kept;
use stockade::wire::service::claim::sealed;
use stockade::wire::service::launcher::{FromLauncher, Reason, Refusal, ToLauncher};
use stockade::wire::service::order::{Home, Workspace};
use stockade::wire::service::shim::ToShim;
use stockade::wire::service::{Order, Versions};

/// What must stay as it is: root's files of the node, and of the host where an attack aims at.
fn precious(node: &Node) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut see = |path: &Path| {
        if let Ok(status) = fs::symlink_metadata(path) {
            let (mode, uid, changed) = (status.mode(), status.uid(), status.mtime_nsec());
            found.insert(format!("{} {mode:o} {uid} {} {changed}", path.display(), status.ino()));
        }
    };
    for path in ["/etc", "/etc/passwd", "/etc/shadow", "/root", "/usr/bin", "/"] {
        see(Path::new(path));
    }
    for path in
        [node.places().config().join("launcher.toml"), node.places().agents().join("victim/agent.json")]
    {
        see(&path);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    // Other tests and other programs mount, too: what names this node is what counts.
    let root = node.root().display().to_string();
    found.extend(mounts.lines().filter(|line| line.contains(&root)).map(str::to_owned));
    found
}

fn ask_to_launch(node: &Node, id: &str, fds: &[BorrowedFd<'_>]) -> Option<FromLauncher> {
    let socket = node.connect();
    socket.send(&ToLauncher::Launch { id: id.into() }, fds);
    socket.receive()
}

fn refused(node: &Node, order: &Order) -> Refusal {
    match node.launch(order) {
        Err(refusal) => refusal,
        Ok(_) => panic!("{order:?} was launched"),
    }
}

fn json(order: &Order) -> Vec<u8> {
    serde_json::to_vec(order).expect("JSON")
}

#[test]
fn nobody_but_the_daemons_uid_is_answered_not_even_root() {
    let node = Node::start();
    for uid in [0, 1, 1000, DAEMON + 1] {
        let Some(socket) = node.try_connect(uid) else { continue };
        socket.send(&ToLauncher::Hello { versions: Versions::OWN }, &[]);
        assert_eq!(socket.receive::<FromLauncher>(), None, "uid {uid} was answered");
    }
    assert!(node.try_connect(1000).is_none(), "a stranger could connect at all");
    node.connect();
}

#[test]
fn a_launcher_for_roots_own_daemon_is_refused() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stockade-launcher"))
        .args(["--root", "/nonexistent", "--daemon-uid", "0", "--daemon-gid", "0"])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_panic_ends_what_has_privilege_at_once_in_every_profile() {
    // Where cores are written to the working directory, they go with it.
    let directory = tempfile::tempdir().expect("a directory");
    for program in [env!("CARGO_BIN_EXE_stockade-launcher"), env!("CARGO_BIN_EXE_stockade-shim")] {
        // What is wrong with being started so cannot be said, and the standard library panics about that.
        let full = fs::File::options().write(true).open("/dev/full").expect("it opens");
        let status = std::process::Command::new(program)
            .args(["--daemon-uid", "0"])
            .current_dir(&directory)
            .stdin(std::process::Stdio::null())
            .stderr(full)
            .status()
            .expect("it starts");
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{program}: {status}");
    }
}

#[test]
fn nothing_is_answered_before_a_common_version() {
    let node = Node::start();
    let socket = node.try_connect(DAEMON).expect("connected");
    socket.send(&ToLauncher::Kill { id: "a".into() }, &[]);
    assert_eq!(socket.receive::<FromLauncher>(), None);
    let socket = node.try_connect(DAEMON).expect("connected");
    let versions = Versions { oldest: 7, newest: 9 };
    let answer: FromLauncher = socket.ask(&ToLauncher::Hello { versions }, &[]);
    assert!(matches!(answer, FromLauncher::Refused(Refusal { reason: Reason::Version, .. })), "{answer:?}");
    assert_eq!(socket.receive::<FromLauncher>(), None);
}

#[test]
fn what_an_order_may_not_say_changes_nothing() {
    let node = Node::start();
    let victim = node.run(&order("victim", "read x"));
    let before = precious(&node);
    let evil = ["../victim", "..", "/etc", "a/b", "", "a\0b"];
    for name in evil {
        for change in 0..4 {
            let mut order = order("evil", "true");
            match change {
                0 => order.id = name.into(),
                1 => order.tenant = name.into(),
                2 => order.workspace = Workspace::Named { name: name.into() },
                _ => order.home = Home::Named { name: name.into() },
            }
            assert_eq!(refused(&node, &order).reason, Reason::Malformed, "{name:?} as {change}");
        }
        let policy = Order { policy: name.into(), ..order("evil", "true") };
        assert_eq!(refused(&node, &policy).reason, Reason::Malformed, "{name:?}");
    }
    let link = node.open_root().join("link");
    std::os::unix::fs::symlink("/etc", &link).expect("linked");
    let agents = node.places().agents();
    for path in ["/etc", "/", "/proc", "/root", "/proc/self/root/etc", "relative"]
        .iter()
        .map(PathBuf::from)
        .chain([link, agents, node.root(), node.open_root(), node.open_root().join("../etc")])
    {
        let workspace = Workspace::Directory { path: path.display().to_string() };
        let refusal = refused(&node, &Order { workspace, ..order("evil", "true") });
        assert_eq!(refusal.field.as_deref(), Some("workspace"), "{}: {refusal:?}", path.display());
    }
    for order in [
        Order { memory: Some(1 << 45), ..order("evil", "true") },
        Order { millicpus: Some(1 << 21), ..order("evil", "true") },
        Order { processes: Some(1 << 22), ..order("evil", "true") },
        Order { allow: Some(vec!["example.invalid:443".into()]), ..order("evil", "true") },
    ] {
        assert_eq!(refused(&node, &order).reason, Reason::Exceeds);
    }
    assert_eq!(precious(&node), before);
    assert!(!node.places().agent("evil").exists(), "a refused start left its directory");
    assert_eq!(node.exit("victim"), None);
    victim.type_in(b"\n");
}

#[test]
fn an_order_that_can_change_or_is_none_is_not_read() {
    let node = Node::start();
    let (_ours, line) = pair();
    let valid = json(&order("evil", "true"));
    let open = |seals: SealFlags| {
        let memfd = memfd_create("order", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memfd");
        let mut file = fs::File::from(memfd);
        file.write_all(&valid).expect("written");
        fcntl_add_seals(&file, seals).expect("sealed");
        OwnedFd::from(file)
    };
    let (pipe, _writer) = std::io::pipe().expect("a pipe");
    let candidates: Vec<(&str, OwnedFd)> = vec![
        ("unsealed", open(SealFlags::empty())),
        ("may grow", open(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::SEAL)),
        ("may be written", open(SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)),
        ("may be unsealed", open(SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE)),
        ("a file", tempfile::tempfile().expect("a file").into()),
        ("a directory", fs::File::open("/etc").expect("opened").into()),
        ("a pipe that never ends", pipe.into()),
        ("empty", sealed("order", b"").expect("sealed")),
        ("not JSON", sealed("order", b"{\"id\": \"s3cret").expect("sealed")),
        ("too long", sealed("order", &vec![b' '; (4 << 20) + 1]).expect("sealed")),
        ("another's", sealed("order", &json(&order("other", "true"))).expect("sealed")),
        ("deep", sealed("order", "[".repeat(200_000).as_bytes()).expect("sealed")),
    ];
    for (what, fd) in &candidates {
        let answer = ask_to_launch(&node, "evil", &[fd.as_fd(), line.as_fd()]);
        let Some(FromLauncher::Refused(refusal)) = answer else { panic!("{what}: {answer:?}") };
        assert_eq!(refusal.reason, Reason::Malformed, "{what}: {refusal:?}");
        assert!(!refusal.detail.contains("s3cret"), "{refusal:?}");
    }
    assert_eq!(node.left_in(&node.places().agents()), [""; 0]);
}

#[test]
fn a_line_that_is_not_the_daemons_own_socket_is_not_taken() {
    let node = Node::start();
    let memfd = sealed("order", &json(&order("evil", "true"))).expect("sealed");
    let (_ours, stream) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let (_ours, roots) = stockade::wire::pair().expect("root's own pair");
    let file = fs::File::open("/etc/passwd").expect("opened");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    for line in [stream.as_fd(), roots.as_fd(), file.as_fd(), tcp.as_fd()] {
        let answer = ask_to_launch(&node, "evil", &[memfd.as_fd(), line]);
        let Some(FromLauncher::Refused(refusal)) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal.reason, Reason::Malformed);
    }
}

#[test]
fn other_numbers_of_descriptors_than_belong_there_start_nothing() {
    let node = Node::start();
    let memfd = sealed("order", &json(&order("evil", "true"))).expect("sealed");
    let (_ours, line) = pair();
    for fds in [&[][..], &[memfd.as_fd()]] {
        let answer = ask_to_launch(&node, "evil", fds);
        assert!(matches!(answer, Some(FromLauncher::Refused(_))), "{answer:?}");
    }
    let many = vec![line.as_fd(); 200];
    assert_eq!(ask_to_launch(&node, "evil", &many), None, "it went on with a connection that floods it");
    let open = || fs::read_dir(format!("/proc/{}/fd", node.launcher())).expect("listed").count();
    let before = open();
    for _ in 0..20 {
        ask_to_launch(&node, "evil", &[memfd.as_fd(), memfd.as_fd()]);
    }
    eventually("what came with refused messages is closed", || open() <= before);
}

#[test]
fn frames_that_are_none_close_the_connection_and_nothing_else() {
    let node = Node::start();
    let mut line = node.run(&order("a", "read x"));
    for frame in [
        &b"X"[..],
        b"J",
        b"J{",
        b"Jnull",
        b"J{\"type\":\"launch\"}",
        b"J{\"type\":\"become\",\"uid\":0}",
        b"Ityped",
        &[b'J'; 70_000],
        &[0xff; 1000],
    ] {
        let socket = node.connect();
        socket.send_raw(frame);
        assert_eq!(socket.receive::<FromLauncher>(), None, "{:?}", &frame[..frame.len().min(20)]);
    }
    // More connections than it keeps, all of them silent.
    let idle: Vec<Socket> = (0..12).filter_map(|_| node.try_connect(DAEMON)).collect();
    drop(idle);
    node.connect();
    line.type_in(b"\n");
    assert_eq!(line.await_end().code, Some(0));
}

#[test]
fn kill_and_remove_reach_no_further_than_an_id() {
    let node = Node::start();
    let line = node.run(&order("victim", "read x"));
    let before = precious(&node);
    for id in ["../../etc", "..", ".", "/", "victim/..", "", "victim/terminal", "*"] {
        for question in [
            ToLauncher::Kill { id: id.into() },
            ToLauncher::Remove { id: id.into(), workspace: true },
            ToLauncher::Relaunch { id: id.into() },
        ] {
            let answer: FromLauncher = node.connect().ask(&question, &[]);
            let FromLauncher::Refused(refusal) = answer else { panic!("{answer:?}") };
            assert_eq!(refusal.reason, Reason::Malformed, "{question:?}");
        }
    }
    let answer: FromLauncher =
        node.connect().ask(&ToLauncher::Remove { id: "victim".into(), workspace: true }, &[]);
    assert!(matches!(answer, FromLauncher::Refused(Refusal { reason: Reason::Exists, .. })), "{answer:?}");
    assert_eq!((precious(&node), node.exit("victim")), (before, None));
    line.type_in(b"\n");
}

#[test]
fn a_workspace_that_is_removed_takes_nothing_with_it_that_a_link_leads_to() {
    let node = Node::start();
    let bystander = node.open_root().join("bystander");
    fs::write(&bystander, "x").expect("written");
    let script = format!(
        "ln -s {0} file; ln -s {1} dir; mkdir -p a/b; ln -s / a/b/root",
        bystander.display(),
        node.open_root().display()
    );
    let mut order = order("a", &script);
    order.workspace = Workspace::Named { name: "w".into() };
    assert_eq!(node.run(&order).await_end().code, Some(0));
    node.done(&ToLauncher::Remove { id: "a".into(), workspace: true });
    assert!(!node.places().workspaces().join("tests/w").exists());
    assert!(bystander.exists());
}

#[test]
fn an_agent_of_the_service_has_a_uid_of_its_own_and_the_daemon_none_of_its_cgroups() {
    let node = Node::start();
    let line = node.run(&order("a", "read x"));
    let found = node.trace("a").expect("whereabouts");
    let init = common::leaks::pids().into_iter().find(|pid| {
        field(*pid, "PPid") == line.pid.to_string() && field(*pid, "NSpid").split_whitespace().count() > 1
    });
    let uid: u32 = field(init.expect("an init"), "Uid")
        .split_whitespace()
        .next()
        .expect("a uid")
        .parse()
        .expect("a number");
    assert_eq!(uid, 0x7000_0000 + found.range * 0x1_0000);
    // What the daemon cannot open it cannot change.
    let mut writable = Vec::new();
    common::leaks::groups(&mut |path, _| {
        let is_its = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with(&format!("run-{}", found.range)));
        if is_its && fs::metadata(path).is_ok_and(|status| status.uid() != 0 || status.mode() & 0o022 != 0) {
            writable.push(path.to_path_buf());
        }
    });
    assert_eq!(writable, Vec::<PathBuf>::new());
    // The agent's files are the daemon's to read, and not to write.
    for place in ["", "terminal", "agent.json", "attestation.json"] {
        let path = node.places().agent("a").join(place);
        let status = fs::metadata(&path).expect("it is there");
        assert_eq!((status.uid(), status.gid(), status.mode() & 0o027), (0, DAEMON, 0), "{}", path.display());
    }
    line.type_in(b"\n");
}

#[test]
fn the_launcher_holds_no_more_than_it_needs_and_its_shims_inherit_that() {
    let node = Node::start();
    let line = node.run(&order("a", "read x"));
    for pid in [node.launcher(), line.pid] {
        assert_eq!(
            (field(pid, "Seccomp").as_str(), field(pid, "NoNewPrivs").as_str()),
            ("2", "1"),
            "pid {pid}"
        );
        let bounding = u64::from_str_radix(&field(pid, "CapBnd"), 16).expect("a set");
        for capability in [
            caps::Capability::CAP_SYS_MODULE,
            caps::Capability::CAP_SYS_TIME,
            caps::Capability::CAP_SYS_BOOT,
            caps::Capability::CAP_SYS_RAWIO,
            caps::Capability::CAP_DAC_READ_SEARCH,
        ] {
            assert_eq!(bounding & capability.bitmask(), 0, "{capability} of pid {pid}");
        }
        // Nothing of whoever started it: its three streams, its own sockets.
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("listed").flatten();
        for fd in fds {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            assert!(
                !target.starts_with("/work/")
                    || target.starts_with(node.root())
                    || target.starts_with(
                        Path::new(env!("CARGO_BIN_EXE_stockade-launcher")).parent().expect("a directory")
                    ),
                "{}",
                target.display()
            );
        }
    }
    line.type_in(b"\n");
}

#[test]
fn what_the_agents_own_filter_refuses_is_reported_through_the_launchers() {
    let node = Node::start();
    // keyctl(2), which both refuse.
    let script =
        "perl -e 'syscall(250, 0, -3, 0, 0, 0) == -1 or exit 1; exit($! == 1 ? 0 : 2)'; echo code $?";
    let ended = node.run(&order("a", script)).await_end();
    assert_eq!(node.shown("a"), "code 0\r\n", "EPERM, as the agent's filter has it");
    assert!(ended.report["denials"].to_string().contains("keyctl"), "{:?}", ended.report);
}

#[test]
fn a_signal_that_is_none_is_refused_and_one_that_is_reaches_only_the_agent() {
    let node = Node::start();
    let mut line = node.run(&order("a", "trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done"));
    node.shows("a", "up");
    for number in [0, -9, 65, i32::MAX] {
        line.say(&ToShim::Signal { number }, &[]);
    }
    line.say(&ToShim::Signal { number: libc::SIGHUP }, &[]);
    node.shows("a", "hup");
    line.say(&ToShim::Signal { number: libc::SIGKILL }, &[]);
    assert_eq!(line.await_end().signal, Some(libc::SIGKILL));
}

#[test]
fn a_command_shows_nothing_of_a_directory_that_others_cannot_enter() {
    let node = Node::start();
    let private = node.root().join("private");
    let tool = private.join("inst/bin/tool");
    fs::create_dir_all(tool.parent().expect("a directory")).expect("made");
    fs::write(&tool, "#!/bin/sh\ncat $0\n").expect("written");
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    let link = node.open_root().join("tool");
    std::os::unix::fs::symlink(&tool, &link).expect("linked");
    let ordered = |id: &str, path: &Path| {
        let mut order = order(id, "");
        order.command = vec![path.display().to_string()];
        node.launch(&order).expect("launched").await_end()
    };
    assert_eq!(ordered("open", &tool).code, Some(0));
    fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("closed");
    for (id, path) in [("a", &tool), ("b", &link)] {
        let refusal = ordered(id, path).not_started.expect("not started");
        assert_eq!(refusal.reason, Reason::Host, "{refusal:?}");
    }
}

#[test]
fn an_order_is_no_other_agents_whatever_the_two_are_called() {
    let node = Node::start();
    for id in ["x.new", "x"] {
        assert_eq!(node.run(&order(id, "exit 3")).await_end().code, Some(3));
    }
    for id in ["x", "x.new"] {
        let ended = node.relaunch(id).unwrap_or_else(|refusal| panic!("{id}: {refusal:?}")).await_end();
        assert_eq!(ended.code, Some(3));
    }
}

#[test]
fn whoever_takes_long_to_end_holds_up_nobody_else() {
    let node = Node::start();
    let _line = node.run(&order("slow", "read x"));
    let found = node.trace("slow").expect("whereabouts");
    // A keeper that has much to do.
    let mut busy = std::process::Command::new("sleep").arg("60").spawn().expect("started");
    let keeper = kept::Process::of(busy.id()).expect("it runs");
    let path = kept::whereabouts(&node.places(), "slow");
    kept::put(&path, &kept::Whereabouts { keeper, ..found.clone() }, 0o600, false).expect("written");
    let socket = node.connect();
    socket.send(&ToLauncher::Kill { id: "slow".into() }, &[]);
    eventually("its shim is gone", || !found.shim.is_there());
    assert_eq!(node.run(&order("b", "exit 3")).await_end().code, Some(3));
    assert_eq!(node.exit("slow"), None);
    busy.kill().expect("killed");
    busy.wait().expect("reaped");
    assert_eq!(socket.receive(), Some(FromLauncher::Done));
    assert!(node.exit("slow").is_some());
}
