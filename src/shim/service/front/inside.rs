//! What a daemon has done within the agent's walls: something else run, a server there connected to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::{MOST_EXTRAS, ServiceFront};
use crate::shim::session::Reins;
use crate::shim::streams::{self, StreamKind};
use crate::shim::words;
use crate::wire::service::claim::sealed;
use crate::wire::{Extra, ToInit};

impl ServiceFront {
    /// Has init run something else. What leads out of the sandbox is not handed in, whoever gives it.
    pub(super) fn run_extra(
        &mut self,
        exec: u64,
        extra: &Extra,
        fds: &[OwnedFd],
        reins: &Reins<'_>,
    ) -> Result<(), String> {
        if self.since.is_none() || self.extras.len() >= MOST_EXTRAS {
            return Err(format!("not now: before the start, or more than {MOST_EXTRAS} at once"));
        }
        let plain = |text: &String| !text.contains('\0');
        if extra.command.is_empty() || !extra.command.iter().chain(extra.environment.values()).all(plain) {
            return Err("a command has at least one word, and none holds NUL".into());
        }
        if let Some(name) = extra.environment.keys().find(|name| !words::is_variable(name)) {
            return Err(format!("{name:.80?} is no variable's name"));
        }
        for fd in fds {
            match streams::check_stream(fd) {
                Ok(StreamKind::Direct) => {}
                Ok(StreamKind::Terminal | StreamKind::Closed) => return Err("a stream is a terminal".into()),
                Err(error) => return Err(error.to_string()),
            }
        }
        let is_socket = |fd: &OwnedFd| rustix::net::sockopt::socket_type(fd).is_ok();
        if !(fds.len() == 3 || fds.len() == 1 && is_socket(&fds[0])) {
            return Err("three streams come with it, or one socket for a terminal".into());
        }
        let number = self.next_extra;
        self.next_extra = number.checked_add(1).unwrap_or(0);
        let words = serde_json::to_vec(extra).map_err(io::Error::other);
        let words =
            words.and_then(|words| sealed("stockade-exec", &words)).map_err(|error| error.to_string())?;
        let all: Vec<_> = [words.as_fd()].into_iter().chain(fds.iter().map(AsFd::as_fd)).collect();
        ToInit::Exec(number).send_with(reins.socket.as_fd(), &all).map_err(|error| error.to_string())?;
        self.extras.insert(number, exec);
        Ok(())
    }

    /// Has init connect to a server inside; the connection goes to whoever holds the socket's other end.
    pub(super) fn dial(&self, port: u16, fds: &[OwnedFd], reins: &Reins<'_>) -> Result<(), String> {
        let [asker] = fds else { return Err("one socket comes with it".into()) };
        let is_packets =
            matches!(rustix::net::sockopt::socket_type(asker), Ok(rustix::net::SocketType::SEQPACKET));
        if self.since.is_none() || port == 0 || !is_packets {
            return Err("not before the start; a port is 1 to 65535; its socket is one of packets".into());
        }
        ToInit::Dial(port)
            .send_with(reins.socket.as_fd(), &[asker.as_fd()])
            .map_err(|error| error.to_string())
    }
}
