//! Answers that go on: a source of pieces, until it or the connection has to end.

use std::io;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, header::HeaderName};

use crate::daemon::serve::ConnectionWatch;

/// Something that goes on.
pub trait Source: Send + 'static {
    /// The next piece; none: that was all. Nothing is asked for before the client has taken the piece before.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;
}

/// Answers with what this source gives. It is dropped with the connection.
pub fn answer(media_type: &'static str, watch: ConnectionWatch, source: impl Source) -> Response {
    let pieces = stream::unfold(Some(source), |source| async {
        let mut source = source?;
        match source.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(source))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    let told = Arc::new(OnceLock::new());
    let ended = {
        let told = Arc::clone(&told);
        async move { told.set(watch.closing().await.reason()) }
    };
    // A comment of an event stream, which no reader takes for an event; other media have no place for it.
    let may_say = media_type.starts_with("text/event-stream");
    let farewell = stream::once(async move { told.get().copied().filter(|_| may_say) });
    let farewell = farewell.filter_map(|reason| {
        std::future::ready(reason.map(|reason| Ok(Bytes::from(format!(": closing {reason}\n\n")))))
    });
    let pieces = pieces.take_until(Box::pin(ended)).chain(farewell);
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // For proxies in between: pass on every piece at once.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
