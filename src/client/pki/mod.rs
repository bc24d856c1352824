//! A small CA for sites without one: `stockade pki`, and what `stockade dev` starts with.
//!
//! ```text
//!  DIR/ca.crt ca.key          the CA; only `ca.key` signs, and only for this program
//!  DIR/server.crt server.key  the daemon's
//!  DIR/crl.pem                what was revoked
//!  DIR/NAME.crt NAME.key      a client's
//!  DIR/index.ndjson           what was issued and revoked, one line each
//! ```
//! ECDSA on P-256. Nothing is ever overwritten but the CRL, and that at once. Keys are readable by their owner only.

pub mod files;
pub mod index;
pub mod issue;
pub mod revoke;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};

use index::{Entry, Index};
pub use issue::Issued;

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CRL: &str = "crl.pem";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_DAYS: u32 = 3650;
const SERVER_DAYS: u32 = 825;
/// A daemon serves nobody by a CRL that is out of date: whoever revokes nothing renews it once a year.
const CRL_DAYS: u32 = 365;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// It is there already.
    #[error("{} exists: it is not overwritten; take another directory or name, or remove it yourself", path.display())]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// A file.
    #[error("cannot {what} {}", path.display())]
    File {
        /// Read, write …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that a certificate or a file cannot have.
    #[error("{given:?} is not {what}")]
    Name {
        /// As given.
        given: String,
        /// What it should be.
        what: &'static str,
    },
    /// A number of days that makes no sense.
    #[error("{0} days is no lifetime of a certificate: take 1 to 3650")]
    Days(u32),
    /// No such serial number.
    #[error("this CA has issued no certificate with the serial number {0}: index.ndjson lists them")]
    Unknown(String),
    /// The index is damaged.
    #[error("{} is damaged in line {line}: restore it from a backup, for without it the CRL would forget", path.display())]
    Index {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// While encoding or signing.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
}

type Result<T> = std::result::Result<T, PkiError>;

/// The CA of one directory.
pub struct Ca {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a CA in `dir`, an empty CRL, and a certificate for a daemon that is reached by these names and addresses.
    ///
    /// # Errors
    /// When a CA is there already, and as files go.
    pub fn init(dir: &Path, hosts: &[String]) -> Result<Self> {
        issue::check_hosts(hosts)?;
        files::make_directory(dir)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = authority()?;
        let certificate = params.self_signed(&key)?;
        // The key first: it is what must not exist yet.
        files::create(&dir.join(CA_KEY), key.serialize_pem().as_bytes(), files::SECRET)?;
        files::create(&dir.join(CA_CERTIFICATE), certificate.pem().as_bytes(), files::PUBLIC)?;
        let ca = Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) };
        ca.renew_crl()?;
        ca.issue_server(hosts)?;
        Ok(ca)
    }

    /// The CA of this directory.
    ///
    /// # Errors
    /// When there is none, or its files are not what `init` wrote.
    pub fn open(dir: &Path) -> Result<Self> {
        let key = KeyPair::from_pem(&files::read(&dir.join(CA_KEY))?)?;
        let issuer = Issuer::from_ca_cert_pem(&files::read(&dir.join(CA_CERTIFICATE))?, key)?;
        Ok(Self { dir: dir.to_owned(), issuer })
    }

    /// Where its files lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was issued and revoked, the oldest first.
    ///
    /// # Errors
    /// As files go, and when the index is damaged.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        Ok(Index::open(&self.dir)?.entries)
    }
}

fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Stockade CA");
    // Every CA has a name of its own: a verifier finds the right one, and its CRL, by that.
    params.distinguished_name.push(DnType::OrganizationalUnitName, hexadecimal(&random()?));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + DAY * CA_DAYS).into();
    Ok(params)
}

/// Clocks of other machines may be behind.
const SKEW: Duration = Duration::from_secs(5 * 60);

fn random() -> Result<[u8; 16]> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    std::fs::File::open(path)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut bytes))
        .map_err(|source| PkiError::File { what: "read", path: path.into(), source })?;
    Ok(bytes)
}

/// 126 random bits, positive and never shorter.
fn serial() -> Result<SerialNumber> {
    let mut bytes = random()?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
