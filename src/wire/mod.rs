//! Messages between the shim and the init of its sandbox, over one SOCK_SEQPACKET pair.
//!
//! ```text
//!  shim                                init (pid 1 of the sandbox)
//!   │ ── Mapped ───────────────────────▶ │  its user namespace has ids
//!   │ ── Descriptors(n) + fds ─────────▶ │  what the host gives; then, in another such message, the doors of its cgroups
//!   │ ◀─ Terminal + fd ───────────────── │  PTY master
//!   │ ◀─ Confined [+ fd] ─────────────── │  every wall stands; seccomp listener
//!   │ ── Go ───────────────────────────▶ │  what the kernel says of it was read and accepted
//!   │ ◀─ Started ────────────────────── │  where the shim wants to know: the command was executed
//!   │ ── Exec(n) + fds ────────────────▶ │  run something else: words (a file in memory), then its streams
//!   │ ── EndExec(n) ───────────────────▶ │  kill that, and its group
//!   │ ── Dial(port) + fd ──────────────▶ │  connect to a server inside; the connection goes out over that socket
//!   │ ◀─ ExecEnded(n, status) ───────── │
//!   │ ── Signal(n) / Resume ───────────▶ │
//!   │ ◀─ Stopped(n) ─────────────────── │  the agent was stopped (Ctrl-Z)
//!   │ ◀─ Ended(status) ───────────────── │  then pid 1 exits, and the kernel ends the rest
//!   │ ◀─ Failed{step, errno, detail} ─── │  instead of any of the above
//! ```
//! The peer is trusted until it is confined; after that its messages are still parsed as if it were hostile.

pub mod egress;
#[cfg(test)]
mod egress_tests;
pub mod service;
pub mod tally;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Longest message: a tag, two numbers and a line of detail.
pub const LONGEST: usize = 512;

/// What a message may be as long as without being measured first. A buffer for the longest of all would be cleared, and given
/// back to the kernel, for each of a few words.
const SHORT: usize = 4096;

/// Most descriptors in one message (SCM_MAX_FD, unix(7)).
pub const MOST_DESCRIPTORS: usize = 253;

/// From the shim to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToInit {
    /// uid_map and gid_map are written.
    Mapped,
    /// Start the agent.
    Go,
    /// Send this signal to the agent's process group.
    Signal(i32),
    /// Continue the agent after a stop.
    Resume,
    /// So many descriptors come with this message and the next ones.
    Descriptors(i32),
    /// Run something else, known by this number. Its words come with this message, as [`Extra`] in a file in memory; then
    /// its three streams, or one socket that is to be sent a PTY master.
    Exec(i32),
    /// Kill what runs by this number, with its process group. If it has ended, this means nothing.
    EndExec(i32),
    /// Connect to this port of the sandbox's own loopback. A socket comes with this message: over it goes the error number,
    /// and, if that is 0, the connection.
    Dial(u16),
}

/// Most descriptors that come with [`ToInit::Exec`].
pub const MOST_OF_EXEC: usize = 4;

/// What else is run within an agent's walls.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Extra {
    /// Program and arguments.
    pub command: Vec<String>,
    /// On top of the agent's variables.
    pub environment: std::collections::BTreeMap<String, String>,
}

/// From init to the shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromInit {
    /// The PTY master comes with this message.
    Terminal,
    /// Every wall stands. The seccomp listener comes with it, where notification is on.
    Confined,
    /// The agent was stopped by this signal.
    Stopped(i32),
    /// waitpid(2)'s status of the agent.
    Ended(i32),
    /// The command was executed, or has said itself why not.
    Started,
    /// What was run by [`ToInit::Exec`] has ended: its number, and waitpid(2)'s status.
    ExecEnded(i32, i32),
    /// A step failed; nothing of the agent has run, or (step `exec`) it could not be executed.
    Failed {
        /// The step's index in the sequence.
        step: u8,
        /// The system's error number.
        errno: i32,
        /// The object concerned.
        detail: String,
    },
}

