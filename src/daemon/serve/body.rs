//! Bodies: of a request, as long as it keeps coming; of a response, which keeps its connection busy until it is sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::LengthLimitError;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::open::Busy;

/// Why a request's body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{STALLED} for {0:?}")]
pub struct Stalled(Duration);

/// What a framework that knows no such error says of it, among other things.
pub const STALLED: &str = "nothing of the request's body came";

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's body: not longer than it may be, and not slower.
pub struct Bounded {
    inner: Incoming,
    left: u64,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl Bounded {
    /// At most `most` bytes, with at most `patience` between two pieces.
    pub fn new(inner: Incoming, most: u64, patience: Duration) -> Self {
        Self { inner, left: most, patience, deadline: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            ready!(self.deadline.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Stalled(self.patience).into())));
        };
        let deadline = Instant::now() + self.patience;
        self.deadline.as_mut().reset(deadline);
        let Some(frame) = frame.transpose()? else { return Poll::Ready(None) };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(length) {
            Some(left) => self.left = left,
            // As axum's own limit says it: its extractors answer 413.
            None => return Poll::Ready(Some(Err(length_limit()))),
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// `LengthLimitError` has no constructor: it is asked of what makes it.
fn length_limit() -> Error {
    let mut limited = http_body_util::Limited::new(http_body_util::Full::new(Bytes::from_static(b"x")), 0);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match Pin::new(&mut limited).poll_frame(&mut cx) {
        Poll::Ready(Some(Err(error))) if error.is::<LengthLimitError>() => error,
        _ => "length limit exceeded".into(),
    }
}

/// A response's body.
pub struct Held {
    inner: axum::body::Body,
    _busy: Busy,
}

impl Held {
    /// Busy until it is sent, or given up.
    pub fn new(inner: axum::body::Body, busy: Busy) -> Self {
        Self { inner, _busy: busy }
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
