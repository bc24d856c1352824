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
}

/// What was told, and what the file says.
pub fn settings(arguments: &Arguments) -> Result<Settings, LauncherError> {
    let path = Places::under(&arguments.root).config().join("launcher.toml");
    let Document { workspace_roots, policies } = read(&path)?;
    let workspace_roots = workspace_roots.unwrap_or_else(|| vec![ROOT.into()]);
    if let Some(path) = workspace_roots.iter().chain(&policies).find(|path| !path.is_absolute()) {
        return Err(LauncherError::Config(format!("launcher.toml: {} is not absolute", path.display())));
    }
    Ok(Settings {
        root: arguments.root.clone(),
        daemon_uid: arguments.daemon_uid,
        daemon_gid: arguments.daemon_gid,
        workspace_roots,
        policies,
    })
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
