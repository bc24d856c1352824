//! Who gets a connection.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use stockade::client::pki::Ca;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, request, text, until};

/// A certificate by the world's own CA that its `pki` would not issue.
fn issue(
    world: &World,
    name: &str,
    shape: impl FnOnce(&mut CertificateParams),
) -> (std::path::PathBuf, std::path::PathBuf) {
    let read = |name: &str| std::fs::read_to_string(world.pki(name)).expect("a file");
    let key = KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), key).expect("a CA");
    let own = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://test/admin".try_into().expect("ASCII"))];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    shape(&mut params);
    let certificate = params.signed_by(&own, &issuer).expect("a certificate");
    let files = (world.pki(&format!("{name}.crt")), world.pki(&format!("{name}.key")));
    std::fs::write(&files.0, certificate.pem()).expect("written");
    std::fs::write(&files.1, own.serialize_pem()).expect("written");
    files
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says_and_has_what_its_grant_says() {
    let world = World::start().await;
    let serial = &world.ca.issue_client("again", "spiffe://test/operator", 1).expect("a client").serial;
    let answer = world.client("again").get("/v1/agents").await.expect("an answer");
    assert_eq!(text(&answer), format!("spiffe://test/operator operator research {serial}"));

    let host = issue(&world, "host", |params| {
        params.subject_alt_names = vec![SanType::DnsName("Build.example.org".try_into().expect("ASCII"))];
    });
    let answer = world.client_by(Some(host)).get("/v1/agents").await.expect("an answer");
    assert!(text(&answer).starts_with("build.example.org viewer build "), "{}", text(&answer));
    world.stop().await;
}

#[tokio::test]
async fn nobody_gets_in_without_a_certificate_that_is_valid_now_and_of_the_right_ca() {
    let world = World::start().await;
    assert!(world.client("admin").get("/v1/agents").await.is_ok(), "the way is open");

    let reaches = async |files| world.client_by(files).get("/livez").await.is_ok();
    assert!(!reaches(None).await, "without a certificate");
    let other = tempfile::tempdir().expect("a directory");
    let ca = Ca::init(other.path(), &["localhost".into()]).expect("another CA");
    let stranger = ca.issue_client("admin", "spiffe://test/admin", 1).expect("a client");
    assert!(!reaches(Some((stranger.certificate, stranger.key))).await, "of another CA");
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let expired = issue(&world, "expired", |params| params.not_after = yesterday.into());
    assert!(!reaches(Some(expired)).await, "expired");
    let early = issue(&world, "early", |params| {
        params.not_before = (SystemTime::now() + Duration::from_secs(86_400)).into();
    });
    assert!(!reaches(Some(early)).await, "not yet valid");
    let server = issue(&world, "wrong", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(!reaches(Some(server)).await, "a server's");
    let server = (world.pki("server.crt"), world.pki("server.key"));
    assert!(!reaches(Some(server)).await, "the daemon's own");
    world.stop().await;
}

#[tokio::test]
async fn a_common_name_is_nobody_and_two_identities_are_none() {
    let world = World::start().await;
    let common = issue(&world, "common", |params| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(rcgen::DnType::CommonName, "spiffe://test/admin");
    });
    assert!(world.client_by(Some(common)).get("/livez").await.is_err());
    let two = issue(&world, "two", |params| {
        params.subject_alt_names.push(SanType::URI("spiffe://test/viewer".try_into().expect("ASCII")));
    });
    assert!(world.client_by(Some(two)).get("/livez").await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn plaintext_gets_no_answer_in_http_and_tls_1_2_none_at_all() {
    let world = World::start().await;
    let mut socket = TcpStream::connect(world.address).await.expect("a connection");
    socket.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(!answer.windows(4).any(|window| window == b"HTTP"), "{answer:?}");

    let mut old = world.client("admin");
    let provider = old.config.crypto_provider().clone();
    let resolver = old.config.client_auth_cert_resolver.clone();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(&world.pki("ca.crt"))).expect("a CA");
    old.config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_cert_resolver(resolver);
    let refused = old.connect().await.expect_err("TLS 1.2").to_string();
    assert!(refused.to_lowercase().contains("protocolversion"), "{refused}");
    world.stop().await;
}

fn certificate(path: &Path) -> rustls::pki_types::CertificateDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_file(path).expect("a certificate")
}

#[tokio::test]
async fn a_session_is_never_resumed_so_that_every_connection_is_verified() {
    let world = World::start().await;
    // One configuration for both: whatever ticket it was given, it would offer.
    let client = world.client("admin");
    for _ in 0..2 {
        let mut socket = client.connect().await.expect("a connection");
        socket.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sent");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.expect("an answer");
        let session = socket.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
    }
    world.stop().await;
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_as_agreed() {
    let world = World::start().await;
    for protocol in ["h2", "http/1.1"] {
        let client = world.client("viewer").speaking(protocol);
        let answer = client.send(request("GET", "/v1/agents/a", "")).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{protocol}");
        assert_eq!(answer.version() == http::Version::HTTP_2, protocol == "h2");
    }
    assert!(world.client("viewer").speaking("smtp").connect().await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn what_a_handshake_fails_by_is_counted() {
    let world = World::start().await;
    let revoked = world.ca.issue_client("revoked", "spiffe://test/admin", 1).expect("a client");
    world.ca.revoke(&revoked.serial).expect("revoked");
    until("the revocation is in force", async || world.live.counts().0 > 1).await;
    let _ = world.client_by(None).get("/livez").await;
    let _ = world.client("revoked").get("/livez").await;
    let _ = world.client("viewer").speaking("smtp").get("/livez").await;
    let _ = world.client("viewer").get("/livez").await;
    drop(TcpStream::connect(world.address).await.expect("a connection"));
    for (result, count) in [("no-certificate", 1), ("revoked", 1), ("protocol", 1), ("gone", 1), ("done", 1)]
    {
        let line = format!("stockade_handshakes_total{{result=\"{result}\"}} {count}");
        until(&line, async || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, world.metrics.registry()).expect("text");
            text.contains(&line)
        })
        .await;
    }
    world.stop().await;
}
