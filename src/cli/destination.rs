//! `stockade policy explain NAME HOST:PORT`: whether a destination can be reached, by which entry, or by which it could be.

use std::net::IpAddr;

use super::explain::Finding;
use crate::plan::outlook::Entry;
use crate::policy::{Destination, HostPattern, Hostname, Network, Sni, guarded, request, synthetic};

/// Reads a subject as a destination, if it is meant as one: neither a path nor a system call has a port, or dots in it.
pub fn subject(text: &str) -> Option<Destination> {
    let is_one = text.contains([':', '.']) && !text.starts_with(['/', '.', '~']);
    is_one.then(|| request::destination(text).ok()).flatten()
}

/// What becomes of a connection to it.
pub fn look(wanted: &Destination, network: &Network) -> Finding {
    let covering = network.allow.iter().find(|entry| wanted.is_within(std::slice::from_ref(*entry)));
    let all: Vec<Destination> = network.allow.iter().cloned().collect();
    let finding = |verdict: &'static str, says: &str, cause: String, decided_by, remedy| Finding {
        wall: "network",
        verdict: verdict.into(),
        says: says.into(),
        resolved: None,
        cause,
        decided_by,
        remedy,
    };
    let entry =
        |destination: &Destination| Some(Entry { key: "network.allow", value: destination.to_string() });
    if wanted.is_within(&all) {
        let by = covering.and_then(entry);
        if let Some((cause, remedy)) = behind_rules(wanted, network) {
            return finding("refused", "refused", cause, by, remedy);
        }
        return finding("reached", "can be reached, through the gateway", how(wanted, network), by, None);
    }
    let cause = match nearest(wanted, network) {
        Some(Near::Ports(near)) => {
            let by = entry(near);
            let cause = "the entry for this host has other ports".to_owned();
            return finding("refused", "refused", cause, by, Some(remedy(wanted)));
        }
        Some(Near::Inject(name)) => {
            format!("plain http://{name}/ is served by the gateway, and nothing else of it")
        }
        None => format!("no entry covers it; {}", refusal(wanted)),
    };
    finding("refused", "refused", cause, None, Some(remedy(wanted)))
}

/// What becomes of TCP as such.
pub fn tcp(network: &Network) -> Finding {
    let entries = |keys: Vec<String>| if keys.is_empty() { "nothing".into() } else { keys.join(" ") };
    let allowed = entries(network.allow.iter().map(ToString::to_string).collect());
    let own = match network.loopback {
        true => "the sandbox's own processes reach each other",
        false => "the sandbox's own processes may not listen, on Unix sockets neither",
    };
    Finding {
        wall: "network",
        verdict: "destinations".into(),
        says: format!("to {allowed}, through the gateway, and nowhere else outside"),
        resolved: None,
        cause: format!("the gateway decides by name; {own}"),
        decided_by: Some(Entry { key: "network.loopback", value: network.loopback.to_string() }),
        remedy: Some("[network] allow, or --allow HOST[:PORT] for one run".into()),
    }
}

/// Why an address is not reached although an entry covers it, and by which line it would be.
fn behind_rules(wanted: &Destination, network: &Network) -> Option<(String, Option<String>)> {
    let HostPattern::Range(range) = wanted.host() else { return None };
    let inside = |what: &str| format!("{what}; such an entry opens it to names that lead there");
    let Some((first, _)) = range.as_v4() else {
        return Some((
            inside("a sandbox has no IPv6, so that no program can ask for it by its address"),
            None,
        ));
    };
    if first.is_loopback() {
        return Some((
            inside("inside, this is the sandbox's own loopback, where the gateway is not asked"),
            None,
        ));
    }
    let (guarded, what) = guarded::around(first.into()).filter(|(guarded, _)| range.is_within(guarded))?;
    if synthetic::is_synthetic(first.into()) {
        return Some(("inside, such an address stands for a name, or for nothing".into(), None));
    }
    let is_opened = network.allow.iter().any(|entry| match entry.host() {
        HostPattern::Range(open) => {
            open.is_within(&guarded) && range.is_within(open) && wanted.ports().is_subset(entry.ports())
        }
        HostPattern::Name(_) | HostPattern::Below(_) => false,
    });
    let cause = format!("{what}, which only an entry within {guarded} opens");
    (!is_opened).then(|| (cause, Some(remedy(wanted))))
}

