//! A webhook: records POSTed over HTTPS, signed as Standard Webhooks has it (`webhook-id`, `webhook-timestamp`,
//! `webhook-signature: v1,…`), and sent again until somebody answers 2xx.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use ring::hmac;

use super::Deliver;
use super::form::Line;
use super::settings::Tls;
use super::tls;
use crate::daemon::tls::secret as tls_secret;

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// So much of an answer is read; nobody looks at it.
const ANSWER: usize = 64 * 1024;

/// Records of one request.
const TOGETHER: usize = 500;

pub(super) struct Webhook {
    uri: Uri,
    host: String,
    port: u16,
    tls: Tls,
    secret: PathBuf,
    connection: Option<SendRequest<Full<Bytes>>>,
    delivered: u64,
}

impl Webhook {
    pub(super) fn new(url: &str, secret: &Path, tls: &Tls) -> io::Result<Self> {
        let uri: Uri = url.parse().map_err(io::Error::other)?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        Ok(Self { uri, host, port, tls: tls.clone(), secret: secret.into(), connection: None, delivered: 0 })
    }

    async fn post(&mut self, lines: &[Line]) -> io::Result<()> {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Ok(()) };
        let mut body = String::new();
        for line in lines {
            body.push_str(&line.text);
            body.push('\n');
        }
        // The same records have the same id, however often they are sent.
        let id = format!("{}-{}", first.seq, last.seq);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = since.as_secs().to_string();
        let signature = sign(&secret(&self.secret)?, &id, &timestamp, &body);
        let authority = self.uri.authority().map(ToString::to_string).unwrap_or_default();
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::post(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("stockade/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let connection = self.connected().await?;
        let response = connection.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let _ = Limited::new(response.into_body(), ANSWER).collect().await.map_err(io::Error::other)?;
        if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("it answers {status}"))) }
    }

    async fn connected(&mut self) -> io::Result<&mut SendRequest<Full<Bytes>>> {
        let is_open = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let stream = tls::connect(&self.host, self.port, &self.tls).await?;
            let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            // It ends with the sender, or with the peer.
            tokio::spawn(async move { drop(driver.await) });
            self.connection = Some(sender);
        }
        self.connection.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Deliver for Webhook {
    async fn deliver(&mut self, lines: &[Line]) -> io::Result<()> {
        for some in lines.chunks(TOGETHER) {
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            let posted = tokio::time::timeout(PATIENCE, self.post(some)).await.map_err(late);
            if let Err(error) = posted.and_then(|posted| posted) {
                self.connection = None;
                return Err(error);
            }
            self.delivered = some.last().map_or(self.delivered, |line| line.seq);
        }
        Ok(())
    }

    async fn settle(&mut self) -> io::Result<u64> {
        Ok(self.delivered)
    }
}

/// Read anew for each request: it may have been replaced. `whsec_` and base64, or any line.
fn secret(path: &Path) -> io::Result<Vec<u8>> {
    let wrong = |what: &str| io::Error::other(format!("{}: {what}", path.display()));
    let text = tls_secret::read(path).map_err(|error| wrong(&error.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| wrong("it is no text"))?;
    let text = text.trim();
    let secret = match text.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| wrong("what follows whsec_ is not base64"))?,
        None => text.as_bytes().to_vec(),
    };
    let is_long = secret.len() >= 16;
    if is_long { Ok(secret) } else { Err(wrong("a secret has at least 16 bytes")) }
}

/// HMAC-SHA256 over `id.timestamp.body`.
fn sign(secret: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_as_standard_webhooks_has_it() {
        // The example of the specification.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signed = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_short_secret_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret");
        for (text, fits) in [("short\n", false), ("0123456789abcdef\n", true), ("whsec_%%%\n", false)] {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("set");
            assert_eq!(secret(&path).is_ok(), fits, "{text}");
        }
    }
}
