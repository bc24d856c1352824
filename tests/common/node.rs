//! A node of a service under a directory of its own: the real launcher, and a daemon that the test plays itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use stockade::wire::service::claim::sealed;
use stockade::wire::service::order::{Home, Size, Workspace};
use stockade::wire::service::shim::Phase;
use stockade::wire::service::{
    self, Ended, Frame, FromLauncher, FromShim, Order, Places, Refusal, ToLauncher, ToShim, Versions, log,
    places,
};

use stockade::shim::service::kept::{self, Process, Whereabouts};

use super::{leaks, stockade as program};

/// The daemon's uid and gid: one that nobody has.
pub const DAEMON: u32 = 0x6FFF_FFFD;

/// No wait in a test is longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node.
pub struct Node {
    directory: tempfile::TempDir,
    launcher: Option<Child>,
    /// What there was of each agent, and must be gone in the end.
    traces: std::cell::RefCell<Vec<Trace>>,
}

/// What an agent is made of: processes, and cgroups by path and inode.
struct Trace {
    processes: Vec<Process>,
    groups: Vec<(PathBuf, u64)>,
}

impl Trace {
    fn of(found: &Whereabouts) -> Self {
        let mut pids = vec![found.shim.pid, found.keeper.pid];
        let all = leaks::pids();
        for _ in 0..4 {
            let children = all.iter().filter(|pid| {
                !pids.contains(pid)
                    && program::field(**pid, "PPid").parse().is_ok_and(|parent: u32| pids.contains(&parent))
            });
            let children: Vec<u32> = children.copied().collect();
            pids.extend(children);
        }
        let names = [format!("run-{}", found.range), format!("run-{}.egress", found.range)];
        let is_named = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            names.iter().any(|own| name == *own || name == format!("stockade-{own}"))
        };
        let mut groups = Vec::new();
        leaks::groups(&mut |path, inode| {
            // Of a short-lived agent the range may be another's by now.
            let members = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            let holds_one =
                || members.lines().any(|pid| pid.parse().is_ok_and(|pid: u32| pids.contains(&pid)));
            if is_named(path) && holds_one() {
                groups.push((path.to_path_buf(), inode));
            }
        });
        Self { processes: pids.into_iter().filter_map(Process::of).collect(), groups }
    }

    fn remains(&self) -> Vec<String> {
        let alive = self.processes.iter().filter(|process| process.is_there());
        let is_left = |(path, inode): &&(PathBuf, u64)| {
            fs::metadata(path).is_ok_and(|found| std::os::unix::fs::MetadataExt::ino(&found) == *inode)
        };
        let groups = self.groups.iter().filter(is_left).map(|(path, _)| format!("cgroup {}", path.display()));
        alive.map(|process| format!("process {}", process.pid)).chain(groups).collect()
    }
}

impl Node {
    /// With a launcher that serves.
    pub fn start() -> Self {
        let directory = program::directory();
        // The daemon's user has to reach its sockets.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory.path(), mode).expect("opened");
        let mut node = Self { directory, launcher: None, traces: Default::default() };
        fs::create_dir_all(node.places().config()).expect("made");
        fs::create_dir(node.open_root()).expect("made");
        let config = format!("ready-shims = 1\nworkspace-roots = [{:?}]\n", node.open_root());
        fs::write(node.places().config().join("launcher.toml"), config).expect("written");
        node.start_launcher();
        node
    }

    /// Where workspaces of the host may be.
    pub fn open_root(&self) -> PathBuf {
        self.root().join("work")
    }

    /// Its tree.
    pub fn root(&self) -> PathBuf {
        fs::canonicalize(self.directory.path()).expect("it is there")
    }

    /// Its tree.
    pub fn places(&self) -> Places {
        Places::under(self.root())
    }

    /// The launcher's pid.
    pub fn launcher(&self) -> u32 {
        self.launcher.as_ref().expect("it runs").id()
    }

    /// Starts the launcher, and waits until it serves.
    pub fn start_launcher(&mut self) {
        let _ = fs::remove_file(self.places().launcher_socket());
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade-launcher"));
        command.arg("--root").arg(self.root()).args(["--daemon-uid", &DAEMON.to_string()]);
        command.args(["--daemon-gid", &DAEMON.to_string()]).stdin(Stdio::null()).process_group(0);
        self.launcher = Some(command.spawn().expect("the launcher starts"));
        leaks::eventually("the launcher serves", || {
            let exited = self.launcher.as_mut().expect("started").try_wait().expect("our child");
            assert!(exited.is_none(), "the launcher ended: {exited:?}");
            self.try_connect(DAEMON).is_some()
        });
    }

