//! What whoever records something may wait for: that it is on disk.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Why nothing can be recorded now; nothing that needs a record is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written, and nothing is done that is not recorded: {reason}")]
pub struct Unavailable {
    /// Which file, why, and what to do.
    pub reason: String,
}

/// One event on its way to the disk. A future: the number of its record, once that is synced.
#[derive(Debug, Clone)]
pub struct Ticket(Arc<Slot>);

#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct State {
    result: Option<Result<u64, Unavailable>>,
    waker: Option<Waker>,
}

impl Ticket {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn complete(&self, result: Result<u64, Unavailable>) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.result.get_or_insert(result);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        self.0.told.notify_all();
    }

    /// Whether anybody but its owner has it.
    pub(super) fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Waits until the record is on disk; its number.
    ///
    /// # Errors
    /// When it will not be.
    pub async fn synced(self) -> Result<u64, Unavailable> {
        self.await
    }

    /// The same for whoever has a thread to spare.
    ///
    /// # Errors
    /// As [`Self::synced`].
    pub fn wait(&self) -> Result<u64, Unavailable> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = &state.result {
                return result.clone();
            }
            state = self.0.told.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Ticket {
    type Output = Result<u64, Unavailable>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.result {
            Some(result) => Poll::Ready(result.clone()),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
