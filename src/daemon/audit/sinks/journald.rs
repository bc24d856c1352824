//! The machine's journal, by its native protocol: one datagram a record, or, where that would be too long, the
//! descriptor of a sealed file with what it would have held (systemd's docs/JOURNAL_NATIVE_PROTOCOL.md).

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use super::Deliver;
use super::form::Line;
use crate::wire;
use crate::wire::service::claim::sealed;

/// A journal that takes nothing is asked again after so long, and so often.
const AGAIN: (Duration, u32) = (Duration::from_millis(20), 500);

pub(super) struct Journald {
    socket: UnixDatagram,
    delivered: u64,
}

impl Journald {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        Ok(Self { socket, delivered: 0 })
    }

    async fn send(&self, line: &Line) -> io::Result<()> {
        let text = fields(line);
        for _ in 0..AGAIN.1 {
            match self.socket.send(text.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return self.hand_over(&text),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(AGAIN.0).await,
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the journal takes nothing"))
    }

    fn hand_over(&self, text: &str) -> io::Result<()> {
        let file = sealed("stockade-journal", text.as_bytes())?;
        // Nothing but the descriptor: the journal takes a datagram with both for a mistake.
        wire::send_now(self.socket.as_fd(), &[], &[file.as_fd()])
    }
}

/// No value has a line break in it.
fn fields(line: &Line) -> String {
    let priority = if line.is_notice { 5 } else { 6 };
    let Line { seq, event, text, .. } = line;
    format!(
        "MESSAGE={text}\nPRIORITY={priority}\nSYSLOG_FACILITY=13\nSYSLOG_IDENTIFIER=stockaded\n\
         STOCKADE_EVENT={event}\nSTOCKADE_SEQ={seq}\n"
    )
}

impl Deliver for Journald {
    async fn deliver(&mut self, lines: &[Line]) -> io::Result<()> {
        for line in lines {
            self.send(line).await?;
            self.delivered = line.seq;
        }
        Ok(())
    }

    async fn settle(&mut self) -> io::Result<u64> {
        Ok(self.delivered)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read};
    use std::mem::MaybeUninit;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    fn line(text: String) -> Line {
        Line { seq: 5, at: "t".into(), event: "egress".into(), is_notice: false, text }
    }

    #[tokio::test]
    async fn a_record_is_a_datagram_and_one_that_is_too_long_a_sealed_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let journal = UnixDatagram::bind(&path).expect("bound");
        let mut sink = Journald::new(&path).expect("connected");
        let long = "x".repeat(4 << 20);
        sink.deliver(&[line("short".into()), line(long.clone())]).await.expect("taken");
        assert_eq!(sink.settle().await.expect("settled"), 5);
        let mut bytes = vec![0; 4096];
        let length = journal.recv(&mut bytes).expect("a datagram");
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert!(
            text.starts_with("MESSAGE=short\nPRIORITY=6\n") && text.ends_with("STOCKADE_SEQ=5\n"),
            "{text}"
        );
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let received =
            recvmsg(&journal, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).expect("another");
        assert_eq!(received.bytes, 0);
        let mut fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fd = fds.next().and_then(|mut fds| fds.next()).expect("a descriptor");
        // The description is shared, and its offset is the writer's.
        let mut file = std::fs::File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)))
            .expect("opened");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert!(text.starts_with(&format!("MESSAGE={long}\n")), "{}", text.len());
    }
}