    /// Starts the launcher as a `.socket` unit does: listening on descriptor 3 (sd_listen_fds(3)).
    pub fn start_launcher_with_socket(&mut self) {
        let path = self.places().launcher_socket();
        let _ = fs::remove_file(&path);
        // The shell's pid is the launcher's after exec.
        let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\" 3<&0 0</dev/null";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_stockade-launcher"), "--root"])
            .arg(self.root());
        command.args(["--daemon-uid", &DAEMON.to_string(), "--daemon-gid", &DAEMON.to_string()]);
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let socket = socket.expect("a socket");
        let directory = fs::File::open(self.places().run()).expect("opened");
        let address = format!("/proc/self/fd/{}/launcher.sock", std::os::fd::AsRawFd::as_raw_fd(&directory));
        rustix::net::bind(&socket, &SocketAddrUnix::new(address).expect("short")).expect("bound");
        rustix::net::listen(&socket, 8).expect("listening");
        std::os::unix::fs::chown(&path, Some(DAEMON), None).expect("the daemon's");
        command.stdin(Stdio::from(socket)).process_group(0);
        self.launcher = Some(command.spawn().expect("it starts"));
    }

    /// Ends the launcher as a crash (SIGKILL) or a service manager (SIGTERM) would.
    pub fn end_launcher(&mut self, signal: i32) {
        let mut launcher = self.launcher.take().expect("it runs");
        super::stockade::kill(launcher.id(), signal);
        launcher.wait().expect("reaped");
    }

    /// As a crash would.
    pub fn kill_launcher(&mut self) {
        self.end_launcher(libc::SIGKILL);
    }

    /// A connection to the launcher, as this user.
    pub fn try_connect(&self, uid: u32) -> Option<Socket> {
        let path = self.places().launcher_socket();
        Socket::connect(&path, uid)
    }

    /// A connection on which `Hello` was said.
    pub fn connect(&self) -> Socket {
        let socket = self.try_connect(DAEMON).expect("connected");
        let answer: FromLauncher = socket.ask(&ToLauncher::Hello { versions: Versions::OWN }, &[]);
        assert!(matches!(answer, FromLauncher::Welcome { version: service::NEWEST, .. }), "{answer:?}");
        socket
    }

