//! What a start comes to, and what it counts for until then.

use std::io;
use std::sync::atomic::Ordering;

use super::Handle;
use crate::audit::Unavailable;
use crate::wire::service::Refusal;

/// See [`Handle::reserve`].
pub(crate) struct Reserved<'a>(pub(super) &'a Handle);

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.0.reserved.store(false, Ordering::Relaxed);
    }
}

/// What a start came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It runs, or did.
    Started,
    /// Somebody refused.
    Refused(Refusal),
    /// An earlier daemon ended before it had asked for it: there never was anything.
    CutShort,
    /// The launcher could not be asked.
    Unanswered(io::ErrorKind, String),
    /// It could not be recorded, and was not tried.
    Unrecorded(Unavailable),
}
