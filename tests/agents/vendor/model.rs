//! Stands in for the hosts that models are called on: HTTPS under the vendors' names, with an authority of the test's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::model_answers;

/// What a test's message begins and ends with: what the agents add around it is not counted.
pub const MARKS: (&str, &str) = ("<counted>", "</counted>");

/// A server, until it is dropped.
pub struct Model {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One request.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: String,
    pub body: Value,
}

pub type Stream = StreamOwned<ServerConnection, TcpStream>;

impl Model {
    /// Serves these hosts at `address`, port 443; the authority is written to `authority`.
    pub fn start(address: &str, hosts: &[&str], authority: &Path) -> Self {
        let config = Arc::new(config(hosts, authority));
        let listener = TcpListener::bind((address, 443)).expect("an address of the loopback's");
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let (told, ended) = (heard.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let mut served = Vec::new();
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let (config, told) = (config.clone(), told.clone());
                served.push(std::thread::spawn(move || serve(stream, config, &told)));
            }
            // Each ends with its connection, which has a time limit.
            served.into_iter().for_each(|thread| drop(thread.join()));
        });
        Self { address: address.into(), heard, over, thread: Some(thread) }
    }

    /// Method and path of every request, and what was counted in it.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("whole").clone()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It waits for a connection.
        let _ = TcpStream::connect((self.address.as_str(), 443));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn config(hosts: &[&str], authority: &Path) -> ServerConfig {
    let own = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "stand-in authority");
    let certificate = parameters.self_signed(&own).expect("a certificate");
    std::fs::write(authority, certificate.pem()).expect("written");
    let issuer = rcgen::Issuer::from_params(&parameters, &own);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let site = rcgen::CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("signed");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![site.der().clone()], key)
        .expect("a certificate with its key")
}

/// One connection, one request: the answer says that it is closed.
fn serve(stream: TcpStream, config: Arc<ServerConfig>, told: &Mutex<Vec<String>>) {
    let limit = Some(std::time::Duration::from_secs(60));
    let _ = stream.set_read_timeout(limit);
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    let Some(asked) = read(&mut stream) else { return };
    let counted =
        model_answers::counted(&asked.body).map(|text| format!(" counted {}", text.chars().count()));
    let line = format!("{} {}{}", asked.method, asked.path, counted.unwrap_or_default());
    told.lock().expect("whole").push(line);
    // An agent that has gone needs no answer.
    let _ = model_answers::answer(&mut stream, &asked);
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

fn read(stream: &mut Stream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        headers.push_str(&line.to_ascii_lowercase());
    }
    let field = |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut body = Vec::new();
    if field("transfer-encoding:").is_some_and(|coding| coding.contains("chunked")) {
        chunks(&mut reader, &mut body)?;
    } else if let Some(length) = field("content-length:").and_then(|length| length.parse::<u64>().ok()) {
        reader.by_ref().take(length).read_to_end(&mut body).ok()?;
    }
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Asked { method, path, headers, body })
}

fn chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = u64::from_str_radix(line.trim(), 16).ok()?;
        reader.by_ref().take(length).read_to_end(body).ok()?;
        reader.read_line(&mut line).ok()?;
        if length == 0 {
            return Some(());
        }
    }
}
