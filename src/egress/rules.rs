//! What the gateway lets through, and how a refusal is explained.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::policy::destination::InvalidDestination;
use crate::policy::hostname::{GATEWAY, InvalidHostname};
use crate::policy::{Cidr, Destination, HostPattern, Hostname, Sni};
use crate::wire::egress::{Config, Reason};

/// Why the configuration cannot be worked by.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// In `allow`.
    #[error("allow: {0}")]
    Destination(#[from] InvalidDestination),
    /// In `resolve` or `inject`.
    #[error("a name: {0}")]
    Hostname(#[from] InvalidHostname),
}

/// The rules of one sandbox.
#[derive(Debug)]
pub struct Rules {
    allow: Vec<Destination>,
    resolve: BTreeMap<Hostname, Vec<IpAddr>>,
    inject: Vec<Hostname>,
}

/// A refusal, for programs, people and models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// In one line.
    pub detail: String,
    /// The line of a policy that would have allowed it.
    pub remedy: Option<String>,
}

impl Refusal {
    /// One that no line of a policy lifts.
    pub fn final_one(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), remedy: None }
    }

    fn liftable(reason: Reason, detail: String, destination: &str) -> Self {
        // A destination that no policy could hold (port 53, a strange name) is not proposed.
        let remedy = destination.parse::<Destination>().ok().map(|destination| remedy(&destination));
        Self { reason, detail, remedy }
    }

    /// Lifted by `sni = "any"` for the same name.
    pub fn of_hello(reason: Reason, detail: String, name: &Hostname, port: u16) -> Self {
        Self::liftable(reason, detail, &format!("{name}:{port} sni=any"))
    }

    /// Lifted by a rule about the address itself.
    pub fn of_guarded(detail: String, address: IpAddr, port: u16) -> Self {
        Self::liftable(Reason::GuardedAddress, detail, &on(address, port))
    }
}

fn remedy(destination: &Destination) -> String {
    format!("[network] allow = [{}]", destination.to_toml())
}

fn on(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

impl Rules {
    /// Reads them. What the shim has let through is read again: the gateway trusts no text.
    pub fn parse(config: &Config) -> Result<Self, RulesError> {
        let allow = config.allow.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let resolve = config.resolve.iter();
        let resolve = resolve.map(|(name, addresses)| Ok((name.parse()?, addresses.clone())));
        let inject = config.inject.iter().map(|inject| inject.name.parse());
        Ok(Self {
            allow,
            resolve: resolve.collect::<Result<_, InvalidHostname>>()?,
            inject: inject.collect::<Result<_, _>>()?,
        })
    }

    /// The names that rules name exactly.
    pub fn exact_names(&self) -> impl Iterator<Item = &Hostname> {
        let allowed = self.allow.iter().filter_map(|destination| match destination.host() {
            HostPattern::Name(name) => Some(name),
            HostPattern::Below(_) | HostPattern::Range(_) => None,
        });
        allowed.chain(&self.inject)
    }

    /// Every port that a rule names.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.allow.iter().flat_map(|destination| destination.ports().iter().copied())
    }

    /// Whether DNS has an answer for `name`.
    pub fn knows_name(&self, name: &Hostname) -> bool {
        self.inject.contains(name) || self.allow.iter().any(|destination| destination.knows_name(name))
    }

    /// Whether DNS has an answer for some name below `name`.
    pub fn knows_names_below(&self, name: &Hostname) -> bool {
        let is_below =
            |other: &str| other.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
        let allowed = self.allow.iter().any(|destination| match destination.host() {
            HostPattern::Name(other) => is_below(other.as_str()),
            HostPattern::Below(base) => base == name || is_below(base.as_str()),
            HostPattern::Range(_) => false,
        });
        allowed || is_below(GATEWAY) || self.inject.iter().any(|other| is_below(other.as_str()))
    }

    /// Which inject rule serves `name`.
    pub fn inject(&self, name: &Hostname) -> Option<usize> {
        self.inject.iter().position(|inject| inject == name)
    }

    /// The addresses that the site has decided for `name`.
    pub fn resolve(&self, name: &Hostname) -> Option<&[IpAddr]> {
        self.resolve.get(name).map(Vec::as_slice)
    }

    /// The rule by which `name` may be reached on `port`: the least strict, if there are several.
    pub fn for_name(&self, name: &Hostname, port: u16) -> Result<&Destination, Refusal> {
        let covering = self.allow.iter().filter(|destination| destination.covers_name(name, port));
        covering.max_by_key(|destination| destination.sni()).ok_or_else(|| {
            let wanted = format!("{name}:{port}");
            if name.as_str() == GATEWAY || self.inject.contains(name) {
                let detail = format!("{name} is served by the gateway itself, as plain HTTP on port 80");
                return Refusal::final_one(Reason::Port, detail);
            }
            if !self.knows_name(name) {
                return Refusal::liftable(Reason::Name, format!("no rule covers the name {name}"), &wanted);
            }
            let detail = format!("{name} is allowed, but not on port {port}");
            Refusal::liftable(Reason::Port, detail, &wanted)
        })
    }

    /// The refusal of a DNS question about `name`.
    pub fn refuse_name(name: &Hostname) -> Refusal {
        Refusal::liftable(Reason::Name, format!("no rule covers the name {name}"), &format!("{name}:443"))
    }

    /// The rule by which `address` may be reached on `port` without a name.
    pub fn for_address(&self, address: IpAddr, port: u16) -> Result<&Destination, Refusal> {
        self.allow.iter().find(|destination| destination.covers_address(address, port)).ok_or_else(|| {
            let ranges = self.allow.iter().filter_map(range);
            let (reason, detail) = match ranges.into_iter().any(|range| range.contains(address)) {
                true => (Reason::Port, format!("{address} is allowed, but not on port {port}")),
                false => (Reason::Address, format!("no rule covers the address {address}")),
            };
            Refusal::liftable(reason, detail, &on(address, port))
        })
    }

    /// The ranges that rules open on `port`.
    pub fn ranges(&self, port: u16) -> impl Iterator<Item = Cidr> {
        self.allow.iter().filter(move |destination| destination.ports().contains(&port)).filter_map(range)
    }

    /// Whether TLS to `name` is checked against the name under this rule.
    pub fn checks_sni(rule: &Destination) -> bool {
        rule.sni() == Sni::Match
    }
}

