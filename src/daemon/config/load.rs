//! From files to a [`Config`], or to the place in a file that is wrong.

use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::document::{Document, GrantEntry};
use super::duration::Span;
use super::tenant::Long;
use super::{Config, Limits, NodeSettings, ParallaxSettings, TlsFiles};
use crate::daemon::authz::{Grant, Grants};
use crate::policy::{Bytes, Fault};
use crate::wire::service::Places;

/// Bytes that a configuration file may have.
const LARGEST: u64 = 1 << 20;

const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 7443);

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Longer than any configuration needs to be.
    #[error("the configuration {} is larger than 1MiB", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A mistake at a place in a file.
    #[error(transparent)]
    Invalid(#[from] Box<Fault>),
}

type Result<T> = std::result::Result<T, ConfigError>;

impl Config {
    /// Reads `file`, or `stockaded.toml` of these places; and what lies in the `.d` beside it.
    ///
    /// # Errors
    /// When a file cannot be read, or says what it cannot mean.
    pub fn load(places: &Places, file: Option<&Path>) -> Result<Self> {
        let (main, more) = (main(places, file), more(places, file));
        let mut config = Self::defaults(places);
        let mut grants = Vec::new();
        for path in std::iter::once(main).chain(fragments(&more)?) {
            config.read(&path, &mut grants)?;
        }
        config.grants = Grants::new(grants).expect("ties were refused where they were read");
        Ok(config)
    }

    fn defaults(places: &Places) -> Self {
        let pki = places.config().join("pki");
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            listen: DEFAULT_LISTEN,
            health_listen: None,
            tls: TlsFiles {
                cert: pki.join("server.crt"),
                key: pki.join("server.key"),
                client_ca: pki.join("ca.crt"),
                crl: None,
            },
            grants: Grants::default(),
            tenants: Default::default(),
            identities: Vec::new(),
            usage: Default::default(),
            sinks: Vec::new(),
            audit_keep: None,
            audit_keep_for: None,
            node: NodeSettings { name: if host.is_empty() { "stockade".into() } else { host } },
            limits: Limits::default(),
            parallax: ParallaxSettings { runtime_name: "local".into() },
            registry: Default::default(),
        }
    }

    fn read(&mut self, path: &Path, grants: &mut Vec<Grant>) -> Result<()> {
        let text = read(path)?;
        let name = path.display().to_string();
        let document: Document =
            toml::from_str(&text).map_err(|error| Box::new(Fault::from_toml(&name, &text, &error)))?;
        let wrong = |span, message, suggestion| {
            ConfigError::from(Box::new(Fault::at(&name, &text, span, message, suggestion)))
        };
        if let Some(registry) = &document.registry
            && let Some(message) = registry.get_ref().contradiction()
        {
            return Err(wrong(registry.span(), message, None));
        }
        if let Some(listen) = &document.health_listen
            && !listen.get_ref().ip().is_loopback()
        {
            let message =
                format!("{} is no loopback address: health is answered without TLS", listen.get_ref());
            return Err(wrong(
                listen.span(),
                message,
                Some(format!("127.0.0.1:{}", listen.get_ref().port())),
            ));
        }
        for GrantEntry { identity, role, tenant, quota } in &document.grant {
            let pattern = identity.get_ref();
            if grants.iter().any(|grant| grant.identity == *pattern) {
                let message = format!("{pattern} has two grants: an identity has one role in one tenant");
                return Err(wrong(identity.span(), message, None));
            }
            if let Some(quota) = quota {
                self.identities.push((pattern.clone(), quota.quota()));
            }
            grants.push(Grant { identity: pattern.clone(), role: *role, tenant: tenant.clone() });
        }
        let beside = path.parent().unwrap_or(Path::new("/"));
        for entry in &document.audit.sink {
            let sink = entry.get_ref().sink(beside).map_err(|message| wrong(entry.span(), message, None))?;
            if self.sinks.iter().any(|other| other.name == sink.name) {
                let message = format!("there are two sinks {}: each needs a name of its own", sink.name);
                return Err(wrong(entry.span(), message, None));
            }
            self.sinks.push(sink);
        }
        self.take(document, beside);
        Ok(())
    }

    /// What a file says replaces what was said before.
    fn take(&mut self, document: Document, beside: &Path) {
        replace(&mut self.listen, document.listen);
        if let Some(listen) = document.health_listen {
            self.health_listen = Some(listen.into_inner());
        }
        // As a whole: half of another file's would be meant by nobody.
        replace(&mut self.registry, document.registry.map(|section| section.into_inner().beside(beside)));
        let beside = |path: PathBuf| beside.join(path);
        replace(&mut self.tls.cert, document.tls.cert.map(beside));
        replace(&mut self.tls.key, document.tls.key.map(beside));
        replace(&mut self.tls.client_ca, document.tls.client_ca.map(beside));
        if let Some(crl) = document.tls.crl {
            self.tls.crl = Some(beside(crl));
        }
        for (tenant, entry) in document.tenant {
            entry.onto(self.tenants.entry(tenant).or_default());
        }
        replace(&mut self.node.name, document.node.name.map(String::from));
        replace(&mut self.parallax.runtime_name, document.parallax.runtime_name.map(String::from));
        self.audit_keep = document.audit.keep.map(Bytes::get).or(self.audit_keep);
        self.audit_keep_for = document.audit.keep_for.map(|Long(time)| time).or(self.audit_keep_for);
        document.limits.onto(&mut self.limits);
        replace(&mut self.usage.interval, document.usage.interval.map(|Span(time)| time));
        replace(&mut self.usage.look, document.usage.look.map(|Span(time)| time));
        replace(&mut self.usage.keep, document.usage.keep.map(Bytes::get));
    }
}

