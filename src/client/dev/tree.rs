//! The tree that `stockade dev` works in: certificates, configuration, and who may read them.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::client::error::ClientError;
use crate::client::pki::Ca;
use crate::client::pki::index::Entry;
use crate::wire::service::Places;

/// Clients that a service for development has, and their roles.
const CLIENTS: [(&str, &str); 5] = [
    ("admin", "admin"),
    ("operator", "operator"),
    ("viewer", "viewer"),
    ("auditor", "auditor"),
    ("parallax", "operator"),
];
const IDENTITIES: &str = "spiffe://stockade.dev";
const TENANT: &str = "dev";
const DAYS: u32 = 365;

/// The user that the daemon runs as: `stockade`, if this host has it, else nobody's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaemonUser {
    /// Its uid.
    pub uid: u32,
    /// Its gid.
    pub gid: u32,
}

/// No package and no directory service gives out this one.
const UNASSIGNED: u32 = 0x6FFF_FFFE;

impl DaemonUser {
    /// As this host has it.
    pub fn find() -> Self {
        let user = nix::unistd::User::from_name("stockade").ok().flatten();
        user.filter(|user| !user.uid.is_root() && user.gid.as_raw() != 0).map_or(
            Self { uid: UNASSIGNED, gid: UNASSIGNED },
            |user| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() },
        )
    }
}

/// The tree. Nobody else works in it as long as this is there.
#[derive(Debug)]
pub struct Tree {
    /// Absolute, without links.
    pub dir: PathBuf,
    _lock: File,
}

impl Tree {
    /// Makes the directory, unless it is there, and takes it.
    pub fn open(dir: &Path) -> Result<Self, ClientError> {
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(cannot("create", dir))?;
        let dir = fs::canonicalize(dir).map_err(cannot("find", dir))?;
        let lock = dir.join("dev.lock");
        let file = File::create(&lock).map_err(cannot("create", &lock))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let detail = format!("another `stockade dev` works in {}: use another --dir", dir.display());
                return Err(ClientError::Conflict(detail));
            }
            Err(error) => return Err(cannot("lock", &lock)(error.into())),
        }
        Ok(Self { dir, _lock: file })
    }

    /// Where things are.
    pub fn places(&self) -> Places {
        Places::under(&self.dir)
    }

    /// What `--client-config` takes.
    pub fn client_config(&self) -> PathBuf {
        self.dir.join("client.toml")
    }

    /// Its certificates.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The daemon is not root, and must come to its files.
    pub fn let_pass(&self) -> Result<(), ClientError> {
        let mode = |path: &Path| match fs::metadata(path) {
            Ok(found) => Ok(found.mode()),
            Err(error) => Err(cannot("look at", path)(error)),
        };
        let own = mode(&self.dir)?;
        fs::set_permissions(&self.dir, Permissions::from_mode(own & 0o7777 | 0o711))
            .map_err(cannot("open", &self.dir))?;
        for above in self.dir.ancestors().skip(1) {
            if mode(above)? & 0o001 == 0 {
                return Err(ClientError::Failed(format!(
                    "the daemon has no rights of root's and cannot pass {}: use a --dir that everybody can reach, below \
                     /tmp or /srv say",
                    above.display()
                )));
            }
        }
        Ok(())
    }

    /// An authority, a server certificate for `listen`, clients: those that are missing.
    pub fn certify(&self, listen: SocketAddr, user: DaemonUser) -> Result<(), ClientError> {
        let pki = self.pki();
        let hosts = hosts(listen.ip());
        let ca = if pki.join("ca.key").exists() { Ca::open(&pki)? } else { Ca::init(&pki, &hosts)? };
        ca.renew_crl()?;
        if !covers(&ca.entries()?, &hosts) {
            for name in ["server.crt", "server.key"] {
                let path = pki.join(name);
                fs::remove_file(&path).map_err(cannot("replace", &path))?;
            }
            ca.issue_server(&hosts)?;
        }
        let key = pki.join("server.key");
        chown(&key, None, Some(user.gid)).map_err(cannot("hand over", &key))?;
        fs::set_permissions(&key, Permissions::from_mode(0o640)).map_err(cannot("hand over", &key))?;
        for (name, _) in CLIENTS {
            if !pki.join(format!("{name}.crt")).exists() {
                ca.issue_client(name, &format!("{IDENTITIES}/{name}"), DAYS)?;
            }
        }
        Ok(())
    }

    /// Writes every configuration anew.
    pub fn configure(
        &self,
        listen: SocketAddr,
        workspace_roots: &[PathBuf],
        etcd: &[String],
    ) -> Result<(), ClientError> {
        let config = self.places().config();
        fs::create_dir_all(&config).map_err(cannot("create", &config))?;
        let roots = match workspace_roots {
            // What is precious on this host is refused anyway.
            [] => vec!["/".to_owned()],
            given => given.iter().map(|root| absolute(root)).collect::<Result<_, _>>()?,
        };
        write(&config.join("launcher.toml"), &format!("{HEAD}workspace-roots = {}\n", words(&roots)))?;
        write(&config.join("stockaded.toml"), &self.daemon(listen, etcd))?;
        let client = format!(
            "{HEAD}server = {}\ncert = \"pki/admin.crt\"\nkey = \"pki/admin.key\"\nca = \"pki/ca.crt\"\n",
            word(&format!("https://{}", reachable(listen)))
        );
        write(&self.client_config(), &client)
    }

    fn daemon(&self, listen: SocketAddr, etcd: &[String]) -> String {
        let pki = |name: &str| word(&self.pki().join(name).to_string_lossy());
        let mut text = format!(
            "{HEAD}# What is to stay goes into stockaded.d/*.toml.\nlisten = {}\n\n[tls]\ncert = {}\nkey = {}\nclient-ca = \
             {}\ncrl = {}\n",
            word(&listen.to_string()),
            pki("server.crt"),
            pki("server.key"),
            pki("ca.crt"),
            pki("crl.pem"),
        );
        if !etcd.is_empty() {
            text.push_str(&format!("\n[registry]\nkind = \"etcd\"\nendpoints = {}\n", words(etcd)));
        }
        for (name, role) in CLIENTS {
            text.push_str(&format!(
                "\n[[grant]]\nidentity = \"{IDENTITIES}/{name}\"\nrole = \"{role}\"\ntenant = \"{TENANT}\"\n"
            ));
        }
        text
    }
}

