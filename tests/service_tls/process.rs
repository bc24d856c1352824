//! The real `stockaded`, without a launcher: what it needs to start, what it answers, how it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener as Port};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stockade::client::pki::Ca;
use stockade::wire::service::Places;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ports;
use crate::world::{Client, PATIENCE, client, problem, request, text, until};

/// Nobody's.
const UID: u32 = 0x6FFF_FFFE;

/// A tree as an installed node has it, and the daemon in it.
struct Node {
    dir: tempfile::TempDir,
    places: Places,
    address: SocketAddr,
    health: SocketAddr,
}

struct Running {
    process: Child,
    log: std::sync::Arc<std::sync::Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Node {
    fn make() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let places = Places::under(dir.path());
        for made in [places.config(), places.agents(), places.records(), places.shims()] {
            fs::create_dir_all(made).expect("a directory");
        }
        chown(places.records(), Some(UID), Some(UID)).expect("its owner");
        let pki = places.config().join("pki");
        let ca = Ca::init(&pki, &["localhost".into()]).expect("a CA");
        chown(pki.join("server.key"), Some(UID), Some(UID)).expect("its owner");
        for role in ["admin", "operator", "viewer"] {
            ca.issue_client(role, &format!("spiffe://test/{role}"), 2).expect("a client");
        }
        let free = || SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let (address, health) = (free(), free());
        let grant =
            |role| format!("[[grant]]\nidentity = 'spiffe://test/{role}'\nrole = '{role}'\ntenant = 't'\n");
        let config = format!(
            "listen = '{address}'\nhealth-listen = '{health}'\n[tls]\ncrl = 'pki/crl.pem'\n{}",
            ["admin", "operator", "viewer"].map(grant).concat()
        );
        fs::write(places.config().join("stockaded.toml"), config).expect("written");
        Self { dir, places, address, health }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockaded"));
        command.arg("--root").arg(self.dir.path()).env_clear().stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        command
    }

    fn start(&self, shape: impl FnOnce(&mut Command)) -> Running {
        let mut command = self.command();
        command.uid(UID).gid(UID);
        shape(&mut command);
        let mut process = command.spawn().expect("it starts");
        let log = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let lines = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let reader = std::thread::spawn({
            let log = std::sync::Arc::clone(&log);
            move || {
                for line in lines.map_while(Result::ok) {
                    log.lock().expect("a lock").push_str(&(line + "\n"));
                }
            }
        });
        Running { process, log, reader: Some(reader) }
    }

    fn client(&self, name: &str) -> Client {
        let pki = self.places.config().join("pki");
        client(
            self.address,
            &pki.join("ca.crt"),
            Some(&(pki.join(format!("{name}.crt")), pki.join(format!("{name}.key")))),
        )
    }

