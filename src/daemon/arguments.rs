//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// What it is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Of the tree; absolute and canonical.
    pub root: PathBuf,
    /// Instead of `etc/stockade/stockaded.toml` there.
    pub config: Option<PathBuf>,
    /// What the log looks like.
    pub format: Format,
}

/// What the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for people, on standard error.
    Text,
    /// JSON, on standard error.
    Json,
    /// journald's own protocol: each field is one of the entry's.
    Journal,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// To serve.
    Serve(Arguments),
    /// Whether it could.
    Check(Arguments),
    /// A text, and nothing else.
    Say(&'static str),
}

/// A mistake in the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} (stockaded --help)")]
pub struct Usage(String);

const HELP: &str = "\
stockaded: the service that agents are driven through, over mTLS

  --root DIR          the tree that it works in (default /)
  --config FILE       instead of DIR/etc/stockade/stockaded.toml; FILE's stem with .d is read, too
  --check             read the configuration and what it names, say what is wrong with it, and end
  --log-format F      text or json, on standard error, or journal (default: STOCKADE_LOG_FORMAT, else text)
  --version, --help

STOCKADE_LOG sets what is logged (info, debug, stockade::daemon::serve=trace …).
SIGTERM lets streams end and leaves the agents running; SIGHUP reads certificates, revocations and grants anew.";

impl Arguments {
    /// Reads them.
    ///
    /// # Errors
    /// When one of them is not known, or wants another value.
    pub fn parse(
        mut words: impl Iterator<Item = OsString>,
        log_format: Option<OsString>,
    ) -> Result<Asked, Usage> {
        let (mut root, mut config, mut format) = (PathBuf::from("/"), None, log_format);
        let mut is_check = false;
        while let Some(word) = words.next() {
            let word = word.to_string_lossy().into_owned();
            match word.as_str() {
                "--help" | "-h" => return Ok(Asked::Say(HELP)),
                "--version" | "-V" => {
                    return Ok(Asked::Say(concat!("stockaded ", env!("CARGO_PKG_VERSION"))));
                }
                "--check" => {
                    is_check = true;
                    continue;
                }
                _ => {}
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
                None => (word, None),
            };
            let mut value = || {
                value.clone().or_else(|| words.next()).ok_or_else(|| Usage(format!("{name} wants a value")))
            };
            match name.as_str() {
                "--root" => root = value()?.into(),
                "--config" => config = Some(PathBuf::from(value()?)),
                "--log-format" => format = Some(value()?),
                other => return Err(Usage(format!("{other} is not known"))),
            }
        }
        let format = match format.as_ref().map(|format| format.to_string_lossy()).as_deref() {
            None | Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some("journal") => Format::Journal,
            Some(other) => {
                return Err(Usage(format!("{other:?} is no format of the log: text, json or journal")));
            }
        };
        let root = std::fs::canonicalize(&root)
            .map_err(|error| Usage(format!("--root {}: {error}", root.display())))?;
        let arguments = Self { root, config, format };
        Ok(if is_check { Asked::Check(arguments) } else { Asked::Serve(arguments) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Asked, String> {
        Arguments::parse(words.iter().map(OsString::from), None).map_err(|usage| usage.to_string())
    }

    #[test]
    fn values_follow_or_stand_behind_an_equals_sign() {
        for words in [
            &["--root", "/usr", "--config=/x", "--log-format", "json"][..],
            &["--root=/usr", "--config", "/x", "--log-format=json"],
        ] {
            let expected = Arguments { root: "/usr".into(), config: Some("/x".into()), format: Format::Json };
            assert_eq!(parse(words), Ok(Asked::Serve(expected.clone())));
            assert_eq!(parse(&[words, &["--check"]].concat()), Ok(Asked::Check(expected)));
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(parse(&["--rot", "/"]).is_err_and(|said| said.contains("--rot is not known")));
        assert!(parse(&["--root"]).is_err_and(|said| said.contains("--root wants a value")));
        assert!(parse(&["--log-format", "xml"]).is_err_and(|said| said.contains("text, json or journal")));
        assert!(parse(&["--root", "/does/not/exist"]).is_err());
    }
}
