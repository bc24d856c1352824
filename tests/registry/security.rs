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
async fn certificates_of_another_authority_are_taken_while_the_node_runs_once_all_of_them_are_there() {
    let mut etcd = Etcd::start(1, true).await;
    let node = Node::start("n", etcd.access());
    node.runs(&["a"]);
    becomes(&mut etcd.client().await, &["a"], PATIENCE).await;
    // The client's own first: the connection that stands is not touched by that.
    etcd.reissue();
    node.runs(&["a", "b"]);
    node.says(|status| status.connected && status.registered == 2).await;
    etcd.kill(0);
    node.says(|status| !status.connected).await;
    etcd.run(0);
    node.runs(&["b", "c"]);
    becomes(&mut etcd.client().await, &["b", "c"], PATIENCE).await;
    node.says(|status| status.connected && status.trouble.is_none()).await;
}

#[tokio::test]
async fn a_password_that_was_changed_while_the_node_runs_is_read_anew() {
    let etcd = Etcd::one().await;
    let mut root = etcd.client().await;
    for (user, password) in [("root", "r"), ("stockade", "first")] {
        root.user_add(user, password, None).await.expect("a user");
    }
    root.role_add("root").await.expect("root's role");
    for user in ["root", "stockade"] {
        root.user_grant_role(user, "root").await.expect("granted");
    }
    root.auth_enable().await.expect("enabled");
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let as_root = Access { user: Some(("root".into(), file("root", "r"))), ..etcd.access() };
    let mut root = as_root.connect(0, Duration::from_secs(5)).await.expect("root");
    let user = Some(("stockade".into(), file("stockade", "first\n")));
    let node = Node::start("n", Access { user, ..etcd.access() });
    node.runs(&["a"]);
    becomes(&mut root, &["a"], PATIENCE).await;
    root.user_change_password("stockade", "second").await.expect("changed");
    node.runs(&["a", "b"]);
    let status = node.says(|status| status.trouble.is_some()).await;
    assert!(status.trouble.as_ref().is_some_and(|why| why.contains("auth")), "{status:?}");
    file("stockade", "second\n");
    becomes(&mut root, &["a", "b"], PATIENCE).await;
    node.says(|status| status.connected).await;
    // And of a user that is gone.
    root.user_delete("stockade").await.expect("deleted");
    node.runs(&["c"]);
    node.says(|status| status.trouble.is_some()).await;
    root.user_add("stockade", "second", None).await.expect("a user");
    root.user_grant_role("stockade", "root").await.expect("granted");
    becomes(&mut root, &["c"], PATIENCE).await;
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
