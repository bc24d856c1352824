//! Paths as a policy names them: on the host, and inside a workspace. Neither can climb.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What belongs to Stockade itself. Shown inside, even read-only, it would hand an agent its own control
/// socket, the node's keys or its neighbours' files; so neither it nor anything that contains it can be named.
const OWN: [&str; 7] = [
    "/etc/stockade",
    "/run/stockade",
    "/run/stockade-uid-ranges",
    "/var/run/stockade",
    "/var/run/stockade-uid-ranges",
    "/var/lib/stockade",
    "/var/log/stockade",
];

/// What the sandbox always has one of its own of, or must never see.
const NEVER_BELOW: [&str; 3] = ["/proc", "/dev", "/sys/fs/cgroup"];

/// Why a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// Neither `/…` nor `~/…`.
    #[error(
        "{0:?} is not a host path: write it from the root (\"/opt/tools\") or from the caller's home (\"~/.cargo/bin\")"
    )]
    Relative(String),
    /// Has `.`, `..` or an empty name in it.
    #[error("{0:?} has \".\" or \"..\" in it: write the path that is meant")]
    Climbs(String),
    /// Has a byte that no path can have.
    #[error("{0:?} has a NUL byte in it")]
    Nul(String),
    /// Would show Stockade's own files, or a kernel interface that the sandbox has its own of.
    #[error("{path:?} cannot be shown: it would expose {exposed}; name what is needed more narrowly")]
    Exposes {
        /// As written.
        path: String,
        /// What lies at or below it.
        exposed: &'static str,
    },
    /// Absolute or empty, where a path inside the workspace is wanted.
    #[error("{0:?} is not a path inside the workspace: write it relative to it, like \".git/hooks/\"")]
    OutsideWorkspace(String),
}

/// A path on the host: absolute, or `~/…` for something below the caller's home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct HostPath(pub PathBuf);

impl FromStr for HostPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let from_home = text.strip_prefix("~/");
        let below = match from_home.or_else(|| text.strip_prefix('/')) {
            Some(below) => plain_components(text, below)?,
            None => return Err(InvalidPath::Relative(text.into())),
        };
        if from_home.is_some() {
            // All of a home is never "a tool": it holds the caller's keys.
            let path = Path::new("~").join(below);
            if path == Path::new("~") {
                return Err(InvalidPath::Exposes { path: text.into(), exposed: "the caller's whole home" });
            }
            return Ok(Self(path));
        }
        let path = Path::new("/").join(below);
        match exposes(&path) {
            Some(exposed) => Err(InvalidPath::Exposes { path: text.into(), exposed }),
            None => Ok(Self(path)),
        }
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl<'de> Deserialize<'de> for HostPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::value::from_text(deserializer, str::parse)
    }
}

/// A path inside the workspace: relative, without `..`; `directory` if it was written with a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspacePath {
    /// Relative path, normal components only.
    pub path: PathBuf,
    /// What stands in for it while it is missing: an empty directory rather than an empty file.
    pub directory: bool,
}

impl FromStr for WorkspacePath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        if text.starts_with('/') || text.starts_with("~/") {
            return Err(InvalidPath::OutsideWorkspace(text.into()));
        }
        let path = plain_components(text, text)?;
        if path.as_os_str().is_empty() {
            return Err(InvalidPath::OutsideWorkspace(text.into()));
        }
        Ok(Self { path, directory: text.ends_with('/') })
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path.display(), if self.directory { "/" } else { "" })
    }
}

impl Serialize for WorkspacePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkspacePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::value::from_text(deserializer, str::parse)
    }
}

/// `below` as a relative path of plain names. `Path::components` drops an inner `.`, so names are looked at one by one.
fn plain_components(text: &str, below: &str) -> Result<PathBuf, InvalidPath> {
    if text.contains('\0') {
        return Err(InvalidPath::Nul(text.into()));
    }
    if below.split('/').any(|name| matches!(name, "." | "..")) {
        return Err(InvalidPath::Climbs(text.into()));
    }
    Ok(below.split('/').filter(|name| !name.is_empty()).collect())
}

/// What showing this absolute path would expose, if anything. Compares bytes, because the path is already plain, and
/// this is asked for every entry at every start.
pub fn exposes(path: &Path) -> Option<&'static str> {
    let path = path.as_os_str().as_bytes();
    let holds = |outer: &[u8], inner: &[u8]| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    if path == b"/" {
        return Some("the whole host");
    }
    let below = NEVER_BELOW
        .iter()
        .chain(&OWN)
        .find(|known| holds(known.as_bytes(), path) || holds(path, known.as_bytes()));
    below.copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_path_cannot_be_relative_or_climb() {
        for hostile in [
            "",
            "etc",
            "./x",
            "/usr/..",
            "/usr/../etc",
            "/usr/./bin",
            "~",
            "~root/x",
            "~/../x",
            "~/",
            "/a\0b",
            "~//",
        ] {
            assert!(hostile.parse::<HostPath>().is_err(), "{hostile:?} was accepted");
        }
        assert_eq!("/usr//lib/".parse::<HostPath>().expect("a path").0, Path::new("/usr/lib"));
        assert_eq!("~/.cargo/bin".parse::<HostPath>().expect("a path").to_string(), "~/.cargo/bin");
    }

    #[test]
    fn what_would_expose_the_runtime_itself_cannot_be_named() {
        for hostile in [
            "/",
            "/etc",
            "/etc/stockade/pki",
            "/run",
            "/run/stockade",
            "/var",
            "/var/lib",
            "/proc",
            "/proc/sys",
            "/dev",
            "/sys",
            "/sys/fs/cgroup/x",
        ] {
            assert!(hostile.parse::<HostPath>().is_err(), "{hostile:?} was accepted");
        }
        for fine in ["/etc/ssl", "/var/cache", "/sys/devices/system/cpu", "/run/systemd/resolve"] {
            assert!(fine.parse::<HostPath>().is_ok(), "{fine:?} was refused");
        }
    }

    #[test]
    fn a_workspace_path_stays_in_the_workspace() {
        for hostile in ["", "/", "/etc", "..", "../x", ".git/../../x", "./x", "~/x", "a\0"] {
            assert!(hostile.parse::<WorkspacePath>().is_err(), "{hostile:?} was accepted");
        }
        let hooks: WorkspacePath = ".git/hooks/".parse().expect("a path");
        assert_eq!((hooks.path.as_path(), hooks.directory), (Path::new(".git/hooks"), true));
        assert_eq!(hooks.to_string(), ".git/hooks/");
    }
}
