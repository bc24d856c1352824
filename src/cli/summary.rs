//! What a failed agent was refused, in a few lines: enough to act on, the rest is in the report.

use std::net::IpAddr;
use std::path::Path;

use crate::policy;
use crate::shim::denials::{Denial, Protocol, Reason, Refused};
use crate::shim::egress::{Connection, Kind, Traffic};

/// More lines than this would hide what the agent itself said last.
const MOST: usize = 4;

/// The lines; none if nothing was seen to be refused. `policy` is how the user named it.
pub fn summary(denials: &[Denial], policy: &str, report: Option<&Path>) -> Vec<String> {
    let mut denials = ports_together(denials);
    // What can be allowed comes first, then what was tried most.
    denials.sort_by_key(|denial| (denial.remedy.is_none(), std::cmp::Reverse(denial.count)));
    let Some(first) = denials.first() else { return Vec::new() };
    let mut lines: Vec<String> = denials.iter().take(MOST).map(line).collect();
    if denials.len() > MOST {
        let place =
            report.map_or("run it with --report FILE".to_owned(), |path| format!("see {}", path.display()));
        lines.push(format!("and {} more: {place}", denials.len() - MOST));
    }
    if let Some(subject) = subject(&first.refused) {
        lines.push(format!("to learn why: stockade policy explain {policy} {subject}"));
    }
    lines
}

/// What a failed agent was let through to, and did not get: a name that leads nowhere, a host that does not answer.
pub fn troubles(traffic: &Traffic) -> Vec<String> {
    let troubled = |connection: &Connection| {
        let Kind { name, address, port, trouble, .. } = &connection.kind;
        let host = name.clone().or_else(|| address.map(|address| address.to_string()))?;
        let times = if connection.count > 1 { format!(" ({}x)", connection.count) } else { String::new() };
        Some(format!("connection to {host}:{port}{times}: {}", trouble.as_ref()?))
    };
    let mut lines: Vec<String> = traffic.connections.iter().filter_map(troubled).take(MOST).collect();
    lines.extend(
        traffic.incomplete.iter().map(|what| format!("of the network not everything is known: {what}")),
    );
    lines
}

/// A policy knows no single ports, so an agent that tried many was refused one thing.
fn ports_together(denials: &[Denial]) -> Vec<Denial> {
    let mut together: Vec<Denial> = Vec::new();
    for denial in denials {
        let right_of = |refused: &Refused| match refused {
            Refused::Landlock { right, port: Some(_), .. } => Some(right.clone()),
            Refused::Landlock { right, path: None, .. } => Some(right.clone()),
            Refused::Landlock { .. } | Refused::Seccomp { .. } | Refused::Egress { .. } => None,
        };
        let right = right_of(&denial.refused);
        let same = together.iter_mut().find(|seen| right.is_some() && right_of(&seen.refused) == right);
        match (same, right) {
            (Some(seen), Some(right)) => {
                seen.count += denial.count;
                seen.refused = Refused::Landlock { right, path: None, port: None };
            }
            _ => together.push(denial.clone()),
        }
    }
    together
}

fn line(denial: &Denial) -> String {
    let times = if denial.count > 1 { format!(" ({}x)", denial.count) } else { String::new() };
    if let Refused::Egress { .. } = denial.refused {
        return by_gateway(denial, &times);
    }
    match &denial.remedy {
        Some(remedy) => format!("refused {}{times}; to allow it: {remedy}", denial.refused),
        None => format!("refused {}{times}; no policy can allow it", denial.refused),
    }
}

/// With the option for this one time as well as the line for good.
fn by_gateway(denial: &Denial, times: &str) -> String {
    let Denial { refused, cause, remedy, .. } = denial;
    let option = destination(refused).map(|destination| format!("--allow {destination}"));
    let ways: Vec<&str> = option.iter().chain(remedy).map(String::as_str).collect();
    match ways.is_empty() {
        false => format!("refused {refused}{times}; to allow it: {}", ways.join(", or ")),
        true => format!("refused {refused}{times}: {cause}"),
    }
}

/// What `--allow` would have to be told; none where that would not help.
fn destination(refused: &Refused) -> Option<String> {
    let Refused::Egress { protocol, name, address, port, reason } = refused else { return None };
    let host = match reason {
        Reason::Name | Reason::Port => name.clone()?,
        Reason::Address => address.filter(IpAddr::is_ipv4)?.to_string(),
        _ => return None,
    };
    // A question for a name says nothing of a port yet.
    let is_question = *protocol == Protocol::Dns;
    let destination = if is_question { host } else { format!("{host}:{port}") };
    policy::request::destination(&destination).ok().map(|destination| destination.to_string())
}