fn range(destination: &Destination) -> Option<Cidr> {
    match destination.host() {
        HostPattern::Range(range) => Some(*range),
        HostPattern::Name(_) | HostPattern::Below(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str]) -> Rules {
        let allow = allow.iter().map(|text| (*text).to_owned()).collect();
        Rules::parse(&Config { allow, ..Config::default() }).expect("rules")
    }

    fn name(text: &str) -> Hostname {
        text.parse().expect("a name")
    }

    #[test]
    fn a_refusal_names_the_line_that_would_lift_it() {
        let rules = rules(&["api.example.org:443", "10.2.0.0/16:5432"]);
        let of_name = |text: &str, port| rules.for_name(&name(text), port).expect_err("refused");
        let refusal = of_name("evil.test", 443);
        assert_eq!(refusal.reason, Reason::Name);
        assert_eq!(refusal.remedy.as_deref(), Some(r#"[network] allow = ["evil.test:443"]"#));
        let refusal = of_name("api.example.org", 8443);
        assert_eq!(refusal.reason, Reason::Port);
        assert_eq!(refusal.remedy.as_deref(), Some(r#"[network] allow = ["api.example.org:8443"]"#));
        assert_eq!(of_name("api.example.org", 53).remedy, None);
        let of_address = |text: &str, port| {
            rules.for_address(text.parse().expect("an address"), port).expect_err("refused")
        };
        assert_eq!(of_address("10.2.0.1", 22).reason, Reason::Port);
        assert_eq!(of_address("10.3.0.1", 22).reason, Reason::Address);
        let remedy = of_address("2001:db8::1", 22).remedy;
        assert_eq!(remedy.as_deref(), Some(r#"[network] allow = ["[2001:db8::1]:22"]"#));
    }

    #[test]
    fn of_two_rules_the_less_strict_holds() {
        let rules = rules(&["*.example.org:443", "git.example.org:443 sni=any"]);
        let strict = |text: &str| Rules::checks_sni(rules.for_name(&name(text), 443).expect("allowed"));
        assert!(!strict("git.example.org"));
        assert!(strict("api.example.org"));
    }
}
