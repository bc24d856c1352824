//! Attempts that no socket takes. The kernel refuses most of them at once, and this is how they are seen; those on a port whose
//! listener takes only what rules are about are refused from here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use nix::sys::socket::{LinkAddr, recvfrom};
use tokio::io::unix::AsyncFd;

use super::account::Account;
use super::gateway::Gateway;
use super::reset;
use super::rules::Refusal;
use crate::policy::synthetic::is_synthetic;
use crate::sys::net::{packets_missed, send_over_loopback};
use crate::sys::ready;
use crate::wire::egress::{Protocol, Reason};

/// Headers are all that is looked at.
const LONGEST: usize = 128;
/// Packets that are looked at before others get their turn.
const BATCH: usize = 64;
/// Packets that are looked at in the end: more than the kernel holds for it.
const LAST: usize = 4096;

/// The beginning of something that an agent wants to say to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// How.
    pub protocol: Protocol,
    /// To whom.
    pub address: IpAddr,
    /// To which port.
    pub port: u16,
}

/// Watches for as long as the gateway lives.
pub async fn watch(gateway: Rc<Gateway>, socket: OwnedFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    let watcher = Watcher { gateway, socket: ready::watch(socket)? };
    loop {
        let mut guard = watcher.socket.readable().await?;
        if watcher.look(BATCH) {
            guard.clear_ready();
            report_missed(&watcher.gateway, packets_missed(watcher.socket.get_ref().as_fd()).unwrap_or(0));
        }
        tokio::task::yield_now().await;
    }
}

struct Watcher {
    gateway: Rc<Gateway>,
    socket: AsyncFd<OwnedFd>,
}

impl Watcher {
    /// Looks at so many packets at most; whether there are no more.
    fn look(&self, most: usize) -> bool {
        let (socket, mut buffer) = (self.socket.get_ref(), [0; LONGEST]);
        for _ in 0..most {
            match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    // What is sent over `lo` comes by twice, going out and coming in.
                    if from.is_none_or(|from| from.pkttype() == libc::PACKET_OUTGOING) {
                        self.tell(&buffer[..length]);
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => return true,
                // ENETDOWN, when the namespace goes away.
                Err(_) => {}
            }
        }
        false
    }

    fn tell(&self, packet: &[u8]) {
        if let Some(attempt) = read(packet)
            && report(&self.gateway, attempt)
            && self.gateway.within.contains(&attempt.port)
            && let Some(reset) = reset::answer_to(packet)
        {
            // One that does not fit in is missed: the agent's kernel asks again after a second.
            let _ = send_over_loopback(self.socket.get_ref().as_fd(), &reset);
        }
    }
}

/// What an agent tried last may lie there still when it has ended, and the gateway is told to.
impl Drop for Watcher {
    fn drop(&mut self) {
        self.look(LAST);
    }
}

/// What came faster than it could be looked at is counted, for whatever it was: all of it was refused.
fn report_missed(gateway: &Gateway, count: u32) {
    if count > 0 {
        let account = Account::several(&gateway.ledger, Protocol::Tcp, count);
        let detail = "more attempts at once than could be told apart".to_owned();
        account.refuse(Refusal::final_one(Reason::TooMany, detail));
    }
}

/// Accounts for it; whether it is one that is refused.
fn report(gateway: &Gateway, attempt: Attempt) -> bool {
    let Attempt { protocol, address, port } = attempt;
    let named = match address {
        IpAddr::V4(v4) => gateway.names.borrow().name(v4).cloned(),
        IpAddr::V6(_) => None,
    };
    let is_taken = match protocol {
        Protocol::Udp => port == 53 && address.is_ipv4(),
        _ => gateway.listens(address, port),
    };
    if is_taken || address.is_loopback() {
        return false;
    }
    let refusal = match (protocol, &named) {
        (Protocol::Udp, _) => Refusal::final_one(
            Reason::Udp,
            format!("UDP to {address} port {port}: only DNS leaves a sandbox as UDP"),
        ),
        _ if address.is_ipv6() => {
            let detail = format!("{address} port {port}: a sandbox has no IPv6; use the host's name");
            Refusal::final_one(Reason::Ipv6, detail)
        }
        (_, Some(name)) => match gateway.rules.for_name(name, port) {
            Err(refusal) => refusal,
            Ok(_) => return false,
        },
        (_, None) => match gateway.rules.for_address(address, port) {
            Err(refusal) => refusal,
            Ok(_) => return false,
        },
    };
    let account = Account::open(&gateway.ledger, protocol, named.map(|name| name.to_string()), port);
    if !is_synthetic(address) {
        account.to(address);
    }
    account.refuse(refusal);
    true
}

