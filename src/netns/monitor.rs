//! The view of what is refused: a packet socket that sees the first packet of each attempt that no listener answers.
//!
//! The kernel refuses such an attempt at once, by a reset or an ICMP message; this is how it is known of. Only packets on
//! their way out count, since on `lo` each one passes twice; those to the sandbox's own loopback are its own affair.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::DNS;
use crate::sys::net::{attach_filter, watch_all_packets};

/// One instruction of classic BPF: code, jt, jf, k.
type Instruction = (u16, u8, u8, u32);

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

/// Loads into A from an offset, or from X and an offset (linux/bpf_common.h).
const WORD: u16 = 0x20;
const HALF: u16 = 0x28;
const BYTE: u16 = 0x30;
const HALF_FROM_X: u16 = 0x48;
const BYTE_FROM_X: u16 = 0x50;
/// X = 4 * (byte & 15): the length of an IPv4 header.
const HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const EQUAL: u16 = 0x15;
const ANY_OF: u16 = 0x45;
const RETURN: u16 = 0x06;

const DROP: Instruction = (RETURN, 0, 0, 0);
/// Enough for both headers.
const SEE: Instruction = (RETURN, 0, 0, 128);

/// Makes the socket. It sees no packet before its filter is there.
pub fn open(listened: &[SocketAddrV4]) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    attach_filter(socket.as_fd(), &filter(listened))?;
    watch_all_packets(socket.as_fd())?;
    Ok(socket)
}

/// Sees what opens a TCP connection to a place of IPv4 that is not `listened` at, or to any of IPv6; and UDP but to or
/// from port 53 of IPv4. Offsets count from the network header.
fn filter(listened: &[SocketAddrV4]) -> Vec<Instruction> {
    let (ipv4, ipv6) = (ipv4(listened), ipv6());
    let mut code = vec![load(WORD, PACKET_TYPE)];
    code.extend(drop_unless(EQUAL, PACKET_OUTGOING));
    code.extend([load(WORD, PROTOCOL), skip_if(EQUAL, IPV4, &ipv6)]);
    code.extend(ipv6);
    code.extend(ipv4);
    code
}

fn ipv4(listened: &[SocketAddrV4]) -> Vec<Instruction> {
    let mut code = vec![load(WORD, 16), load(AND, 0xff00_0000)];
    code.extend(drop_if(EQUAL, 0x7f00_0000)); // to 127.0.0.0/8
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
    let (everywhere, places): (Vec<SocketAddrV4>, Vec<SocketAddrV4>) =
        listened.iter().partition(|place| place.ip().is_unspecified());
    everywhere.iter().for_each(|place| code.extend(drop_if(EQUAL, u32::from(place.port()))));
    let ports: BTreeSet<u16> = places.iter().map(|place| place.port()).collect();
    for port in ports {
        let at = places.iter().filter(|place| place.port() == port).map(|place| place.ip().to_bits());
        code.extend(dropped_at(port, at));
    }
    code.push(SEE);
    code
}

/// Has the port in A, and goes on with it there if it is another one.
fn dropped_at(port: u16, addresses: impl Iterator<Item = u32>) -> Vec<Instruction> {
    let mut block = vec![load(WORD, 16)];
    addresses.for_each(|address| block.extend(drop_if(EQUAL, address)));
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

fn load(code: u16, from: u32) -> Instruction {
    (code, 0, 0, from)
}

fn drop_if(test: u16, value: u32) -> [Instruction; 2] {
    [(test, 0, 1, value), DROP]
}

fn drop_unless(test: u16, value: u32) -> [Instruction; 2] {
    [(test, 1, 0, value), DROP]
}

fn skip_if(test: u16, value: u32, over: &[Instruction]) -> Instruction {
    (test, u8::try_from(over.len()).expect("a few instructions"), 0, value)
}

fn skip_unless(test: u16, value: u32, over: &[Instruction]) -> Instruction {
    (test, 0, u8::try_from(over.len()).expect("a few instructions"), value)
}
