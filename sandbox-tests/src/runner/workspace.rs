//! The workspace that an attempt is made in, fresh each time.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::attempt::Workspace;
use crate::decoys;
use crate::runner::plant::HOST;

/// A workspace on the host; gone when dropped.
pub struct Laid {
    /// Where.
    pub path: PathBuf,
    _socket: Option<UnixListener>,
}

impl Drop for Laid {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Lays out a workspace with the probe in it.
pub fn lay(kind: Workspace, probe: &Path) -> io::Result<Laid> {
    let path = PathBuf::from(HOST).join("workspace");
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path)?;
    fs::copy(probe, path.join("probe"))?;
    if kind == Workspace::Empty {
        return Ok(Laid { path, _socket: None });
    }
    fs::copy(probe, path.join(decoys::SETUID_PROBE))?;
    fs::set_permissions(path.join(decoys::SETUID_PROBE), fs::Permissions::from_mode(0o4755))?;
    symlink(PathBuf::from(HOST).join("secret"), path.join(decoys::ESCAPING_LINK))?;
    let socket = UnixListener::bind(path.join(decoys::UNIX_WORKSPACE))?;
    repository(&path.join(".git"))?;
    Ok(Laid { path, _socket: Some(socket) })
}

/// What git needs to take a directory for a repository, and one hook.
pub fn repository(git: &Path) -> io::Result<()> {
    for directory in ["hooks", "info", "objects", "refs/heads"] {
        fs::create_dir_all(git.join(directory))?;
    }
    fs::write(git.join("HEAD"), "ref: refs/heads/main\n")?;
    fs::write(git.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = false\n")?;
    fs::write(git.join("hooks/pre-commit"), "#!/bin/sh\nexit 0\n")?;
    fs::set_permissions(git.join("hooks/pre-commit"), fs::Permissions::from_mode(0o755))
}
