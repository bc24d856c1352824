//! `stockade pki init` on an installed node: beside the authority what daemon and first administrator need, so that the service
//! can be started next.
//!
//! ```text
//!  etc/stockade/pki/…                  the authority, the daemon's certificate; its key readable by the daemon's group
//!  etc/stockade/pki/admin.crt .key     the administrator's, readable by root
//!  etc/stockade/stockaded.d/pki.toml   which grant that has, and where the CRL is
//!  etc/stockade/client.toml            what `stockade` goes by where its user has no file of their own
//! ```

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::error::ClientError;
use super::output::Output;
use super::pki::Ca;
use super::pki::files::{self, PUBLIC};

/// The account that the daemon runs as.
pub const ACCOUNT: &str = "stockade";
const ADMIN: &str = "admin";
const DAYS: u32 = 365;
/// By which the node itself reaches the service.
const OWN: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes all of it in `config` (`/etc/stockade`), for a daemon that is reached by these names, too.
///
/// # Errors
/// When there is an authority already, when the daemon's account is missing, and as files go.
pub fn node(output: Output, config: &Path, hosts: &[String]) -> Result<(), ClientError> {
    let group = nix::unistd::Group::from_name(ACCOUNT).ok().flatten().ok_or_else(|| {
        ClientError::Failed(format!(
            "this host has no group {ACCOUNT}, which the daemon reads its key as: the package makes it \
             (systemd-sysusers), or take another --dir"
        ))
    })?;
    let node = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let pki = config.join("pki");
    let hosts = names(&node, hosts);
    let ca = Ca::init(&pki, &hosts)?;
    let key = pki.join("server.key");
    chown(&key, None, Some(group.gid.as_raw()))
        .and_then(|()| std::fs::set_permissions(&key, Permissions::from_mode(0o640)))
        .map_err(|source| ClientError::File { verb: "hand over", path: key, source })?;
    let identity = format!("spiffe://{}/{ADMIN}", hosts[0]);
    let admin = ca.issue_client(ADMIN, &identity, DAYS)?;
    let fragments = config.join("stockaded.d");
    files::make_directory(&fragments)?;
    let grant = fragments.join("pki.toml");
    files::replace(&grant, fragment(&pki, &identity).as_bytes(), PUBLIC)?;
    let client = config.join("client.toml");
    files::replace(&client, CLIENT.as_bytes(), PUBLIC)?;
    let document = json!({
        "dir": pki, "hosts": hosts, "admin": { "identity": identity, "certificate": admin.certificate, "key": admin.key },
        "clientConfig": client, "grants": grant,
    });
    output.result(&document, || said(&pki, &hosts, &admin.certificate, &grant))
}

/// What the node is called, what its user calls it, what it calls itself; each once.
fn names(node: &str, given: &[String]) -> Vec<String> {
    let own = super::pki::issue::check_hosts(&[node.to_owned()]).is_ok().then_some(node);
    let mut names: Vec<String> = Vec::new();
    for name in given.iter().map(String::as_str).chain(own).chain(OWN) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn fragment(pki: &Path, identity: &str) -> String {
    let crl = toml::Value::from(pki.join("crl.pem").to_string_lossy().as_ref());
    format!(
        "# Written by `stockade pki init`: the certificates that it issued, and what its administrator may do.\n[tls]\ncrl = \
         {crl}\n\n[[grant]]\nidentity = \"{identity}\"\nrole = \"admin\"\ntenant = \"default\"\n"
    )
}

const CLIENT: &str = "# Written by `stockade pki init`: for whoever can read the administrator's key, and has no \
                      ~/.config/stockade/client.toml.\nserver = \"https://localhost:7443\"\ncert = \
                      \"pki/admin.crt\"\nkey = \"pki/admin.key\"\nca = \"pki/ca.crt\"\n";

fn said(pki: &Path, hosts: &[String], admin: &PathBuf, grant: &Path) -> String {
    format!(
        "authority and certificates in {}, for {}\nadministrator: {}, granted in {}\nnext: systemctl enable --now \
         stockaded, then stockade spawn --type shell --id one\n",
        pki.display(),
        hosts.join(", "),
        admin.display(),
        grant.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_as_its_user_says_as_its_host_name_says_and_as_itself_each_once() {
        let given = ["agents.example.org".to_owned(), "localhost".to_owned()];
        assert_eq!(
            names("node-1", &given),
            ["agents.example.org", "localhost", "node-1", "127.0.0.1", "::1"]
        );
        assert_eq!(names("(none)", &[]), OWN);
    }

    #[test]
    fn what_is_written_for_the_client_is_what_a_client_reads() {
        let file: toml::Table = CLIENT.parse().expect("TOML");
        let keys: Vec<_> = file.keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        let grant: toml::Table = fragment(Path::new("/x"), "spiffe://a/admin").parse().expect("TOML");
        assert_eq!(grant["tls"]["crl"].as_str(), Some("/x/crl.pem"));
        assert_eq!(grant["grant"][0]["role"].as_str(), Some("admin"));
    }
}