    /// Starts an agent and says `Hello` to its shim; it is about to run.
    pub fn launch(&self, order: &Order) -> Result<Line, Refusal> {
        let (ours, theirs) = pair();
        let memfd = sealed("order", &serde_json::to_vec(order).expect("JSON")).expect("a memfd");
        let message = ToLauncher::Launch { id: order.id.clone() };
        match self.connect().ask(&message, &[memfd.as_fd(), theirs.as_fd()]) {
            FromLauncher::Launched { pid } => Ok(Line::new(ours, pid)),
            FromLauncher::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Starts an agent anew.
    pub fn relaunch(&self, id: &str) -> Result<Line, Refusal> {
        let (ours, theirs) = pair();
        match self.connect().ask(&ToLauncher::Relaunch { id: id.into() }, &[theirs.as_fd()]) {
            FromLauncher::Launched { pid } => Ok(Line::new(ours, pid)),
            FromLauncher::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Starts one that must start, and waits until it runs.
    pub fn run(&self, order: &Order) -> Line {
        let mut line = self.launch(order).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
        line.await_running();
        self.trace(&order.id);
        line
    }

    /// Remembers what there is of a running agent.
    pub fn trace(&self, id: &str) -> Option<Whereabouts> {
        let text = fs::read(kept::whereabouts(&self.places(), id)).ok()?;
        let found = serde_json::from_slice(&text).expect("whereabouts");
        self.traces.borrow_mut().push(Trace::of(&found));
        Some(found)
    }

    /// Waits until nothing is left of any agent that ran.
    pub fn assert_nothing_is_left(&self) {
        for trace in self.traces.borrow().iter() {
            let deadline = Instant::now() + PATIENCE;
            while !trace.remains().is_empty() {
                assert!(Instant::now() < deadline, "left behind: {:#?}", trace.remains());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let ended = |name: &String| name.split('.').next().is_some_and(|id| self.exit(id).is_some());
        let stale: Vec<String> = self.left_in(&self.places().shims()).into_iter().filter(ended).collect();
        assert_eq!(stale, Vec::<String>::new(), "files of shims that have ended");
    }

    /// A later daemon's connection to a shim.
    pub fn adopt(&self, id: &str) -> Line {
        let socket = Socket::connect(&self.places().shim_socket(id), DAEMON).expect("the shim listens");
        Line::new(socket.0, 0)
    }

    /// Asks the launcher something that it must do.
    pub fn done(&self, question: &ToLauncher) {
        let answer: FromLauncher = self.connect().ask(question, &[]);
        assert_eq!(answer, FromLauncher::Done, "{question:?}");
    }

    /// What lies in the log: the offset of its first byte, and all bytes.
    pub fn log(&self, id: &str) -> (u64, Vec<u8>) {
        let directory = self.places().agent(id).join(places::TERMINAL);
        let entries = fs::read_dir(&directory).expect("a log").flatten();
        let segments: BTreeMap<u64, PathBuf> = entries
            .filter_map(|entry| Some((log::first_offset(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        let first = *segments.keys().next().expect("a segment");
        let mut bytes = Vec::new();
        for (at, path) in segments {
            assert_eq!(at, first + bytes.len() as u64, "a gap");
            bytes.extend(fs::read(path).expect("read"));
        }
        (first, bytes)
    }

    /// The log as text.
    pub fn shown(&self, id: &str) -> String {
        String::from_utf8_lossy(&self.log(id).1).into_owned()
    }

    /// Waits until this is in the log.
    pub fn shows(&self, id: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown(id).contains(text) {
            assert!(Instant::now() < deadline, "{text:?} did not appear in:\n{}", self.shown(id));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How it ended, as it is written.
    pub fn exit(&self, id: &str) -> Option<Ended> {
        let text = fs::read(self.places().agent(id).join(places::EXIT)).ok()?;
        Some(serde_json::from_slice(&text).expect("exit.json is one"))
    }

    /// What lies in a directory, without what waits for the next agent.
    pub fn left_in(&self, directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.into_string().ok()).filter(|name| !name.starts_with(".blank-")).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.launcher.is_none() && !std::thread::panicking() {
            self.start_launcher();
        }
        if self.launcher.is_some() {
            for id in self.left_in(&self.places().agents()).into_iter().filter(|id| self.exit(id).is_none()) {
                if let Some(socket) = self.try_connect(DAEMON) {
                    socket.send(&ToLauncher::Hello { versions: Versions::OWN }, &[]);
                    socket.send(&ToLauncher::Kill { id }, &[]);
                    let _: Option<FromLauncher> = socket.receive();
                    let _: Option<FromLauncher> = socket.receive();
                }
            }
        }
        if let Some(mut launcher) = self.launcher.take() {
            let _ = launcher.kill();
            let _ = launcher.wait();
        }
        if !std::thread::panicking() {
            self.assert_nothing_is_left();
        }
    }
}

/// An order for the `shell` policy.
pub fn order(id: &str, script: &str) -> Order {
    Order {
        id: id.into(),
        tenant: "tests".into(),
        policy: "shell".into(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        arguments: Vec::new(),
        workspace: Workspace::None,
        home: Home::Ephemeral,
        home_wait_ms: 0,
        environment: BTreeMap::new(),
        files: Vec::new(),
        memory: None,
        millicpus: None,
        processes: None,
        allow: None,
        size: Size { cols: 80, rows: 24 },
        term: "xterm-256color".into(),
        log_bytes: 4 << 20,
    }
}

/// Does something as this user: the kernel notes who makes a socket, and who connects one. Only this thread changes.
pub fn as_user<T: Send>(uid: u32, deed: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (user, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(uid));
            rustix::thread::set_thread_groups(&[]).expect("groups");
            rustix::thread::set_thread_res_gid(group, group, group).expect("gid");
            rustix::thread::set_thread_res_uid(user, user, user).expect("uid");
            deed()
        });
        thread.join().expect("it did not panic")
    })
}

/// A pair that the daemon made.
pub fn pair() -> (OwnedFd, OwnedFd) {
    as_user(DAEMON, || stockade::wire::pair().expect("a pair"))
}

/// A connection.
pub struct Socket(pub OwnedFd);

impl Socket {
    /// Reached through its directory, for the path may be too long.
    pub fn connect(path: &Path, uid: u32) -> Option<Self> {
        let (directory, name) = (path.parent().expect("a parent"), path.file_name().expect("a name"));
        as_user(uid, || {
            let directory = fs::File::open(directory).ok()?;
            let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
            let address = format!("/proc/self/fd/{number}/{}", name.to_str().expect("plain"));
            let flags = SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
            let socket = socket.expect("a socket");
            let address = SocketAddrUnix::new(address).expect("short");
            rustix::net::connect(&socket, &address).ok().map(|()| Self(socket))
        })
    }

    /// Sends a message; a peer that is gone does not matter.
    pub fn send(&self, message: &impl serde::Serialize, fds: &[BorrowedFd<'_>]) {
        let _ = service::send(self.0.as_fd(), message, fds);
    }

    /// Sends raw bytes.
    pub fn send_raw(&self, bytes: &[u8]) {
        let _ = stockade::wire::send(self.0.as_fd(), bytes, &[]);
    }

    /// The next message; `None` at the end.
    pub fn receive<M: serde::de::DeserializeOwned>(&self) -> Option<M> {
        let timeout = Timespec::try_from(PATIENCE).expect("short");
        let mut polls = [PollFd::new(&self.0, PollFlags::IN)];
        assert_ne!(poll(&mut polls, Some(&timeout)).expect("poll"), 0, "nothing came within {PATIENCE:?}");
        match service::receive(&self.0, 1) {
            Ok(Some((Frame::Message(message), _))) => Some(message),
            Ok(None) => None,
            Ok(Some((Frame::Input(_), _))) => panic!("input from the service"),
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// A question and its answer.
    pub fn ask<M: serde::de::DeserializeOwned>(
        &self,
        question: &impl serde::Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> M {
        self.send(question, fds);
        self.receive().expect("an answer")
    }
}

/// The line to a shim, as a daemon has it.
pub struct Line {
    socket: Socket,
    /// The shim's pid.
    pub pid: u32,
    /// What `Welcome` said: phase, end of the log, typed bytes taken.
    pub welcome: (Phase, u64, u64),
    /// How far the log reaches, as it was said last.
    pub end: u64,
    /// How many typed bytes were taken.
    pub taken: u64,
    /// All that came, in its order.
    pub heard: Vec<FromShim>,
}

impl Line {
    fn new(socket: OwnedFd, pid: u32) -> Self {
        let socket = Socket(socket);
        let welcome = socket.ask(&ToShim::Hello { versions: Versions::OWN }, &[]);
        let FromShim::Welcome { phase, end, taken, pid: said, .. } = welcome else { panic!("{welcome:?}") };
        assert!(pid == 0 || pid == said, "pid {said} instead of {pid}");
        Self { socket, pid: said, welcome: (phase, end, taken), end, taken, heard: Vec::new() }
    }

    /// Says something.
    pub fn say(&self, message: &ToShim, fds: &[BorrowedFd<'_>]) {
        self.socket.send(message, fds);
    }

    /// Says what may be no message.
    pub fn say_raw(&self, bytes: &[u8]) {
        self.socket.send_raw(bytes);
    }

    /// Types.
    pub fn type_in(&self, text: &[u8]) {
        self.socket.send_raw(&service::encode_input(text));
    }

    /// The next message; `None` at the end.
    pub fn next(&mut self) -> Option<FromShim> {
        let message: FromShim = self.socket.receive()?;
        match &message {
            FromShim::Output { end } => {
                assert!(*end > self.end, "the log shrank");
                self.end = *end;
            }
            FromShim::Taken { total } => self.taken = *total,
            _ => {}
        }
        self.heard.push(message.clone());
        Some(message)
    }

    /// Waits for one that `wanted` finds.
    pub fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&FromShim) -> Option<T>) -> T {
        loop {
            let Some(message) = self.next() else { panic!("{what}: the line ended after {:?}", self.heard) };
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
    }

    /// Waits until it runs.
    pub fn await_running(&mut self) {
        // It follows a welcome to one that runs already, too.
        if self.heard.iter().any(|message| matches!(message, FromShim::Running { .. })) {
            return;
        }
        self.until("Running", |message| match message {
            FromShim::Running { .. } => Some(()),
            FromShim::NotStarted(refusal) => panic!("not started: {refusal:?}"),
            _ => None,
        });
    }

    /// Waits for the end of the agent, after which nothing comes.
    pub fn await_end(&mut self) -> Ended {
        let ended = self.until("Ended", |message| match message {
            FromShim::Ended(ended) => Some(ended.clone()),
            _ => None,
        });
        assert_eq!(self.next(), None, "something came after Ended");
        ended
    }
}
