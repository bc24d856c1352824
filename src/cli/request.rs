//! What the user typed, and who that is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::host::identity;
use crate::plan::request::{Caller, Request};
use crate::policy::Policy;
use crate::shim::words::{self, RequestError as WordsError};
pub use crate::shim::words::{Home, Words};

/// Words that make no sense on this host.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// What they say.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// The caller's directory is gone.
    #[error("the current directory cannot be read ({0}): change to one that exists")]
    CurrentDirectory(#[source] io::Error),
}

/// `K=V` of `--env`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    let refused = || format!("{text:?} is not NAME=VALUE with a NAME of letters, digits and '_'");
    let (name, value) = text.split_once('=').ok_or_else(refused)?;
    let is_name = words::is_variable(name);
    if is_name { Ok((name.into(), value.into())) } else { Err(refused()) }
}

/// Looks everything up, for the user who calls.
pub fn resolve(words: Words, policy: &Policy) -> Result<Request, RequestError> {
    Ok(words::resolve(words, caller()?, policy)?)
}

fn caller() -> Result<Caller, RequestError> {
    let environment: BTreeMap<String, OsString> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
    let home = environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.and_then(|home| fs::canonicalize(home).ok()).unwrap_or_else(|| "/root".into());
    Ok(Caller {
        identity: identity::of(&environment, &home),
        home,
        directory: std::env::current_dir().map_err(RequestError::CurrentDirectory)?,
        environment,
    })
}
