//! A route of kind `local` to a range of addresses: whoever connects to one of them reaches this very namespace.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

const RTM_NEWROUTE: u16 = 24;
const REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
const LOOPBACK_INDEX: u32 = 1;

/// Adds `local FIRST/LENGTH dev lo`. With a `source`, packets to the range come from there, and not from the very
/// address that they go to.
pub fn add_local_route(first: IpAddr, length: u8, source: Option<Ipv4Addr>) {
    let (family, address) = match first {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let (table_local, protocol_static, scope_host, type_local) = (255, 4, 254, 2);
    let family = u8::try_from(family).expect("a small number");
    let mut message =
        vec![family, length, 0, 0, table_local, protocol_static, scope_host, type_local, 0, 0, 0, 0];
    let (destination, out, preferred) = (1, 4, 7);
    if length > 0 {
        attribute(&mut message, destination, &address);
    }
    attribute(&mut message, out, &LOOPBACK_INDEX.to_ne_bytes());
    if let Some(source) = source {
        attribute(&mut message, preferred, &source.octets());
    }
    let total = u32::try_from(16 + message.len()).expect("short");
    let mut packet = Vec::new();
    packet.extend(total.to_ne_bytes());
    packet.extend(RTM_NEWROUTE.to_ne_bytes());
    packet.extend(REQUEST_ACK_CREATE.to_ne_bytes());
    packet.extend([0; 8]);
    packet.extend(message);
    let socket: OwnedFd =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).expect("netlink");
    bind(&socket, &SocketAddrNetlink::new(0, 0)).expect("bound");
    sendto(&socket, &packet, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).expect("sent");
    let mut answer = [0; 4096];
    let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty()).expect("an answer");
    assert!(length >= 20, "a netlink answer of {length} bytes");
    let errno = i32::from_ne_bytes(answer[16..20].try_into().expect("four bytes"));
    assert_eq!(errno, 0, "the kernel refuses the route: {}", std::io::Error::from_raw_os_error(-errno));
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(u16::try_from(4 + value.len()).expect("short").to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}
