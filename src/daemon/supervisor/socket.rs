//! A connection to the launcher or to a shim: frames over SOCK_SEQPACKET, without blocking a thread.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;

use crate::wire;
use crate::wire::service::{self, Frame};

/// How often a peer whose backlog is full is tried again, and after how long.
const BUSY: (u32, Duration) = (200, Duration::from_millis(5));

/// One connection.
#[derive(Debug)]
pub(crate) struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// One end of a pair, or whatever else is connected.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        crate::sys::ready::watch(fd).map(Self)
    }

    /// Connects to the socket at `path`, however long that is.
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // An address holds 108 bytes (unix(7)): the directory is opened, and the rest of the way is short.
        let parent = path.parent().unwrap_or(Path::new("/"));
        let directory =
            rustix::fs::open(parent, OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty())?;
        let name = path.file_name().unwrap_or(OsStr::new("")).to_string_lossy().into_owned();
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?;
        for _ in 0..BUSY.0 {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => return Self::new(socket),
                Err(Errno::AGAIN | Errno::INTR) => tokio::time::sleep(BUSY.1).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} takes no connection", path.display())))
    }

    /// Sends a message, with the descriptors that belong to it.
    pub(crate) async fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_frame(&service::encode(message), fds).await
    }

    /// Sends a frame.
    pub(crate) async fn send_frame(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut ready = self.0.writable().await?;
            if let Ok(sent) = ready.try_io(|fd| wire::send(fd.as_fd(), frame, fds)) {
                return sent;
            }
        }
    }

    /// Waits for a message; `None` once the peer is gone. Nothing is lost when it is dropped while it waits.
    pub(crate) async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<M>> {
        loop {
            let mut ready = self.0.readable().await?;
            let Ok(received) = ready.try_io(|fd| service::receive::<M>(fd.get_ref(), 0)) else { continue };
            return match received {
                Ok(Some((Frame::Message(message), _))) => Ok(Some(message)),
                Ok(Some((Frame::Input(_), _))) => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "typed bytes came from where nobody types",
                )),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::service::ToShim;

    #[tokio::test]
    async fn a_socket_whose_path_is_longer_than_an_address_is_reached() {
        let directory = tempfile::tempdir().expect("a directory");
        let deep = directory.path().join("d".repeat(120));
        std::fs::create_dir(&deep).expect("made");
        let path = deep.join("s.sock");
        let fd = rustix::fs::open(&deep, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("opened");
        let address = format!("/proc/self/fd/{}/s.sock", fd.as_raw_fd());
        let flags = SocketFlags::CLOEXEC;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .expect("a socket");
        rustix::net::bind(&listener, &SocketAddrUnix::new(address).expect("short")).expect("bound");
        rustix::net::listen(&listener, 1).expect("listening");

        let here = Socket::connect(&path).await.expect("connected");
        let there = Socket::new(rustix::net::accept(&listener).expect("accepted")).expect("watched");

        here.send(&ToShim::Usage, &[]).await.expect("sent");
        assert_eq!(there.receive::<ToShim>().await.expect("received"), Some(ToShim::Usage));
        drop(here);
        assert_eq!(there.receive::<ToShim>().await.expect("received"), None);
    }
}
