//! Revocation: a CRL of everything that was revoked, with a number that grows and a date to renew it by.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};

use super::index::{Entry, Index};
use super::{CRL, CRL_DAYS, Ca, DAY, PkiError, Result, SKEW, files};

impl Ca {
    /// Revokes a certificate of this CA, by its serial number. Again is as once.
    ///
    /// # Errors
    /// When this CA has issued none with this number.
    pub fn revoke(&self, serial: &str) -> Result<()> {
        let serial = plain(serial);
        let mut index = Index::open(&self.dir)?;
        let is_issued = |entry: &Entry| matches!(entry, Entry::Issued { serial: own, .. } if *own == serial);
        let is_revoked =
            |entry: &Entry| matches!(entry, Entry::Revoked { serial: own, .. } if *own == serial);
        if !index.entries.iter().any(is_issued) {
            return Err(PkiError::Unknown(serial));
        }
        if !index.entries.iter().any(is_revoked) {
            let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            index.add(Entry::Revoked { serial, at })?;
        }
        self.write_crl(&mut index)
    }

    /// Writes the CRL anew, so that it is valid for another year.
    ///
    /// # Errors
    /// As files go.
    pub fn renew_crl(&self) -> Result<()> {
        self.write_crl(&mut Index::open(&self.dir)?)
    }

    fn write_crl(&self, index: &mut Index) -> Result<()> {
        let number =
            index.entries.iter().filter(|entry| matches!(entry, Entry::Crl { .. })).count() as u64 + 1;
        let now = SystemTime::now();
        let revoked: BTreeMap<&str, u64> = index
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Revoked { serial, at } => Some((serial.as_str(), *at)),
                Entry::Issued { .. } | Entry::Crl { .. } => None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: (now - SKEW).into(),
            next_update: (now + DAY * CRL_DAYS).into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.into_iter().map(|(serial, at)| revocation(serial, at)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = params.signed_by(&self.issuer)?.pem()?;
        index.add(Entry::Crl { number })?;
        files::replace(&self.dir.join(CRL), pem.as_bytes(), files::PUBLIC)
    }
}

fn revocation(serial: &str, at: u64) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(&bytes(serial)),
        revocation_time: (UNIX_EPOCH + Duration::from_secs(at)).into(),
        reason_code: None,
        invalidity_date: None,
    }
}

/// As openssl, browsers and people write it: `7B:0A …`
fn plain(serial: &str) -> String {
    serial.chars().filter(|c| !matches!(c, ':' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn ca() -> (tempfile::TempDir, Ca) {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Ca::init(dir.path(), &["localhost".into(), "127.0.0.1".into(), "::1".into()]).expect("a CA");
        (dir, ca)
    }

    #[test]
    fn keys_are_their_owners_and_nothing_is_overwritten() {
        let (dir, ca) = ca();
        ca.issue_client("admin", "spiffe://stockade.dev/admin", 30).expect("a client");
        for key in ["ca.key", "server.key", "admin.key"] {
            let mode = std::fs::metadata(dir.path().join(key)).expect("a key").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        let before = std::fs::read(dir.path().join("ca.key")).expect("a key");
        assert!(matches!(Ca::init(dir.path(), &["localhost".into()]), Err(PkiError::Exists { .. })));
        assert!(matches!(ca.issue_client("admin", "spiffe://x/y", 30), Err(PkiError::Exists { .. })));
        assert!(ca.issue_client("../ca", "spiffe://x/y", 30).is_err());
        assert!(ca.issue_client("ca", "spiffe://x/y", 30).is_err());
        assert!(ca.issue_client("x", "spiffe://x/*", 30).is_err());
        assert_eq!(std::fs::read(dir.path().join("ca.key")).expect("a key"), before);
    }

    #[test]
    fn what_was_revoked_stays_revoked_and_the_number_of_the_list_grows() {
        let (dir, ca) = ca();
        let a = ca.issue_client("a", "spiffe://x/a", 30).expect("a client");
        let b = ca.issue_client("b", "spiffe://x/b", 30).expect("a client");
        ca.revoke(&a.serial).expect("revoked");
        let again = Ca::open(dir.path()).expect("the same CA");
        again.revoke(&b.serial.to_uppercase()).expect("revoked");
        again.revoke(&b.serial).expect("revoked");
        assert!(matches!(ca.revoke("00ff"), Err(PkiError::Unknown(_))));

        let pem = std::fs::read(dir.path().join(CRL)).expect("a list");
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
        let (_, crl) = x509_parser::parse_x509_crl(&pem.contents).expect("a CRL");
        let mut serials: Vec<_> = crl.iter_revoked_certificates().map(|r| r.raw_serial().to_vec()).collect();
        serials.sort();
        let mut expected = [bytes(&a.serial), bytes(&b.serial)];
        expected.sort();
        assert_eq!(serials, expected);
        assert_eq!(crl.crl_number().map(ToString::to_string), Some("4".into()));
        assert!(crl.next_update().is_some());
    }
}
