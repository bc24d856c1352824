//! The terminal's WebSocket.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{gone, operator, shell};
use crate::world::{Client, Service, Socket};

/// The first frames: what was said, and the bytes of the screen if one came.
struct Attached {
    socket: Socket,
    said: Value,
    offset: u64,
    drawing: Vec<u8>,
}

async fn attach(client: &Client, id: &str, query: &str) -> Attached {
    let mut socket = client.socket(&format!("/v1/agents/{id}/terminal?{query}")).await.expect("a terminal");
    let said = socket.json().await;
    assert_eq!((said["type"].as_str(), said["id"].as_str()), (Some("attached"), Some(id)), "{said}");
    let (mut offset, mut drawing) = (said["offset"].as_u64().expect("an offset"), Vec::new());
    if !query.contains("since=") {
        let screen = socket.until(|frame| frame["type"] == "screen").await;
        offset = screen["offset"].as_u64().expect("an offset");
        let bytes = usize::try_from(screen["bytes"].as_u64().expect("a length")).expect("a length");
        while drawing.len() < bytes {
            match socket.frame().await {
                Message::Binary(more) => drawing.extend_from_slice(&more),
                other => panic!("{other:?} instead of the screen"),
            }
        }
        assert_eq!(drawing.len(), bytes);
    }
    Attached { socket, said, offset, drawing }
}

/// Output until this is in it.
async fn output(socket: &mut Socket, wanted: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(wanted) {
        if let Message::Binary(more) = socket.frame().await {
            bytes.extend_from_slice(&more);
        }
    }
    bytes
}

