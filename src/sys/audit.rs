//! The kernel's audit records, as a listener gets them: whether any are made, and each as it comes.
//!
//! Nothing here changes a setting of the host's: audit is asked for its status and listened to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `AUDIT_LANDLOCK_ACCESS` (linux/audit.h): a refused access.
pub const LANDLOCK_ACCESS: u16 = 1423;
/// `AUDIT_LANDLOCK_DOMAIN`: a domain that has refused something, and its end.
pub const LANDLOCK_DOMAIN: u16 = 1424;

/// `AUDIT_GET`: the status.
const GET: u16 = 1000;
/// `NLM_F_REQUEST`
const REQUEST: u16 = 1;
/// `NLMSG_ERROR`: a refusal, or an empty one.
const ERROR: u16 = 2;
/// The group that every record is sent to, `AUDIT_NLGRP_READLOG`, as a bit.
const READLOG: u32 = 1;
/// `struct nlmsghdr`
const HEADER: usize = 16;
/// No record is longer: `MAX_AUDIT_MESSAGE_LENGTH` (8970) and a header.
const LONGEST: usize = 16_384;
/// Room for records that we have not got to, in bytes; when it is full the kernel drops records, and no one waits.
const ROOM: usize = 1 << 20;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `AUDIT_*`
    pub kind: u16,
    /// `audit(1729738800.221:33): domain=…`
    pub text: String,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A record.
    Record(Record),
    /// Some came too fast and are lost.
    Lost,
    /// Nothing more at this moment.
    Nothing,
}

/// Whether this kernel makes audit records now (`audit_enabled`).
///
/// # Errors
/// EPROTONOSUPPORT: not built in. EPERM, ECONNREFUSED: only root of the first user and PID namespace may ask
/// (CAP_AUDIT_CONTROL).
pub fn is_enabled() -> io::Result<bool> {
    let socket = socket()?;
    let mut request = Vec::with_capacity(HEADER);
    request.extend((HEADER as u32).to_ne_bytes());
    request.extend(GET.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    request.extend([1_u32, 0].map(u32::to_ne_bytes).concat());
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &kernel)?;
    // The kernel answers within sendto(2); the limit is for one that does not answer at all.
    let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
    if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&patience))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut answer = [0; 256];
    let (_, length) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    read_status(&answer[..length.min(256)])
}

/// `struct audit_status` begins with a mask and `enabled`; an error with its negative number.
fn read_status(answer: &[u8]) -> io::Result<bool> {
    let word = |at: usize| answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    match (kind, word(HEADER), word(HEADER + 4)) {
        (Some(GET), Some(_), Some(enabled)) => Ok(enabled != 0),
        (Some(ERROR), Some(error), _) if error != 0 => {
            Err(io::Error::from_raw_os_error(error.cast_signed().wrapping_neg()))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A listener that gets what Landlock reports from now on (CAP_AUDIT_READ).
pub fn listen() -> io::Result<OwnedFd> {
    let socket = socket()?;
    // Before it joins, so that a busy host's other records neither wake us nor take our room.
    hear_only_landlock(socket.as_fd())?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, READLOG))?;
    // Only more room than the default; with less of it, records are lost earlier, which is reported.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM);
    Ok(socket)
}

/// Has the kernel drop every datagram whose netlink type is not Landlock's.
fn hear_only_landlock(socket: BorrowedFd<'_>) -> io::Result<()> {
    // A filter loads 16 bits in network order, netlink writes them in the host's.
    let (access, domain) = (LANDLOCK_ACCESS.to_be(), LANDLOCK_DOMAIN.to_be());
    let code = |code: u32| code as u16;
    let load = code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS);
    let equal = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    let give = code(libc::BPF_RET | libc::BPF_K);
    let mut program = [(load, 0, 0, 4), (equal, 1, 0, access.into()), (equal, 0, 1, domain.into())]
        .into_iter()
        .chain([(give, 0, 0, u32::MAX), (give, 0, 0, 0)])
        .map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect::<Vec<_>>();
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `filter` points to its `len` instructions until the call returns; the kernel copies and checks them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size,
        )
    };
    super::check(result.into()).map(drop)
}