/// Reads a packet from its network header on: a TCP SYN, or a UDP datagram.
pub fn read(packet: &[u8]) -> Option<Attempt> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let (address, protocol, content): (IpAddr, u8, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let head = packet.first_chunk::<20>()?;
            let length = usize::from(head[0] & 15) * 4;
            // Only the first fragment has ports.
            if u16::from_be_bytes([head[6], head[7]]) & 0x1fff != 0 {
                return None;
            }
            let address = Ipv4Addr::new(head[16], head[17], head[18], head[19]);
            (address.into(), head[9], packet.get(length.max(20)..)?)
        }
        6 => {
            let head = packet.first_chunk::<40>()?;
            let address: [u8; 16] = head[24..40].try_into().ok()?;
            (Ipv6Addr::from(address).into(), head[6], &packet[40..])
        }
        _ => return None,
    };
    let port = u16::from_be_bytes([*content.get(2)?, *content.get(3)?]);
    match protocol {
        TCP => {
            const SYN: u8 = 2;
            const ACK: u8 = 16;
            let flags = content.get(13)?;
            (flags & (SYN | ACK) == SYN).then_some(Attempt { protocol: Protocol::Tcp, address, port })
        }
        // From port 53 come the gateway's own answers; nobody else inside can have that port.
        UDP if content[..2] == 53_u16.to_be_bytes() => None,
        UDP => Some(Attempt { protocol: Protocol::Udp, address, port }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(protocol: u8, fragment: u16, content: &[u8]) -> Vec<u8> {
        let mut head = [0; 20];
        head[0] = 0x45;
        head[6..8].copy_from_slice(&fragment.to_be_bytes());
        head[9] = protocol;
        head[16..].copy_from_slice(&[203, 0, 113, 7]);
        [&head, content].concat()
    }

    fn tcp(flags: u8) -> Vec<u8> {
        let mut content = vec![0; 20];
        content[2..4].copy_from_slice(&25_u16.to_be_bytes());
        content[13] = flags;
        content
    }

    #[test]
    fn only_the_beginning_of_a_connection_is_an_attempt() {
        let address = IpAddr::from([203, 0, 113, 7]);
        let attempt = |protocol| Some(Attempt { protocol, address, port: 25 });
        assert_eq!(read(&v4(6, 0, &tcp(2))), attempt(Protocol::Tcp));
        assert_eq!(read(&v4(17, 0x4000, &tcp(0))), attempt(Protocol::Udp));
        for other in [
            v4(6, 0, &tcp(18)),
            v4(6, 0, &tcp(16)),
            v4(17, 5, &tcp(0)),
            v4(1, 0, &tcp(0)),
            vec![],
            vec![0x45],
        ] {
            assert_eq!(read(&other), None);
        }
        let mut head = [0; 40];
        head[0] = 0x60;
        head[6] = 6;
        head[24..40].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets());
        let attempt = read(&[&head[..], &tcp(2)].concat()).expect("an attempt");
        assert_eq!(attempt.address, "2001:db8::1".parse::<IpAddr>().expect("an address"));
    }

    proptest! {
        #[test]
        fn no_packet_makes_the_reader_panic(packet in proptest::collection::vec(any::<u8>(), 0..LONGEST)) {
            read(&packet);
        }
    }
}
