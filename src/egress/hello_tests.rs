//! That a hello is read as a server would read it, and that nothing else is taken for one.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;

use super::hello::{ENCRYPTED, Hello, Progress, read};
use crate::policy::Hostname;

/// What a real client sends to `name`.
fn real(name: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    bytes
}

fn name(text: &str) -> Hostname {
    text.parse().expect("a name")
}

/// A hello with these extensions.
fn with_extensions(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let prefixed = |bytes: &[u8]| [&u16::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat();
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, bytes)| [kind.to_be_bytes().to_vec(), prefixed(bytes)].concat())
        .collect();
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &prefixed(&list)].concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1][..], &prefixed(&message)].concat()
}

fn entry(name: &str) -> Vec<u8> {
    let length = u16::try_from(name.len()).expect("short");
    [&[0][..], &length.to_be_bytes(), name.as_bytes()].concat()
}

fn server_names(entries: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = entries.iter().flat_map(|name| entry(name)).collect();
    [&u16::try_from(list.len()).expect("short").to_be_bytes()[..], &list].concat()
}

#[test]
fn a_real_hello_names_its_host() {
    let Progress::Hello(hello) = read(&real("api.example.org")) else { panic!("no hello") };
    assert_eq!(hello.check(&name("api.example.org")), Ok(()));
    assert!(
        hello.check(&name("example.org")).expect_err("refused").contains("another host, api.example.org")
    );
    let Progress::Hello(hello) = read(&real("192.0.2.1")) else { panic!("no hello") };
    assert!(hello.check(&name("example.org")).expect_err("refused").contains("names no host"));
}

#[test]
fn every_beginning_of_a_hello_waits_for_the_rest() {
    let bytes = real("api.example.org");
    for end in 0..bytes.len() {
        assert_eq!(read(&bytes[..end]), Progress::More, "after {end} bytes");
    }
}

#[test]
fn a_hello_in_small_records_is_put_together() {
    let whole = real("api.example.org");
    let pieces = whole[5..].chunks(7).flat_map(|chunk| {
        let length = u16::try_from(chunk.len()).expect("short").to_be_bytes();
        [&[22, 3, 1][..], &length, chunk].concat()
    });
    let bytes: Vec<u8> = pieces.collect();
    assert_eq!(read(&bytes), read(&whole));
}

#[test]
fn an_ambiguous_or_hidden_name_passes_nowhere() {
    let good = with_extensions(&[(0, server_names(&["a.org"]))]);
    assert_eq!(read(&good), Progress::Hello(Hello { name: Some("a.org".into()), encrypted: false }));
    for extensions in [
        vec![(0, server_names(&["a.org", "b.org"]))],
        vec![(0, server_names(&["a.org"])), (0, server_names(&["b.org"]))],
        vec![(0, [server_names(&["a.org"]), vec![0]].concat())],
        vec![(0, vec![])],
        vec![(0, vec![0, 3, 1, 0, 0])],
    ] {
        assert!(matches!(read(&with_extensions(&extensions)), Progress::Broken(_)), "{extensions:?}");
    }
    for kind in ENCRYPTED {
        let bytes = with_extensions(&[(0, server_names(&["a.org"])), (kind, vec![1, 2, 3])]);
        let Progress::Hello(hello) = read(&bytes) else { panic!("no hello") };
        assert!(hello.check(&name("a.org")).expect_err("refused").contains("hides"));
    }
    let odd =
        |given: &str| Hello { name: Some(given.into()), encrypted: false }.check(&name("a.org")).is_ok();
    assert!(odd("A.Org"));
    for given in ["a.org.", "a.org\0", "a.org\0.evil.net", " a.org", "", "*.org"] {
        assert!(!odd(given), "{given:?}");
    }
}

#[test]
fn what_is_not_tls_is_told_from_the_first_byte() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", b"\0\0\0\x08\x04", b"\x9a\0\0\x01\x05", b"\xff\xfe\xfd"]
    {
        assert_eq!(read(bytes), Progress::NotTls, "{bytes:?}");
    }
    for first in [20, 21, 23, 24] {
        assert_ne!(read(&[first]), Progress::NotTls);
        assert!(matches!(read(&[first, 2, 0, 0, 5, 1]), Progress::Broken(_)), "{first}");
        let behind = [&[first, 3, 1, 0, 2, 1, 0], real("api.example.org").as_slice()].concat();
        assert!(matches!(read(&behind), Progress::Broken(_)), "{first}");
    }
    assert!(matches!(read(&[22, 2, 0, 0, 5, 1]), Progress::Broken(_)));
    assert_eq!(read(&[0x80, 0x2e]), Progress::More);
    assert!(matches!(read(&[0x80, 0x2e, 1, 3, 1]), Progress::Broken(_)));
    assert!(matches!(read(&[22, 3, 1, 0, 0]), Progress::Broken(_)));
    assert!(matches!(read(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), Progress::Broken(_)));
    assert!(matches!(read(&[22, 3, 1, 0, 4, 1, 255, 255, 255]), Progress::Broken(_)));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
        read(&[&[22, 3, 1, 0, 200, 1, 0, 0, 196], bytes.as_slice()].concat());
    }

    #[test]
    fn a_damaged_hello_never_passes_for_another_name(at in 0_usize..200, byte in any::<u8>()) {
        let mut bytes = with_extensions(&[(10, vec![0; 30]), (0, server_names(&["allowed.example.org"]))]);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Progress::Hello(hello) = read(&bytes) {
            prop_assert!(hello.check(&name("denied.example.org")).is_err());
        }
    }

    #[test]
    fn reading_does_not_depend_on_how_the_bytes_arrive(cut in 0_usize..2000) {
        let bytes = real("api.example.org");
        let cut = cut % bytes.len();
        prop_assert_eq!(read(&bytes[..cut]), Progress::More);
        prop_assert!(matches!(read(&bytes), Progress::Hello(_)));
    }
}
