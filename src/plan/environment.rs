//! The agent's variables: exactly those that the policy and the request name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::request::Request;
use super::{Mount, User, browser, git, view};
use crate::host::survey::Survey;
use crate::policy::Policy;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Name → value.
pub fn resolve(
    policy: &Policy,
    survey: &Survey,
    request: &Request,
    user: &User,
    mounts: &[Mount],
) -> BTreeMap<String, OsString> {
    let caller = &request.caller.environment;
    let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
    for (name, value) in caller {
        if policy.environment.pass.iter().any(|pattern| matches(pattern, name)) && name != "PATH" {
            variables.insert(name.clone(), value.clone());
        }
    }
    for (name, value) in &policy.environment.set {
        variables.insert(name.clone(), value.into());
    }
    for (name, path) in &policy.environment.paths {
        let path = view::expand(path, &request.caller.home);
        if survey.get(&path).is_some() {
            variables.insert(name.clone(), path.into_os_string());
        }
    }
    let base = variables.get("PATH").cloned().unwrap_or_else(|| PATH.into());
    let base = browser::before(policy, base);
    variables.insert("PATH".into(), search_path(caller.get("PATH"), &base, mounts));
    if policy.terminal.report_urls {
        variables.insert("BROWSER".into(), browser::PROGRAM.into());
    }
    for (name, value) in [
        ("HOME", user.home.as_os_str()),
        ("USER", OsStr::new(&user.name)),
        ("LOGNAME", OsStr::new(&user.name)),
        ("SHELL", OsStr::new("/bin/bash")),
        ("TMPDIR", OsStr::new("/tmp")),
        ("GIT_CONFIG_SYSTEM", OsStr::new(git::CONFIG)),
        // systemd's convention for "this is a container" (Container Interface).
        ("container", OsStr::new("stockade")),
    ] {
        variables.entry(name.into()).or_insert_with(|| value.into());
    }
    variables.extend(request.environment.clone());
    variables
}

/// The policy's search path behind those directories of the caller's that the agent can see, too: `cargo` is found
/// where the caller finds it.
fn search_path(caller: Option<&OsString>, base: &OsStr, mounts: &[Mount]) -> OsString {
    let shown = |directory: &Path| {
        mounts.iter().any(|mount| matches!(mount, Mount::Bind(bind) if !bind.writable && directory.starts_with(&bind.target)))
    };
    let mut directories: Vec<&[u8]> = Vec::new();
    let own = caller.map(|path| path.as_bytes()).unwrap_or_default();
    let base_has = |directory: &[u8]| base.as_bytes().split(|c| *c == b':').any(|d| d == directory);
    for directory in own.split(|c| *c == b':') {
        let path = Path::new(OsStr::from_bytes(directory));
        if path.is_absolute() && shown(path) && !base_has(directory) && !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories.push(base.as_bytes());
    OsStr::from_bytes(&directories.join(&b':')).to_owned()
}

/// `LC_*` stands for every name that begins with `LC_`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}
