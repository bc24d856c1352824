//! What changes while connections are open: certificates, revocations, grants, the end of the daemon.

use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::world::{Client, PATIENCE, World, until};

/// An event stream that has begun.
async fn stream(client: &Client) -> TlsStream<TcpStream> {
    let mut socket = client.connect().await.expect("a connection");
    socket.write_all(b"GET /v1/events HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    read_until(&mut socket, "open\n").await;
    socket
}

/// A WebSocket that echoes.
async fn terminal(client: &Client) -> TlsStream<TcpStream> {
    let mut socket = client.connect().await.expect("a connection");
    let upgrade = "GET /v1/agents/a/terminal HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).await.expect("sent");
    read_until(&mut socket, "\r\n\r\n").await;
    echo(&mut socket).await.expect("it echoes");
    socket
}

async fn echo(socket: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    // A masked text frame of two bytes; the answer is not masked.
    socket.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"\x81\x02hi");
    Ok(())
}

async fn read_until(socket: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&text).contains(end) {
            let byte = socket.read_u8().await.expect("more to read");
            text.push(byte);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("it comes");
    String::from_utf8_lossy(&text).into_owned()
}

async fn is_cut(socket: &mut TlsStream<TcpStream>) {
    let read = async { while socket.read_u8().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, read).await.expect("it is cut off");
}

#[tokio::test]
async fn a_revocation_ends_open_streams_with_a_reason_and_lets_nobody_back_in() {
    let mut world = World::start().await;
    let revoked = world.ca.issue_client("revoked", "spiffe://test/viewer", 1).expect("a client");
    let mut streaming = stream(&world.client("revoked")).await;
    let mut typing = terminal(&world.client("revoked")).await;
    let mut other = terminal(&world.client("viewer")).await;

    world.ca.revoke(&revoked.serial).expect("revoked");

    read_until(&mut streaming, "revoked\n").await;
    assert_eq!(world.closing.recv().await, Some("revoked"));
    is_cut(&mut typing).await;
    assert!(world.client("revoked").get("/livez").await.is_err());
    let noted = format!("revoked spiffe://test/viewer {}", revoked.serial);
    until("whose it was is noted", async || world.account.notes().contains(&noted)).await;
    echo(&mut other).await.expect("another certificate of the same identity is not touched");
    world.stop().await;
}

#[tokio::test]
async fn without_its_grant_a_stream_ends_and_a_request_is_refused_at_once() {
    let mut world = World::start().await;
    let mut streaming = stream(&world.client("viewer")).await;
    let mut other = terminal(&world.client("operator")).await;

    world.grants(&world.without_grant("viewer"));

    read_until(&mut streaming, "grant-removed\n").await;
    assert_eq!(world.closing.recv().await, Some("grant-removed"));
    assert_eq!(world.client("viewer").get("/v1/agents").await.expect("an answer").status(), 403);
    echo(&mut other).await.expect("another grant is not touched");
    world.stop().await;
}

#[tokio::test]
async fn a_certificate_that_runs_out_takes_its_stream_along() {
    let mut world = World::start().await;
    let short = short_lived(&world, Duration::from_secs(3));
    let mut streaming = stream(&short).await;
    read_until(&mut streaming, "certificate-expired\n").await;
    assert_eq!(world.closing.recv().await, Some("certificate-expired"));
    assert!(short.get("/livez").await.is_err());
    let is_it = |note: &String| note.starts_with("certificate spiffe://test/viewer ");
    until("whose it was is noted", async || world.account.notes().iter().any(is_it)).await;
    world.stop().await;
}

fn short_lived(world: &World, life: Duration) -> Client {
    use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
    let read = |name: &str| std::fs::read_to_string(world.pki(name)).expect("a file");
    let key = KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), key).expect("a CA");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://test/viewer".try_into().expect("ASCII"))];
    params.not_after = (SystemTime::now() + life).into();
    let own = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&own, &issuer).expect("a certificate");
    std::fs::write(world.pki("short.crt"), certificate.pem()).expect("written");
    std::fs::write(world.pki("short.key"), own.serialize_pem()).expect("written");
    world.client("short")
}

