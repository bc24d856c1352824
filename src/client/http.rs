//! Requests to a service: one connection each, JSON in both directions, a refusal as an error.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::config::Target;
use super::error::ClientError;
use super::tls;
use crate::api::Problem;
use crate::id::AgentId;

/// For an answer that takes no waiting.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// What an answer may hold that is read as a whole.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// A service, and who we are to it.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where and as whom.
    pub target: Target,
}

impl Client {
    /// Reads something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.ask(Method::GET, path, None, PATIENCE).await?).await
    }

    /// Does something that answers with a document.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T, ClientError> {
        self.json(self.send(Method::POST, path, body, patience).await?).await
    }

    /// Does something.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let body = serde_json::to_vec(body).expect("a request of ours is plain data");
        self.ask(method, path, Some(body), patience).await
    }

    /// Asks; the answer's body comes as it comes.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        patience: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.target.authority())
            .header(header::USER_AGENT, concat!("stockade/", env!("CARGO_PKG_VERSION")))
            .header("x-request-id", uuid::Uuid::now_v7().to_string());
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| ClientError::Usage(format!("{path}: {error}")))?;
        self.exchange(request, patience).await
    }

    /// One request, one connection.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let tls = tls::connect(&self.target).await?;
        let lost = |error: hyper::Error| tls::explain(&self.target, Box::new(error));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(lost)?;
        tokio::spawn(connection);
        let answer =
            timeout(patience, sender.send_request(request)).await.map_err(|_| ClientError::Timeout {
                what: format!("{} did not answer", self.target.authority()),
                after: patience,
            })?;
        let answer = answer.map_err(lost)?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    async fn refusal(&self, answer: Response<Incoming>) -> ClientError {
        let status = answer.status();
        match self.text(answer).await {
            Ok(body) => self.refused(status, &body),
            Err(error) => error,
        }
    }

    /// What an answer that is no success says.
    pub fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => ClientError::Problem(Box::new(Problem { status: status.as_u16(), ..problem })),
            Err(_) => ClientError::Status { server: self.target.authority(), status: status.as_u16() },
        }
    }

    /// All of a body.
    pub async fn text(&self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        let all = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        Ok(all.map_err(|error| tls::explain(&self.target, error))?.to_bytes())
    }

    /// All of a body, understood.
    pub async fn json<T: DeserializeOwned>(&self, answer: Response<Incoming>) -> Result<T, ClientError> {
        let body = self.text(answer).await?;
        serde_json::from_slice(&body).map_err(|error| self.not_understood(&error.to_string()))
    }

    /// The next piece of a body; none: that was all.
    pub async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, ClientError> {
        loop {
            match body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(tls::explain(&self.target, Box::new(error))),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// An answer that this version makes nothing of.
    pub fn not_understood(&self, detail: &str) -> ClientError {
        ClientError::Answer { server: self.target.authority(), detail: detail.into() }
    }
}

/// `/v1/agents/ID/REST`, of what is an id.
pub fn agent_path(id: &str, rest: &str) -> Result<String, ClientError> {
    let id: AgentId = id.parse().map_err(|error| ClientError::Usage(format!("{error}")))?;
    Ok(format!("/v1/agents/{id}{rest}"))
}

/// `?a=b&c=d` of what has a value; each value escaped.
pub fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_the_user_s_can_become_another_path_or_parameter() {
        for hostile in ["../node", "a/stop", "a?x=y", "a%2f", "", "a b"] {
            assert!(agent_path(hostile, "").is_err(), "{hostile:?} was accepted");
        }
        assert_eq!(agent_path("a-1", "/stop").expect("plain"), "/v1/agents/a-1/stop");
        let text = query(&[("label", Some("a=b&c d".into())), ("none", None), ("tail", Some("3".into()))]);
        assert_eq!(text, "?label=a%3Db%26c%20d&tail=3");
    }
}
