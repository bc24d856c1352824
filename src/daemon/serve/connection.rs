//! One connection, from its verified certificate to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Closing;
use super::body::{Bounded, Held};
use super::open::Connection;
use super::request::Desk;
use super::tied::{Tied, grace};
use crate::daemon::config::Limits;

/// All headers of a request.
const MOST_HEADERS: usize = 64 * 1024;
/// How many there may be.
const MOST_HEADER_FIELDS: usize = 100;

/// Which HTTP was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `http/1.1`, or nothing was said.
    Http1,
    /// `h2`
    Http2,
}

/// Serves it until it ends, or has to.
pub async fn serve<S>(
    socket: S,
    version: Version,
    connection: Arc<Connection>,
    desk: Arc<Desk>,
    limits: Arc<Limits>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let watch = connection.watch();
    let tied = Tied::new(socket, Arc::clone(&connection), limits.drain_timeout);
    let service = {
        let (connection, watch, limits) = (Arc::clone(&connection), watch.clone(), Arc::clone(&limits));
        service_fn(move |request: Request<Incoming>| {
            let busy = connection.busy();
            let mut request =
                request.map(|body| Body::new(Bounded::new(body, desk.most_body, limits.body_timeout)));
            request.extensions_mut().insert(Arc::clone(&connection.peer));
            request.extensions_mut().insert(watch.clone());
            let desk = Arc::clone(&desk);
            async move {
                let response = desk.answer(request).await;
                Ok::<_, Infallible>(response.map(|body| Body::new(Held::new(body, busy))))
            }
        })
    };
    let builder = builder(version, &limits);
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(tied), service));
    let mut look = tokio::time::interval(pulse(&limits));
    // The connection itself must not hold it open: after an upgrade the socket does.
    let connection = Arc::downgrade(&connection);
    let closing = loop {
        tokio::select! {
            _ = serving.as_mut() => return,
            closing = watch.closing() => break closing,
            _ = look.tick() => {
                let Some(connection) = connection.upgrade() else { return };
                match connection.quiet() {
                    // Half a request for so long is nobody who would read an answer.
                    Some((quiet, true)) if version == Version::Http1 && quiet > limits.header_timeout => return,
                    Some((quiet, _)) if quiet > limits.idle_timeout => connection.close(Closing::Idle),
                    _ => {}
                }
            }
        }
    };
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(grace(closing, limits.drain_timeout), serving).await;
}

fn builder(version: Version, limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // Its own timeout for headers runs between requests as well: `quiet` does not.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(MOST_HEADER_FIELDS)
        .max_buf_size(MOST_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(MOST_HEADERS as u32)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    // What was agreed on, and not what the first bytes look like.
    match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_only(),
    }
}

fn pulse(limits: &Limits) -> Duration {
    (limits.header_timeout.min(limits.idle_timeout) / 4)
        .clamp(Duration::from_millis(20), Duration::from_secs(5))
}
