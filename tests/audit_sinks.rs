//! Collectors get every record exactly as it stands in the file: a real rsyslog over TLS, an HTTPS receiver, a journal;
//! whoever of both sides is killed and started again meanwhile.

#[path = "common/ports.rs"]
mod ports;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use stockade::audit::event::Event;
use stockade::daemon::audit::Audit;
use stockade::daemon::audit::sinks::settings::{Format, Kind, Sink, Tls};
use stockade::wire::service::Places;

/// No wait is longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One round's records.
const RECORDS: usize = 300;

/// A directory with a node's places, and a CA with a certificate for `localhost`.
struct Ground {
    directory: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { directory: tempfile::tempdir().expect("a directory") };
        let authority = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&authority).expect("signed");
        let issuer = Issuer::new(params, authority);
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let server = server.signed_by(&key, &issuer).expect("signed");
        for (name, text) in
            [("ca.pem", ca.pem()), ("cert.pem", server.pem()), ("key.pem", key.serialize_pem())]
        {
            fs::write(ground.path(name), text).expect("written");
        }
        fs::write(ground.path("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("written");
        fs::set_permissions(ground.path("secret"), PermissionsExt::from_mode(0o600)).expect("a secret");
        fs::create_dir_all(ground.places().audit()).expect("made");
        fs::create_dir_all(ground.places().records()).expect("made");
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn places(&self) -> Places {
        Places::under(self.path("node"))
    }

    fn tls(&self) -> Tls {
        Tls { ca: self.path("ca.pem"), identity: None }
    }

    /// All lines of the log, without their line breaks.
    fn log(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.places().audit())
            .expect("a log")
            .map(|entry| entry.expect("listed").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .collect();
        files.sort();
        let text: String = files.iter().map(|path| fs::read_to_string(path).expect("read")).collect();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until `out` has every line of the log, and checks that it has no other.
    fn await_all(&self, out: &Path, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The log grows by a checkpoint meanwhile: what was there before is to be here now.
            let log = self.log();
            let got = fs::read_to_string(out).unwrap_or_default();
            let whole = got.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let got: BTreeSet<&str> = whole.lines().collect();
            let missing: Vec<&String> = log.iter().filter(|line| !got.contains(line.as_str())).collect();
            if missing.is_empty() {
                let now = self.log();
                let known: BTreeSet<&str> = now.iter().map(String::as_str).collect();
                let strange: Vec<_> = got.difference(&known).collect();
                assert!(strange.is_empty(), "{what}: not as in the file: {strange:?}");
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {} of {} are missing: {missing:?}",
                missing.len(),
                log.len()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A process of the test's own.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn await_port(port: u16, process: &mut Process, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = process.0.try_wait().expect("our child");
        assert!(ended.is_none() && Instant::now() < deadline, "{what} does not listen: {ended:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lives as a daemon does, with one sink, until `life` is over; then it is closed, or gone at once.
fn live(ground: &Ground, sink: &Sink, is_closed: bool, life: impl FnOnce(&Audit)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let audit = Audit::start(&ground.places()).expect("started");
        audit.feed(vec![sink.clone()], &ground.places(), "node-1");
        tokio::task::block_in_place(|| life(&audit));
        if is_closed {
            audit.close().await;
        }
    });
    // The sink is ended in the middle of whatever it does.
    drop(runtime);
}

fn record(audit: &Audit, count: usize) {
    for number in 0..count {
        // With what a careless transport would change: quotes, brackets, and nothing that is not ASCII gets in here.
        let event = format!(r#"{{"type":"adopted","agent":"a-{number}","running":true}}"#);
        audit.record(serde_json::from_str::<Event>(&event).expect("an event"));
    }
}

/// Both sides are restarted, gracefully and not.
fn both_sides_restart(ground: &Ground, sink: &Sink, out: &Path, mut start: impl FnMut() -> Process) {
    let mut receiver = start();
    live(ground, sink, true, |audit| {
        record(audit, RECORDS);
        ground.await_all(out, "the first records");
        // In the middle of taking some.
        record(audit, RECORDS);
        receiver.kill();
        record(audit, RECORDS);
        assert!(audit.state().is_ok(), "a dead sink delays nobody");
        receiver = start();
        ground.await_all(out, "those from while it was away");
        record(audit, RECORDS);
    });
    // The daemon ended while records were on their way; the next one goes on.
    live(ground, sink, false, |audit| {
        record(audit, RECORDS);
        ground.await_all(out, "those of the next daemon");
        let (status, _) = audit.sinks().remove(0);
        assert_eq!((status.name.as_str(), status.trouble), (sink.name.as_str(), None));
    });
    assert!(ground.log().len() > 5 * RECORDS);
}

#[test]
fn a_real_rsyslog_has_every_record_exactly_as_in_the_file_over_restarts_of_either_side() {
    let found = Command::new("rsyslogd").arg("-v").stdout(Stdio::null()).status();
    assert!(found.is_ok(), "rsyslogd is missing: packaging/prerequisites.sh test installs it");
    let ground = Ground::new();
    let (port, out) = (ports::free(), ground.path("out.log"));
    let at = |name: &str| ground.path(name).display().to_string();
    let config = format!(
        r#"global(workDirectory="{}" maxMessageSize="256k" defaultNetstreamDriver="gtls"
            defaultNetstreamDriverCAFile="{}" defaultNetstreamDriverCertFile="{}" defaultNetstreamDriverKeyFile="{}")
        module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
        template(name="line" type="string" string="%msg%\n")
        ruleset(name="all") {{ action(type="omfile" file="{}" template="line" asyncWriting="off" flushOnTXEnd="on") }}
        input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="all")
        "#,
        at(""),
        at("ca.pem"),
        at("cert.pem"),
        at("key.pem"),
        out.display(),
    );
    fs::write(ground.path("rsyslog.conf"), config).expect("written");
    let start = || {
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(ground.path("rsyslog.conf")).arg("-i").arg(ground.path("pid"));
        let _ = fs::remove_file(ground.path("pid"));
        let mut process = Process(command.stdout(Stdio::null()).spawn().expect("it starts"));
        await_port(port, &mut process, "rsyslogd");
        process
    };
    let kind = Kind::Syslog { host: "localhost".into(), port, tls: ground.tls() };
    let sink = Sink { name: "siem".into(), kind, format: Format::Native };
    both_sides_restart(&ground, &sink, &out, start);
}

/// Keeps what it is sent if the signature is right; answers the first request with an error, as servers do.
const RECEIVER: &str = r#"
import base64, hashlib, hmac, http.server, ssl, sys
port, directory = int(sys.argv[1]), sys.argv[2]
secret = base64.b64decode(open(directory + "/secret").read().strip()[6:])
failed = False
class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        global failed
        body = self.rfile.read(int(self.headers["content-length"]))
        signed = (self.headers["webhook-id"] + "." + self.headers["webhook-timestamp"] + ".").encode() + body
        signature = "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        status = 204 if hmac.compare_digest(signature, self.headers["webhook-signature"]) else 401
        if not failed:
            failed, status = True, 503
        if status == 204:
            with open(directory + "/out.log", "ab") as out:
                out.write(body)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True
    def handle_error(self, request, client_address):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(directory + "/cert.pem", directory + "/key.pem")
server = Server(("127.0.0.1", port), Receiver)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

#[test]
fn an_https_receiver_has_every_signed_record_exactly_as_in_the_file_over_restarts_of_either_side() {
    let ground = Ground::new();
    let (port, out) = (ports::free(), ground.path("out.log"));
    both_sides_restart(&ground, &hook(&ground, port), &out, || receiver(&ground, port));
}

#[test]
fn a_sink_that_was_fed_from_another_longer_log_gets_this_one_from_its_beginning() {
    let ground = Ground::new();
    let (port, out) = (ports::free(), ground.path("out.log"));
    let cursors = ground.places().records().join("sinks");
    fs::create_dir(&cursors).expect("made");
    fs::write(cursors.join("hook"), "1000000\n").expect("written");
    let _receiver = receiver(&ground, port);
    // The log cannot be opened at first, so that the sink is there before it.
    let key = ground.places().records().join("audit.key");
    fs::create_dir(&key).expect("made");
    live(&ground, &hook(&ground, port), true, |audit| {
        let deadline = Instant::now() + PATIENCE;
        while !audit.state().is_err_and(|error| error.reason.contains("audit.key")) {
            assert!(Instant::now() < deadline, "it says what is in its way");
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::remove_dir(&key).expect("removed");
        record(audit, RECORDS);
        while ground.log().len() <= RECORDS {
            assert!(Instant::now() < deadline, "the log is written");
            std::thread::sleep(Duration::from_millis(5));
        }
        ground.await_all(&out, "all of the new log");
    });
}

fn receiver(ground: &Ground, port: u16) -> Process {
    let mut command = Command::new("python3");
    command.args(["-c", RECEIVER, &port.to_string()]).arg(ground.directory.path());
    let mut process = Process(command.spawn().expect("it starts"));
    await_port(port, &mut process, "the receiver");
    process
}

fn hook(ground: &Ground, port: u16) -> Sink {
    let url = format!("https://localhost:{port}/audit?from=node-1");
    let kind = Kind::Webhook { url, secret_file: ground.path("secret"), tls: ground.tls() };
    Sink { name: "hook".into(), kind, format: Format::Native }
}

#[test]
fn a_receiver_of_another_name_or_authority_gets_nothing() {
    let (ground, stranger) = (Ground::new(), Ground::new());
    let port = ports::free();
    let mut command = Command::new("python3");
    command.args(["-c", RECEIVER, &port.to_string()]).arg(stranger.directory.path());
    let mut receiver = Process(command.spawn().expect("it starts"));
    await_port(port, &mut receiver, "the receiver");
    let url = format!("https://localhost:{port}/");
    let kind = Kind::Webhook { url, secret_file: ground.path("secret"), tls: ground.tls() };
    let sink = Sink { name: "hook".into(), kind, format: Format::Native };
    live(&ground, &sink, true, |audit| {
        record(audit, 3);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            let (status, lag) = audit.sinks().remove(0);
            if status.failures > 0 && lag > 0 {
                break status;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.trouble.expect("a reason").contains("certificate"));
    });
    assert!(!stranger.path("out.log").exists());
}

#[test]
fn a_journal_has_every_record_and_in_ocsf_the_line_is_in_it() {
    let ground = Ground::new();
    let path = ground.path("journal");
    let journal = UnixDatagram::bind(&path).expect("bound");
    journal.set_read_timeout(Some(PATIENCE)).expect("set");
    let sink = Sink { name: "journal".into(), kind: Kind::Journald { socket: path }, format: Format::Ocsf };
    let mut got = Vec::new();
    live(&ground, &sink, true, |audit| {
        record(audit, 20);
        let mut bytes = vec![0; 1 << 20];
        while got.len() < 20 {
            let length = journal.recv(&mut bytes).expect("a record");
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let message = text.lines().find_map(|line| line.strip_prefix("MESSAGE=")).expect("a message");
            let event: serde_json::Value = serde_json::from_str(message).expect("JSON");
            got.push(event["raw_data"].as_str().expect("the line").to_owned());
        }
    });
    assert_eq!(got[..], ground.log()[..got.len()]);
}

#[test]
fn sinks_are_replaced_while_the_log_goes_on_and_each_goes_on_where_it_was() {
    let ground = Ground::new();
    let journal = |name: &str| {
        let journal = UnixDatagram::bind(ground.path(name)).expect("bound");
        journal.set_read_timeout(Some(PATIENCE)).expect("set");
        journal
    };
    let to = |name: &str, socket: &str| {
        let kind = Kind::Journald { socket: ground.path(socket) };
        Sink { name: name.into(), kind, format: Format::Native }
    };
    // Everything up to the record of this number; the first that came.
    let until = |journal: &UnixDatagram, wanted: u64| {
        let (mut bytes, mut first) = (vec![0; 1 << 20], None);
        loop {
            let length = journal.recv(&mut bytes).expect("a record");
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let seq = text.lines().find_map(|line| line.strip_prefix("STOCKADE_SEQ=")).expect("a number");
            let seq: u64 = seq.parse().expect("a number");
            let first = *first.get_or_insert(seq);
            if seq >= wanted {
                return first;
            }
        }
    };
    let [stays, old, new] = ["stays", "old", "new"].map(&journal);
    live(&ground, &to("moves", "old"), true, |audit| {
        let feed = |sinks: &[Sink]| audit.feed(sinks.to_vec(), &ground.places(), "node-1");
        feed(&[to("stays", "stays"), to("moves", "old")]);
        let reached = recorded(&ground, audit);
        assert_eq!((until(&stays, reached), until(&old, reached)), (1, 1));
        settled(audit, reached);
        feed(&[to("moves", "new"), to("stays", "stays")]);
        let end = recorded(&ground, audit);
        assert_eq!(until(&new, end), reached + 1, "it goes on where it was");
        assert_eq!(until(&stays, end), reached + 1, "it was not disturbed");
        settled(audit, end);
        feed(&[to("stays", "stays")]);
        let end = recorded(&ground, audit);
        until(&stays, end);
        assert_eq!(audit.sinks().len(), 1);
        // Whoever is told no more has nothing more to read.
        for gone in [&old, &new] {
            gone.set_nonblocking(true).expect("set");
            assert!(gone.recv(&mut [0; 64]).is_err());
        }
    });
}

/// Records some more, and waits until they are on disk: the number of the last.
fn recorded(ground: &Ground, audit: &Audit) -> u64 {
    let (before, deadline) = (ground.log().len(), Instant::now() + PATIENCE);
    record(audit, 20);
    loop {
        let now = ground.log().len();
        if now >= before + 20 {
            return now as u64;
        }
        assert!(Instant::now() < deadline, "{now} records");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until all sinks have taken this.
fn settled(audit: &Audit, seq: u64) {
    let deadline = Instant::now() + PATIENCE;
    while audit.sinks().iter().any(|(status, _)| status.delivered < seq) {
        assert!(Instant::now() < deadline, "{:?}", audit.sinks());
        std::thread::sleep(Duration::from_millis(5));
    }
}
