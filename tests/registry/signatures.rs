//! The audit log's latest signature lies in etcd, where the node's root cannot take it back.

use std::time::Duration;

use stockade::audit::event::Event;
use stockade::audit::verify::{Kind, Known};
use stockade::audit::{Seal, verify};
use stockade::daemon::audit::{Audit, elsewhere};
use stockade::wire::service::Places;

use crate::etcd::{Etcd, PATIENCE};

fn event() -> Event {
    serde_json::from_str(r#"{"type":"adopted","agent":"a","running":true}"#).expect("an event")
}

/// What etcd has, once it reaches this record.
async fn kept(etcd: &Etcd, least: u64) -> Seal {
    let mut client = etcd.client().await;
    let kept = async {
        loop {
            let options = etcd_client::GetOptions::new().with_prefix();
            let found = client.get("/stockade/audit/n/", Some(options)).await.expect("answered");
            let seal = found.kvs().first().and_then(|kv| Seal::parse(kv.value()));
            if let Some(seal) = seal.filter(|seal| seal.seq >= least) {
                return seal;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.expect("it is kept")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_and_signed_anew_is_found_by_what_etcd_has() {
    let etcd = Etcd::one().await;
    let directory = tempfile::tempdir().expect("a directory");
    let places = Places::under(directory.path());
    std::fs::create_dir_all(places.records()).expect("made");
    let audit = Audit::start(&places).expect("started");
    let often = Duration::from_millis(50);
    let keeper = tokio::spawn(elsewhere::keep(audit.clone(), etcd.access(), "n".into(), often));
    assert!(audit.record_synced((0..10).map(|_| event()).collect()).await);
    let seal = kept(&etcd, 10).await;
    let known = |seal: &Seal| Known { against: Some(seal.clone()), ..Known::default() };
    assert!(verify(&places.audit(), &known(&seal)).expect("read").intact);
    keeper.abort();
    audit.close().await;
    drop(audit);
    // Root has the key: another log in its place is whole in itself, and not the one that was there.
    std::fs::remove_dir_all(places.audit()).expect("removed");
    let other = Audit::start(&places).expect("started");
    assert!(other.record_synced((0..20).map(|_| event()).collect()).await);
    other.close().await;
    assert!(verify(&places.audit(), &Known::default()).expect("read").intact);
    let found = verify(&places.audit(), &known(&seal)).expect("read").finding.expect("a finding");
    assert_eq!(found.kind, Kind::RolledBack, "{found:?}");
}