#[tokio::test]
async fn what_is_broken_changes_nothing_and_is_told_until_it_is_put_right() {
    let world = World::start().await;
    let read = |name: &str| std::fs::read(world.pki(name)).expect("a file");
    let other = tempfile::tempdir().expect("a directory");
    stockade::client::pki::Ca::init(other.path(), &["localhost".into()]).expect("another CA");
    let foreign = |name: &str| std::fs::read(other.path().join(name)).expect("a file");
    let config = world.dir.path().join("etc/stockade/stockaded.toml");
    let broken = [
        (world.pki("server.key"), foreign("server.key"), "server.crt"),
        (world.pki("server.crt"), b"-----BEGIN CERTIFICATE-----\n".to_vec(), "server.crt"),
        (world.pki("ca.crt"), read("server.crt"), "not a CA"),
        (world.pki("crl.pem"), foreign("crl.pem"), "not in client-ca"),
        (world.pki("crl.pem"), Vec::new(), "crl.pem"),
        (config, b"[[grant]]\nidentity = '*'\nrole = 'admin'\ntenant = 'x'".to_vec(), ":2:12: "),
    ];
    let mut open = terminal(&world.client("admin")).await;
    for (path, content, told) in broken {
        let good = std::fs::read(&path).expect("a file");
        let generation = world.live.counts().0;
        std::fs::write(&path, content).expect("written");
        until("it is told", async || {
            world.live.status().error.as_ref().is_some_and(|error| error.contains(told))
        })
        .await;
        assert_eq!(world.live.counts().0, generation, "{told}");
        assert_eq!(
            world.client("viewer").get("/v1/agents").await.expect("an answer").status(),
            200,
            "{told}"
        );
        assert!(
            world.client("stranger").get("/v1/agents").await.is_ok_and(|answer| answer.status() == 403),
            "{told}"
        );
        echo(&mut open).await.expect("what is open stays open");

        std::fs::write(&path, good).expect("written");
        until("it is put right", async || world.live.status().error.is_none()).await;
        assert!(world.live.counts().0 > generation, "{told}");
    }
    world.stop().await;
}

#[tokio::test]
async fn one_ca_takes_over_from_another_without_anybody_being_cut_off() {
    let world = World::start().await;
    let next = tempfile::tempdir().expect("a directory");
    let ca = stockade::client::pki::Ca::init(next.path(), &["localhost".into()]).expect("another CA");
    let files = ca.issue_client("new", "spiffe://test/viewer", 1).expect("a client");
    let mut old = terminal(&world.client("viewer")).await;
    let renewed = world.client_by(Some((files.certificate, files.key)));
    assert!(renewed.get("/livez").await.is_err(), "not yet");

    let both = |name: &str| {
        [
            std::fs::read(world.pki(name)).expect("a file"),
            std::fs::read(next.path().join(name)).expect("a file"),
        ]
        .concat()
    };
    let (authorities, lists) = (both("ca.crt"), both("crl.pem"));
    std::fs::write(world.pki("ca.crt"), &authorities).expect("written");
    std::fs::write(world.pki("crl.pem"), lists).expect("written");

    until("the new one is let in", async || renewed.get("/livez").await.is_ok()).await;
    echo(&mut old).await.expect("the old one goes on");
    // The old CA is gone: so are its certificates, and what they hold open.
    std::fs::copy(next.path().join("ca.crt"), world.pki("ca.crt")).expect("written");
    std::fs::copy(next.path().join("crl.pem"), world.pki("crl.pem")).expect("written");
    is_cut(&mut old).await;
    assert!(renewed.get("/livez").await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn at_the_end_streams_are_told_and_nothing_new_is_taken() {
    let mut world = World::start().await;
    let mut streaming = stream(&world.client("viewer")).await;
    let mut deaf = terminal(&world.client("viewer")).await;
    world.tell_to_stop();
    read_until(&mut streaming, "draining\n").await;
    assert!(world.client("viewer").get("/livez").await.is_err());
    is_cut(&mut deaf).await;
    assert_eq!(world.closing.recv().await, Some("draining"));
    world.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_older_than_its_grant_does_not_outlive_it() {
    let world = World::start().await;
    world.grants(&world.without_grant("viewer"));
    until("the grant is gone", async || {
        world.client("viewer").get("/v1/agents").await.is_ok_and(|answer| answer.status() == 403)
    })
    .await;
    let mut socket = world.client("viewer").connect().await.expect("a connection");
    socket.write_all(b"GET /v1/agents HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    read_until(&mut socket, "no-grant").await;

    world.grants(&world.with_all_grants());

    // Otherwise a stream that is begun by the new grant would stay when that is taken away again.
    is_cut(&mut socket).await;
    world.stop().await;
}