fn replace<T>(old: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *old = new;
    }
}

/// The main file.
pub fn main(places: &Places, file: Option<&Path>) -> PathBuf {
    file.map_or_else(|| places.config().join("stockaded.toml"), Path::to_owned)
}

/// Where what is read after the main file lies.
pub fn more(places: &Places, file: Option<&Path>) -> PathBuf {
    main(places, file).with_extension("d")
}

/// The `.toml` files of a directory, in the order of their names; none without the directory.
pub fn fragments(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| ConfigError::Read { path: dir.into(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 <= LARGEST => Ok(text),
        Ok(_) => Err(ConfigError::TooLarge { path: path.into() }),
        Err(source) => Err(ConfigError::Read { path: path.into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::authz::Role;

    fn load(files: &[(&str, &str)]) -> std::result::Result<Config, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::under(dir.path());
        for (name, text) in files {
            let path = places.config().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        let own = dir.path().display().to_string();
        Config::load(&places, None).map_err(|error| error.to_string().replace(&own, ""))
    }

    #[test]
    fn the_configuration_of_the_documentation_is_read() {
        let config = load(&[(
            "stockaded.toml",
            r#"
            listen = "0.0.0.0:7443"
            health-listen = "127.0.0.1:7480"
            [tls]
            cert = "/etc/stockade/pki/server.crt"
            crl = "pki/crl.pem"
            [registry]
            kind = "embedded"
            [[grant]]
            identity = "spiffe://example.org/parallax/*"
            role = "operator"
            tenant = "research"
            [tenant.research]
            max-agents = 50
            memory = "64GiB"
            [limits]
            handshake-timeout = "500ms"
            "#,
        )])
        .expect("a configuration");
        assert_eq!(
            config.grants.of("spiffe://example.org/parallax/x").map(|grant| grant.role),
            Some(Role::Operator)
        );
        assert!(config.tls.crl.as_ref().is_some_and(|path| path.ends_with("etc/stockade/pki/crl.pem")));
        assert!(config.tls.key.ends_with("etc/stockade/pki/server.key"));
        assert_eq!(config.limits.handshake_timeout.as_millis(), 500);
        let research = &config.tenants[&"research".parse().expect("a tenant")];
        assert_eq!((research.max_agents, research.memory), (Some(50), Some(64 << 30)));
    }

    #[test]
    fn the_page_about_the_configuration_shows_one_and_the_defaults() {
        let page = include_str!("../../../docs/configuration.md");
        let (_, rest) = page.split_once("```toml\n").expect("an example");
        let (example, _) = rest.split_once("```").expect("its end");
        let config = load(&[("stockaded.toml", example)]).expect("a configuration");
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.listen, DEFAULT_LISTEN);
        let shown: Vec<_> = example.lines().filter(|line| line.contains("-timeout =")).collect();
        assert_eq!(shown.len(), 5, "{shown:?}");
    }

    #[test]
    fn fragments_are_read_in_the_order_of_their_names() {
        let config = load(&[
            ("stockaded.toml", "listen = '127.0.0.1:1'\n[tenant.a]\nmax-agents = 1"),
            ("stockaded.d/20.toml", "listen = '127.0.0.1:3'"),
            ("stockaded.d/10.toml", "listen = '127.0.0.1:2'\n[tenant.a]\nmemory = '1G'"),
            ("stockaded.d/ignored", "?"),
        ])
        .expect("a configuration");
        assert_eq!(config.listen.port(), 3);
        let tenant = &config.tenants[&"a".parse().expect("a tenant")];
        assert!(tenant.max_agents == Some(1) && tenant.memory.is_some());
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_the_way_out() {
        let said = |text| load(&[("stockaded.toml", text)]).expect_err("a mistake");
        let unknown = said("[tls]\nclient_ca = 'x'");
        assert!(unknown.starts_with("/etc/stockade/stockaded.toml:2:1: "), "{unknown}");
        assert!(unknown.ends_with("did you mean \"client-ca\"?"), "{unknown}");
        let etcd = said("[registry]\nkind = 'etcd'");
        assert!(etcd.contains(":1:1: no `endpoints`"), "{etcd}");
        let open = said("health-listen = '0.0.0.0:80'");
        assert!(open.contains(":1:17: ") && open.contains("no loopback address"), "{open}");
        let role = said("[[grant]]\nidentity = 'a'\nrole = 'adnim'\ntenant = 'x'");
        assert!(role.contains(":3:8: ") && role.ends_with("did you mean \"admin\"?"), "{role}");
        assert!(
            said("[limits]\nconnections = 0").contains(":2:15: "),
            "{}",
            said("[limits]\nconnections = 0")
        );
    }

    #[test]
    fn two_grants_for_one_identity_are_refused_across_files() {
        let grant = "[[grant]]\nidentity = 'spiffe://a/b'\nrole = 'viewer'\ntenant = 'x'";
        let said = load(&[("stockaded.toml", grant), ("stockaded.d/a.toml", grant)]).expect_err("a tie");
        assert!(
            said.starts_with("/etc/stockade/stockaded.d/a.toml:2:12: ") && said.contains("two grants"),
            "{said}"
        );
    }
}
