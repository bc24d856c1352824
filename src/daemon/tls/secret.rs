//! A file that holds a secret: read only if nobody but root and this service can have written or read it.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// No secret is longer.
const LARGEST: u64 = 1 << 20;

/// The whole of it.
///
/// # Errors
/// As open(2) and read(2); and where others could have read it, with what is wrong.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if let Some(why) = exposure(&file.metadata()?, own()) {
        return Err(io::Error::other(why));
    }
    let mut secret = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut secret)?;
    if secret.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 1MiB"));
    }
    Ok(secret)
}

/// Whether others could read it; one that is not there says nothing.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<(), String> {
    path.metadata().ok().and_then(|found| exposure(&found, own())).map_or(Ok(()), Err)
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn exposure(found: &Metadata, own: u32) -> Option<String> {
    if found.mode() & 0o007 != 0 {
        return Some("it can be read or written by everybody: chmod o= it, and take another secret".into());
    }
    let owner = found.uid();
    // Whoever asks as root asks for a service, and does not know whose that is.
    (own != 0 && ![0, own].contains(&owner)).then(|| {
        format!("it belongs to uid {owner}, who can read it: give it to root or to the service (uid {own})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn a_secret_that_others_can_read_or_that_belongs_to_others_is_refused_and_says_why() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret");
        assert_eq!(check(&path), Ok(()), "what is not there is not exposed");
        std::fs::write(&path, "s3cret").expect("written");
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
        for (bits, fits) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            mode(bits);
            assert_eq!((read(&path).is_ok(), check(&path).is_ok()), (fits, fits), "{bits:o}");
        }
        mode(0o600);
        chown(&path, Some(12345), None).expect("these tests run as root");
        let found = path.metadata().expect("there");
        assert_eq!([0, 12345, 7].map(|own| exposure(&found, own).is_some()), [false, false, true]);
    }
}
