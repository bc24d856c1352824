//! `etc/stockade/launcher.toml`: what root has decided for this node.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::LauncherError;
use super::arguments::Arguments;
use crate::policy::trust::{self, OpenError};
use crate::wire::service::Places;
use crate::wire::service::claim::Settings;

/// Where workspaces may be, if the file does not say.
const ROOT: &str = "/srv/work";

/// No more shims than this wait for agents: each takes two descriptors, of which a process has 1024 if nobody gives it more.
const MOST_READY: usize = 400;

/// So many do if the file does not say…
const READY: usize = 100;
/// … but no more than take a hundredth of the memory…
const SHARE: u64 = 100;
/// … by what one was measured to take, the kernel's part included.
const ONE_READY: u64 = 640 * 1024;

/// No such file is longer.
const LONGEST: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Document {
    /// Below these, an order may name a workspace.
    workspace_roots: Option<Vec<PathBuf>>,
    /// Where policies are looked for before the usual directories.
    #[serde(default)]
    policies: Vec<PathBuf>,
    /// How many shims wait for agents.
    ready_shims: Option<usize>,
}

/// What was told, and what the file says; with how many shims wait for agents.
pub fn settings(arguments: &Arguments) -> Result<(Settings, usize), LauncherError> {
    let path = Places::under(&arguments.root).config().join("launcher.toml");
    let Document { workspace_roots, policies, ready_shims } = read(&path)?;
    let system = rustix::system::sysinfo();
    let ready_shims = ready(ready_shims, system.totalram * u64::from(system.mem_unit))?;
    let workspace_roots = workspace_roots.unwrap_or_else(|| vec![ROOT.into()]);
    if let Some(path) = workspace_roots.iter().chain(&policies).find(|path| !path.is_absolute()) {
        return Err(LauncherError::Config(format!("launcher.toml: {} is not absolute", path.display())));
    }
    let settings = Settings {
        root: arguments.root.clone(),
        daemon_uid: arguments.daemon_uid,
        daemon_gid: arguments.daemon_gid,
        workspace_roots,
        policies,
    };
    Ok((settings, ready_shims))
}

/// `memory`: of this machine, in bytes.
fn ready(told: Option<usize>, memory: u64) -> Result<usize, LauncherError> {
    let borne = usize::try_from(memory / SHARE / ONE_READY).unwrap_or(usize::MAX).clamp(1, READY);
    match told {
        Some(told) if told > MOST_READY => Err(LauncherError::Config(format!(
            "launcher.toml: ready-shims = {told} is more than {MOST_READY}: say {MOST_READY} or less"
        ))),
        told => Ok(told.unwrap_or(borne)),
    }
}

fn read(path: &Path) -> Result<Document, LauncherError> {
    let wrong = |what: String| LauncherError::Config(format!("{}: {what}", path.display()));
    let file = match trust::open(path, 0) {
        Ok(file) => file,
        Err(OpenError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Document::default());
        }
        Err(OpenError::Io(error)) => return Err(wrong(error.to_string())),
        Err(OpenError::Distrust(distrust)) => return Err(wrong(distrust.to_string())),
    };
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(&text).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_decides_how_many_shims_wait_within_reason_and_memory_does_where_it_does_not_say() {
        let by_memory =
            [256 << 20, 2 << 30, 24 << 30, 0].map(|memory| ready(None, memory).expect("a number"));
        assert_eq!(by_memory, [4, 32, READY, 1]);
        assert_eq!((ready(Some(0), 1).ok(), ready(Some(MOST_READY), 1).ok()), (Some(0), Some(MOST_READY)));
        let refused = ready(Some(MOST_READY + 1), 1 << 40).expect_err("too many").to_string();
        assert!(refused.contains("ready-shims = 401 is more than 400"), "{refused}");
    }
}
