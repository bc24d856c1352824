//! What a gateway needs that is made before the sandbox is: all that can be missing is missed before anything is built.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use super::secrets::Secrets;
use super::warden::{Setup, Warden};
use super::{Gateway, GatewayError, config, doors, program};
use crate::cgroup::{Cgroup, Device, Layout};
use crate::id::AgentId;
use crate::plan::{Network, Plan};
use crate::policy::{Bytes, Limits, Published, Shortfall};
use crate::shim::ids::UidRange;
use crate::shim::inherited;
use crate::wire::egress::{FILES_OF_A_CONNECTION, FILES_OF_A_GATEWAY, GATEWAY_ADDRESS};
use crate::{netns, wire};

/// Enough for 4096 connections, which is what a gateway takes if it is not told less.
const OPEN_FILES: u64 = 65_536;

/// What a gateway needs that is made before the sandbox is.
pub struct Ways {
    network: Network,
    shortfalls: BTreeSet<Shortfall>,
    id: AgentId,
    uid: u32,
    program: OwnedFd,
    secrets: Secrets,
    listeners: Vec<OwnedFd>,
    doors: Vec<OwnedFd>,
    dialer: Option<OwnedFd>,
}

impl Ways {
    /// Opens and checks all of it; `None` for a plan without a gateway. Nothing runs yet.
    pub fn open(plan: &Plan, id: &AgentId, range: &UidRange) -> Result<Option<Self>, GatewayError> {
        let Some(network) = plan.network.clone() else { return Ok(None) };
        let listen = |port: &Published| {
            let listener = TcpListener::bind(port.host);
            let failed = |source| GatewayError::Publish { address: port.host, source };
            listener.map(OwnedFd::from).map_err(failed)
        };
        Ok(Some(Self {
            program: program::open()?,
            secrets: Secrets::read(&network.inject)?,
            listeners: network.published.iter().map(listen).collect::<Result<_, _>>()?,
            doors: Vec::new(),
            dialer: None,
            id: id.clone(),
            shortfalls: plan.shortfalls.clone(),
            uid: range.gateway(),
            network,
        }))
    }

    /// Its own cgroup. It works for the agent, so it gets as much CPU as the agent, and no more.
    pub fn cgroup(&self, layout: &Layout, id: &AgentId, plan: &Plan) -> Result<Cgroup, GatewayError> {
        let limits =
            Limits { memory: Bytes::mib(512), cpus: plan.limits.cpus, processes: 64, ..Limits::default() };
        let no_disks: [Device; 0] = [];
        Ok(Cgroup::create(layout, id, &limits, &no_disks)?)
    }

    /// The end of the dialer that init gets, where a port is published.
    pub fn dialer(&mut self) -> io::Result<Option<OwnedFd>> {
        if self.network.published.is_empty() {
            return Ok(None);
        }
        let (ours, theirs) = wire::pair()?;
        rustix::io::ioctl_fionbio(&theirs, true)?;
        self.dialer = Some(ours);
        Ok(Some(theirs))
    }

    /// Makes every address of the network namespace that this process is in lead to sockets for the gateway.
    pub fn open_doors(&mut self) -> Result<(), GatewayError> {
        let doors = doors::all(&self.network, &self.id);
        let opened = netns::own_every_address(GATEWAY_ADDRESS).and_then(|()| netns::open_doors(&doors));
        self.doors = opened.map_err(GatewayError::Doors)?;
        Ok(())
    }

    /// Starts the gateway on the sockets that were made inside. It need not be ready yet.
    /// Bytes are counted in `tally`.
    pub fn start(self, cgroup: &Cgroup, tally: OwnedFd) -> Result<Gateway, GatewayError> {
        let mut config = config::config(&self.network, &self.id, &self.shortfalls);
        let open_files = inherited::make_room_for_open_files(OPEN_FILES)?;
        config.connections = config.connections.min(connections(open_files));
        let mut sockets = self.doors;
        sockets.extend(self.listeners);
        sockets.extend(self.dialer);
        sockets.push(tally.try_clone()?);
        if sockets.len() != config.sockets.len() {
            let what = format!("{} sockets instead of {}", sockets.len(), config.sockets.len());
            return Err(GatewayError::Failed { what });
        }
        let warden =
            Warden::start(Setup { program: self.program, sockets, uid: self.uid, open_files, cgroup })?;
        Ok(Gateway::launched(warden, config, self.secrets, tally, self.uid)?)
    }
}

fn connections(open_files: u64) -> u32 {
    let connections = open_files.saturating_sub(FILES_OF_A_GATEWAY) / FILES_OF_A_CONNECTION;
    u32::try_from(connections).unwrap_or(u32::MAX).max(1)
}
