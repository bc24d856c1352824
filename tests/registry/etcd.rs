//! An etcd of our own on the loopback: one member or three, with or without TLS, that can be stopped, killed and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_client::{Client, GetOptions};
use stockade::registry::entry::{AGENTS, SERVICES};
use stockade::registry::{Access, Entry};

use crate::certificates::Certificates;
use crate::ports;

/// For anything that takes as long as it takes, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Etcd {
    members: Vec<Member>,
    directory: tempfile::TempDir,
    tls: Option<Certificates>,
}

struct Member {
    name: String,
    client: u16,
    peer: u16,
    process: Option<Child>,
}

/// The program that all of these tests start, if it is to be another one than this host's.
const PROGRAM: &str = "STOCKADE_ETCD";

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os(PROGRAM) {
        return path.into();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/etcd.sh");
    let output = Command::new(script).arg("path").output().expect("bash");
    let path = String::from_utf8(output.stdout).expect("a path");
    assert!(!path.trim().is_empty(), "no etcd: `packaging/prerequisites.sh test` gets one");
    path.trim().into()
}

impl Etcd {
    pub async fn one() -> Self {
        Self::start(1, false).await
    }

    pub async fn start(count: usize, tls: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let tls = tls.then(|| Certificates::make(directory.path()));
        let ports: Vec<u16> = (0..count * 2).map(|_| ports::free()).collect();
        let members = (0..count)
            .map(|at| Member {
                name: format!("m{at}"),
                client: ports[at * 2],
                peer: ports[at * 2 + 1],
                process: None,
            })
            .collect();
        let mut etcd = Self { members, directory, tls };
        for at in 0..count {
            etcd.run(at);
        }
        etcd.serves().await;
        etcd
    }

    /// Starts a member, over what it knew before.
    pub fn run(&mut self, at: usize) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let url = |port: u16| format!("{scheme}://127.0.0.1:{port}");
        let peers = self.members.iter().map(|member| format!("{}={}", member.name, url(member.peer)));
        let cluster = peers.collect::<Vec<_>>().join(",");
        let member = &self.members[at];
        // It ends with the thread of its test, whatever becomes of that.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program());
        command.args([
            "--name",
            &member.name,
            "--log-level",
            "error",
            "--initial-cluster-token",
            "stockade-test",
        ]);
        command.arg("--data-dir").arg(self.directory.path().join(&member.name));
        command.args([
            "--listen-client-urls",
            &url(member.client),
            "--advertise-client-urls",
            &url(member.client),
        ]);
        command.args([
            "--listen-peer-urls",
            &url(member.peer),
            "--initial-advertise-peer-urls",
            &url(member.peer),
        ]);
        command.args(["--initial-cluster", &cluster]);
        if let Some(tls) = &self.tls {
            let (cert, key) = tls.server();
            for (flag, file) in [
                ("--cert-file", &cert),
                ("--key-file", &key),
                ("--trusted-ca-file", &tls.ca()),
                ("--peer-cert-file", &cert),
                ("--peer-key-file", &key),
                ("--peer-trusted-ca-file", &tls.ca()),
            ] {
                command.arg(flag).arg(file);
            }
            command.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        }
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.members[at].process = Some(command.spawn().expect("setpriv and etcd"));
    }

    /// The power is cut.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            process.kill().expect("ours");
            process.wait().expect("ours");
        }
    }

    /// What it knew is gone; it must not run.
    pub fn wipe(&self, at: usize) {
        assert!(self.members[at].process.is_none(), "it runs");
        std::fs::remove_dir_all(self.directory.path().join(&self.members[at].name)).expect("removed");
    }

    /// It answers nobody, and nobody is told: a partition, or a disk that hangs.
    pub fn freeze(&self, at: usize) {
        self.signal(at, "STOP");
    }

    pub fn thaw(&self, at: usize) {
        self.signal(at, "CONT");
    }

    fn signal(&self, at: usize, name: &str) {
        let process = self.members[at].process.as_ref().expect("it runs");
        let status = Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    pub fn endpoint(&self, at: usize) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.members[at].client)
    }

    /// For a node.
    pub fn access(&self) -> Access {
        Access {
            endpoints: (0..self.members.len()).map(|at| self.endpoint(at)).collect(),
            ca: self.tls.as_ref().map(Certificates::ca),
            identity: self.tls.as_ref().map(|tls| tls.client("client")),
            user: None,
        }
    }

    pub fn certificates(&self) -> &Certificates {
        self.tls.as_ref().expect("started with TLS")
    }

    /// Other certificates for everybody, of another authority; a member shows them once it is started again.
    pub fn reissue(&mut self) {
        self.tls = Some(Certificates::make(self.directory.path()));
    }

    /// A client of the test's own, to whichever member answers.
    pub async fn client(&self) -> Client {
        let access = self.access();
        let began = Instant::now();
        let mut turn = 0;
        loop {
            if let Ok(mut client) = access.connect(turn, Duration::from_secs(1)).await {
                let asked = tokio::time::timeout(Duration::from_secs(1), client.get("any", None)).await;
                if matches!(asked, Ok(Ok(_))) {
                    return client;
                }
            }
            turn += 1;
            assert!(began.elapsed() < PATIENCE, "etcd does not serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until it does.
    pub async fn serves(&self) {
        self.client().await;
    }

    /// Which member leads.
    pub async fn leader(&self) -> usize {
        let access = self.access();
        let began = Instant::now();
        loop {
            for at in 0..self.members.len() {
                let Ok(mut client) = access.connect(at, Duration::from_secs(1)).await else { continue };
                let status = tokio::time::timeout(Duration::from_secs(1), client.status()).await;
                if let Ok(Ok(status)) = status
                    && status.header().is_some_and(|header| header.member_id() == status.leader())
                {
                    return at;
                }
            }
            assert!(began.elapsed() < PATIENCE, "nobody leads");
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|at| self.kill(at));
    }
}

/// Everything registered, by key.
pub async fn everything(client: &mut Client) -> BTreeMap<String, (Vec<u8>, i64)> {
    let found = client.get(SERVICES, Some(GetOptions::new().with_prefix())).await.expect("etcd answers");
    let pair = |kv: &etcd_client::KeyValue| {
        (kv.key_str().expect("text").to_owned(), (kv.value().to_vec(), kv.mod_revision()))
    };
    found.kvs().iter().map(pair).collect()
}

/// The ids under agents' keys.
pub async fn ids(client: &mut Client) -> BTreeSet<String> {
    everything(client).await.keys().filter_map(|key| Some(key.strip_prefix(AGENTS)?.to_owned())).collect()
}

/// One agent's entry.
pub async fn entry(client: &mut Client, id: &str) -> Option<Entry> {
    let found = everything(client).await;
    found.get(&format!("{AGENTS}{id}")).map(|(value, _)| Entry::read(value).expect("an entry of ours"))
}

/// Polls until these are registered and no other; says how long that took.
pub async fn becomes(client: &mut Client, expected: &[&str], within: Duration) -> Duration {
    let expected: BTreeSet<String> = expected.iter().map(|id| (*id).to_owned()).collect();
    let began = Instant::now();
    loop {
        let found = tokio::time::timeout(Duration::from_secs(5), ids(client)).await.expect("etcd answers");
        if found == expected {
            return began.elapsed();
        }
        assert!(began.elapsed() < within, "after {within:?} there is {found:?} instead of {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