impl ToInit {
    fn encode(self) -> [u8; 5] {
        let (tag, number) = match self {
            Self::Mapped => (1, 0),
            Self::Go => (2, 0),
            Self::Signal(n) => (3, n),
            Self::Resume => (4, 0),
            Self::Descriptors(rest) => (5, rest),
            Self::Exec(number) => (6, number),
            Self::EndExec(number) => (7, number),
            Self::Dial(port) => (8, port.into()),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [tag, a, b, c, d]
    }

    /// Reads one message; `None` if it is not one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [tag, number @ ..]: [u8; 5] = bytes.try_into().ok()?;
        Some(match (tag, i32::from_le_bytes(number)) {
            (1, 0) => Self::Mapped,
            (2, 0) => Self::Go,
            (3, n @ 1..=64) => Self::Signal(n),
            (4, 0) => Self::Resume,
            (5, rest @ 0..) => Self::Descriptors(rest),
            (6, number @ 0..) => Self::Exec(number),
            (7, number @ 0..) => Self::EndExec(number),
            (8, port @ 1..) => Self::Dial(u16::try_from(port).ok()?),
            _ => return None,
        })
    }

    /// Sends it.
    pub fn send(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.send_with(socket, &[])
    }

    /// Sends it with the descriptors that belong to it.
    pub fn send_with(self, socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(socket, &self.encode(), fds)
    }
}

impl FromInit {
    fn encode(&self) -> Vec<u8> {
        let plain = |tag: u8, n: i32| [&[tag, 0], n.to_le_bytes().as_slice()].concat();
        match self {
            Self::Terminal => plain(1, 0),
            Self::Confined => plain(2, 0),
            Self::Stopped(signal) => plain(3, *signal),
            Self::Ended(status) => plain(4, *status),
            Self::Started => plain(6, 0),
            Self::ExecEnded(number, status) => [plain(7, *number), status.to_le_bytes().to_vec()].concat(),
            Self::Failed { step, errno, detail } => {
                let detail = &detail.as_bytes()[..detail.len().min(LONGEST - 6)];
                [&[5, *step], errno.to_le_bytes().as_slice(), detail].concat()
            }
        }
    }

    /// Reads one message; `None` if it is not one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, detail) = bytes.split_at_checked(6)?;
        let number = i32::from_le_bytes(head[2..6].try_into().ok()?);
        Some(match (head[0], head[1], number) {
            (1, 0, 0) if detail.is_empty() => Self::Terminal,
            (2, 0, 0) if detail.is_empty() => Self::Confined,
            (3, 0, signal @ 1..=64) if detail.is_empty() => Self::Stopped(signal),
            (4, 0, status) if detail.is_empty() => Self::Ended(status),
            (6, 0, 0) if detail.is_empty() => Self::Started,
            (7, 0, number @ 0..) => Self::ExecEnded(number, i32::from_le_bytes(detail.try_into().ok()?)),
            (5, step, errno) => {
                Self::Failed { step, errno, detail: String::from_utf8_lossy(detail).into_owned() }
            }
            _ => return None,
        })
    }

    /// Sends it, with a descriptor where one belongs to it.
    pub fn send(&self, socket: BorrowedFd<'_>, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        send(socket, &self.encode(), fd.as_slice())
    }
}

/// A connected pair; both ends close on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends any number of descriptors, in as many messages as it takes.
pub fn send_descriptors(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut left = fds;
    loop {
        let (now, later) = left.split_at(left.len().min(MOST_DESCRIPTORS));
        let count = i32::try_from(left.len()).map_err(io::Error::other)?;
        send(socket, &ToInit::Descriptors(count).encode(), now)?;
        if later.is_empty() {
            return Ok(());
        }
        left = later;
    }
}

