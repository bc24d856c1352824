//! Agents that answer by name, at a whole service over mTLS.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use stockade::daemon::registry::confidence::{AgentRequest, ConfidenceResult, Health};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::dev::Dev;
use crate::doors::{call, task};
use crate::etcd::{Etcd, PATIENCE, becomes, entry};

/// A gRPC client that calls this target, with the certificate of this client of `stockade dev`.
async fn client(dir: &Path, who: &str, target: &str) -> Channel {
    let pki = dir.join("pki");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.join("ca.crt")).expect("a CA")).expect("a CA");
    let chain = vec![CertificateDer::from_pem_file(pki.join(format!("{who}.crt"))).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(pki.join(format!("{who}.key"))).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("tls");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let settings = std::fs::read_to_string(dir.join("client.toml")).expect("client.toml");
    let address =
        settings.split("https://").nth(1).and_then(|rest| rest.split('"').next()).expect("a server");
    let address = address.trim_end_matches('/').to_owned();
    let connector = tower::service_fn(move |_| {
        let (config, address) = (Arc::new(config.clone()), address.clone());
        async move {
            let socket = tokio::net::TcpStream::connect(&address).await?;
            let name = "127.0.0.1".try_into().expect("a name");
            TlsConnector::from(config).connect(name, socket).await.map(TokioIo::new)
        }
    });
    // What a client is given as target is the authority of its requests.
    Endpoint::from_shared(format!("http://{target}"))
        .expect("a URL")
        .connect_with_connector(connector)
        .await
        .expect("connected")
}

async fn health(channel: &Channel) -> Result<Health, Status> {
    call(channel, "HealthCheck", ()).await
}

async fn turn(channel: &Channel) -> Result<ConfidenceResult, Status> {
    call::<AgentRequest, _>(channel, "Analyze", task("hello", 30_000)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_answers_by_its_name_to_whoever_has_a_grant_for_it_and_to_nobody_else() {
    let etcd = Etcd::one().await;
    let mut dev = Dev::start();
    dev.end();
    let file = dev.dir().join("etc/stockade/stockaded.d/registry.toml");
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
    let registry = format!(
        "[registry]\nkind = \"etcd\"\nendpoints = [\"{}\"]\ndoors = \"*.agents.test:7443\"\n",
        etcd.endpoint(0)
    );
    std::fs::write(&file, registry).expect("written");
    dev.start_again();
    dev.shell("a", "while read line; do echo \"you said $line\"; done");
    becomes(&mut etcd.client().await, &["a"], PATIENCE).await;
    let target = entry(&mut etcd.client().await, "a").await.expect("there").endpoint;
    assert_eq!(target, "a.agents.test:7443");

    let operator = client(dev.dir(), "operator", &target).await;
    assert_eq!(health(&operator).await.expect("healthy").status, 1);
    let result = turn(&operator).await.expect("an answer");
    assert!(result.value_json.contains("you said hello"), "{result:?}");
    let viewer = client(dev.dir(), "viewer", &target).await;
    assert_eq!(health(&viewer).await.expect("healthy").status, 1);
    assert_eq!(turn(&viewer).await.expect_err("it only looks").code(), Code::PermissionDenied);
    let auditor = client(dev.dir(), "auditor", &target).await;
    assert_eq!(health(&auditor).await.expect_err("it does not even look").code(), Code::PermissionDenied);
    let other = client(dev.dir(), "operator", "b.agents.test:7443").await;
    assert_eq!(health(&other).await.expect_err("nobody").code(), Code::NotFound);

    // Who had an agent carry out what, and who was not let.
    let log = dev.ok(&["--json", "audit", "tail"]);
    let records = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a record"));
    let asked = records.filter(|record| record["event"]["endpoint"] == "ConfidenceAnalyze");
    let asked: Vec<_> = asked
        .map(|record| {
            let event = &record["event"];
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            [text(&event["agent"]), text(&event["who"]["identity"]), text(&event["verdict"])]
        })
        .collect();
    let of =
        |who: &str, verdict: &str| ["a", &format!("spiffe://stockade.dev/{who}"), verdict].map(str::to_owned);
    assert_eq!(asked, [of("operator", "allowed"), of("viewer", "refused")]);
    let of_nobody = log
        .lines()
        .filter(|line| line.contains(r#""ConfidenceHealth""#) && line.contains(r#""agent":"b""#))
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("a record")["event"]["status"].clone()
        });
    assert_eq!(of_nobody.collect::<Vec<_>>(), [404], "whoever found nothing was not answered 200");

    dev.ok(&["stop", "a", "--force"]);
    becomes(&mut etcd.client().await, &[], PATIENCE).await;
    assert_eq!(health(&operator).await.expect_err("it is gone").code(), Code::NotFound);
}
