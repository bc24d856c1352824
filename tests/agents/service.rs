//! A service whose agents find the vendors' hosts at a stand-in, driven over its API as its users do.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::dev::Dev;
use crate::vendor::auth::{Auth, HOSTS};

/// No wait in a test is longer: an agent's first start copies hundreds of megabytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service, and who stands in for the vendors.
pub struct Service {
    /// The vendors' accounts.
    pub auth: Auth,
    /// The service.
    pub dev: Dev,
    proxy: (Child, SocketAddr),
    _shown: TempDir,
}

/// One agent of it.
pub struct Agent<'a> {
    service: &'a Service,
    id: String,
}

impl Service {
    /// With a policy `lab-KIND` for each of these kinds: the shipped one, but for where its hosts are.
    pub fn start(kinds: &[&str]) -> Self {
        let (auth, dev) = (Auth::start(), Dev::start());
        let shown = tempfile::Builder::new().prefix("stockade-ca-").tempdir().expect("a directory");
        fs::set_permissions(shown.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        let authority = shown.path().join("ca.pem");
        fs::write(&authority, &auth.authority).expect("written");
        let installed = crate::installation();
        let paths: Vec<PathBuf> = kinds.iter().map(|kind| crate::directory_of(kind)).collect();
        let path: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let resolve: String = HOSTS.iter().map(|host| format!("'{host}' = ['{}']\n", auth.address)).collect();
        let policies = dev.dir().join("etc/stockade/policies");
        fs::create_dir_all(&policies).expect("made");
        // Where the interpreter of aider's own environment is installed.
        let python = fs::canonicalize(installed.join("aider/bin/python3")).expect("aider's Python");
        let home = python.ancestors().nth(2).expect("PREFIX/bin/python").to_owned();
        let python = if home.starts_with("/usr") { String::new() } else { format!(", '{}'", home.display()) };
        for kind in kinds {
            let allow: Vec<String> = HOSTS.iter().map(|host| format!("'{host}:443'")).collect();
            let policy = format!(
                "extends = '{kind}'\n[filesystem]\nread-only = ['{}', '{}'{python}]\n[network]\nallow = [{}]\n\
                 [network.resolve]\n{resolve}[environment.set]\nPATH = '{}:/usr/local/bin:/usr/bin:/bin'\n\
                 CODEX_CA_CERTIFICATE = '{ca}'\nNODE_EXTRA_CA_CERTS = '{ca}'\n",
                installed.display(),
                shown.path().display(),
                allow.join(", "),
                path.join(":"),
                ca = authority.display(),
            );
            fs::write(policies.join(format!("lab-{kind}.toml")), policy).expect("written");
        }
        let proxy = proxy(&dev);
        Self { auth, dev, proxy, _shown: shown }
    }

    /// What the command line has no word for.
    fn post(&self, path: &str, body: &str) {
        let mut stream = TcpStream::connect(self.proxy.1).expect("the proxy");
        let head = "Host: localhost\r\nContent-Type: application/json\r\nConnection: close";
        let request =
            format!("POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    /// Starts an agent of this kind, fresh, in an empty workspace of its own.
    pub fn spawn(&self, kind: &str, id: &str, words: &[&str]) -> Agent<'_> {
        let policy = format!("lab-{kind}");
        let all = [&["spawn", "--type", kind, "--id", id, "--policy", &policy, "--workspace-id", id], words];
        self.dev.ok(&all.concat());
        Agent { service: self, id: id.into() }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.proxy.0.kill();
        let _ = self.proxy.0.wait();
    }
}

fn proxy(dev: &Dev) -> (Child, SocketAddr) {
    let mut child = dev.command(&["proxy", "--listen", "127.0.0.1:0"]).spawn().expect("stockade starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("text");
    let address = line.trim().strip_prefix("listening http://").and_then(|address| address.parse().ok());
    (child, address.unwrap_or_else(|| panic!("{line:?}")))
}

impl Agent<'_> {
    /// As the API shows it.
    pub fn get(&self) -> Value {
        json(&self.service.dev.ok(&["get", &self.id, "--json"]))
    }

    /// Its screen, for people.
    pub fn screen(&self) -> String {
        self.service.dev.ok(&["screen", &self.id])
    }

    /// Presses keys.
    pub fn press(&self, keys: &[&str]) {
        let body = serde_json::json!({ "keys": keys }).to_string();
        let path = format!("/v1/agents/{}/input", self.id);
        self.service.post(&path, &body);
    }

    /// Waits until what the API shows is so.
    pub fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let agent = self.get();
            if is_so(&agent) {
                return agent;
            }
            let over = matches!(agent["state"].as_str(), Some("exited" | "failed"));
            assert!(
                !over && Instant::now() < deadline,
                "{what}: never; last {agent:#}\n{}\n{:#?}",
                self.screen(),
                self.service.auth.heard()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until its screen shows these words.
    pub fn shows(&self, words: &str) {
        let wanted: String = words.split_whitespace().collect();
        self.until(words, |_| self.screen().split_whitespace().collect::<String>().contains(&wanted));
    }

    /// Waits until it is in this state.
    pub fn becomes(&self, state: &str) -> Value {
        self.until(state, |agent| agent["state"] == state)
    }

    /// Waits until it asks for a login of this method with an address.
    pub fn asks(&self, method: &str) -> Value {
        let agent = self
            .until(method, |agent| agent["login"]["method"] == method && agent["login"]["url"].is_string());
        agent["login"].clone()
    }

    /// `stockade login`, with a secret that comes from standard input; its exit code and what it says.
    pub fn log_in(&self, option: &str, secret: &str) -> (i32, Value) {
        let words = ["login", &self.id, option, "-", "--timeout", "60s", "--json"];
        let mut command = self.service.dev.command(&words);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("stockade starts");
        child.stdin.take().expect("piped").write_all(secret.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!said.is_empty(), "{error}\n{}", self.screen());
        if output.status.code() != Some(0) {
            eprintln!("{said}\n{}\n{:#?}", self.screen(), self.service.auth.heard());
        }
        (output.status.code().expect("a code"), json(&said))
    }

    /// Goes on over questions whose answer the kind's rules know, until it is ready.
    pub fn gets_ready(&self) {
        for _ in 0..5 {
            let agent = self.until("ready or a question", |agent| {
                matches!(agent["state"].as_str(), Some("ready" | "blocked"))
            });
            if agent["state"] == "ready" {
                return;
            }
            // The service itself goes on where a login worked.
            if !agent["evidence"].as_str().is_some_and(|evidence| evidence.contains("the sign-in worked")) {
                self.press(&["enter"]);
            }
            self.until("another page", |now| {
                now["evidence"] != agent["evidence"] || now["state"] != agent["state"]
            });
        }
        panic!("{}", self.screen());
    }

    /// Ends it.
    pub fn end(self) {
        self.service.dev.ok(&["stop", &self.id, "--force"]);
        self.service.dev.ok(&["wait", &self.id]);
        self.service.dev.ok(&["rm", &self.id]);
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