/// Takes what [`send_descriptors`] sends.
pub fn receive_descriptors(socket: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut all = Vec::new();
    let mut wanted = None;
    loop {
        let received = receive(socket, MOST_DESCRIPTORS)?;
        let (bytes, fds) = received.ok_or_else(|| io::Error::other("the shim is gone"))?;
        let Some(ToInit::Descriptors(count)) = ToInit::decode(&bytes) else {
            return Err(io::Error::other("not a message with descriptors"));
        };
        let count = usize::try_from(count).map_err(io::Error::other)?;
        let left = count.checked_sub(fds.len());
        let Some(left) =
            left.filter(|left| wanted.is_none_or(|w| w == count) && (!fds.is_empty() || *left == 0))
        else {
            return Err(io::Error::other("a descriptor is missing"));
        };
        all.extend(fds);
        if left == 0 {
            return Ok(all);
        }
        wanted = Some(left);
    }
}

/// Sends one raw message, with the descriptors that belong to it.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket, bytes, fds, SendFlags::NOSIGNAL)
}

/// The same without waiting: `WouldBlock`.
pub fn send_now(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket, bytes, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One raw message and the descriptors that came with it, at most `most`; `None` once the peer is gone. More than those,
/// and descriptors for which this process has no room, are an error.
pub fn receive(socket: impl AsFd, most: usize) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    receive_up_to(socket, LONGEST, most)
}

/// The same for messages of at most `longest` bytes; a longer one is an error.
pub fn receive_up_to(
    socket: impl AsFd,
    longest: usize,
    most: usize,
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    receive_with(socket, longest, most, RecvFlags::CMSG_CLOEXEC)
}

/// The same without waiting: `WouldBlock`.
pub fn receive_now(
    socket: impl AsFd,
    longest: usize,
    most: usize,
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    receive_with(socket, longest, most, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
}

fn receive_with(
    socket: impl AsFd,
    longest: usize,
    most: usize,
    flags: RecvFlags,
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let most_bytes =
        if longest <= SHORT { longest } else { length_of_next(socket.as_fd(), flags)?.min(longest) };
    let mut bytes = vec![0; most_bytes];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let room = if most == 0 { 0 } else { rustix::cmsg_space!(ScmRights(most.min(MOST_DESCRIPTORS))) };
    let mut control = RecvAncillaryBuffer::new(&mut space[..room]);
    let received = take(socket.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    let truncated = received.flags.contains(ReturnFlags::CTRUNC);
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is longer than any may be"));
    }
    let mut all = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            all.extend(fds);
        }
    }
    if truncated || all.len() > most {
        // The kernel cuts off what it has no room for, and what this process may not open (recvmsg(2), unix(7)).
        return Err(io::Error::other(
            "more descriptors came than belong there, or than may be open (RLIMIT_NOFILE)",
        ));
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, all)))
}

