//! `[audit]`: where the log goes besides its files, and how much of it is kept.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::tenant::Long;
use crate::daemon::audit::sinks::settings::{Format, Kind, Sink, Tls};
use crate::id::PlaceName;
use crate::policy::Bytes;

/// The usual port of syslog over TLS (RFC 5425).
const SYSLOG: u16 = 6514;
/// The journal's socket.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// The CAs of a Debian machine.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `[audit]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[allow(missing_docs)] // docs/configuration.md describes each
pub struct AuditEntry {
    pub keep: Option<Bytes>,
    pub keep_for: Option<Long>,
    pub sink: Vec<Spanned<SinkEntry>>,
}

/// `[[audit.sink]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SinkEntry {
    pub name: PlaceName,
    pub kind: SinkKind,
    #[serde(default)]
    pub format: Format,
    pub address: Option<String>,
    pub url: Option<String>,
    pub socket: Option<PathBuf>,
    pub secret_file: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// What kinds there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum SinkKind {
    Syslog,
    Webhook,
    Journald,
}

impl SinkEntry {
    /// As it is meant; paths are beside `directory`.
    ///
    /// # Errors
    /// Says what is missing, or too much.
    pub(super) fn sink(&self, directory: &Path) -> Result<Sink, String> {
        let Self { name, kind, format, address, url, socket, secret_file, ca, cert, key } = self.clone();
        let given = [
            ("address", address.is_some()),
            ("url", url.is_some()),
            ("socket", socket.is_some()),
            ("secret-file", secret_file.is_some()),
            ("ca", ca.is_some()),
            ("cert", cert.is_some()),
            ("key", key.is_some()),
        ];
        let (needed, allowed): (&[&str], &[&str]) = match kind {
            SinkKind::Syslog => (&["address"], &["ca", "cert", "key"]),
            SinkKind::Webhook => (&["url", "secret-file"], &["ca", "cert", "key"]),
            SinkKind::Journald => (&[], &["socket"]),
        };
        for (word, is_given) in given {
            if !is_given && needed.contains(&word) {
                return Err(format!("sink {name}: `{word}` is missing"));
            }
            if is_given && !needed.contains(&word) && !allowed.contains(&word) {
                return Err(format!("sink {name}: `{word}` is for another kind of sink"));
            }
        }
        if cert.is_some() != key.is_some() {
            return Err(format!("sink {name}: `cert` and `key` go together"));
        }
        let beside = |path: PathBuf| directory.join(path);
        let identity = cert.map(beside).zip(key.map(beside));
        let tls = Tls { ca: ca.map_or_else(|| BUNDLE.into(), beside), identity };
        let kind = match kind {
            SinkKind::Syslog => {
                let (host, port) = host_and_port(&address.unwrap_or_default()).ok_or_else(|| {
                    format!("sink {name}: `address` is HOST:PORT, like siem.example.org:6514")
                })?;
                Kind::Syslog { host, port, tls }
            }
            SinkKind::Webhook => {
                let url = url.unwrap_or_default();
                let parsed = url.parse::<http::Uri>().ok();
                let is_https =
                    parsed.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
                if !is_https {
                    return Err(format!("sink {name}: `url` is https://HOST[:PORT]/PATH"));
                }
                let secret_file = directory.join(secret_file.unwrap_or_default());
                Kind::Webhook { url, secret_file, tls }
            }
            SinkKind::Journald => Kind::Journald { socket: socket.unwrap_or_else(|| JOURNAL.into()) },
        };
        Ok(Sink { name: name.into(), kind, format })
    }
}

fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()?),
        _ => (address, SYSLOG),
    };
    let host = host.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(text: &str) -> Result<Sink, String> {
        let entry: SinkEntry = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        entry.sink(Path::new("/etc/stockade"))
    }

    #[test]
    fn each_kind_of_sink_is_read_and_what_it_lacks_is_named() {
        let syslog = sink("name = 'siem'\nkind = 'syslog'\naddress = 'siem.example.org'\nca = 'siem.crt'");
        let tls = Tls { ca: "/etc/stockade/siem.crt".into(), identity: None };
        let kind = Kind::Syslog { host: "siem.example.org".into(), port: 6514, tls };
        assert_eq!(syslog, Ok(Sink { name: "siem".into(), kind, format: Format::Native }));
        let journald = sink("name = 'j'\nkind = 'journald'\nformat = 'ocsf'").expect("a sink");
        assert_eq!(
            (journald.kind, journald.format),
            (Kind::Journald { socket: JOURNAL.into() }, Format::Ocsf)
        );
        for (text, said) in [
            ("kind = 'syslog'", "`address` is missing"),
            ("kind = 'webhook'\nurl = 'https://h/'", "`secret-file` is missing"),
            ("kind = 'webhook'\nurl = 'http://h/'\nsecret-file = 's'", "https://"),
            ("kind = 'journald'\nca = 'x'", "another kind"),
            ("kind = 'syslog'\naddress = 'h:1'\ncert = 'c'", "go together"),
            ("kind = 'carrier-pigeon'", "unknown variant"),
        ] {
            let error = sink(&format!("name = 'x'\n{text}")).expect_err(text);
            assert!(error.contains(said), "{error}");
        }
    }
}
