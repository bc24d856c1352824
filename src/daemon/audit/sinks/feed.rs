//! Feeds one sink from the files, from its cursor on, for ever.

use std::io;
use std::time::Duration;

use super::cursor::Cursor;
use super::form::{self, Line};
use super::journald::Journald;
use super::syslog::Syslog;
use super::webhook::Webhook;
use super::{Deliver, Kind, Shown, Sink, Source};
use crate::audit::Reader;

/// Bytes of records that are sent at once, about.
const PIECE: usize = 256 * 1024;

/// The pause after a first failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// How often what has been sent is looked at while nothing new comes.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) async fn run(sink: Sink, source: Source, shown: Shown) {
    let mut failures = 0;
    loop {
        let node = &source.node;
        let ended = match &sink.kind {
            Kind::Syslog { host, port, tls } => {
                feed(Syslog::new(host, *port, tls, node), &sink, &source, &shown, &mut failures).await
            }
            Kind::Webhook { url, secret_file, tls } => {
                feed(Webhook::new(url, secret_file, tls), &sink, &source, &shown, &mut failures).await
            }
            Kind::Journald { socket } => {
                feed(Journald::new(socket), &sink, &source, &shown, &mut failures).await
            }
        };
        let Err(error) = ended else { return };
        failures += 1;
        let pause = PAUSES.0.saturating_mul(1 << failures.min(16)).min(PAUSES.1);
        if failures == 1 {
            tracing::warn!(sink = sink.name, %error, "an audit sink takes nothing; it is tried again");
        }
        shown.change(|status| {
            status.failures += 1;
            status.trouble = Some(error.to_string());
        });
        tokio::time::sleep(pause).await;
    }
}

/// Until something fails, or the log is closed.
async fn feed(
    deliver: io::Result<impl Deliver>,
    sink: &Sink,
    source: &Source,
    shown: &Shown,
    failures: &mut u32,
) -> io::Result<()> {
    let mut deliver = deliver?;
    let mut synced = source.synced.clone();
    let mut cursor = Cursor::open(&source.cursors, &sink.name)?;
    // Before the log was opened nobody knows how far it reaches.
    let Ok(end) = synced.wait_for(|end| *end > 0).await.map(|end| *end) else { return Ok(()) };
    // Another log: what was delivered of the one before says nothing of it.
    if cursor.at() > end {
        cursor.advance(0)?;
    }
    shown.change(|status| status.delivered = cursor.at());
    let mut reader = Some(Reader::new(source.log.clone(), cursor.at()));
    loop {
        let reach = *synced.borrow_and_update();
        let (kept, lines) = read(reader.take(), reach, sink).await?;
        reader = Some(kept);
        let is_all = lines.is_empty();
        if !is_all {
            deliver.deliver(&lines).await?;
            if *failures > 0 {
                tracing::info!(sink = sink.name, "an audit sink takes records again");
            }
            *failures = 0;
            shown.change(|status| status.trouble = None);
        }
        let settled = deliver.settle().await?.max(cursor.at());
        cursor.advance(settled)?;
        shown.change(|status| status.delivered = settled);
        if is_all {
            let more = synced.changed();
            let over = match deliver.is_settling() {
                false => more.await.is_err(),
                true => tokio::time::timeout(SETTLE, more).await.is_ok_and(|changed| changed.is_err()),
            };
            if over {
                return Ok(());
            }
        }
    }
}

async fn read(reader: Option<Reader>, reach: u64, sink: &Sink) -> io::Result<(Reader, Vec<Line>)> {
    let Some(mut reader) = reader else { return Err(io::ErrorKind::NotFound.into()) };
    let format = sink.format;
    let read = tokio::task::spawn_blocking(move || {
        let text = reader.lines(reach, PIECE)?;
        Ok((reader, form::lines(&text, format)))
    });
    read.await.map_err(io::Error::other)?
}