/// How long the next message is, which stays where it is; 0 if the peer is gone.
fn length_of_next(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<usize> {
    let flags = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
    Ok(take(socket, &mut [], &mut RecvAncillaryBuffer::default(), flags)?.bytes)
}

fn take(
    socket: BorrowedFd<'_>,
    bytes: &mut [IoSliceMut<'_>],
    control: &mut RecvAncillaryBuffer<'_>,
    flags: RecvFlags,
) -> io::Result<RecvMsg> {
    loop {
        match rustix::net::recvmsg(socket, bytes, control, flags) {
            // A peer that ended with a message of ours unread resets the connection, ahead of what it said before:
            // this error is reported once, and then come its messages.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            received => return Ok(received?),
        }
    }
}

/// Waits for the shim's next message. A vanished or talking-nonsense shim is an error: init then ends.
pub fn expect(socket: BorrowedFd<'_>) -> io::Result<ToInit> {
    expect_with(socket, 0).map(|(message, _)| message)
}

/// The same, with at most `most` descriptors.
pub fn expect_with(socket: BorrowedFd<'_>, most: usize) -> io::Result<(ToInit, Vec<OwnedFd>)> {
    let (bytes, fds) = receive(socket, most)?.ok_or_else(|| io::Error::other("the shim is gone"))?;
    let message = ToInit::decode(&bytes).ok_or_else(|| io::Error::other("not a message"))?;
    Ok((message, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_message_survives_the_wire() {
        let failed = FromInit::Failed { step: 7, errno: 13, detail: "mount /usr".into() };
        for message in [
            FromInit::Terminal,
            FromInit::Confined,
            FromInit::Started,
            FromInit::Stopped(20),
            FromInit::Ended(0x8b),
            failed,
        ] {
            assert_eq!(FromInit::decode(&message.encode()), Some(message));
        }
        for message in [
            ToInit::Mapped,
            ToInit::Go,
            ToInit::Signal(15),
            ToInit::Resume,
            ToInit::Descriptors(7),
            ToInit::Exec(3),
            ToInit::EndExec(3),
            ToInit::Dial(65535),
        ] {
            assert_eq!(ToInit::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn a_descriptor_travels_with_its_message_and_closes_on_exec() {
        let (here, there) = pair().expect("a socket pair");
        FromInit::Terminal.send(here.as_fd(), Some(here.as_fd())).expect("sent");
        let (bytes, fds) = receive(&there, 1).expect("received").expect("not the end");
        assert_eq!(FromInit::decode(&bytes), Some(FromInit::Terminal));
        let [fd] = fds.as_slice() else { panic!("{fds:?}") };
        let flags = rustix::io::fcntl_getfd(fd).expect("its flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn a_descriptor_that_does_not_belong_to_a_message_is_not_taken() {
        let (here, there) = pair().expect("a socket pair");
        send(here.as_fd(), b"x", &[here.as_fd(), here.as_fd()]).expect("sent");
        receive(&there, 1).expect_err("one too many");
        send(here.as_fd(), b"x", &[here.as_fd()]).expect("sent");
        receive(&there, 0).expect_err("one too many");
        send(here.as_fd(), &ToInit::Descriptors(2).encode(), &[here.as_fd()]).expect("sent");
        send(here.as_fd(), &ToInit::Descriptors(0).encode(), &[]).expect("sent");
        receive_descriptors(there.as_fd()).expect_err("one is missing");
    }

    #[test]
    fn a_message_takes_no_more_room_than_it_needs_and_one_that_is_too_long_is_not_taken_for_its_beginning() {
        let (here, there) = pair().expect("a socket pair");
        let longest = 2 * SHORT;
        for length in [1, SHORT, longest] {
            send(here.as_fd(), &vec![b'x'; length], &[here.as_fd()]).expect("sent");
            let (bytes, fds) = receive_now(&there, longest, 1).expect("received").expect("a message");
            assert_eq!((bytes.len(), bytes.capacity(), fds.len()), (length, length, 1));
        }
        send(here.as_fd(), &vec![b'x'; longest + 1], &[]).expect("sent");
        let refused = receive_up_to(&there, longest, 0).expect_err("too long");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(receive_now(&there, longest, 0).expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
        drop(here);
        assert!(receive_up_to(&there, longest, 0).expect("the end").is_none());
    }

    #[test]
    fn more_descriptors_than_a_message_holds_arrive_in_order() {
        let (here, there) = pair().expect("a socket pair");
        for count in [0, 1, MOST_DESCRIPTORS, MOST_DESCRIPTORS + 1, 2 * MOST_DESCRIPTORS + 3] {
            let fds: Vec<BorrowedFd<'_>> =
                (0..count).map(|n| if n % 3 == 0 { here.as_fd() } else { there.as_fd() }).collect();
            send_descriptors(here.as_fd(), &fds).expect("sent");
            let received = receive_descriptors(there.as_fd()).expect("received");
            let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).expect("its inode").st_ino;
            let inodes: Vec<u64> = received.iter().map(|fd| inode(fd.as_fd())).collect();
            assert_eq!(inodes, fds.iter().map(|fd| inode(*fd)).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic_or_invent(bytes in proptest::collection::vec(any::<u8>(), 0..LONGEST)) {
            if let Some(message) = ToInit::decode(&bytes) {
                prop_assert_eq!(message.encode().to_vec(), bytes.clone());
            }
            if let Some(message) = FromInit::decode(&bytes) {
                prop_assert!(message.encode().len() <= LONGEST);
            }
        }
    }
}
