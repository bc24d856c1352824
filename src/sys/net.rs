//! Network namespaces; interfaces by ioctl, where a netlink conversation would take more calls; packet sockets, and filters
//! of sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// The request that brings the loopback interface up (netdevice(7), SIOCSIFFLAGS).
pub(super) fn loopback_up() -> libc::ifreq {
    // SAFETY: an all-zero ifreq is a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    request
}

/// Moves this process into the network namespace that `namespace` is, or that the process behind this pidfd is in
/// (setns(2), Linux 5.8).
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: only this process's own namespace changes.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }.into()).map(drop)
}

/// Lets only packets to this socket through that `program` (classic BPF: code, jt, jf, k) returns a length for, and lets nobody change it
/// (SO_ATTACH_FILTER and SO_LOCK_FILTER of socket(7)).
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[(u16, u8, u8, u32)]) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let len = u16::try_from(code.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions that live until the call returns; the kernel copies them.
    unsafe { set_option(socket, libc::SO_ATTACH_FILTER, &program) }?;
    // SAFETY: the option is an int.
    unsafe { set_option(socket, libc::SO_LOCK_FILTER, &1_i32) }
}

/// # Safety
/// `T` is what socket(7) says this option of SOL_SOCKET takes.
unsafe fn set_option<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: the kernel reads `length` bytes of a value that outlives the call, and of what the caller says it points to.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    check(set.into()).map(drop)
}

/// Lets a packet socket see every packet of its network namespace (packet(7)).
pub fn watch_all_packets(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr_ll is a valid value of this plain C struct.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of the address, which outlives the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }.into()).map(drop)
}

/// Sends a packet of IPv4 from its header on, as if it came in over `lo` of the packet socket's namespace (packet(7)).
pub fn send_over_loopback(socket: BorrowedFd<'_>, packet: &[u8]) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr_ll is a valid value of this plain C struct.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    // In every namespace `lo` is the first interface.
    address.sll_ifindex = 1;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads the packet and `length` bytes of the address, which both outlive the call.
    let sent = unsafe {
        let (start, flags) = (packet.as_ptr().cast(), libc::MSG_DONTWAIT);
        libc::sendto(socket.as_raw_fd(), start, packet.len(), flags, (&raw const address).cast(), length)
    };
    check(sent as libc::c_long).map(drop)
}

/// How many packets a packet socket had no room for since this was asked last (PACKET_STATISTICS of packet(7)).
pub fn packets_missed(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: an all-zero tpacket_stats is a valid value of this plain C struct.
    let mut statistics: libc::tpacket_stats = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into a struct that outlives the call.
    let got = unsafe {
        let place = (&raw mut statistics).cast();
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            place,
            &raw mut length,
        )
    };
    check(got.into()).map(|_| statistics.tp_drops)
}