#[tokio::test]
async fn a_screen_comes_first_then_output_at_its_offset_then_the_end() {
    let client = operator();
    shell(&client, "t-life").await;
    client
        .ask("POST", "/v1/agents/t-life/send", json!({ "message": "echo sh\"own\"", "wait": true }))
        .await
        .expect(200);
    let mut attached = attach(&client, "t-life", "cols=90&rows=30").await;
    assert_eq!(
        (attached.said["mayType"].as_bool(), attached.said["ownsSize"].as_bool()),
        (Some(true), Some(true))
    );
    assert!(String::from_utf8_lossy(&attached.drawing).contains("shown"));
    attached.socket.send_bytes("stty size; echo ty\"ped\"\r".as_bytes().to_vec()).await;
    let bytes = output(&mut attached.socket, "typed\r\n").await;
    assert!(String::from_utf8_lossy(&bytes).contains("30 90"), "{:?}", String::from_utf8_lossy(&bytes));
    attached.socket.send(r#"{"type":"resize","cols":71,"rows":21}"#).await;
    attached.socket.send(r#"{"type":"from-the-future"}"#).await;
    attached
        .socket
        .until(|frame| frame["type"] == "size" && frame["size"] == json!({ "cols": 71, "rows": 21 }))
        .await;
    attached.socket.send_bytes("exit 5\r".as_bytes().to_vec()).await;
    let (frames, closed) = attached.socket.until_the_end().await;
    let last = frames.iter().rev().find_map(|frame| match frame {
        Message::Text(text) => serde_json::from_str::<Value>(text).ok(),
        _ => None,
    });
    assert_eq!(last, Some(json!({ "type": "ended", "exitCode": 5 })));
    assert_eq!(closed.map(|(code, _)| code), Some(1000));
    gone(&client, "t-life").await;
}

#[tokio::test]
async fn a_client_that_comes_back_with_its_offset_loses_and_doubles_no_byte() {
    let client = operator();
    shell(&client, "t-since").await;
    let mut attached = attach(&client, "t-since", "").await;
    let first = attached.offset;
    attached
        .socket
        .send_bytes("for i in $(seq 3000); do echo line-$i; done; echo al\"l\"\r".as_bytes().to_vec())
        .await;
    let mut bytes = output(&mut attached.socket, "line-50\r\n").await;
    drop(attached);
    while !String::from_utf8_lossy(&bytes).contains("all\r\n") {
        let since = first + bytes.len() as u64;
        let mut again = attach(&client, "t-since", &format!("since={since}")).await;
        assert_eq!(again.said["offset"].as_u64(), Some(since));
        // One frame each time, then away.
        loop {
            if let Message::Binary(more) = again.socket.frame().await {
                bytes.extend_from_slice(&more);
                break;
            }
        }
    }
    let path = format!("/v1/agents/t-since/logs?format=raw&since={first}");
    let log = client.get(&path).await.expect(200).body;
    assert_eq!(bytes, log[..bytes.len()]);
    gone(&client, "t-since").await;
}

#[tokio::test]
async fn an_offset_that_was_never_reached_gets_a_fresh_screen() {
    let client = operator();
    shell(&client, "t-ahead").await;
    let mut socket = client.socket("/v1/agents/t-ahead/terminal?since=999999999").await.expect("a terminal");
    socket.until(|frame| frame["type"] == "screen").await;
    gone(&client, "t-ahead").await;
}

#[tokio::test]
async fn to_view_is_not_to_type() {
    let service = Service::shared();
    let (client, viewer) = (service.client("operator"), service.client("viewer"));
    shell(&client, "t-view").await;
    let refused = viewer.socket("/v1/agents/t-view/terminal?mode=type").await.err();
    assert_eq!(refused.map(|status| status.as_u16()), Some(403));
    let mut looking = attach(&viewer, "t-view", "cols=50&rows=10&takeover=true").await;
    assert_eq!(
        (looking.said["mayType"].as_bool(), looking.said["ownsSize"].as_bool()),
        (Some(false), Some(false))
    );
    let mut passive = attach(&client, "t-view", "mode=view").await;
    for socket in [&mut looking.socket, &mut passive.socket] {
        socket.send_bytes("echo from-a-view\"er\"\r".as_bytes().to_vec()).await;
        socket.send(r#"{"type":"takeover"}"#).await;
    }
    client
        .ask("POST", "/v1/agents/t-view/send", json!({ "message": "echo from-its-own\"er\"" }))
        .await
        .expect(200);
    let seen = output(&mut looking.socket, "from-its-owner\r\n").await;
    assert!(
        !String::from_utf8_lossy(&seen).contains("from-a-viewer"),
        "{:?}",
        String::from_utf8_lossy(&seen)
    );
    gone(&client, "t-view").await;
}

#[tokio::test]
async fn the_size_has_one_owner_until_another_takes_it() {
    let client = operator();
    shell(&client, "t-size").await;
    let mut first = attach(&client, "t-size", "cols=100&rows=20").await;
    let mut second = attach(&client, "t-size", "cols=60&rows=15").await;
    assert_eq!((&first.said["ownsSize"], &second.said["ownsSize"]), (&json!(true), &json!(false)));
    second.socket.send(r#"{"type":"takeover"}"#).await;
    let wanted = json!({ "cols": 60, "rows": 15 });
    let told = |owns: bool| {
        let wanted = wanted.clone();
        move |frame: &Value| frame["type"] == "size" && frame["size"] == wanted && frame["ownsSize"] == owns
    };
    first.socket.until(told(false)).await;
    second.socket.until(told(true)).await;
    drop(second);
    first.socket.until(|frame| frame["type"] == "size" && frame["ownsSize"] == true).await;
    gone(&client, "t-size").await;
}

#[tokio::test]
async fn viewers_that_take_nothing_keep_nobody_waiting() {
    let client = operator();
    shell(&client, "t-slow").await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(attach(&client, "t-slow", "mode=view").await);
    }
    let mut quick = attach(&client, "t-slow", "").await;
    quick
        .socket
        .send_bytes("yes abcdefghijklmnopqrstuvwxyz | head -c 8000000; echo do\"ne\"\r".as_bytes().to_vec())
        .await;
    let bytes = output(&mut quick.socket, "done\r\n").await;
    assert!(bytes.len() > 8_000_000);
    // What they missed they can still read, from where they were.
    let mut slow = stalled.pop().expect("one of them");
    let read = output(&mut slow.socket, "done\r\n").await;
    // The prompt may be in what either read last.
    let both = read.len().min(bytes.len());
    assert_eq!(read[..both], bytes[..both]);
    gone(&client, "t-slow").await;
}
