//! Which service, and as whom: from flags, else from variables, else from a file.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::ClientError;
use crate::cli::service::Connection;

/// What `stockade pki init` writes on an installed node, for users without a file of their own.
const NODE: &str = "/etc/stockade/client.toml";

/// Where a service is when its URL names no port.
const PORT: u16 = 7443;

/// A service, and the files that make this client known to it. They are read anew for every connection, so that rotated
/// certificates are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Client certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who vouches for the service.
    pub ca: PathBuf,
}

impl Target {
    /// For `Host:` and for people.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// `client.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    server: Option<String>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
}

/// Puts it together. `variable` reads this process's environment.
pub fn target(
    flags: &Connection,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Target, ClientError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let path = |name: &str| set(name).map(PathBuf::from);
    let given = flags.client_config.clone().or_else(|| path("STOCKADE_CLIENT_CONFIG"));
    let usual = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    let usual = usual.map(|directory| directory.join("stockade/client.toml"));
    let file = match (&given, &usual) {
        (Some(path), _) => read(path)?,
        (None, usual) => {
            let own = usual.as_ref().map(|path| read(path));
            let found = own.map(unless_missing).transpose()?.flatten();
            found.map_or_else(|| unless_missing(read(Path::new(NODE))).map(Option::unwrap_or_default), Ok)?
        }
    };
    let server = flags.server.clone().or_else(|| set("STOCKADE_SERVER")?.into_string().ok()).or(file.server);
    let usual = usual.unwrap_or_else(|| "~/.config/stockade/client.toml".into());
    let missing = |what: &str, flag: &str, key: &str| {
        ClientError::Usage(format!(
            "{what}: use --{flag}, STOCKADE_{}, or `{flag}` in {} ({key})",
            flag.to_uppercase(),
            given.as_ref().unwrap_or(&usual).display(),
        ))
    };
    let server = server.ok_or_else(|| {
        missing(
            "no service is named",
            "server",
            "`stockade pki init` or `stockade dev` make one, and a client.toml for it",
        )
    })?;
    let (host, port) = address(&server)?;
    Ok(Target {
        host,
        port,
        cert: flags.cert.clone().or_else(|| path("STOCKADE_CERT")).or(file.cert).ok_or_else(|| {
            missing("no client certificate is named", "cert", "a service answers nobody without one")
        })?,
        key: flags
            .key
            .clone()
            .or_else(|| path("STOCKADE_KEY"))
            .or(file.key)
            .ok_or_else(|| missing("no key is named", "key", "it belongs to the certificate"))?,
        ca: flags.ca.clone().or_else(|| path("STOCKADE_CA")).or(file.ca).ok_or_else(|| {
            missing("no authority is named", "ca", "only its word counts for who the service is")
        })?,
    })
}

/// Reads it; its relative paths are meant from where it lies.
fn read(path: &Path) -> Result<File, ClientError> {
    let text = std::fs::read_to_string(path).map_err(|source| ClientError::File {
        verb: "read",
        path: path.into(),
        source,
    })?;
    let file: File = toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        ClientError::Content { path: path.into(), detail: format!("{place}{}", error.message()) }
    })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let place = |named: Option<PathBuf>| named.map(|named| directory.join(named));
    Ok(File { server: file.server, cert: place(file.cert), key: place(file.key), ca: place(file.ca) })
}

fn unless_missing(file: Result<File, ClientError>) -> Result<Option<File>, ClientError> {
    match file {
        Err(ClientError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// `https://HOST[:PORT][/]`, or without the `https://`.
fn address(server: &str) -> Result<(String, u16), ClientError> {
    let refused = |why: &str| {
        ClientError::Usage(format!("the service {server:?} {why}: use something like https://node1:7443"))
    };
    let rest = match server.split_once("://") {
        None => server,
        Some(("https", rest)) => rest,
        Some(_) => return Err(refused("is reached by https only")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let uri: http::uri::Authority = rest.parse().map_err(|_| refused("is no address"))?;
    let host = uri.host().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || uri.as_str().contains('@') {
        return Err(refused("is no address"));
    }
    if uri
        .as_str()
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_err())
    {
        return Err(refused("names no port that there is"));
    }
    Ok((host.to_owned(), uri.port_u16().unwrap_or(PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<OsString> {
        None
    }

    fn with_file(text: &str) -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("client.toml");
        std::fs::write(&path, text).expect("written");
        (directory, Connection { client_config: Some(path), ..Connection::default() })
    }

    const WHOLE: &str =
        "server = 'https://node1'\ncert = 'pki/a.crt'\nkey = 'pki/a.key'\nca = '/etc/ca.crt'\n";

    #[test]
    fn a_file_s_relative_paths_are_meant_from_where_it_lies() {
        let (directory, flags) = with_file(WHOLE);
        let target = target(&flags, none).expect("a target");
        assert_eq!((target.host.as_str(), target.port), ("node1", 7443));
        assert_eq!(target.cert, directory.path().join("pki/a.crt"));
        assert_eq!(target.ca, Path::new("/etc/ca.crt"));
    }

    #[test]
    fn a_flag_beats_a_variable_and_a_variable_beats_the_file() {
        let (_directory, mut flags) = with_file(WHOLE);
        let variables = |name: &str| match name {
            "STOCKADE_SERVER" => Some("https://from-variable:1".into()),
            "STOCKADE_KEY" => Some("/from/variable".into()),
            _ => None,
        };
        let found = target(&flags, variables).expect("a target");
        assert_eq!(
            (found.authority().as_str(), found.key.to_str()),
            ("from-variable:1", Some("/from/variable"))
        );
        flags.server = Some("https://[::1]:2".into());
        assert_eq!(target(&flags, variables).expect("a target").authority(), "[::1]:2");
    }

    #[test]
    fn what_is_missing_is_named_with_the_way_out() {
        let error = target(&Connection::default(), none).expect_err("nothing is given");
        assert_eq!(error.exit_code(), 2);
        assert!(error.line().contains("--server, STOCKADE_SERVER"), "{}", error.line());
        let (_directory, flags) = with_file("server = 'a'\nserfer = 'b'\n");
        let error = target(&flags, none).expect_err("an unknown key");
        assert!(error.line().contains("client.toml: line 2: unknown field `serfer`"), "{}", error.line());
        let flags = Connection { client_config: Some("/nonexistent".into()), ..Connection::default() };
        assert!(target(&flags, none).expect_err("named, but missing").line().contains("/nonexistent"));
    }

    #[test]
    fn only_https_leads_to_a_service() {
        for wrong in ["http://a", "https://", "https://a/b", "https://u@a", "https://a:99999", "a b"] {
            assert!(address(wrong).is_err(), "{wrong:?} was accepted");
        }
        assert_eq!(address("https://a/").expect("plain"), ("a".into(), 7443));
        assert_eq!(address("[::1]").expect("plain"), ("::1".into(), 7443));
    }
}
