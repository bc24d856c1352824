//! The network between a node and the members of an etcd: it can be cut, which neither side is told of.

use std::sync::Arc;
use std::time::Duration;

use stockade::registry::Access;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// One way to each member, up to the end of the test.
pub struct Relay {
    access: Access,
    network: Arc<watch::Sender<Network>>,
}

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Carries,
    /// Each so much later.
    Slow(Duration),
    /// Nothing arrives, and nobody is told.
    Cut,
}

impl Relay {
    /// Between a node and these members.
    pub async fn to(access: Access) -> Self {
        let network = Arc::new(watch::channel(Network::Carries).0);
        let mut endpoints = Vec::new();
        for endpoint in &access.endpoints {
            let (scheme, member) = endpoint.split_once("://").expect("a URL");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let here = listener.local_addr().expect("bound");
            endpoints.push(format!("{scheme}://{here}"));
            tokio::spawn(accept(listener, member.to_owned(), network.clone()));
        }
        Self { access: Access { endpoints, ..access }, network }
    }

    /// For the node.
    pub fn access(&self) -> Access {
        self.access.clone()
    }

    /// From now on.
    pub fn becomes(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn accept(listener: TcpListener, member: String, network: Arc<watch::Sender<Network>>) {
    while let Ok((near, _)) = listener.accept().await {
        let (member, network) = (member.clone(), network.subscribe());
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(&member).await else { return };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            // Whichever side hangs up takes the other one along.
            tokio::select! {
                () = carry(near_in, far_out, network.clone()) => {}
                () = carry(far_in, near_out, network) => {}
            }
        });
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut network: watch::Receiver<Network>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let now = network.wait_for(|now| *now != Network::Cut).await.map(|now| *now);
        match now {
            Ok(Network::Slow(by)) => tokio::time::sleep(by).await,
            Ok(_) => {}
            Err(_) => return,
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
