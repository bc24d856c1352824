//! `ConfidenceAgent`: what an entry promises.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use stockade::api::State;
use stockade::daemon::registry::confidence::{AgentRequest, Capabilities, ConfidenceResult, Health};
use stockade::daemon::registry::settings::DoorPlace;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::etcd::{Etcd, PATIENCE, becomes, entry};
use crate::node::{Node, settings};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/daemon/registry/proto");

async fn connect(endpoint: &str) -> Channel {
    match endpoint.strip_prefix("unix:") {
        Some(path) => {
            let path = path.to_owned();
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
            });
            Endpoint::from_static("http://localhost")
                .connect_with_connector(connector)
                .await
                .expect("connected")
        }
        None => Endpoint::from_shared(format!("http://{endpoint}"))
            .expect("a URL")
            .connect()
            .await
            .expect("connected"),
    }
}

pub async fn call<T, U>(channel: &Channel, method: &str, request: T) -> Result<U, Status>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("connected");
    let path = format!("/parallax.confidence.ConfidenceAgent/{method}").parse().expect("a path");
    let answer = client.unary(Request::new(request), path, ProstCodec::<T, U>::default()).await?;
    Ok(answer.into_inner())
}

pub fn task(text: &str, timeout_ms: i32) -> AgentRequest {
    AgentRequest { task_description: text.into(), timeout_ms, ..AgentRequest::default() }
}

/// What Google's own reading of `confidence.proto` makes of it.
fn decoded(message: &str, bytes: &[u8]) -> String {
    let mut protoc = Command::new("protoc")
        .args([&format!("--decode=parallax.confidence.{message}"), "--proto_path", PROTO, "confidence.proto"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("protoc");
    protoc.stdin.take().expect("piped").write_all(bytes).expect("written");
    let output = protoc.wait_with_output().expect("protoc ends");
    assert!(output.status.success(), "{message} is not what the file says");
    String::from_utf8(output.stdout).expect("text")
}

async fn registered(etcd: &Etcd, node: &Node, ids: &[&str]) -> Vec<String> {
    let mut client = etcd.client().await;
    node.runs(ids);
    becomes(&mut client, ids, PATIENCE).await;
    let mut endpoints = Vec::new();
    for id in ids {
        endpoints.push(entry(&mut client, id).await.expect("there").endpoint);
    }
    endpoints
}

#[tokio::test]
async fn every_registered_agent_answers_at_its_endpoint_as_itself() {
    let etcd = Etcd::one().await;
    for doors in [None, Some(DoorPlace::Loopback([127, 0, 0, 1].into(), 47_310, 47_399))] {
        let mut settings = settings("n", "n", etcd.access());
        settings.doors = doors.unwrap_or(settings.doors);
        let node = Node::with(settings);
        let endpoints = registered(&etcd, &node, &["a", "b"]).await;
        for (id, endpoint) in ["a", "b"].iter().zip(&endpoints) {
            let channel = connect(endpoint).await;
            let health: Health = call(&channel, "HealthCheck", ()).await.expect("healthy");
            assert_eq!((health.status, health.message.as_str()), (1, "ready"));
            let can: Capabilities = call(&channel, "GetCapabilities", ()).await.expect("capabilities");
            assert_eq!((can.agent_id.as_str(), can.capabilities), (*id, vec!["code".to_owned()]));
            let result: ConfidenceResult = call(&channel, "Analyze", task("sum", 0)).await.expect("a result");
            assert_eq!(result.value_json, "\"SUM\\nCONFIDENCE: 0.9\"");
            assert_eq!((result.agent_id.as_str(), result.confidence), (*id, 0.9));
            let text = decoded("ConfidenceResult", &result.encode_to_vec());
            assert!(text.contains("confidence: 0.9") && text.contains("timestamp {"), "{text}");
            assert!(decoded("Health", &health.encode_to_vec()).contains("status: HEALTHY"));
        }
        node.shows(&[("a", State::LoginRequired), ("b", State::Ready)]);
        let health: Health = call(&connect(&endpoints[0]).await, "HealthCheck", ()).await.expect("answers");
        assert_eq!((health.status, health.message.as_str()), (3, "login-required"));
        node.runs(&[]);
        becomes(&mut etcd.client().await, &[], PATIENCE).await;
    }
}

#[tokio::test]
async fn a_door_is_closed_with_its_registration_and_only_its_group_could_open_it() {
    use std::os::unix::fs::PermissionsExt;
    let etcd = Etcd::one().await;
    let node = Node::start("n", etcd.access());
    let endpoints = registered(&etcd, &node, &["a"]).await;
    let path = endpoints[0].strip_prefix("unix:").expect("a socket").to_owned();
    assert_eq!(std::fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o660);
    let channel = connect(&endpoints[0]).await;
    node.runs(&[]);
    becomes(&mut etcd.client().await, &[], PATIENCE).await;
    assert!(!std::path::Path::new(&path).exists());
    let mut client = tonic::client::Grpc::new(channel);
    assert!(
        client.ready().await.is_err() || {
            let path = "/parallax.confidence.ConfidenceAgent/HealthCheck".parse().expect("a path");
            client.unary::<(), Health, _>(Request::new(()), path, ProstCodec::default()).await.is_err()
        }
    );
}

#[tokio::test]
async fn what_an_agent_cannot_do_is_refused_by_the_status_that_says_so() {
    let etcd = Etcd::one().await;
    let node = Node::start("n", etcd.access());
    let endpoints = registered(&etcd, &node, &["a"]).await;
    let channel = connect(&endpoints[0]).await;
    let refused = async |method: &str, task: AgentRequest| {
        let answer: Result<ConfidenceResult, Status> = call(&channel, method, task).await;
        answer.expect_err("refused").code()
    };
    assert_eq!(refused("Analyze", task(" ", 0)).await, Code::InvalidArgument);
    assert_eq!(refused("Analyze", task(&"x".repeat(300_000), 0)).await, Code::InvalidArgument);
    assert_eq!(refused("Analyze", task(&"x".repeat(2_000_000), 0)).await, Code::OutOfRange);
    assert_eq!(refused("Analyze", task("not now", 0)).await, Code::FailedPrecondition);
    assert_eq!(refused("Analyze", task("never", 50)).await, Code::DeadlineExceeded);
    assert_eq!(refused("Delete", task("x", 0)).await, Code::Unimplemented);
}

#[tokio::test]
async fn a_caller_that_goes_away_is_not_waited_for_and_callers_beyond_a_bound_are_turned_away() {
    let etcd = Etcd::one().await;
    let node = Node::start("n", etcd.access());
    let endpoints = registered(&etcd, &node, &["a"]).await;
    let channel = connect(&endpoints[0]).await;
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move {
                call::<_, ConfidenceResult>(&channel, "Analyze", task("never", 60_000)).await
            })
        })
        .collect();
    poll(|| node.asked.tasks.lock().expect("no panic").len() == 8).await;
    let over: Result<ConfidenceResult, Status> = call(&channel, "Analyze", task("sum", 0)).await;
    assert_eq!(over.expect_err("too many").code(), Code::ResourceExhausted);
    waiting.into_iter().for_each(|call| call.abort());
    poll(|| *node.asked.abandoned.lock().expect("no panic") == 8).await;
    let result: ConfidenceResult =
        call(&channel, "Analyze", task("sum", 0)).await.expect("there is room again");
    assert_eq!(result.confidence, 0.9);
}

async fn poll(claim: impl Fn() -> bool) {
    let waited = async {
        while !claim() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect("in time");
}
