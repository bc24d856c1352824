//! DNS on the sandbox's port 53, whatever address the agent thinks that its server has.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::account::Account;
use super::dns::{self, Answer};
use super::gateway::Gateway;
use crate::sys::ready::watch;
use crate::wire::egress::{FromEgress, Protocol};

const PORT: u16 = 53;
/// Questions are short; what does not fit is not one.
const LONGEST_QUESTION: usize = 1024;
/// Questions that are answered before others get their turn.
const BATCH: usize = 32;

/// Answers questions that come by UDP.
pub async fn serve_udp(gateway: Rc<Gateway>, socket: UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // An answer must come from the address that was asked, which is any address at all.
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    let socket = watch(OwnedFd::from(socket))?;
    loop {
        let mut ready = socket.readable().await?;
        for _ in 0..BATCH {
            // Any other error is about one client (an ICMP message for an earlier answer, full buffers), not the next.
            if answer_one(&gateway, socket.get_ref()) == Err(nix::errno::Errno::EAGAIN) {
                ready.clear_ready();
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

fn answer_one(gateway: &Gateway, socket: &OwnedFd) -> nix::Result<()> {
    let mut buffer = [0; LONGEST_QUESTION];
    let mut space = nix::cmsg_space!(libc::in_pktinfo);
    let (length, client, local) = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        let local = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
            _ => None,
        });
        let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
        (if whole { message.bytes } else { 0 }, message.address, local)
    };
    let (Some(client), Some(mut local)) = (client, local) else { return Ok(()) };
    let Some(bytes) = answer(gateway, &buffer[..length]) else { return Ok(()) };
    local.ipi_spec_dst = local.ipi_addr;
    local.ipi_ifindex = 0;
    let control = [ControlMessage::Ipv4PacketInfo(&local)];
    let client = SockaddrIn::from(SocketAddrV4::from(client));
    let flags = MsgFlags::MSG_DONTWAIT;
    match sendmsg(socket.as_raw_fd(), &[IoSlice::new(&bytes)], &control, flags, Some(&client)) {
        // Not "nothing to read": a client whose buffers are full loses an answer, as on any network.
        Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Answers questions that come by one TCP connection, each with its length in front.
pub async fn serve_tcp(gateway: Rc<Gateway>, mut stream: TcpStream, permit: OwnedSemaphorePermit) {
    let patience = gateway.hello_patience();
    while let Ok(Some(question)) = timeout(patience, next_question(&mut stream)).await {
        let Some(reply) = answer(&gateway, &question) else { break };
        let Ok(length) = u16::try_from(reply.len()) else { break };
        let framed = [&length.to_be_bytes(), reply.as_slice()].concat();
        if !matches!(timeout(patience, stream.write_all(&framed)).await, Ok(Ok(()))) {
            break;
        }
    }
    drop(permit);
}

async fn next_question(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = usize::from(stream.read_u16().await.ok()?);
    if length > LONGEST_QUESTION {
        return None;
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await.ok()?;
    Some(question)
}

/// Answers, and enters what is worth knowing.
fn answer(gateway: &Gateway, question: &[u8]) -> Option<Vec<u8>> {
    let mut names = gateway.names.borrow_mut();
    let Answer { bytes, refused, named } = dns::answer(question, &gateway.rules, &mut names)?;
    if let Some((name, refusal)) = refused {
        Account::open(&gateway.ledger, Protocol::Dns, Some(name), PORT).refuse(refusal);
    }
    if let Some((name, address)) = named {
        gateway.ledger.announce(FromEgress::Named { name: name.to_string(), address });
    }
    Some(bytes)
}
