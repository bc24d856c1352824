//! `stockade pki`: the small authority on the command line.

use std::path::Path;

use serde_json::{Value, json};

use super::error::{ClientError, code};
use super::output::{Output, plain};
use super::pki::index::Entry;
use super::pki::{Ca, Issued, PkiError};
use super::setup;
use super::table::Table;
use crate::cli::service::site::{self, Pki};

/// Does it.
pub fn run(output: Output, command: Pki) -> Result<u8, ClientError> {
    match command {
        Pki::Init { dir, host } if dir == Path::new(site::NODE_PKI) => {
            setup::node(output, dir.parent().unwrap_or(&dir), &host)?;
        }
        Pki::Init { dir, host } => {
            Ca::init(&dir, &host)?;
            let document = json!({ "dir": dir, "hosts": host });
            output.result(&document, || format!("{}\n", dir.display()))?;
        }
        Pki::Issue { dir, name, uri, days } => {
            tell(output, &Ca::open(&dir)?.issue_client(&name, &uri, days)?)?;
        }
        Pki::IssueServer { dir, host } => tell(output, &Ca::open(&dir)?.issue_server(&host)?)?,
        Pki::Revoke { dir, serial } => {
            Ca::open(&dir)?.revoke(&serial)?;
            output.result(&json!({ "serial": serial, "revoked": true }), || format!("{serial}\n"))?;
        }
        Pki::RenewCrl { dir } => {
            Ca::open(&dir)?.renew_crl()?;
            output.result(&json!({ "dir": dir }), || format!("{}\n", dir.display()))?;
        }
        Pki::List { dir } => list(output, &dir)?,
    }
    Ok(code::OK)
}

fn tell(output: Output, issued: &Issued) -> Result<(), ClientError> {
    let document = json!({ "certificate": issued.certificate, "key": issued.key, "serial": issued.serial });
    output.result(&document, || {
        format!("{}\n{}\nserial {}\n", issued.certificate.display(), issued.key.display(), issued.serial)
    })
}

fn list(output: Output, dir: &Path) -> Result<(), ClientError> {
    let entries = Ca::open(dir)?.entries()?;
    let is_revoked = |number: &str| {
        entries.iter().any(|entry| matches!(entry, Entry::Revoked { serial, .. } if serial == number))
    };
    let mut table = Table::new(&["SERIAL", "NAME", "UNTIL", "REVOKED", "IDENTITY"]);
    let mut documents = Vec::new();
    for entry in &entries {
        let Entry::Issued { serial, name, identity, not_after } = entry else { continue };
        let revoked = is_revoked(serial);
        documents.push(json!({
            "serial": serial, "name": name, "identity": identity, "notAfter": not_after, "revoked": revoked,
        }));
        let revoked = if revoked { "yes" } else { "no" };
        let row = [serial, name, not_after, revoked, &identity.join(" ")];
        table.row(row.iter().map(|cell| plain(cell)).collect());
    }
    output.result(&json!({ "certificates": Value::from(documents) }), || table.draw(|_, _| None))
}

impl From<PkiError> for ClientError {
    fn from(error: PkiError) -> Self {
        match error {
            PkiError::Name { .. } | PkiError::Days(_) => Self::Usage(error.to_string()),
            PkiError::Exists { .. } => Self::Conflict(error.to_string()),
            PkiError::Unknown(_) => Self::NotFound(error.to_string()),
            PkiError::File { what, path, source } => Self::File { verb: what, path, source },
            PkiError::Index { .. } => Self::Corrupt(error.to_string()),
            PkiError::Certificate(source) => Self::Failed(format!("cannot make a certificate: {source}")),
        }
    }
}
