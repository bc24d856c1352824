//! One connection to an agent's terminal.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode, header};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::api::agent::Size;
use crate::api::terminal::{FromClient, FromServer};
use crate::client::error::ClientError;
use crate::client::http::{Client, PATIENCE, agent_path, query};
use crate::client::tls;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose terminal.
    pub id: String,
    /// Go on from this offset; none: a drawing first.
    pub since: Option<u64>,
    /// Whether to type.
    pub may_type: bool,
    /// Whether to own the size, whoever does.
    pub takeover: bool,
    /// This window's.
    pub size: Option<Size>,
}

/// To the service.
pub struct Sender(SplitSink<WebSocketStream<TlsStream<TcpStream>>, Message>);

/// From the service.
pub struct Receiver {
    stream: SplitStream<WebSocketStream<TlsStream<TcpStream>>>,
    client: Client,
}

/// What comes.
#[derive(Debug)]
pub enum Received {
    /// A word.
    Word(FromServer),
    /// Bytes of the terminal's.
    Bytes(Bytes),
    /// A sign of life.
    Alive,
}

/// In milliseconds.
const NETWORK_GONE: u32 = 30_000;
/// Longest message: a drawing or a piece of output.
const LONGEST: usize = 16 * 1024 * 1024;

/// Connects.
pub async fn open(client: &Client, wanted: &Wanted) -> Result<(Sender, Receiver), ClientError> {
    let number = |number: Option<u16>| number.map(|number| number.to_string());
    let pairs = [
        ("since", wanted.since.map(|since| since.to_string())),
        ("mode", Some(if wanted.may_type { "type" } else { "view" }.to_owned())),
        ("takeover", wanted.takeover.then(|| "true".to_owned())),
        ("cols", number(wanted.size.map(|size| size.cols))),
        ("rows", number(wanted.size.map(|size| size.rows))),
    ];
    let path = format!("{}{}", agent_path(&wanted.id, "/terminal")?, query(&pairs));
    let authority = client.target.authority();
    let request = Request::builder()
        .uri(format!("wss://{authority}{path}"))
        .header(header::HOST, &authority)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .body(())
        .map_err(|error| ClientError::Usage(format!("{path}: {error}")))?;
    let tls = tls::connect(&client.target).await?;
    if wanted.may_type && wanted.size.is_some() {
        // Somebody sits here. What is sent and never acknowledged is the end: of the network, or of a service that has taken
        // nothing for so long. A failure only means that it is noticed later.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(tls.get_ref().0, NETWORK_GONE);
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST))
        // Keys go at once.
        .write_buffer_size(0);
    let shaking = tokio_tungstenite::client_async_with_config(request, tls, Some(config));
    let late = |_| ClientError::Timeout { what: format!("{authority} did not answer"), after: PATIENCE };
    let shaken = tokio::time::timeout(PATIENCE, shaking).await.map_err(late)?;
    let (socket, _) = shaken.map_err(|error| explain(client, error))?;
    let (sink, stream) = socket.split();
    Ok((Sender(sink), Receiver { stream, client: client.clone() }))
}

fn explain(client: &Client, error: Error) -> ClientError {
    match error {
        Error::Http(answer) => {
            let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
            client.refused(status, answer.body().as_deref().unwrap_or_default())
        }
        Error::Capacity(_) | Error::Utf8(_) | Error::AttackAttempt => {
            client.not_understood(&error.to_string())
        }
        other => tls::explain(&client.target, Box::new(other)),
    }
}

impl Sender {
    /// Types.
    pub async fn typed(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.0.send(Message::Binary(bytes.into())).await
    }

    /// Says something.
    pub async fn word(&mut self, word: &FromClient) -> Result<(), Error> {
        let text = serde_json::to_string(word).expect("a word of ours is plain data");
        self.0.send(Message::Text(text.into())).await
    }

    /// Asks for a sign of life.
    pub async fn ping(&mut self) -> Result<(), Error> {
        self.0.send(Message::Ping(Bytes::new())).await
    }

    /// Says goodbye.
    pub async fn close(&mut self) {
        // It is gone either way.
        let _ = self.0.send(Message::Close(None)).await;
    }
}

impl Receiver {
    /// The next; an error is the end of this connection.
    pub async fn next(&mut self) -> Result<Received, ClientError> {
        match self.stream.next().await {
            None | Some(Ok(Message::Close(_))) => Err(ClientError::Lost {
                server: self.client.target.authority(),
                source: "it closed the connection".into(),
            }),
            Some(Err(error)) => Err(explain(&self.client, error)),
            Some(Ok(Message::Binary(bytes))) => Ok(Received::Bytes(bytes)),
            Some(Ok(Message::Text(text))) => {
                let word = serde_json::from_str(text.as_str());
                word.map(Received::Word).map_err(|error| self.client.not_understood(&error.to_string()))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(Received::Alive),
        }
    }
}
