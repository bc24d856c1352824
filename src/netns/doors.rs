//! Where this namespace is listened in, and for which addresses.
//!
//! ```text
//!  At 198.18.7.9:443         bound to it: the kernel refuses every other address of the port
//!  Within 10.2.0.0/16, 5432  bound to every address; a filter on the listener drops what opens a connection to another one,
//!                            the view shows it, and whoever holds the view answers it with a reset
//! ```
//! A socket cannot be bound to a range. One that accepted everything and then closed what it is not for would tell a program
//! that a place is reached which is not.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use super::filter::{self, ALL, Instruction, NONE};
use super::{DNS, monitor, unconnected};
use crate::sys::net::attach_filter;

/// As many as may wait for a gateway that has just died (the kernel's own limit is net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// What is before the network header of what a socket filter sees (SKF_NET_OFF of linux/filter.h).
const NETWORK_HEADER: u32 = 0xfff0_0000;

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The lowest of them.
    pub first: Ipv4Addr,
    /// How many bits they share, 0 to 32.
    pub length: u8,
}

impl Range {
    /// The bits that they share.
    pub fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0)
    }
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// At one address.
    At(SocketAddrV4),
    /// At the addresses of these ranges.
    Within {
        /// The port.
        port: u16,
        /// What it is for. The namespace's own loopback, 127.0.0.0/8, goes through as well.
        ranges: Vec<Range>,
        /// What it is not for, although it lies within.
        except: Vec<Ipv4Addr>,
    },
    /// At every address.
    Everywhere {
        /// The port.
        port: u16,
    },
}

impl Door {
    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Self::At(place) => place.port(),
            Self::Within { port, .. } | Self::Everywhere { port } => *port,
        }
    }

    fn bound_to(&self) -> SocketAddrV4 {
        match self {
            Self::At(place) => *place,
            Self::Within { port, .. } | Self::Everywhere { port } => {
                SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port)
            }
        }
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let socket = unconnected()?;
        if let Self::Within { ranges, except, .. } = self {
            attach_filter(socket.as_fd(), &admission(ranges, except))?;
        }
        bind(&socket, &self.bound_to())?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    }
}

/// What a gateway needs of this namespace, in this order: the datagrams to port 53, the view of what is refused, then a
/// listener for each of `doors`. Needs the rights of the namespace's owner.
pub fn open_doors(doors: &[Door]) -> io::Result<Vec<OwnedFd>> {
    let mut opened = vec![datagrams()?, monitor::open(doors)?];
    for door in doors {
        opened.push(door.open()?);
    }
    Ok(opened)
}

fn datagrams() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, DNS))?;
    Ok(socket)
}

/// For a listener: lets packets through that go to one of `ranges`, and to nothing in `except`. What it accepts has the same
/// filter.
fn admission(ranges: &[Range], except: &[Ipv4Addr]) -> Vec<Instruction> {
    let destination = NETWORK_HEADER + filter::DESTINATION;
    let mut code = filter::within(destination, filter::LOOPBACK, ALL).to_vec();
    code.push(filter::load(filter::WORD, destination));
    except.iter().for_each(|address| code.extend(filter::drop_if(filter::EQUAL, address.to_bits())));
    ranges.iter().for_each(|range| code.extend(filter::within(destination, *range, ALL)));
    code.push(NONE);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_any_length_has_its_mask() {
        let mask = |length| Range { first: Ipv4Addr::UNSPECIFIED, length }.mask();
        assert_eq!([mask(0), mask(1), mask(15), mask(32)], [0, 0x8000_0000, 0xfffe_0000, u32::MAX]);
    }
}
