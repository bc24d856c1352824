//! What can go wrong for a client, and the exit code that says so.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::Problem;

/// Exit codes: interface.md, "Client exit codes".
pub mod code {
    /// As asked.
    pub const OK: u8 = 0;
    /// Anything else.
    pub const FAILURE: u8 = 1;
    /// Words that make no sense.
    pub const USAGE: u8 = 2;
    /// No such agent.
    pub const NOT_FOUND: u8 = 3;
    /// Not for this client.
    pub const DENIED: u8 = 4;
    /// Not in this state, or taken.
    pub const CONFLICT: u8 = 5;
    /// Not in time.
    pub const TIMEOUT: u8 = 6;
    /// Nobody there, or not now.
    pub const UNAVAILABLE: u8 = 7;
    /// Not what it should be: a service that the authority does not vouch for.
    pub const INTEGRITY: u8 = 8;
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Words that make no sense.
    #[error("{0}")]
    Usage(String),
    /// A file of this host's.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{}: {detail}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// No connection.
    #[error("cannot reach {server}")]
    Unreachable {
        /// Which service.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody can connect here.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {server} was lost")]
    Lost {
        /// Which service.
        server: String,
        /// How.
        #[source]
        source: Box<dyn Error + std::marker::Send + Sync>,
    },
    /// Somebody else answers there.
    #[error("{server} is not whom {} vouches for: {detail}", ca.display())]
    Untrusted {
        /// Which service.
        server: String,
        /// Whose word would count.
        ca: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The service does not want this client.
    #[error("{server} refuses the certificate {}: {detail}", cert.display())]
    Refused {
        /// Which service.
        server: String,
        /// Which certificate.
        cert: PathBuf,
        /// Why, as TLS says it.
        detail: String,
    },
    /// The service says no.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// It answers, but not as a service does.
    #[error("{server} answers {status} without saying why: is it a Stockade service?")]
    Status {
        /// Which service.
        server: String,
        /// Which status.
        status: u16,
    },
    /// It answers, but this is no answer that is understood.
    #[error("{server} answers something that is not understood: {detail}")]
    Answer {
        /// Which service.
        server: String,
        /// What is wrong.
        detail: String,
    },
    /// Not in time.
    #[error("{what} within {after:?}")]
    Timeout {
        /// What did not happen.
        what: String,
        /// Within this.
        after: Duration,
    },
    /// The streams of this process.
    #[error("{what}")]
    Stream {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No such thing on this host.
    #[error("{0}")]
    NotFound(String),
    /// It is there already.
    #[error("{0}")]
    Conflict(String),
    /// Not for this user.
    #[error("{0}")]
    Denied(String),
    /// Damaged.
    #[error("{0}")]
    Corrupt(String),
    /// What is said otherwise.
    #[error("{0}")]
    Failed(String),
}

impl ClientError {
    /// For scripts.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => code::USAGE,
            Self::Problem(problem) => of_status(problem.status),
            Self::Status { status, .. } => of_status(*status),
            Self::Refused { .. } | Self::Denied(_) => code::DENIED,
            Self::Unreachable { .. } | Self::Lost { .. } => code::UNAVAILABLE,
            Self::Untrusted { .. } | Self::Corrupt(_) => code::INTEGRITY,
            Self::NotFound(_) => code::NOT_FOUND,
            Self::Conflict(_) => code::CONFLICT,
            Self::Timeout { .. } => code::TIMEOUT,
            Self::File { .. }
            | Self::Content { .. }
            | Self::Answer { .. }
            | Self::Listen { .. }
            | Self::Stream { .. }
            | Self::Failed(_) => code::FAILURE,
        }
    }

    /// Whether the same may go well a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Timeout { .. } => true,
            Self::Problem(problem) => matches!(problem.status, 429 | 502..=504),
            Self::Status { status, .. } => matches!(status, 429 | 502..=504),
            _ => false,
        }
    }

    /// The error and its causes on one line.
    pub fn line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(source) = cause {
            let said = source.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = source.source();
        }
        // What a service says may hold line breaks, or sequences that a terminal would obey.
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    /// For programs.
    pub fn document(&self) -> serde_json::Value {
        let mut document = serde_json::json!({ "error": self.line(), "exitCode": self.exit_code() });
        if let Self::Problem(problem) = self {
            document["code"] = problem.code.clone().into();
            document["status"] = problem.status.into();
            document["requestId"] = problem.request_id.clone().into();
            if let Some(field) = &problem.field {
                document["field"] = field.clone().into();
            }
            if let Some(quota) = &problem.quota {
                document["quota"] = serde_json::json!(quota);
            }
            if let Some(seconds) = problem.retry_after {
                document["retryAfter"] = seconds.into();
            }
        }
        document
    }
}

fn of_status(status: u16) -> u8 {
    match status {
        400 | 413 | 422 => code::USAGE,
        401 | 403 => code::DENIED,
        404 => code::NOT_FOUND,
        409 => code::CONFLICT,
        408 | 504 => code::TIMEOUT,
        429 | 502 | 503 => code::UNAVAILABLE,
        _ => code::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_the_exit_code_that_scripts_rely_on() {
        let of = |status| ClientError::Status { server: "x".into(), status }.exit_code();
        assert_eq!([404, 401, 403, 409, 408, 504, 503, 429].map(of), [3, 4, 4, 5, 6, 6, 7, 7]);
        assert_eq!([400, 422, 500].map(of), [2, 2, 1]);
    }

    #[test]
    fn what_a_service_says_cannot_reach_the_terminal_as_a_command() {
        let hostile = ClientError::Failed("no\n\x1b]0;pwned\x07agent".into());
        assert_eq!(hostile.line(), "no  ]0;pwned agent");
    }
}
