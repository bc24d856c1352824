//! What one start asks to have differently from its policy.

use super::destination::InvalidDestination;
use super::{Bytes, Cpus, Destination, Excess, Policy, Published};

/// Values given for one run; what is not given stays as the policy has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Memory and swap together.
    pub memory: Option<Bytes>,
    /// CPU time per second of wall time.
    pub cpus: Option<Cpus>,
    /// Processes and threads.
    pub processes: Option<u32>,
    /// Destinations beyond the policy's.
    pub allow: Vec<Destination>,
    /// Ways in, which no policy has.
    pub publish: Vec<Published>,
}

impl Request {
    /// The policy under which this request would run, and what of it goes beyond the given one. Whether that may
    /// be is the caller's decision: root at the command line may, a client of the service may not.
    pub fn on(&self, policy: &Policy) -> (Policy, Option<Excess>) {
        if *self == Self::default() {
            return (policy.clone(), None);
        }
        let mut asked = policy.clone();
        asked.limits.memory = self.memory.unwrap_or(policy.limits.memory);
        asked.limits.cpus = self.cpus.unwrap_or(policy.limits.cpus);
        asked.limits.processes = self.processes.unwrap_or(policy.limits.processes);
        asked.network.allow.extend(self.allow.iter().cloned());
        // A server inside is one that its own loopback lets listen.
        asked.network.loopback |= !self.publish.is_empty();
        let excess = asked.is_within(policy).err();
        let published = self.publish.iter().map(ToString::to_string);
        (asked, Excess::with(excess, "publish", published))
    }
}

/// `--allow HOST[:PORT]`: a destination, on port 443 where it names none.
pub fn destination(text: &str) -> Result<Destination, InvalidDestination> {
    match text.parse() {
        Err(InvalidDestination::NoPort { given }) => format!("{given}:443").parse(),
        parsed => parsed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_without_a_port_is_meant_for_https() {
        for (given, meant) in [
            ("api.example.org", "api.example.org:443"),
            ("*.example.org", "*.example.org:443"),
            ("example.org:22", "example.org:22"),
            ("2001:db8::1", "[2001:db8::1/128]:443"),
        ] {
            let meant: Destination = meant.parse().expect(meant);
            assert_eq!(destination(given), Ok(meant), "{given}");
        }
        assert!(destination("https://example.org").is_err());
        assert!(destination("example.org:").is_err());
    }

    #[test]
    fn what_goes_beyond_the_policy_is_named() {
        let policy = Policy::nothing("site".parse().expect("a name"));
        let asked = Request {
            allow: vec!["example.org:443".parse().expect("a destination")],
            publish: vec!["127.0.0.1:8080:3000".parse().expect("a port")],
            ..Request::default()
        };
        let (with, excess) = asked.on(&policy);
        let named: Vec<&str> = excess.iter().flat_map(Excess::iter).map(|exceeded| exceeded.key).collect();
        assert_eq!(named, ["network.loopback", "network.allow", "publish"]);
        let none = Request { allow: asked.allow, ..Request::default() };
        assert_eq!(none.on(&with).1, None, "it is allowed already");
    }
}
