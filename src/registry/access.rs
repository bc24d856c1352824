//! The way into etcd: which members, as whom. Files are read anew for every connection, so that rotated ones are used.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

/// Between two pings on a connection that is used for nothing else.
const PING: Duration = Duration::from_secs(10);

/// How etcd is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// `https://host:2379`, one or more members of one cluster.
    pub endpoints: Vec<String>,
    /// Who vouches for the members.
    pub ca: Option<PathBuf>,
    /// Client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// User, and the file with its password.
    pub user: Option<(String, PathBuf)>,
}

/// Why there is no way in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file of ours.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// etcd, or what is on the way there.
    #[error("{endpoint}: {detail}")]
    Etcd {
        /// Which member.
        endpoint: String,
        /// What it says.
        detail: String,
    },
    /// Nothing came.
    #[error("{endpoint} does not answer within {after:?}")]
    Silent {
        /// Which member.
        endpoint: String,
        /// How long was waited.
        after: Duration,
    },
}

impl Access {
    /// Why this cannot be meant; none: it can.
    pub fn contradiction(&self) -> Option<String> {
        let secure = |endpoint: &String| endpoint.starts_with("https://");
        let near = |endpoint: &String| {
            ["http://127.", "http://localhost:", "http://[::1]"].iter().any(|own| endpoint.starts_with(own))
        };
        if self.endpoints.is_empty() {
            return Some(
                "no `endpoints`: name the members of the etcd cluster, like https://etcd-1:2379".into(),
            );
        }
        let odd = self.endpoints.iter().find(|url| !url.starts_with("http://") && !secure(url));
        if let Some(odd) = odd {
            return Some(format!("{odd:?} is no endpoint: write https://HOST:2379"));
        }
        if self.endpoints.iter().any(secure) && self.ca.is_none() {
            return Some("an https endpoint needs `ca`: the certificate of whoever vouches for etcd".into());
        }
        if !self.endpoints.iter().all(secure) && self.identity.is_some() {
            return Some("a client certificate is shown over https only: change the endpoints".into());
        }
        if self.user.is_some() && !self.endpoints.iter().all(|url| secure(url) || near(url)) {
            return Some("a password would travel in the clear: use https endpoints".into());
        }
        None
    }

    /// Connects to one member, the `turn`-th: each in its turn, so that one that is silent is left behind.
    ///
    /// # Errors
    /// When a file cannot be read, or the member does not authenticate the user. That it cannot be reached is often found
    /// only by the first request.
    pub async fn connect(&self, turn: usize, patience: Duration) -> Result<Client, AccessError> {
        let endpoint = &self.endpoints[turn % self.endpoints.len()];
        let mut options = ConnectOptions::new()
            .with_connect_timeout(patience)
            .with_keep_alive(PING, patience)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if endpoint.starts_with("https://") {
            options = options.with_tls(self.tls()?);
        }
        if let Some((user, file)) = &self.user {
            let password = read(file)?;
            options = options.with_user(user, password.trim_end_matches(['\r', '\n']));
        }
        let connecting = Client::connect([endpoint.as_str()], Some(options));
        within(endpoint, patience, connecting).await
    }

    fn tls(&self) -> Result<TlsOptions, AccessError> {
        let mut tls = TlsOptions::new();
        if let Some(ca) = &self.ca {
            tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        if let Some((cert, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(tls)
    }
}

/// One request, for so long.
///
/// # Errors
/// When etcd says no, or nothing.
pub async fn within<T>(
    endpoint: &str,
    patience: Duration,
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, AccessError> {
    match tokio::time::timeout(patience, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(AccessError::Etcd { endpoint: endpoint.into(), detail: detail(&error) }),
        Err(_) => Err(AccessError::Silent { endpoint: endpoint.into(), after: patience }),
    }
}

/// What etcd said, and what is behind it, without the words that every error has.
pub fn detail(error: &etcd_client::Error) -> String {
    let etcd_client::Error::GRpcStatus(status) = error else { return error.to_string() };
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(deeper) = cause {
        let said = deeper.to_string();
        if !said.is_empty() && !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
        cause = deeper.source();
    }
    text
}

fn read(path: &Path) -> Result<String, AccessError> {
    std::fs::read_to_string(path).map_err(|source| AccessError::File { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_sent_in_the_clear_or_to_anybody_is_refused() {
        let access = |endpoint: &str, ca: bool, identity: bool, user: bool| Access {
            endpoints: vec![endpoint.into()],
            ca: ca.then(|| "ca".into()),
            identity: identity.then(|| ("c".into(), "k".into())),
            user: user.then(|| ("u".into(), "p".into())),
        };
        assert!(Access::default().contradiction().is_some_and(|said| said.contains("endpoints")));
        for (wrong, word) in [
            (access("etcd:2379", true, false, false), "no endpoint"),
            (access("https://e:2379", false, false, false), "`ca`"),
            (access("http://e:2379", false, true, false), "https only"),
            (access("http://e:2379", false, false, true), "in the clear"),
        ] {
            assert!(wrong.contradiction().is_some_and(|said| said.contains(word)), "{wrong:?}");
        }
        for right in [
            access("https://e:2379", true, true, true),
            access("http://127.0.0.1:2379", false, false, true),
            access("http://e:2379", false, false, false),
        ] {
            assert_eq!(right.contradiction(), None);
        }
    }
}
