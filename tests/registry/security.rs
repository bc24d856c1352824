//! TLS, certificates, users.

use std::time::Duration;

use etcd_client::{Permission, PermissionType, RoleRevokePermissionOptions};
use stockade::registry::Access;
use stockade::registry::entry::{AGENTS, NODES, SERVICES};

use crate::etcd::{Etcd, PATIENCE, becomes};
use crate::node::Node;

#[tokio::test]
async fn only_a_client_certificate_opens_etcd_and_only_the_right_ca_vouches_for_it() {
    let etcd = Etcd::start(1, true).await;
    let other = tempfile::tempdir().expect("a directory");
    let strangers = crate::certificates::Certificates::make(other.path());
    for access in [
        Access { identity: None, ..etcd.access() },
        Access { ca: Some(strangers.ca()), ..etcd.access() },
        Access { identity: Some(strangers.client("client")), ..etcd.access() },
        Access { identity: Some(("/nonexistent".into(), "/nonexistent".into())), ..etcd.access() },
    ] {
        let node = Node::start("n", access);
        node.runs(&["a"]);
        let status = node.says(|status| status.trouble.is_some()).await;
        assert!(!status.connected, "{status:?}");
    }
    let mut client = etcd.client().await;
    becomes(&mut client, &[], Duration::from_secs(1)).await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut client, &["a"], PATIENCE).await;
}

#[tokio::test]
async fn a_rotated_certificate_is_used_for_the_next_connection() {
    let mut etcd = Etcd::start(1, true).await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut etcd.client().await, &["a"], PATIENCE).await;
    // One that does not fit its key is of no use; both files at once are.
    std::fs::write(etcd.certificates().client("client").1, "half of a key").expect("written");
    etcd.kill(0);
    node.says(|status| !status.connected).await;
    etcd.certificates().issue("client");
    etcd.run(0);
    node.says(|status| status.connected).await;
    becomes(&mut etcd.client().await, &["a"], PATIENCE).await;
}

#[tokio::test]
async fn a_user_with_the_least_rights_suffices_and_losing_them_is_said_and_survived() {
    let etcd = Etcd::one().await;
    let mut root = etcd.client().await;
    root.user_add("root", "r", None).await.expect("root");
    root.role_add("root").await.expect("root's role");
    root.user_grant_role("root", "root").await.expect("root's");
    root.user_add("stockade", "s3cret", None).await.expect("a user");
    root.role_add("registry").await.expect("a role");
    for (kind, prefix) in [
        (PermissionType::Read, SERVICES),
        (PermissionType::Readwrite, AGENTS),
        (PermissionType::Readwrite, NODES),
    ] {
        let permission = Permission::new(kind, prefix).with_prefix();
        root.role_grant_permission("registry", permission).await.expect("granted");
    }
    root.user_grant_role("stockade", "registry").await.expect("granted");
    root.auth_enable().await.expect("enabled");

    let directory = tempfile::tempdir().expect("a directory");
    let password = directory.path().join("password");
    std::fs::write(&password, "r").expect("written");
    let as_root = Access { user: Some(("root".into(), password)), ..etcd.access() };
    let mut root = as_root.connect(0, Duration::from_secs(5)).await.expect("root");
    let password = directory.path().join("stockade");
    std::fs::write(&password, "wrong\n").expect("written");
    let node =
        Node::start("n", Access { user: Some(("stockade".into(), password.clone())), ..etcd.access() });
    node.runs(&["a"]);
    let status = node.says(|status| status.trouble.is_some()).await;
    assert!(
        status.trouble.is_some_and(|why| why.contains("authentication failed") && !why.contains("wrong"))
    );
    std::fs::write(&password, "s3cret\n").expect("written");
    becomes(&mut root, &["a"], PATIENCE).await;

    let agents = RoleRevokePermissionOptions::new().with_prefix();
    root.role_revoke_permission("registry", AGENTS, Some(agents)).await.expect("revoked");
    node.runs(&["a", "b"]);
    let status = node.says(|status| status.trouble.is_some()).await;
    assert!(status.trouble.is_some_and(|why| why.contains("permission denied")));
    let permission = Permission::new(PermissionType::Readwrite, AGENTS).with_prefix();
    root.role_grant_permission("registry", permission).await.expect("granted");
    becomes(&mut root, &["a", "b"], PATIENCE).await;
}
