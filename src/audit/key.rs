//! The key that signs: Ed25519, in a file that only the service reads, of the kind that openssl understands.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::digest::{self, Digest};

/// PKCS #8 (RFC 8410, 7): everything before the 32 bytes of an Ed25519 key.
const PRIVATE: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// SubjectPublicKeyInfo (RFC 8410, 4): everything before the 32 bytes.
const PUBLIC: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// Whose signatures count. As text: 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(pub Digest);

/// A key that signs.
pub struct Key {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in it.
    #[error("{} holds no Ed25519 key in PEM", path.display())]
    Content {
        /// Which.
        path: PathBuf,
    },
    /// Who can read it.
    #[error("{} can be read by others (mode {mode:o}): chmod 600, and rotate the key", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl PublicKey {
    /// The first 16 digits of its SHA-256: a name for people and lines.
    pub fn id(&self) -> String {
        digest::hex(&Digest::of(&self.0.0).0[..8])
    }

    /// Whether its owner has signed this.
    pub fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        let Some(signature) = digest::from_hex(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, self.0.0).verify(message, &signature).is_ok()
    }

    /// As a file for `openssl pkeyutl -verify`, and for `audit verify --key`.
    pub fn pem(&self) -> String {
        pem("PUBLIC KEY", &[PUBLIC, &self.0.0].concat())
    }

    /// From such a file, or from 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(bytes) = text.trim().parse() {
            return Some(Self(bytes));
        }
        let der = from_pem("PUBLIC KEY", text)?;
        Some(Self(Digest(der.strip_prefix(PUBLIC)?.try_into().ok()?)))
    }
}

impl Key {
    /// The key in this file; made there if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or made, holds something else, or is open to others.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::make(path)
            }
            other => other,
        }
    }

    /// The key in this file.
    ///
    /// # Errors
    /// As [`Self::load_or_make`], and when there is none.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { verb: "read", path: path.into(), source };
        let mode = fs::metadata(path).map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.into(), mode });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let seed =
            from_pem("PRIVATE KEY", &text).and_then(|der| der.strip_prefix(PRIVATE).map(<[u8]>::to_vec));
        let key = seed.and_then(|seed| Self::of_seed(&seed));
        key.ok_or_else(|| KeyError::Content { path: path.into() })
    }

    /// Makes a key, in a file that was not there.
    ///
    /// # Errors
    /// When the file cannot be made, or the system has no random bytes.
    pub fn make(path: &Path) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Random)?;
        let failed = |source| KeyError::File { verb: "make", path: path.into(), source };
        // Under another name until it is whole: a power cut must not leave half a key.
        let part = path.with_extension("part");
        let _ = fs::remove_file(&part);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
        file.write_all(pem("PRIVATE KEY", &[PRIVATE, &seed].concat()).as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&part, path).and_then(|()| super::segment::sync_directory_of(path)).map_err(failed)?;
        Self::of_seed(&seed).ok_or(KeyError::Random)
    }

    fn of_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = PublicKey(Digest(pair.public_key().as_ref().try_into().ok()?));
        Some(Self { pair, public })
    }

    /// Whose signatures these are.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs; hexadecimal.
    pub fn sign(&self, message: &[u8]) -> String {
        digest::hex(self.pair.sign(message).as_ref())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn from_pem(label: &str, text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_nobody_else_can_read_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.key");
        let made = Key::load_or_make(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        let loaded = Key::load_or_make(&path).expect("loaded");
        assert_eq!(made.public(), loaded.public());
        assert!(loaded.public().has_signed(b"x", &made.sign(b"x")));
        assert!(!loaded.public().has_signed(b"y", &made.sign(b"x")));
        assert_eq!(PublicKey::parse(&made.public().pem()), Some(made.public()));

        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("its mode");
        assert!(matches!(Key::load(&path), Err(KeyError::Open { mode: 0o640, .. })));
    }
}
