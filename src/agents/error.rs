//! Why a kind of agent could not be had: always with the file, the place in it, and the way out.

use std::io;
use std::path::PathBuf;

use crate::policy::error::Fault;
use crate::policy::trust::Distrust;

/// Why a kind could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    /// No place has a kind of this name.
    #[error("there is no agent kind {name:?}{}", nearest.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// The name of one that looks like it.
        nearest: Option<String>,
    },
    /// The file cannot be opened or read.
    #[error("cannot read agent file {}", path.display())]
    Read {
        /// On the host.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody other than root can change the file, or put another in its place.
    #[error("agent file {} is not trusted: {distrust}", path.display())]
    Untrusted {
        /// As looked for.
        path: PathBuf,
        /// What is wrong, with which part of the path, and what puts it right.
        distrust: Distrust,
    },
    /// Longer than any kind needs to be.
    #[error("agent file {} is larger than 1MiB", path.display())]
    TooLarge {
        /// On the host.
        path: PathBuf,
    },
    /// The file says something that it cannot mean.
    #[error(transparent)]
    Invalid(#[from] Box<Fault>),
}