    async fn health(&self, path: &str) -> std::io::Result<String> {
        let mut socket = tokio::net::TcpStream::connect(self.health).await?;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Running {
    fn log(&self) -> String {
        self.log.lock().expect("a lock").clone()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).expect("a pid")), signal).expect("sent");
    }

    async fn serving(&mut self) {
        until("it serves", async || {
            let ended = self.process.try_wait().expect("a status");
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            self.log().contains("serving")
        })
        .await;
    }

    /// How it ended, and what it said on standard output.
    async fn ended(&mut self) -> (ExitStatus, String) {
        let mut status = None;
        until("it ends", async || {
            status = self.process.try_wait().expect("a status");
            status.is_some()
        })
        .await;
        self.reader.take().expect("joined once").join().expect("the reader");
        let mut said = String::new();
        self.process.stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
        (status.expect("it ended"), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn the_daemon_serves_says_so_once_and_ends_when_it_is_told() {
    let node = Node::make();
    let mut daemon = node.start(|_| ());
    daemon.serving().await;
    assert!(node.health("/livez").await.expect("an answer").starts_with("HTTP/1.1 200 "));
    let ready = node.health("/readyz").await.expect("an answer");
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("the launcher does not answer"), "{ready}");
    assert!(node.health("/v1/agents").await.expect("an answer").starts_with("HTTP/1.1 404 "));

    let operator = node.client("operator");
    assert_eq!(operator.get("/livez").await.expect("an answer").status(), 200);
    let spawn = operator
        .send(request("POST", "/v1/agents", r#"{"id":"a","type":"shell"}"#))
        .await
        .expect("an answer");
    assert_eq!(spawn.status(), 503, "{}", text(&spawn));
    // The launcher makes the directory of the log as well, and what cannot be recorded is not even asked for.
    assert_eq!(problem(&spawn)["code"], "audit-unavailable");
    // The connections before may still be being let go.
    let mut metrics = String::new();
    let mut looks = 0;
    until("only this connection is open", async || {
        looks += 1;
        metrics = text(&node.client("viewer").get("/metrics").await.expect("an answer"));
        metrics.contains("stockade_connections 1\n")
    })
    .await;
    let handshakes = format!("stockade_handshakes_total{{result=\"done\"}} {}", 2 + looks);
    for line in ["stockade_launcher_up 0", &handshakes, "# EOF"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    let mut streaming = operator.connect().await.expect("a connection");
    streaming.write_all(b"GET /v1/events HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    let mut head = [0; 12];
    streaming.read_exact(&mut head).await.expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 200");
    daemon.signal(Signal::SIGTERM);
    let (status, said) = daemon.ended().await;
    assert!(status.success(), "{status}: {}", daemon.log());
    assert_eq!(said, "", "standard output is nobody's");
    assert_eq!(daemon.log().matches("serving").count(), 1);
    let mut rest = String::new();
    let _ = streaming.read_to_string(&mut rest).await;
    assert!(rest.contains("draining"), "{rest}");
}

#[tokio::test]
async fn it_does_not_start_as_root_nor_with_a_mistake_in_its_configuration() {
    let node = Node::make();
    let as_root = node.command().output().expect("it runs");
    assert_eq!(as_root.status.code(), Some(1));
    let said = String::from_utf8_lossy(&as_root.stderr).into_owned();
    assert!(
        said.contains("does not run with privileges (uid 0)") && said.contains("User=stockade"),
        "{said}"
    );

    let config = node.places.config().join("stockaded.toml");
    let good = fs::read_to_string(&config).expect("a file");
    fs::write(&config, format!("lisen = 1\n{good}")).expect("written");
    let mut daemon = node.start(|_| ());
    let (status, _) = daemon.ended().await;
    // EX_CONFIG: systemd does not try it again (packaging/systemd/stockaded.service).
    assert_eq!(status.code(), Some(78));
    assert!(
        daemon.log().contains("stockaded.toml:1:1: unknown key")
            && daemon.log().contains("did you mean \"listen\"?"),
        "{}",
        daemon.log()
    );

    fs::write(&config, good).expect("written");
    fs::set_permissions(node.places.config().join("pki/server.key"), fs::Permissions::from_mode(0o644))
        .expect("a mode");
    let mut daemon = node.start(|_| ());
    assert_eq!(daemon.ended().await.0.code(), Some(78));
    assert!(daemon.log().contains("server.key: it can be read or written by everybody"), "{}", daemon.log());

    fs::remove_file(node.places.config().join("pki/server.crt")).expect("removed");
    let mut daemon = node.start(|_| ());
    assert_eq!(daemon.ended().await.0.code(), Some(78));
    assert!(daemon.log().contains("server.crt: run `stockade pki init` (as root)"), "{}", daemon.log());
}

#[tokio::test]
async fn whether_it_would_start_can_be_asked_as_root_without_starting_it() {
    let node = Node::make();
    let check = || node.command().arg("--check").output().expect("it runs");
    let good = check();
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(String::from_utf8_lossy(&good.stdout).starts_with("ok: would listen on "), "{good:?}");
    let config = node.places.config().join("stockaded.toml");
    let text = fs::read_to_string(&config).expect("a file");
    fs::write(&config, format!("{text}\n[tls]\ncert = 1\n")).expect("written");
    let bad = check();
    assert_eq!(bad.status.code(), Some(78), "{bad:?}");
    assert!(String::from_utf8_lossy(&bad.stderr).contains("stockaded.toml:"), "{bad:?}");
}

#[tokio::test]
async fn it_holds_no_right_leaves_no_core_and_cannot_be_read_by_its_own_user() {
    let node = Node::make();
    let mut daemon = node.start(|_| ());
    daemon.serving().await;
    let of =
        |name: &str| fs::read_to_string(format!("/proc/{}/{name}", daemon.process.id())).expect("a file");
    let status = of("status");
    for line in [
        "NoNewPrivs:\t1",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapInh:\t0000000000000000",
    ] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    let core = of("limits").lines().find(|line| line.starts_with("Max core")).expect("a line").to_owned();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // Its files in /proc are root's: it is not dumpable.
    let owner = std::os::unix::fs::MetadataExt::uid(
        &fs::metadata(format!("/proc/{}/environ", daemon.process.id())).expect("there"),
    );
    assert_eq!(owner, 0);
}

#[tokio::test]
async fn systemd_is_told_and_hands_over_the_socket() {
    let node = Node::make();
    let listener = Port::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let told = node.dir.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&told).expect("a socket");
    fs::set_permissions(&told, fs::Permissions::from_mode(0o777)).expect("a mode");
    // `sh` has the pid that the daemon will have, as systemd's own child has.
    let mut daemon = node.start(|command| {
        let program = command.get_program().to_owned();
        *command = Command::new("/bin/sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\" --root \"$1\""]).arg(program).arg(node.dir.path());
        command.env_clear().env("LISTEN_FDS", "1").env("NOTIFY_SOCKET", &told).env("WATCHDOG_USEC", "300000");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).uid(UID).gid(UID);
        command_fds::CommandFdExt::fd_mappings(
            command,
            vec![command_fds::FdMapping {
                parent_fd: listener.try_clone().expect("a copy").into(),
                child_fd: 3,
            }],
        )
        .expect("one mapping");
    });
    let mut heard = String::new();
    let mut hear = async |wanted: &str| {
        let read = async {
            while !heard.contains(wanted) {
                let mut buffer = [0; 4096];
                let length = socket.recv(&mut buffer).await.expect("a datagram");
                heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
                heard.push('\n');
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, read).await;
        assert!(in_time.is_ok(), "{wanted} was not heard");
    };
    hear("READY=1").await;
    let mut client = node.client("viewer");
    client.address = address;
    assert_eq!(client.get("/livez").await.expect("an answer").status(), 200);
    hear("WATCHDOG=1").await;
    daemon.signal(Signal::SIGHUP);
    hear("RELOADING=1").await;
    daemon.signal(Signal::SIGTERM);
    hear("STOPPING=1").await;
    assert!(daemon.ended().await.0.success());
}

#[tokio::test]
async fn a_hang_up_reads_what_changed_and_readiness_tells_what_cannot_be_used() {
    let node = Node::make();
    let mut daemon = node.start(|command| {
        command.args(["--log-format", "json"]);
    });
    daemon.serving().await;
    broken(&node.places.config().join("stockaded.d/10.toml"), "nonsense = 1");
    daemon.signal(Signal::SIGHUP);
    until("it is told", async || {
        node.health("/readyz").await.is_ok_and(|answer| answer.contains("10.toml:1:1: unknown key"))
    })
    .await;
    assert_eq!(node.client("viewer").get("/v1/agents").await.expect("an answer").status(), 200);
    fs::remove_file(node.places.config().join("stockaded.d/10.toml")).expect("removed");
    daemon.signal(Signal::SIGHUP);
    until("it is put right", async || {
        node.health("/readyz").await.is_ok_and(|answer| !answer.contains("10.toml"))
    })
    .await;
    daemon.signal(Signal::SIGINT);
    assert!(daemon.ended().await.0.success());
    for line in daemon.log().lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    }
}

#[tokio::test]
async fn quotas_and_sinks_are_read_anew_all_or_nothing_and_what_waits_for_a_start_is_named() {
    let node = Node::make();
    let journal = std::os::unix::net::UnixDatagram::bind(node.dir.path().join("journal")).expect("bound");
    fs::set_permissions(node.dir.path().join("journal"), fs::Permissions::from_mode(0o777)).expect("a mode");
    journal.set_read_timeout(Some(PATIENCE)).expect("set");
    fs::create_dir_all(node.places.audit()).expect("a directory");
    chown(node.places.audit(), Some(UID), Some(UID)).expect("its owner");
    let mut daemon = node.start(|_| {});
    daemon.serving().await;
    let fragment = node.places.config().join("stockaded.d/10.toml");
    let most = async || {
        let answer = node.client("operator").get("/v1/node").await.expect("an answer");
        let node: serde_json::Value = serde_json::from_str(&text(&answer)).expect("JSON");
        node["quotas"][0]["limit"].as_u64()
    };
    let sink = format!(
        "[tenant.t]\nmax-agents = 3\n[[audit.sink]]\nname = 'j'\nkind = 'journald'\nsocket = '{}'\n",
        node.dir.path().join("journal").display()
    );
    assert_eq!(most().await, None);
    broken(&fragment, &sink);
    until("the quota is in force", async || most().await == Some(3)).await;
    let mut bytes = vec![0; 1 << 16];
    let mut heard = String::new();
    while !heard.contains("reloaded") {
        let length = journal.recv(&mut bytes).expect("the sink is fed");
        heard.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }

    // Of a file that cannot be used nothing comes into force.
    fs::write(node.dir.path().join("hook"), "0123456789abcdef").expect("written");
    fs::set_permissions(node.dir.path().join("hook"), fs::Permissions::from_mode(0o644)).expect("a mode");
    let hook = format!(
        "[[audit.sink]]\nname = 'h'\nkind = 'webhook'\nurl = 'https://localhost/'\nsecret-file = '{}'\n",
        node.dir.path().join("hook").display()
    );
    fs::write(&fragment, format!("{hook}{}", sink.replace("= 3", "= 5"))).expect("written");
    daemon.signal(Signal::SIGHUP);
    until("it is told", async || {
        node.health("/readyz")
            .await
            .is_ok_and(|answer| answer.contains("can be read or written by everybody"))
    })
    .await;
    assert_eq!(most().await, Some(3));

    fs::write(&fragment, format!("{}[limits]\nbody = '1MiB'\n", sink.replace("= 3", "= 4")))
        .expect("written");
    daemon.signal(Signal::SIGHUP);
    until("the quota is in force", async || most().await == Some(4)).await;
    until("what waits is named", async || daemon.log().contains("waits=\"limits\"")).await;
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().await.0.success());
    let audited = fs::read_to_string(node.places.audit().join("0000000000000001.jsonl")).expect("a log");
    for told in [
        r#""type":"reloaded","part":"config","outcome":"done""#,
        r#""type":"reloaded","part":"config","outcome":"refused""#,
        r#""outcome":"done","waits":["limits"]"#,
    ] {
        assert!(audited.contains(told), "{told}: {audited}");
    }
}

fn broken(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, text).expect("written");
}