/// The next record. Never waits.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Heard> {
    let mut buffer = [0; LONGEST];
    loop {
        match rustix::net::recv(listener, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Ok(Heard::Nothing),
            Ok((_, length)) => {
                if let Some(record) = read_record(&buffer[..length.min(LONGEST)]) {
                    return Ok(Heard::Record(record));
                }
            }
            Err(Errno::AGAIN) => return Ok(Heard::Nothing),
            Err(Errno::NOBUFS) => return Ok(Heard::Lost),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One datagram is one record. Its length field counts the header or not, depending on the kernel, so it is not read.
fn read_record(datagram: &[u8]) -> Option<Record> {
    let (header, text) = datagram.split_at_checked(HEADER)?;
    let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
    let text = text.split(|byte| *byte == 0).next()?;
    Some(Record { kind, text: String::from_utf8_lossy(text).into_owned() })
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::AUDIT))?)
}

/// Waits until something can be received, at most this long; whether it can.
pub fn wait(listener: BorrowedFd<'_>, patience: &Timespec) -> io::Result<bool> {
    match poll(&mut [PollFd::new(&listener.as_fd(), PollFlags::IN)], Some(patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = (HEADER + body.len()) as u32;
        [length.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), &[0; 10], body].concat()
    }

    #[test]
    fn the_status_says_whether_records_are_made() {
        for (enabled, expected) in [(0_u32, false), (1, true), (2, true)] {
            let status = [0_u32, enabled, 1, 0].map(u32::to_ne_bytes).concat();
            assert_eq!(read_status(&message(GET, &status)).expect("a status"), expected);
        }
    }

    #[test]
    fn a_refused_question_is_the_kernels_error() {
        let refused = read_status(&message(ERROR, &(-libc::EPERM).to_ne_bytes())).expect_err("refused");
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        for cut in [&[][..], &message(GET, &[0; 4]), &message(ERROR, &[0; 4]), &message(7, &[0; 8])] {
            assert_eq!(read_status(cut).expect_err("no status").kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_record_is_read_to_its_end_whatever_its_length_field_says() {
        let mut datagram = message(LANDLOCK_ACCESS, b"audit(1.2:3): domain=1 blockers=fs.read_file\0\0");
        datagram[0] = 0xff;
        let record = read_record(&datagram).expect("a record");
        assert_eq!(record.kind, LANDLOCK_ACCESS);
        assert_eq!(record.text, "audit(1.2:3): domain=1 blockers=fs.read_file");
        assert_eq!(read_record(&datagram[..8]), None);
    }

    #[test]
    fn a_listener_is_woken_by_landlock_alone() {
        let flags = SocketFlags::CLOEXEC;
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
        let (host, listener) = pair.expect("a pair");
        hear_only_landlock(listener.as_fd()).expect("a filter");
        // AUDIT_SYSCALL and two neighbours of Landlock's numbers.
        for kind in [1300, 1422, LANDLOCK_ACCESS, 1425, LANDLOCK_DOMAIN] {
            rustix::net::send(&host, &message(kind, b"audit(1.2:3): "), SendFlags::empty()).expect("sent");
        }
        let mut heard = Vec::new();
        while let Heard::Record(record) = receive(listener.as_fd()).expect("received") {
            heard.push(record.kind);
        }
        assert_eq!(heard, [LANDLOCK_ACCESS, LANDLOCK_DOMAIN]);
    }

    #[test]
    fn this_kernel_answers_one_way_or_the_other() {
        match is_enabled() {
            Ok(_) => drop(listen().expect("whoever may ask for the status may read here")),
            Err(error) => assert!(error.raw_os_error().is_some(), "{error} is not the kernel's word"),
        }
    }
}
