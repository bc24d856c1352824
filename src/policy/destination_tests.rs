//! That a destination is read as it was meant, and that narrowing never widens.

use std::net::IpAddr;

use proptest::prelude::*;

use super::destination::{Destination, Sni};
use super::hostname::Hostname;

fn destination(text: &str) -> Destination {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn name(text: &str) -> Hostname {
    text.parse().expect("a name")
}

#[test]
fn a_destination_is_shown_as_it_is_read() {
    for (given, shown) in [
        ("api.example.org:443", "api.example.org:443"),
        ("API.Example.org.:443", "api.example.org:443"),
        ("*.example.org:8443,443", "*.example.org:443,8443"),
        ("10.2.0.0/16:5432", "10.2.0.0/16:5432"),
        ("10.2.0.7:5432", "10.2.0.7:5432"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
        ("[2001:DB8::1]:443", "[2001:db8::1]:443"),
        ("git.example.org:443 sni=any", "git.example.org:443 sni=any"),
        ("*.internal:80", "*.internal:80"),
    ] {
        assert_eq!(destination(given).to_string(), shown);
        assert_eq!(destination(shown), destination(given));
    }
}

#[test]
fn a_name_is_covered_exactly_and_a_star_covers_what_is_below_only() {
    let exact = destination("api.example.org:443");
    assert!(exact.covers_name(&name("api.example.org"), 443));
    assert!(!exact.covers_name(&name("api.example.org"), 80));
    assert!(!exact.covers_name(&name("x.api.example.org"), 443));
    let below = destination("*.example.org:443");
    assert!(below.covers_name(&name("a.b.example.org"), 443));
    assert!(!below.covers_name(&name("example.org"), 443));
    assert!(!below.covers_name(&name("notexample.org"), 443));
    let address: IpAddr = "10.2.0.7".parse().expect("an address");
    assert!(destination("10.2.0.0/16:5432").covers_address(address, 5432));
    assert!(!destination("10.2.0.0/16:5432").covers_address(address, 22));
    assert!(!below.covers_address(address, 443));
}

#[test]
fn a_refusal_is_one_line_and_says_what_to_write() {
    for (given, said) in [
        ("api.example.org", "\"api.example.org\" has no port: write api.example.org:443"),
        ("2001:db8::1", "\"[2001:db8::1]\" has no port: write [2001:db8::1]:443"),
        (
            "https://api.example.org/v1",
            "\"https://api.example.org/v1\" is a URL: write the host and its port only, like api.example.org:443",
        ),
        (
            "http://a.example.org:8080",
            "\"http://a.example.org:8080\" is a URL: write the host and its port only, like a.example.org:8080",
        ),
        (
            "a.org:0",
            "\"0\" is not a list of ports: write numbers from 1 to 65535 with commas between, like 443,8443",
        ),
        (
            "api*.example.org:443",
            "\"api*.example.org\" has a '*' that is not its first part: write *.example.org:PORT for all names below example.org",
        ),
        (
            "*.com:443",
            "\"*.com\" is as good as every host there is: name at least two parts after the '*', like *.example.org",
        ),
        ("10.2.3.4/16:22", "10.2.3.4/16 is an address inside the range 10.2.0.0/16: write one or the other"),
        ("a.org:443,53", "port 53 is answered by the gateway itself, for every address: leave it out"),
        (
            "stockade.internal:80",
            "stockade.internal is the gateway itself, which every sandbox with a network reaches: leave it out",
        ),
        (
            "10.0.0.0/8:443 sni=any",
            "an address has no name that TLS could be checked against: leave out sni for 10.0.0.0/8",
        ),
        (
            "127.1:80",
            "\"127.1\" ends in a number, so that programs take it for an address: write four numbers from 0 to 255",
        ),
    ] {
        let error = given.parse::<Destination>().expect_err(given).to_string();
        assert_eq!(error, said);
    }
    for given in [
        "",
        ":443",
        "*:443",
        "a.org:",
        "a.org:+80",
        "a.org:080",
        "a.org:65536",
        "a.org:80 sni=no",
        "[::1]443",
    ] {
        assert!(given.parse::<Destination>().is_err(), "{given:?} was accepted");
    }
    let many = (1000..1065).map(|port: u16| port.to_string()).collect::<Vec<_>>().join(",");
    assert!(format!("a.org:{many}").parse::<Destination>().is_err());
}

#[derive(Debug, serde::Deserialize)]
struct List {
    allow: Vec<Destination>,
}

#[test]
fn toml_has_a_string_or_a_table() {
    let list: List = toml::from_str(
        r#"allow = ["api.example.org:443", { to = "git.example.org:443", sni = "any" }, { to = "a.org:1" }]"#,
    )
    .expect("a list");
    assert_eq!(list.allow[0], destination("api.example.org:443"));
    assert_eq!(list.allow[1].sni(), Sni::Any);
    assert_eq!(list.allow[2].sni(), Sni::Match);
    for destination in &list.allow {
        let again: List = toml::from_str(&format!("allow = [{}]", destination.to_toml())).expect("a list");
        assert_eq!(&again.allow[0], destination);
        let json = serde_json::to_string(destination).expect("JSON");
        assert_eq!(&serde_json::from_str::<Destination>(&json).expect("a destination"), destination);
    }
    let refused = |text: &str| toml::from_str::<List>(text).expect_err("refused");
    let error = refused("allow = [\n  \"a.org:443\",\n  \"b.org\",\n]");
    assert_eq!(error.span(), Some(27..34), "{error}");
    assert!(refused("allow = [{ to = \"a.org:443\", sin = \"any\" }]").to_string().contains("sin"));
    assert!(refused("allow = [443]").to_string().contains("a table with `to` and `sni`"));
}

#[test]
fn narrowing_may_take_ports_from_several_parents() {
    let parents = [destination("*.example.org:443"), destination("api.example.org:8443")];
    assert!(destination("api.example.org:443,8443").is_within(&parents));
    assert!(!destination("other.example.org:443,8443").is_within(&parents));
    assert!(!destination("api.example.org:443 sni=any").is_within(&parents));
    assert!(!destination("*.org.example:443").is_within(&parents));
    assert!(destination("api.example.org:443").is_within(&[destination("api.example.org:443 sni=any")]));
    assert!(!destination("api.example.org:443").is_within(&[]));
}

fn any_destination() -> impl Strategy<Value = Destination> {
    let host = prop_oneof![
        "([ab]\\.){0,2}[ab]\\.example\\.org",
        "\\*\\.([ab]\\.){0,2}example\\.org",
        (0_u8..=3, 8_u8..=32).prop_map(|(b, length)| {
            let cidr = super::Cidr::v4(10, b, 0, 0, length);
            cidr.to_string()
        }),
    ];
    (host, proptest::collection::btree_set(1_u16..4, 1..3), any::<bool>()).prop_map(|(host, ports, sni)| {
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let named = host.contains("example");
        destination(&format!("{host}:{ports}{}", if sni && named { " sni=any" } else { "" }))
    })
}

proptest! {
    #[test]
    fn narrowing_never_widens(
        child in any_destination(),
        parents in proptest::collection::vec(any_destination(), 0..4),
        host in "([ab]\\.){1,3}example\\.org",
        address in any::<u16>(),
        port in 1_u16..4,
    ) {
        if child.is_within(&parents) {
            let host = name(&host);
            let address = IpAddr::V4((0x0a00_0000 | u32::from(address) << 2).into());
            if child.covers_name(&host, port) {
                let strict = |p: &&Destination| child.sni() == Sni::Match || p.sni() == Sni::Any;
                prop_assert!(parents.iter().filter(strict).any(|p| p.covers_name(&host, port)));
            }
            if child.covers_address(address, port) {
                prop_assert!(parents.iter().any(|p| p.covers_address(address, port)));
            }
        }
        prop_assert!(child.is_within(std::slice::from_ref(&child)));
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_what_it_takes_is_canonical(text in "\\PC{0,40}|[a-c*.:/0-9\\[\\],= -]{0,30}") {
        if let Ok(destination) = text.parse::<Destination>() {
            prop_assert_eq!(destination.to_string().parse::<Destination>(), Ok(destination));
        }
    }
}