const HEAD: &str = "# Written by `stockade dev`, anew at each start.\n";

/// By which clients reach this address.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        ip if !ip.is_unspecified() => listen,
        IpAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], listen.port())),
        IpAddr::V6(_) => SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), listen.port()),
    }
}

fn hosts(listen: IpAddr) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if !listen.is_unspecified() && !hosts.contains(&listen.to_string()) {
        hosts.push(listen.to_string());
    }
    hosts
}

/// Whether the server's certificate is for all of these.
fn covers(entries: &[Entry], hosts: &[String]) -> bool {
    let mut servers = entries.iter().filter_map(|entry| match entry {
        Entry::Issued { name, identity, .. } if name == "server" => Some(identity),
        _ => None,
    });
    servers.next_back().is_some_and(|identity| hosts.iter().all(|host| identity.contains(host)))
}

fn absolute(path: &Path) -> Result<String, ClientError> {
    let path = fs::canonicalize(path).map_err(cannot("find", path))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| ClientError::Usage(format!("{} is no text", path.to_string_lossy())))
}

/// As TOML has it.
fn word(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn words(texts: &[String]) -> String {
    toml::Value::from(texts.to_vec()).to_string()
}

fn write(path: &Path, text: &str) -> Result<(), ClientError> {
    let draft = path.with_extension("new");
    fs::write(&draft, text)
        .and_then(|()| fs::set_permissions(&draft, Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&draft, path))
        .map_err(cannot("write", path))
}

fn cannot(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> ClientError {
    let path = path.to_owned();
    move |source| ClientError::File { verb, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: DaemonUser = DaemonUser { uid: UNASSIGNED, gid: UNASSIGNED };

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_daemon_can_read_its_own_key_and_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let tree = Tree::open(&directory.path().join("dev")).expect("a tree");
        tree.certify(address("127.0.0.1:1"), USER).expect("certificates");
        let owner = |name: &str| {
            let found = fs::metadata(tree.pki().join(name)).expect(name);
            (found.uid(), found.gid(), found.mode() & 0o777)
        };
        assert_eq!(owner("server.key"), (0, UNASSIGNED, 0o640));
        for (name, _) in CLIENTS {
            assert_eq!(owner(&format!("{name}.key")).2, 0o600, "{name}");
        }
        assert_eq!((owner("ca.key").2, owner("crl.pem").2 & 0o004), (0o600, 0o004));
    }

    #[test]
    fn certificates_are_kept_and_another_address_gets_its_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let tree = Tree::open(directory.path()).expect("a tree");
        let server = || fs::read(tree.pki().join("server.crt")).expect("a certificate");
        tree.certify(address("127.0.0.1:1"), USER).expect("certificates");
        let (first, admin) = (server(), fs::read(tree.pki().join("admin.crt")).expect("one"));
        tree.certify(address("0.0.0.0:7"), USER).expect("again");
        assert_eq!(server(), first);
        tree.certify(address("127.0.0.9:1"), USER).expect("elsewhere");
        assert_ne!(server(), first);
        assert_eq!(fs::read(tree.pki().join("admin.crt")).expect("one"), admin);
    }

    #[test]
    fn two_cannot_work_in_one_tree_and_a_closed_parent_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let tree = Tree::open(&directory.path().join("dev")).expect("a tree");
        let refused = Tree::open(&directory.path().join("dev")).expect_err("taken");
        assert_eq!(refused.exit_code(), 5, "{}", refused.line());
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("closed");
        let refused = tree.let_pass().expect_err("closed");
        assert!(refused.line().contains(&directory.path().display().to_string()), "{}", refused.line());
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).expect("opened");
        tree.let_pass().expect("open");
    }
}
