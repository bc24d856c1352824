//! What a client can take of the daemon by being slow, or many.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{PATIENCE, World, until};

/// Whether the other side has ended the connection; waits for it.
async fn ended(socket: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("it is ended");
    answer
}

#[tokio::test]
async fn a_handshake_that_stalls_is_given_up() {
    let world = World::with("handshake-timeout = '2s'").await;
    let mut silent = TcpStream::connect(world.address).await.expect("a connection");
    ended(&mut silent).await;
    // The first bytes of a ClientHello, and nothing more.
    let mut half = TcpStream::connect(world.address).await.expect("a connection");
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.expect("sent");
    ended(&mut half).await;
    assert!(world.client("viewer").get("/livez").await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn one_address_has_few_handshakes_under_way_and_gets_them_back() {
    let world = World::with("handshakes-per-address = 4\nhandshake-timeout = '2s'").await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(TcpStream::connect(world.address).await.expect("a connection"));
    }
    until("a fifth is turned away", async || world.client("viewer").get("/livez").await.is_err()).await;
    drop(stalled);
    until("they are free again", async || world.client("viewer").get("/livez").await.is_ok()).await;
    world.stop().await;
}

#[tokio::test]
async fn headers_that_come_byte_by_byte_are_not_waited_for() {
    let world = World::with("header-timeout = '300ms'\nidle-timeout = '60s'").await;
    let mut slow = world.client("viewer").connect().await.expect("a connection");
    let drip = async {
        for byte in b"GET /livez HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
            if slow.write_all(&[*byte]).await.is_err() || slow.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::time::timeout(PATIENCE, drip).await.expect("it is cut off");
    until("nothing is left of it", async || world.metrics.connections().count() == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_not_waited_for() {
    let world = World::with("body-timeout = '300ms'").await;
    let mut slow = world.client("operator").connect().await.expect("a connection");
    let head = "POST /v1/agents HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.expect("sent");
    let answer = String::from_utf8_lossy(&ended(&mut slow).await).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("application/problem+json"), "{answer}");
    world.stop().await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_ended_in_both_versions() {
    let world = World::with("idle-timeout = '2s'").await;
    for protocol in ["http/1.1", "h2"] {
        let mut idle = world.client("viewer").speaking(protocol).connect().await.expect("a connection");
        ended(&mut idle).await;
    }
    // Kept alive between two requests that are close to each other.
    let mut busy = world.client("viewer").connect().await.expect("a connection");
    for _ in 0..5 {
        busy.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        let mut answer = [0; 12];
        busy.read_exact(&mut answer).await.expect("an answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut rest = [0; 4096];
        let _ = busy.read(&mut rest).await.expect("the rest of it");
    }
    world.stop().await;
}

#[tokio::test]
async fn one_identity_cannot_take_every_connection() {
    let world = World::with("connections-per-identity = 3").await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(world.client("viewer").connect().await.expect("a connection"));
    }
    until("all three are counted", async || world.metrics.connections().count() == 3).await;
    assert!(world.client("viewer").get("/livez").await.is_err(), "a fourth");
    assert!(world.client("operator").get("/livez").await.is_ok(), "somebody else's first");
    drop(held);
    until("they are free again", async || world.client("viewer").get("/livez").await.is_ok()).await;
    world.stop().await;
}

#[tokio::test]
async fn who_asks_and_never_reads_holds_up_nobody() {
    let world = World::start().await;
    let mut deaf = world.client("viewer").connect().await.expect("a connection");
    // Far more answers than any buffer takes, none of them read.
    let flood = async {
        loop {
            if deaf.write_all(b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n").await.is_err() {
                return;
            }
        }
    };
    let stuck = tokio::time::timeout(Duration::from_secs(2), flood).await;
    assert!(stuck.is_err(), "the server reads on and on, and keeps the answers");
    assert_eq!(world.client("operator").get("/livez").await.expect("an answer").status(), 200);
    world.stop().await;
}
