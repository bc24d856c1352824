//! The network namespace from inside: its loopback, and where the plan has a gateway, the doors that lead to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::step::{Fault, On};
use crate::netns;
use crate::plan::Network;
use crate::wire::FromInit;
use crate::wire::egress::GATEWAY_ADDRESS;

/// Brings `lo` up; with a gateway, makes every address this host's own and hands the sockets to the shim.
pub fn prepare(network: Option<&Network>, shim: &OwnedFd) -> Result<(), Fault> {
    netns::enable_loopback()?;
    let Some(network) = network else { return Ok(()) };
    netns::own_every_address(GATEWAY_ADDRESS).on("routes")?;
    let ports: Vec<u16> = network.ports.iter().copied().collect();
    let doors = netns::open_doors(&ports).on("sockets for the gateway")?;
    let doors: Vec<BorrowedFd<'_>> = doors.iter().map(AsFd::as_fd).collect();
    FromInit::Doors.send_with(shim.as_fd(), &doors).on("sockets for the gateway")
}