enum Near<'n> {
    Ports(&'n Destination),
    Inject(&'n str),
}

fn nearest<'n>(wanted: &Destination, network: &'n Network) -> Option<Near<'n>> {
    let HostPattern::Name(name) = wanted.host() else { return None };
    let inject = network.inject.iter().map(|inject| inject.name.as_str()).find(|own| *own == name.as_str());
    let near = network.allow.iter().find(|entry| entry.knows_name(name));
    near.map(Near::Ports).or(inject.map(Near::Inject))
}

/// How such a connection is checked, beyond its name.
fn how(wanted: &Destination, network: &Network) -> String {
    let HostPattern::Name(name) = wanted.host() else {
        return "an address is carried as it is: no name is checked".into();
    };
    let decided = addresses(name, network)
        .map_or("looked up by the gateway".into(), |all| format!("network.resolve has decided {all} for it"));
    let free = network.allow.iter().any(|entry| {
        entry.sni() == Sni::Any && wanted.ports().iter().all(|port| entry.covers_name(name, *port))
    });
    let hello = if free { "TLS may name any host" } else { "TLS must name this host" };
    format!("{decided}; {hello}")
}

fn addresses(name: &Hostname, network: &Network) -> Option<String> {
    let all = network.resolve.get(name)?;
    Some(all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "))
}

fn refusal(wanted: &Destination) -> &'static str {
    match wanted.host() {
        HostPattern::Name(_) | HostPattern::Below(_) => {
            "such a name is answered as if there were none, without asking anybody"
        }
        HostPattern::Range(_) => "a connection to such an address is refused at once",
    }
}

fn remedy(wanted: &Destination) -> String {
    format!("[network] allow = [{}], or --allow {wanted} for one run", wanted.to_toml())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Finding {
        let network = Network {
            allow: ["api.example.org:443", "*.example.net:443,8443", "10.2.0.0/16:5432"]
                .map(|text| text.parse().expect(text))
                .into(),
            ..Network::default()
        };
        look(&subject(text).expect(text), &network)
    }

    #[test]
    fn what_can_be_reached_names_the_entry_that_lets_it() {
        for (text, entry) in [
            ("api.example.org", "api.example.org:443"),
            ("a.b.example.net:8443", "*.example.net:443,8443"),
            ("10.2.3.4:5432", "10.2.0.0/16:5432"),
        ] {
            let finding = asked(text);
            assert_eq!(finding.verdict, "reached", "{text}");
            assert_eq!(finding.decided_by.expect("an entry").value, entry);
        }
    }

    #[test]
    fn what_cannot_be_reached_names_the_entry_that_would_let_it() {
        let finding = asked("api.example.org:22");
        assert_eq!(finding.verdict, "refused");
        assert!(finding.cause.contains("other ports") && finding.decided_by.is_some(), "{}", finding.cause);
        let finding = asked("evil.example");
        assert_eq!(
            finding.remedy.expect("a remedy"),
            r#"[network] allow = ["evil.example:443"], or --allow evil.example:443 for one run"#
        );
        assert_eq!(asked("example.net:443").verdict, "refused", "not below itself");
    }

    #[test]
    fn an_address_that_is_covered_and_guarded_is_not_reached() {
        let network = Network {
            allow: ["0.0.0.0/0:443", "10.2.0.0/16:443", "127.0.0.1:5432", "[2001:db8::/32]:443"]
                .map(|text| text.parse().expect(text))
                .into(),
            ..Network::default()
        };
        let verdict = |text: &str| look(&subject(text).expect(text), &network).verdict;
        for text in ["1.1.1.1:443", "10.2.3.4:443"] {
            assert_eq!(verdict(text), "reached", "{text}");
        }
        for text in
            ["169.254.169.254:443", "10.1.1.1:443", "127.0.0.1:5432", "198.18.9.9:443", "255.255.255.255:443"]
        {
            assert_eq!(verdict(text), "refused", "{text}");
        }
        assert_eq!(verdict("[2001:db8::1]:443"), "refused");
        let finding = look(&subject("10.1.1.1:443").expect("one"), &network);
        assert!(
            finding.cause.contains("a private address") && finding.cause.contains("10.0.0.0/8"),
            "{}",
            finding.cause
        );
    }

    #[test]
    fn paths_and_calls_are_no_destinations() {
        for text in ["/etc/passwd", "./a.b", "~/x.y", "openat2", "tcp"] {
            assert_eq!(subject(text), None, "{text}");
        }
    }
}
