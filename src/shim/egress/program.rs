//! The gateway's program: the file beside our own, and no other that PATH or an agent could put in its place.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::GatewayError;
use crate::policy::trust::{self, OpenError};

const NAME: &str = "stockade-egress";

/// Opens it, if only root can have decided what it does.
pub fn open() -> Result<OwnedFd, GatewayError> {
    let own = std::env::current_exe()?;
    open_beside(&own)
}

fn open_beside(own: &Path) -> Result<OwnedFd, GatewayError> {
    let path = own.parent().map(|directory| directory.join(NAME)).unwrap_or_else(|| PathBuf::from(NAME));
    match trust::open(&path, 0).map(File::into) {
        Ok(program) => Ok(program),
        Err(OpenError::Io(source)) => Err(GatewayError::Missing { path, source }),
        Err(OpenError::Distrust(distrust)) => Err(GatewayError::Untrusted { path, distrust }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn only_a_program_of_root_s_that_nobody_else_can_write_is_opened() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, program) = (directory.path().join("stockade"), directory.path().join(NAME));
        assert!(matches!(open_beside(&own), Err(GatewayError::Missing { .. })));
        fs::write(&program, "").expect("written");
        assert!(open_beside(&own).is_ok());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o775)).expect("chmod");
        assert!(matches!(open_beside(&own), Err(GatewayError::Untrusted { .. })));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
        chown(&program, Some(1001), None).expect("chown");
        let refused = open_beside(&own).expect_err("somebody else's");
        assert!(refused.is_refusal() && refused.to_string().contains("uid 1001"), "{refused}");
    }
}
