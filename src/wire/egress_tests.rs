//! That messages survive the wire, and that what is no message is refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::egress::*;

fn record(detail: &str) -> Record {
    Record {
        protocol: Protocol::Tcp,
        name: Some("api.example.org".into()),
        address: None,
        port: 443,
        sent: 1,
        received: 2,
        duration: 3,
        count: 1,
        verdict: Verdict::Refused { reason: Reason::Sni, detail: detail.into(), remedy: None },
    }
}

#[test]
fn every_message_survives_the_wire() {
    let named = FromEgress::Named { name: "a.org".into(), address: Ipv4Addr::new(198, 18, 0, 1) };
    let failed = FromEgress::Failed { what: "no CA bundle".into() };
    let connection = FromEgress::Connection(record("another name"));
    for message in [FromEgress::Ready, named, connection, FromEgress::Done, failed] {
        let bytes = message.encode().expect("encoded");
        assert_eq!(FromEgress::decode(&bytes).expect("decoded"), message);
    }
    let secret = ToEgress::Secret { name: "raven.internal".into(), value: Secret("s3cret".into()) };
    assert!(!format!("{secret:?}").contains("s3cret"));
    for message in [secret, ToEgress::Finish] {
        let bytes = message.encode().expect("encoded");
        assert_eq!(ToEgress::decode(&bytes).expect("decoded"), message);
    }
}

#[test]
fn what_a_gateway_says_cannot_flood_or_steer_a_terminal() {
    let bytes = FromEgress::Connection(record(&format!("\u{1b}[2J{}", "x".repeat(5000)))).encode();
    let decoded = FromEgress::decode(&bytes.expect("encoded")).expect("decoded");
    let FromEgress::Connection(Record { verdict: Verdict::Refused { detail, .. }, .. }) = decoded else {
        panic!("another message: {decoded:?}");
    };
    assert_eq!(detail.len(), LONGEST_TEXT);
    assert!(!detail.contains('\u{1b}'));
}

#[test]
fn a_message_longer_than_a_packet_is_refused_on_both_sides() {
    let long = ToEgress::Secret { name: "a".into(), value: Secret("x".repeat(LONGEST)) };
    assert!(matches!(long.encode(), Err(MessageError::TooLong(_))));
    assert!(matches!(FromEgress::decode(&vec![b' '; LONGEST + 1]), Err(MessageError::TooLong(_))));
}

#[test]
fn a_configuration_survives_and_an_unknown_key_does_not() {
    let config = Config {
        sandbox: "run-1".into(),
        sockets: vec![
            Socket::DnsUdp,
            Socket::DnsTcp,
            Socket::Listener { port: 443, within: true },
            Socket::Monitor,
            Socket::Published { inside: 3000 },
            Socket::Dialer,
        ],
        allow: vec!["api.example.org:443".into()],
        resolve: BTreeMap::from([("api.example.org".into(), vec![IpAddr::from([127, 0, 0, 1])])]),
        inject: vec![Inject {
            name: "raven.internal".into(),
            upstream: "https://api.example.org".into(),
            header: "x-api-key".into(),
            methods: vec!["GET".into()],
            paths: vec!["/v1/".into()],
        }],
        ca_bundle: Some("/etc/ssl/certs/ca-certificates.crt".into()),
        named: BTreeMap::from([(Ipv4Addr::new(198, 18, 0, 1), "a.example.org".into())]),
        connections: 16,
        patience: Patience { hello: 1, connect: 2, idle: 3 },
        tolerate_no_landlock: true,
    };
    let json = serde_json::to_string(&config).expect("JSON");
    assert_eq!(serde_json::from_str::<Config>(&json).expect("a configuration"), config);
    assert!(serde_json::from_str::<Config>(r#"{"alow": []}"#).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (ToEgress::decode(&bytes), FromEgress::decode(&bytes));
    }
}
