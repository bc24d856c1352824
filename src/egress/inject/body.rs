//! Bodies on their way through: counted, and on the way in searched for the secret.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::mask::Mask;
use crate::egress::account::Account;

/// What the agent is answered with.
pub type Reply = Pin<Box<dyn Body<Data = Bytes, Error = hyper::Error>>>;

/// From the agent to the upstream.
pub struct Counted {
    body: Option<Incoming>,
    account: Rc<Account>,
}

impl Counted {
    /// Counts what `body` has.
    pub fn new(body: Incoming, account: Rc<Account>) -> Self {
        Self { body: Some(body), account }
    }

    /// Another like this, if there is nothing in it.
    pub fn again(&self) -> Option<Self> {
        self.is_end_stream().then(|| Self { body: None, account: Rc::clone(&self.account) })
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.account.sent.set(self.account.sent.get() + bytes.len() as u64);
            self.account.moved();
        }
        // Trailers are headers that no rule has seen.
        Poll::Ready(frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// From the upstream to the agent.
pub struct Masked {
    body: Incoming,
    mask: Mask,
    /// Entered in the ledger when the last byte has gone.
    account: Rc<Account>,
    is_finished: bool,
}

impl Masked {
    /// Searches what `body` has.
    pub fn new(body: Incoming, mask: Mask, account: Rc<Account>) -> Self {
        Self { body, mask, account, is_finished: false }
    }
}

impl Body for Masked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        while !self.is_finished {
            let shown = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.mask.feed(&bytes),
                    Err(_trailers) => continue,
                },
                None => {
                    self.is_finished = true;
                    self.mask.finish()
                }
            };
            if !shown.is_empty() {
                self.account.received.set(self.account.received.get() + shown.len() as u64);
                self.account.moved();
                return Poll::Ready(Some(Ok(Frame::data(shown.into()))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.is_finished
    }

    fn size_hint(&self) -> SizeHint {
        // As many bytes go out as come in, but some may be held back here while the body has none left.
        if self.body.is_end_stream() && !self.is_finished {
            SizeHint::default()
        } else {
            self.body.size_hint()
        }
    }
}
