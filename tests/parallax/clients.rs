//! Parallax's clients, in a process of Node's: asked by lines of JSON (`clients.cjs`).

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(40);

pub struct Clients {
    process: Child,
    said: Receiver<Value>,
    /// What came by itself, and nobody has asked for yet.
    events: Vec<Value>,
    asked: u64,
}

impl Clients {
    pub fn start(options: &[&str]) -> Self {
        let installed = std::env::var_os("STOCKADE_PARALLAX");
        let installed =
            PathBuf::from(installed.expect("STOCKADE_PARALLAX names an installation: make test-parallax"));
        let here = env!("CARGO_MANIFEST_DIR");
        let mut process = Command::new("node")
            .args(options)
            .arg(format!("{here}/tests/parallax/clients.cjs"))
            .env("NODE_PATH", installed.join("node_modules"))
            .env("STOCKADE_TEST_DOMAIN", super::DOMAIN)
            .env("STOCKADE_TEST_PROTO", format!("{here}/src/daemon/registry/proto/confidence.proto"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node");
        let (tell, said) = channel();
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).expect("a line of JSON"));
            }
        });
        Self { process, said, events: Vec::new(), asked: 0 }
    }

    /// What it answers; it must not fail.
    pub fn ask(&mut self, ask: Value) -> Value {
        let mut said = self.said_of(&ask);
        assert!(said.get("error").is_none(), "{ask}: {}", said["error"]);
        said["answer"].take()
    }

    /// Why it fails.
    pub fn refused(&mut self, ask: Value) -> String {
        let said = self.said_of(&ask);
        said["error"].as_str().unwrap_or_else(|| panic!("{ask} was answered: {said}")).to_owned()
    }

    /// Asks until the answer is as wanted.
    pub fn until(&mut self, ask: Value, is_so: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let said = self.said_of(&ask);
            if is_so(&said["answer"]) {
                return said["answer"].clone();
            }
            assert!(began.elapsed() < PATIENCE, "{ask}: the last was {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for what comes by itself.
    pub fn event(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            if let Some(at) = self.events.iter().position(&is_it) {
                return self.events.remove(at);
            }
            let left = PATIENCE.saturating_sub(began.elapsed());
            let said = self.said.recv_timeout(left);
            self.events.push(said.unwrap_or_else(|_| panic!("it never came; what did: {:#?}", self.events)));
        }
    }

    /// Waits for an event of a thread on the socket `bus`; its data.
    pub fn thread_event(&mut self, thread: &str, kind: &str) -> Value {
        let event = |message: &Value| -> Option<Value> {
            let envelope: Value = serde_json::from_str(message["text"].as_str()?).ok()?;
            let event = &envelope["data"]["event"];
            (event["threadId"] == thread && event["type"] == kind).then(|| event["data"].clone())
        };
        let message = self.event(|message| message["name"] == "bus" && event(message).is_some());
        event(&message).expect("it is one")
    }

    fn said_of(&mut self, ask: &Value) -> Value {
        self.asked += 1;
        let stdin = self.process.stdin.as_mut().expect("piped");
        writeln!(stdin, "{}", json!({ "id": self.asked, "ask": ask })).expect("it listens");
        let began = Instant::now();
        loop {
            let said = self.said.recv_timeout(PATIENCE.saturating_sub(began.elapsed()));
            let said = said.unwrap_or_else(|_| panic!("no answer to {ask}"));
            if said.get("event").is_none() && said["id"] == self.asked {
                return said;
            }
            self.events.push(said);
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
