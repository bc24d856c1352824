//! What a sink is told by the configuration.

use std::path::{Path, PathBuf};

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Names its cursor, and it in metrics.
    pub name: String,
    /// Where to, and how.
    pub kind: Kind,
    /// In whose words.
    pub format: Format,
}

impl Sink {
    /// The files that nobody else may read.
    pub fn secrets(&self) -> impl Iterator<Item = &Path> {
        let (secret, tls) = match &self.kind {
            Kind::Syslog { tls, .. } => (None, Some(tls)),
            Kind::Webhook { secret_file, tls, .. } => (Some(secret_file), Some(tls)),
            Kind::Journald { .. } => (None, None),
        };
        let key = tls.and_then(|tls| tls.identity.as_ref()).map(|(_, key)| key);
        secret.into_iter().chain(key).map(PathBuf::as_path)
    }
}

/// Where to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// RFC 5424 over TLS (RFC 5425).
    Syslog {
        /// `host:port`
        host: String,
        /// 6514, unless given.
        port: u16,
        /// How it is known, and knows us.
        tls: Tls,
    },
    /// HTTPS.
    Webhook {
        /// `https://…`
        url: String,
        /// Holds what requests are signed with.
        secret_file: PathBuf,
        /// How it is known, and knows us.
        tls: Tls,
    },
    /// The machine's journal, by its own protocol.
    Journald {
        /// Its socket.
        socket: PathBuf,
    },
}

/// How a collector is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Its CA.
    pub ca: PathBuf,
    /// What we show it: a certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// In whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The line as in the file.
    #[default]
    Native,
    /// The Open Cybersecurity Schema Framework's, with the line in `raw_data`.
    Ocsf,
}
