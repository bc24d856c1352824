//! Syslog: RFC 5424 messages, counted in octets, over TLS (RFC 5425).
//!
//! The protocol has no acknowledgement: what was written may be lost with the receiver, and nobody says so. So the cursor
//! follows with a pause: only what was written [`HELD`] ago, on a connection that still stands, counts as arrived; when
//! one breaks, the rest is sent again. A connection whose peer does not acknowledge bytes within less than that breaks.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Deliver;
use super::form::Line;
use super::settings::Tls;
use super::tls;

/// What was written so long ago has been read. Longer than [`tls::UNANSWERED`].
const HELD: Duration = Duration::from_secs(6);

/// A receiver that takes nothing for so long is dead.
const STUCK: Duration = Duration::from_secs(30);

/// Facility 13, "log audit".
const FACILITY: u8 = 13;

pub(super) struct Syslog {
    host: String,
    port: u16,
    tls: Tls,
    /// As HOSTNAME has it: printable, without a blank.
    node: String,
    stream: Option<TlsStream<TcpStream>>,
    /// What was written when: the last record of each piece.
    written: VecDeque<(Instant, u64)>,
    settled: u64,
}

impl Syslog {
    pub(super) fn new(host: &str, port: u16, tls: &Tls, node: &str) -> io::Result<Self> {
        let node: String = node.chars().filter(char::is_ascii_graphic).take(255).collect();
        Ok(Self {
            host: host.into(),
            port,
            tls: tls.clone(),
            node: if node.is_empty() { "-".into() } else { node },
            stream: None,
            written: VecDeque::new(),
            settled: 0,
        })
    }

    /// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID - MSG`, with its length before it.
    fn frame(&self, line: &Line, into: &mut Vec<u8>) {
        let severity = if line.is_notice { 5 } else { 6 };
        let priority = FACILITY * 8 + severity;
        let Line { at, event, text, .. } = line;
        let message = format!("<{priority}>1 {at} {} stockaded - {event} - {text}", self.node);
        // Writing to memory does not fail.
        let _ = write!(into, "{} ", message.len());
        into.extend_from_slice(message.as_bytes());
    }
}

impl Deliver for Syslog {
    async fn deliver(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut frames = Vec::new();
        lines.iter().for_each(|line| self.frame(line, &mut frames));
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(tls::connect(&self.host, self.port, &self.tls).await?),
        };
        let write = async {
            stream.write_all(&frames).await?;
            stream.flush().await
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the receiver takes nothing");
        tokio::time::timeout(STUCK, write).await.map_err(late)??;
        self.written.extend(lines.last().map(|line| (Instant::now(), line.seq)));
        Ok(())
    }

    async fn settle(&mut self) -> io::Result<u64> {
        self.check().await?;
        while let Some((_, seq)) = self.written.front().copied().filter(|(at, _)| at.elapsed() >= HELD) {
            self.written.pop_front();
            self.settled = seq;
        }
        Ok(self.settled)
    }

    fn is_settling(&self) -> bool {
        !self.written.is_empty()
    }
}

impl Syslog {
    /// A receiver says nothing but that it ends.
    async fn check(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut said = [0; 256];
        match tokio::time::timeout(Duration::ZERO, stream.read(&mut said)).await {
            Ok(Ok(0)) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the receiver has ended")),
            Ok(Ok(_)) | Err(_) => Ok(()),
            Ok(Err(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_counted_in_octets_and_ends_with_the_line_as_it_stands() {
        let tls = Tls { ca: "ca".into(), identity: None };
        let syslog = Syslog::new("h", 6514, &tls, "node 1\n").expect("made");
        let line = Line {
            seq: 1,
            at: "2026-11-26T16:00:00.000000Z".into(),
            event: "request".into(),
            is_notice: true,
            text: r#"{"ä":"]"}"#.into(),
        };
        let mut frame = Vec::new();
        syslog.frame(&line, &mut frame);
        let text = String::from_utf8(frame).expect("UTF-8");
        let (length, message) = text.split_once(' ').expect("a length");
        assert_eq!(length.parse(), Ok(message.len()));
        assert_eq!(message, "<109>1 2026-11-26T16:00:00.000000Z node1 stockaded - request - {\"ä\":\"]\"}");
    }
}
