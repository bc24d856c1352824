//! Two routes, an address and a switch by netlink: every address there is, of IPv4 and of IPv6, is this host's own (AnyIP).

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// rtnetlink(7), netlink(7): what `ip route add local 0.0.0.0/0 dev lo` sends.
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_EXCL: u16 = 0x200;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// What `lo` does about IPv4 (linux/if_link.h, linux/ip.h): the same as `accept_local` and `route_localnet` in
/// /proc/sys/net/ipv4/conf/lo.
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ACCEPT_LOCAL: u16 = 23;
const IPV4_DEVCONF_ROUTE_LOCALNET: u16 = 26;
/// In every namespace `lo` is the first interface.
const LOOPBACK: u32 = 1;

const HEADER: usize = 16;

/// Does all four. An IPv6 that this host has switched off needs no route: nothing can be sent by it.
///
/// `visible` is one more address of IPv4 beside 127.0.0.1: resolvers count that one for none, and give no address of a
/// family that the host has none of (AI_ADDRCONFIG of getaddrinfo(3)). Connections come from it: one whose source is its
/// destination could meet itself where nobody listens (simultaneous open, RFC 9293, section 3.5).
pub fn own_every_address(visible: Ipv4Addr) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    ask(&socket, &message(RTM_NEWLINK, &accepting_local()))?;
    ask(&socket, &message(RTM_NEWADDR, &address(visible)))?;
    ask(&socket, &message(RTM_NEWROUTE, &route(AddressFamily::INET, Some(visible))))?;
    match ask(&socket, &message(RTM_NEWROUTE, &route(AddressFamily::INET6, None))) {
        Err(_) if is_without_ipv6() => Ok(()),
        added => added,
    }
}

fn ask(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    send(socket, message, SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (length, _) = recv(socket, &mut answer, RecvFlags::empty())?;
    acknowledged(&answer[..length])
}

/// `struct ifinfomsg`, and that a packet may come in from and to an address of this host's own, loopback included: what is sent
/// by a packet socket is not known to have come from here.
fn accepting_local() -> Vec<u8> {
    let mut message = vec![number(AddressFamily::UNSPEC), 0, 0, 0];
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend([0; 8]); // flags, and which of them change: none
    let both = [IPV4_DEVCONF_ACCEPT_LOCAL, IPV4_DEVCONF_ROUTE_LOCALNET];
    let accepts: Vec<u8> = both.iter().flat_map(|switch| attribute(*switch, &1_u32.to_ne_bytes())).collect();
    let inet = attribute(u16::from(number(AddressFamily::INET)), &attribute(IFLA_INET_CONF, &accepts));
    message.extend(attribute(IFLA_AF_SPEC, &inet));
    message
}

/// `struct rtmsg`, the interface, and the address that packets come from.
fn route(family: AddressFamily, source: Option<Ipv4Addr>) -> Vec<u8> {
    let mut route = vec![number(family), 0, 0, 0, RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL];
    route.extend(0_u32.to_ne_bytes());
    route.extend(attribute(RTA_OIF, &LOOPBACK.to_ne_bytes()));
    route.extend(source.into_iter().flat_map(|source| attribute(RTA_PREFSRC, &source.octets())));
    route
}

/// `struct ifaddrmsg` and the address, as a range of one.
fn address(address: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![number(AddressFamily::INET), 32, 0, 0];
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(attribute(IFA_LOCAL, &address.octets()));
    message.extend(attribute(IFA_ADDRESS, &address.octets()));
    message
}

fn number(family: AddressFamily) -> u8 {
    u8::try_from(family.as_raw()).expect("both families are small numbers")
}

/// Every value here is a multiple of four bytes, so that nothing is padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("a short value");
    [length.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), value].concat()
}

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).expect("a short message");
    let made = if kind == RTM_NEWLINK { 0 } else { NLM_F_CREATE | NLM_F_EXCL }; // `lo` is there
    let flags = NLM_F_REQUEST | NLM_F_ACK | made;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence number and port: one question at a time, and the kernel knows who asks
    message.extend(body);
    message
}

/// An answer is an error message; 0 in it stands for success.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(HEADER..HEADER + 4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::other("the kernel did not answer a request for a route")),
    }
}

/// By a boot option, or by a sysctl that new namespaces start with.
fn is_without_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6").map_or(true, |off| off.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        assert!(acknowledged(&[]).is_err());
        assert!(acknowledged(&[0; 20]).is_err());
        let mut answer = [0_u8; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert!(acknowledged(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert_eq!(acknowledged(&answer).map_err(|error| error.raw_os_error()), Err(Some(libc::EPERM)));
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        for body in [route(AddressFamily::INET6, None), address(Ipv4Addr::LOCALHOST)] {
            let message = message(RTM_NEWROUTE, &body);
            assert_eq!(message[..4], u32::try_from(message.len()).expect("short").to_ne_bytes());
        }
    }
}
