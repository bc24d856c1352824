//! Connections to servers inside, for published ports and for the callback of a login: only a socket of this network
//! namespace leads to them, so pid 1 makes and connects one whenever the gateway or the shim asks.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, connect, recv, sockopt::socket_error};

use crate::netns;
use crate::wire;
use crate::wire::egress::{DIAL_NUMBER, DialRequest};

/// Answers one request; whether more can come. Whatever goes wrong with one connection is told to who asked.
///
/// Nothing here waits: a server inside that takes nobody, or a gateway that reads nothing, must not hold up pid 1.
pub fn answer(gateway: &OwnedFd) -> bool {
    let mut request = DialRequest::default();
    match recv(gateway, &mut request, RecvFlags::DONTWAIT) {
        Ok((0, _)) => return false,
        Ok((length, _)) if length == request.len() => {}
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => return true,
        Err(_) => return false,
    }
    let (number, port) = request.split_at(DIAL_NUMBER);
    let (errno, socket) = told(dial(u16::from_be_bytes([port[0], port[1]])));
    // The socket does not wait either; an answer that finds no room is one that nobody reads.
    let answer = [number, &errno.to_le_bytes()].concat();
    let _ = wire::send(gateway.as_fd(), &answer, socket.as_ref().map(AsFd::as_fd).as_slice());
    true
}

/// The same for the shim, which says where the answer goes. Whoever holds the other end may have gone.
pub fn hand_out(port: u16, asker: &OwnedFd) {
    let (errno, socket) = told(dial(port));
    let _ = wire::send_now(asker.as_fd(), &errno.to_ne_bytes(), socket.as_ref().map(AsFd::as_fd).as_slice());
}

fn told(dialed: io::Result<OwnedFd>) -> (i32, Option<OwnedFd>) {
    match dialed {
        Ok(socket) => (0, Some(socket)),
        Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), None),
    }
}

/// On `lo` a connection is made or refused before connect(2) returns, unless the server's queue is full.
fn dial(port: u16) -> io::Result<OwnedFd> {
    let socket = netns::unconnected()?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    match connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    socket_error(&socket)??;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::egress::DialAnswer;
    use std::net::TcpListener;

    fn request(port: u16) -> Vec<u8> {
        [&[7; DIAL_NUMBER][..], &port.to_be_bytes()].concat()
    }

    fn ask(request: &[u8]) -> Option<(i32, Option<OwnedFd>)> {
        let (gateway, inside) = wire::pair().expect("a socket pair");
        wire::send(gateway.as_fd(), request, &[]).expect("asked");
        assert!(answer(&inside));
        rustix::io::ioctl_fionbio(&gateway, true).expect("non-blocking");
        let (answer, mut sockets) = wire::receive(&gateway, 1).ok()??;
        let answer: DialAnswer = answer.try_into().expect("an answer");
        let (number, errno) = answer.split_at(DIAL_NUMBER);
        assert_eq!(number, &request[..DIAL_NUMBER], "it is for the one who asked");
        Some((i32::from_le_bytes(errno.try_into().expect("an errno")), sockets.pop()))
    }

    #[test]
    fn a_server_inside_is_connected_to_and_a_missing_one_is_told_of() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("its address").port();
        let (errno, socket) = ask(&request(port)).expect("an answer");
        assert!(errno == 0 && socket.is_some());
        server.accept().expect("accepted");
        drop(server);
        let (errno, socket) = ask(&request(port)).expect("an answer");
        assert!(errno == libc::ECONNREFUSED && socket.is_none(), "{errno}");
    }

    #[test]
    fn a_shim_is_handed_a_connection_or_told_why_not() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("its address").port();
        let (asker, ours) = wire::pair().expect("a socket pair");
        hand_out(port, &asker);
        let (errno, sockets) = wire::receive(&ours, 1).expect("received").expect("an answer");
        assert!(errno == 0i32.to_ne_bytes() && sockets.len() == 1);
        drop(server);
        hand_out(port, &asker);
        let (errno, sockets) = wire::receive(&ours, 1).expect("received").expect("an answer");
        assert!(errno == libc::ECONNREFUSED.to_ne_bytes() && sockets.is_empty());
    }

    #[test]
    fn nonsense_has_no_answer_and_the_end_is_noticed() {
        assert!(ask(b"1").is_none());
        let (gateway, inside) = wire::pair().expect("a socket pair");
        drop(gateway);
        assert!(!answer(&inside));
    }
}
