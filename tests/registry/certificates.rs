//! A CA for etcd, its members and their clients.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

pub struct Certificates {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub fn make(directory: &Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("a CA");
        std::fs::write(directory.join("ca.crt"), ca.pem()).expect("written");
        let made = Self { directory: directory.into(), issuer: Issuer::new(params, key) };
        made.issue("server");
        made.issue("client");
        made
    }

    /// A certificate and its key, for a member or a client; written over what was there of this name.
    pub fn issue(&self, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.directory.join(format!("{name}.crt")), certificate.pem()).expect("written");
        std::fs::write(self.directory.join(format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    pub fn server(&self) -> (PathBuf, PathBuf) {
        self.client("server")
    }

    pub fn client(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.directory.join(format!("{name}.crt")), self.directory.join(format!("{name}.key")))
    }
}
