//! A host of its own for one test, with a network that ends at its loopback, and the sites that an agent may talk to there.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;
use tempfile::TempDir;

use super::machine::alone;
use super::stockade::{STOCKADE, directory, output, text};

const INSIDE: &str = "STOCKADE_TEST_NETWORK";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/site.py");

/// Where the test's sites are, each on the ports that it has in the world.
pub const SITE: &str = "127.77.0.1";

/// Runs `body`, the body of the test named `test`, on a machine of its own whose network is a loopback with nothing on it.
pub fn apart(test: &str, body: impl FnOnce()) {
    alone(test, || {
        if std::env::var_os(INSIDE).is_some() {
            return body();
        }
        let this = std::env::current_exe().expect("the test program");
        let script = "ip link set lo up && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script, "sh"]).arg(this);
        command.args(["--exact", test, "--nocapture", "--include-ignored"]).env(INSIDE, "1");
        let output = command.stdin(Stdio::null()).output().expect("unshare(1) from util-linux starts");
        let told = String::from_utf8_lossy(&output.stdout);
        let passed = output.status.success() && told.contains("1 passed");
        assert!(passed, "{}\n{told}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    });
}

/// Gives this host another address.
pub fn add_address(address: &str) {
    let status = Command::new("ip").args(["address", "add", address, "dev", "lo"]).status();
    assert!(status.expect("ip(8) from iproute2 starts").success(), "{address}");
}

/// One of the servers of site.py, until it is dropped.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    kind: String,
    address: SocketAddr,
    marks: Cell<u32>,
}

impl Server {
    /// Starts it and waits until it answers.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new("python3");
        command.arg(SCRIPT).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python3 starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let port = match arguments[0] {
            "web" => "80",
            "dns" => "53",
            _ => arguments[2],
        };
        let address =
            SocketAddr::new(arguments[1].parse().expect("an address"), port.parse().expect("a port"));
        let server = Self { child, lines, kind: arguments[0].into(), address, marks: Cell::new(0) };
        assert_eq!(server.lines.recv().as_deref(), Ok("up"), "{arguments:?}");
        server
    }

    /// What it was told since the last time: all that came before a mark which this makes itself.
    pub fn heard(&self) -> Vec<String> {
        self.marks.set(self.marks.get() + 1);
        let mark = format!("mark-{}", self.marks.get());
        if self.kind == "web" {
            let mut stream = TcpStream::connect(self.address).expect("the site");
            write!(stream, "GET /hello?{mark} HTTP/1.0\r\n\r\n").expect("asked");
            stream.read_to_end(&mut Vec::new()).expect("answered");
        } else {
            let socket = UdpSocket::bind(if self.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })
                .expect("a socket");
            let question = if self.kind == "dns" { question(&mark) } else { mark.clone().into_bytes() };
            socket.send_to(&question, self.address).expect("asked");
        }
        let lines = self.lines.iter();
        lines.take_while(|line| !line.contains(&mark)).collect()
    }
}

/// A question for the IPv4 addresses of a name of one part (RFC 1035).
fn question(name: &str) -> Vec<u8> {
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, u8::try_from(name.len()).expect("short")];
    question.extend(name.bytes());
    question.extend([0, 0, 1, 0, 1]);
    question
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A web site under some names, and a workspace with what an agent needs to believe it.
pub struct Site {
    /// What the site serves, its key, policies.
    pub around: TempDir,
    /// The agent's.
    pub workspace: TempDir,
    /// The site.
    pub web: Server,
}

impl Site {
    /// Makes a certificate for these names, and serves.
    pub fn named(names: &[&str]) -> Self {
        let (around, workspace) = (directory(), directory());
        let site = around.path().join("site");
        fs::create_dir(&site).expect("made");
        fs::write(site.join("hello"), "hello from outside\n").expect("written");
        certify(around.path(), names);
        fs::copy(around.path().join("ca.pem"), workspace.path().join("ca.pem")).expect("copied");
        let at = |name: &str| around.path().join(name);
        let web = Server::start(&["web", SITE, text(&site), text(&at("cert.pem")), text(&at("key.pem"))]);
        Self { around, workspace, web }
    }

    /// A policy like `shell` with this `[network]`; `TEST=ADDRESS` for each name goes to `[network.resolve]`.
    pub fn policy(&self, allow: &str, resolve: &[&str]) -> PathBuf {
        let path = self.around.path().join("site.toml");
        let mut policy = format!("extends = 'shell'\n[network]\nallow = [{allow}]\n[network.resolve]\n");
        resolve.iter().for_each(|name| policy.push_str(&format!("'{name}' = ['{SITE}']\n")));
        fs::write(&path, policy).expect("written");
        path
    }

    /// `stockade run --policy FILE --workspace … OPTIONS -- sh -c SCRIPT`
    pub fn command(&self, policy: &Path, options: &[&str], script: &str) -> Command {
        let mut command = Command::new(STOCKADE);
        command.args(["run", "--policy", text(policy), "--workspace", text(self.workspace.path())]);
        command.args(options).args(["--", "sh", "-c", script]).stdin(Stdio::null());
        command.current_dir(self.workspace.path());
        command
    }

    /// Runs it to its end; what it wrote, and its report.
    pub fn run(&self, policy: &Path, options: &[&str], script: &str) -> (Output, Value) {
        let report = self.around.path().join("report.json");
        let mut options = options.to_vec();
        options.extend(["--report", text(&report)]);
        let output = output(&mut self.command(policy, &options, script));
        let report = fs::read(&report).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        (output, report.unwrap_or(Value::Null))
    }
}

/// `ca.pem`, and `cert.pem` with `key.pem` for these names.
fn certify(into: &Path, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=test-ca \
         -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=site -keyout key.pem -out site.csr
         printf 'subjectAltName=%s\\n' {names} >names
         openssl x509 -req -in site.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out cert.pem",
        names = names.join(",")
    );
    let output = Command::new("sh").args(["-ec", &script]).current_dir(into).output().expect("sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The reasons and names of what the gateway refused, in a report.
pub fn refusals(report: &Value) -> Vec<(String, String)> {
    let denials = report["denials"].as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_egress = denials.into_iter().filter(|denial| denial["wall"] == "egress");
    of_egress
        .map(|denial| {
            let host = [&denial["name"], &denial["address"]].into_iter().find(|host| host.is_string());
            (word(&denial["reason"]), format!("{}:{}", host.map(word).unwrap_or_default(), denial["port"]))
        })
        .collect()
}

/// Tries a connection or a datagram, and prints the error's name; `reached` if an answer came.
const ATTEMPT: &str = "import errno, socket, sys
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ':' in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
s.settimeout(60)
try:
    s.connect((host, port))
    if kind == 'udp':
        s.send(b'knock')
        s.recv(100)
    elif port == 80:
        s.send(b'GET /hello HTTP/1.0\\r\\n\\r\\n')
        if not s.recv(1):
            raise ConnectionResetError(errno.ECONNRESET, '')
    print('reached')
except OSError as e:
    print(errno.errorcode.get(e.errno, 'timeout'))";

/// As a command of a shell.
pub fn attempt(kind: &str, host: &str, port: u16) -> String {
    format!("python3 -c '{}' {kind} {host} {port}", ATTEMPT.replace('\'', "\""))
}
