//! The view of what is refused: a packet socket that sees the first packet of each attempt that no listener answers.
//!
//! The kernel refuses such an attempt at once, by a reset or an ICMP message; this is how it is known of. What a door within
//! ranges does not admit is seen as well, and whoever sees it sends the reset, by this socket. Only packets on
//! their way out count, since on `lo` each one passes twice; those to the sandbox's own loopback are its own affair.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::filter::{
    self, AND, ANY_OF, BYTE, BYTE_FROM_X, DESTINATION, EQUAL, HALF, HALF_FROM_X, HEADER_LENGTH, Instruction,
    LOOPBACK, NONE, WORD, drop_if, drop_unless, load, skip_if, skip_unless, within,
};
use super::{DNS, Door};
use crate::sys::net::{attach_filter, watch_all_packets};

/// linux/filter.h: words of the packet's description, as offsets that no packet has.
const PROTOCOL: u32 = 0xffff_f000;
const PACKET_TYPE: u32 = 0xffff_f004;
const PACKET_OUTGOING: u32 = 4;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const TCP: u32 = 6;
const UDP: u32 = 17;
/// The flags SYN and ACK, in byte 13 of a TCP header (RFC 9293).
const SYN: u32 = 0x02;
const SYN_AND_ACK: u32 = 0x12;

/// Bytes of the kernel's memory for what waits to be looked at, some thousand attempts.
const WAITING: usize = 4 << 20;

/// Enough for both headers.
const SEE: Instruction = filter::answer(128);

/// Makes the socket. It sees no packet before its filter is there.
pub fn open(doors: &[Door]) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    attach_filter(socket.as_fd(), &view(doors))?;
    set_socket_recv_buffer_size_force(&socket, WAITING)?;
    watch_all_packets(socket.as_fd())?;
    Ok(socket)
}

/// Sees what opens a TCP connection to a place of IPv4 that no door is for, or to any of IPv6; and UDP but to or
/// from port 53 of IPv4. Offsets count from the network header.
fn view(doors: &[Door]) -> Vec<Instruction> {
    let (ipv4, ipv6) = (ipv4(doors), ipv6());
    let mut code = vec![load(WORD, PACKET_TYPE)];
    code.extend(drop_unless(EQUAL, PACKET_OUTGOING));
    code.extend([load(WORD, PROTOCOL), skip_if(EQUAL, IPV4, &ipv6)]);
    code.extend(ipv6);
    code.extend(ipv4);
    code
}

fn ipv4(doors: &[Door]) -> Vec<Instruction> {
    let mut code = within(DESTINATION, LOOPBACK, NONE).to_vec();
    code.push(load(HALF, 6));
    code.extend(drop_if(ANY_OF, 0x1fff)); // all fragments but the first have no header
    code.extend([load(HEADER_LENGTH, 0), load(BYTE, 9)]);
    let mut udp = drop_unless(EQUAL, UDP).to_vec();
    for port in [0, 2] {
        // A question for a name, or the gateway's answer to one.
        udp.push(load(HALF_FROM_X, port));
        udp.extend(drop_if(EQUAL, u32::from(DNS)));
    }
    udp.push(SEE);
    code.push(skip_if(EQUAL, TCP, &udp));
    code.extend(udp);
    code.extend(opens_connection(load(BYTE_FROM_X, 13)));
    code.push(load(HALF_FROM_X, 2));
    let ports: BTreeSet<u16> = doors.iter().map(Door::port).collect();
    ports.into_iter().for_each(|port| code.extend(on_port(port, doors)));
    code.push(SEE);
    code
}

/// Has the port in A, and goes on with it there if it is another one.
fn on_port(port: u16, doors: &[Door]) -> Vec<Instruction> {
    let mut block = vec![load(WORD, DESTINATION)];
    for door in doors.iter().filter(|door| door.port() == port) {
        match door {
            Door::At(place) => block.extend(drop_if(EQUAL, place.ip().to_bits())),
            Door::Within { ranges, except, .. } => {
                except.iter().for_each(|address| block.extend([(EQUAL, 0, 1, address.to_bits()), SEE]));
                ranges.iter().for_each(|range| block.extend(within(DESTINATION, *range, NONE)));
            }
            Door::Everywhere { .. } => block.push(NONE),
        }
    }
    block.push(SEE);
    let mut code = vec![skip_unless(EQUAL, u32::from(port), &block)];
    code.extend(block);
    code
}

/// With extension headers in between, an attempt is refused unseen.
fn ipv6() -> Vec<Instruction> {
    let mut code = drop_unless(EQUAL, IPV6).to_vec();
    // To ::1: three words of 0 and a 1. A jump leads from each to behind the last.
    code.extend([load(WORD, 24), (EQUAL, 0, 7, 0), load(WORD, 28), (EQUAL, 0, 5, 0)]);
    code.extend([load(WORD, 32), (EQUAL, 0, 3, 0), load(WORD, 36)]);
    code.extend(drop_if(EQUAL, 1));
    code.push(load(BYTE, 6));
    let mut udp = drop_unless(EQUAL, UDP).to_vec();
    udp.push(SEE);
    code.push(skip_if(EQUAL, TCP, &udp));
    code.extend(udp);
    code.extend(opens_connection(load(BYTE, 40 + 13)));
    code.push(SEE);
    code
}

fn opens_connection(flags: Instruction) -> Vec<Instruction> {
    let mut code = vec![flags, load(AND, SYN_AND_ACK)];
    code.extend(drop_unless(EQUAL, SYN));
    code
}
