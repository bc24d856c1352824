//! What the caller gave us as stdin, stdout and stderr, and whether an agent may have it as it is.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

/// Character devices that hold nothing of the host: null, zero, full, random, urandom (all of major 1, null(4)).
const HARMLESS_DEVICES: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// Filesystems whose "regular files" stand for kernel objects: namespaces (nsfs) and processes (pidfs).
const KERNEL_OBJECTS: [i64; 2] = [0x6e73_6673, 0x5049_4446];

/// How a stream of the caller reaches the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Never handed over: the agent gets its own terminal, and bytes are carried between the two.
    Terminal,
    /// Handed over as it is: a pipe, a socket, a regular file or a device that holds nothing.
    Direct,
    /// Was closed; `/dev/null` takes its place, or the agent's first open would become its stdin.
    Closed,
}

/// Why a stream cannot be handed to an agent.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It gives access to more than its own bytes.
    #[error(
        "{stream} is {what}, which would be a way out of the sandbox: redirect it to a file, a pipe or /dev/null"
    )]
    Refused {
        /// Which.
        stream: &'static str,
        /// What the caller opened there.
        what: &'static str,
    },
    /// The kernel would not say what it is.
    #[error("cannot tell what {stream} is")]
    Unknown {
        /// Which.
        stream: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Says how one of the standard streams reaches the agent.
///
/// A directory would be a handle on the host's file tree (CVE-2024-21626), an O_PATH descriptor one on anything, and
/// ioctls on a device reach whatever its driver offers.
pub fn check_stream(fd: impl AsFd) -> Result<StreamKind, StreamError> {
    let stream = name_of(&fd);
    let unknown = |errno: Errno| StreamError::Unknown { stream, source: errno.into() };
    let status = match rustix::fs::fstat(&fd) {
        Ok(status) => status,
        Err(Errno::BADF) => return Ok(StreamKind::Closed),
        Err(errno) => return Err(unknown(errno)),
    };
    let refused = |what| Err(StreamError::Refused { stream, what });
    if rustix::fs::fcntl_getfl(&fd).map_err(unknown)?.contains(OFlags::PATH) {
        return refused("an O_PATH descriptor");
    }
    let filesystem = rustix::fs::fstatfs(&fd).map_err(unknown)?.f_type;
    if KERNEL_OBJECTS.contains(&(filesystem as i64)) {
        return refused("a namespace or a process");
    }
    let device = (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev));
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Fifo | FileType::Socket | FileType::RegularFile => Ok(StreamKind::Direct),
        FileType::CharacterDevice if HARMLESS_DEVICES.contains(&device) => Ok(StreamKind::Direct),
        FileType::CharacterDevice if rustix::termios::isatty(&fd) => Ok(StreamKind::Terminal),
        FileType::CharacterDevice => refused("a character device"),
        FileType::Directory => refused("a directory"),
        FileType::BlockDevice => refused("a block device"),
        FileType::Symlink | FileType::Unknown => refused("neither file, pipe, socket nor terminal"),
    }
}

fn name_of(fd: &impl AsFd) -> &'static str {
    match fd.as_fd().as_raw_fd() {
        0 => "stdin",
        1 => "stdout",
        2 => "stderr",
        _ => "a stream",
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_holds_only_its_own_bytes_is_handed_over() {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        let (socket, _peer) = UnixStream::pair().expect("socketpair");
        let file = tempfile::tempfile().expect("file");
        for fd in [reader, writer, socket.into(), file.into()] {
            assert_eq!(check_stream(&fd).expect("accepted"), StreamKind::Direct);
        }
        for device in ["null", "zero", "full", "random", "urandom"] {
            let device = File::open(format!("/dev/{device}")).expect("device");
            assert_eq!(check_stream(&device).expect("accepted"), StreamKind::Direct);
        }
    }

    #[test]
    fn a_terminal_is_never_handed_over() {
        let (master, slave) = crate::shim::testing::pty();
        assert_eq!(check_stream(&master).expect("accepted"), StreamKind::Terminal);
        assert_eq!(check_stream(&slave).expect("accepted"), StreamKind::Terminal);
    }

    #[test]
    fn what_reaches_further_is_refused_and_the_way_out_named() {
        let open = |path: &str, flags| {
            OpenOptions::new().read(true).custom_flags(flags).open(path).map(OwnedFd::from).expect(path)
        };
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("eventfd");
        let cases = [
            (open("/", libc::O_DIRECTORY), "a directory"),
            (open("/dev/null", libc::O_PATH), "an O_PATH descriptor"),
            (open("/dev/ptmx", libc::O_PATH), "an O_PATH descriptor"),
            (open("/proc/self/ns/mnt", 0), "a namespace or a process"),
            (eventfd, "neither file, pipe, socket nor terminal"),
        ];
        for (fd, what) in cases {
            let refusal = check_stream(&fd).expect_err(what).to_string();
            assert!(refusal.contains(what) && refusal.contains("redirect it"), "{refusal}");
        }
        let mem =
            check_stream(File::open("/dev/mem").or_else(|_| File::open("/dev/kmsg")).expect("a device"));
        assert!(mem.expect_err("refused").to_string().contains("a character device"));
    }
}