/// What `policy explain` is asked about.
fn subject(refused: &Refused) -> Option<String> {
    match refused {
        Refused::Seccomp { call } => (!call.starts_with('#')).then(|| call.clone()),
        Refused::Landlock { right, .. } if right.starts_with("net.") => Some("tcp".into()),
        Refused::Landlock { path, .. } => path.clone(),
        Refused::Egress { .. } => destination(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, count: u64, remedy: Option<&str>) -> Denial {
        Denial {
            refused: Refused::Seccomp { call: name.into() },
            count,
            cause: "not on the allow-list".into(),
            remedy: remedy.map(Into::into),
        }
    }

    #[test]
    fn nothing_refused_is_nothing_said() {
        assert_eq!(summary(&[], "shell", None), [""; 0]);
    }

    #[test]
    fn a_refusal_comes_with_the_line_that_allows_it_and_the_way_to_learn_more() {
        let tcp = Denial {
            refused: Refused::Landlock { right: "net.connect_tcp".into(), path: None, port: Some(443) },
            ..call("", 3, Some("[network] loopback = true"))
        };
        assert_eq!(
            summary(&[call("mount", 1, None), tcp], "offline", None),
            [
                "refused net.connect_tcp port 443 (3x); to allow it: [network] loopback = true",
                "refused system call mount; no policy can allow it",
                "to learn why: stockade policy explain offline tcp",
            ]
        );
    }

    #[test]
    fn a_refused_destination_comes_with_the_option_that_allows_it() {
        let egress = |name: Option<&str>, address: Option<&str>, port, reason, remedy: Option<&str>| Denial {
            refused: Refused::Egress {
                protocol: if port == 53 { Protocol::Dns } else { Protocol::Tcp },
                name: name.map(Into::into),
                address: address.map(|text| text.parse().expect("an address")),
                port,
                reason,
            },
            ..call("", 2, remedy)
        };
        let line = r#"[network] allow = ["evil.example:8443"]"#;
        let denials = [
            egress(Some("evil.example"), None, 8443, Reason::Port, Some(line)),
            egress(Some("b.example"), None, 53, Reason::Name, None),
            egress(None, Some("192.0.2.1"), 5432, Reason::Address, None),
            egress(None, Some("2001:db8::1"), 443, Reason::Ipv6, None),
        ];
        assert_eq!(
            summary(&denials, "claude", None),
            [
                "refused connection to evil.example:8443 (2x); to allow it: --allow evil.example:8443, or \
                 [network] allow = [\"evil.example:8443\"]",
                "refused name b.example (2x); to allow it: --allow b.example:443",
                "refused connection to 192.0.2.1:5432 (2x); to allow it: --allow 192.0.2.1:5432",
                "refused connection to [2001:db8::1]:443 (2x): not on the allow-list",
                "to learn why: stockade policy explain claude evil.example:8443",
            ]
        );
    }

    #[test]
    fn an_allowed_host_that_is_not_there_is_named_with_what_came_of_it() {
        let connection = |name: &str, trouble: Option<&str>| Connection {
            kind: Kind {
                protocol: Protocol::Tcp,
                name: Some(name.into()),
                address: None,
                port: 443,
                rule: "*.example.org:443".into(),
                trouble: trouble.map(Into::into),
            },
            count: 2,
            sent: 0,
            received: 0,
            duration_millis: 1,
        };
        let traffic = Traffic {
            connections: vec![
                connection("a.example.org", None),
                connection("b.example.org", Some("no such name")),
            ],
            incomplete: Some("a gateway ended (signal 9)".into()),
            ..Traffic::default()
        };
        assert_eq!(
            troubles(&traffic),
            [
                "connection to b.example.org:443 (2x): no such name",
                "of the network not everything is known: a gateway ended (signal 9)",
            ]
        );
    }

    #[test]
    fn a_scan_of_ports_is_one_line() {
        let tried = |right: &str, port| Denial {
            refused: Refused::Landlock { right: right.into(), path: None, port: Some(port) },
            ..call("", 1, Some("x"))
        };
        let mut many: Vec<Denial> = (1..500).map(|port| tried("net.connect_tcp", port)).collect();
        many.push(tried("net.bind_tcp", 8080));
        let lines = summary(&many, "base", None);
        assert_eq!(lines[0], "refused net.connect_tcp (499x); to allow it: x");
        assert_eq!(lines[1], "refused net.bind_tcp port 8080; to allow it: x");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn many_refusals_stay_short() {
        let many: Vec<Denial> = (0..9).map(|n| call(&format!("call{n}"), n, Some("x"))).collect();
        let lines = summary(&many, "./site.toml", Some(Path::new("r.json")));
        assert_eq!(lines.len(), MOST + 2);
        assert_eq!(lines[0], "refused system call call8 (8x); to allow it: x");
        assert_eq!(lines[MOST], "and 5 more: see r.json");
    }
}
