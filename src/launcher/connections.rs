//! The daemon's connections: one as a rule, a few while it is replaced.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::SendFlags;

use super::requests::Launcher;
use crate::shim::service::line;
use crate::wire::service::launcher::{FromLauncher, Reason, Refusal, ToLauncher};
use crate::wire::service::{self, Frame, LONGEST_FRAME, Versions};

/// More at once are left to wait.
const MOST: usize = 8;

/// Descriptors that belong to the largest message.
const MOST_DESCRIPTORS: usize = 2;

/// All of them.
#[derive(Default)]
pub struct Connections(Vec<Connection>);

struct Connection {
    socket: OwnedFd,
    version: Option<u16>,
}

impl Connections {
    /// Whether another one can be accepted.
    pub fn has_room(&self) -> bool {
        self.0.len() < MOST
    }

    /// Adds them, in their order.
    pub fn register<'a>(&'a self, polls: &mut Vec<PollFd<'a>>) {
        polls.extend(self.0.iter().map(|connection| PollFd::new(&connection.socket, PollFlags::IN)));
    }

    /// Accepts one, if it is the daemon's uid.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, uid: u32) {
        if let Some(socket) = line::accept(listener, uid) {
            self.0.push(Connection { socket, version: None });
        }
    }

    /// Reads one message and answers it; whoever says what is none is left alone from then on.
    pub fn attend(&mut self, index: usize, launcher: &mut Launcher) {
        if !self.0[index].attend(launcher) {
            self.0.remove(index);
        }
    }
}

impl Connection {
    fn attend(&mut self, launcher: &mut Launcher) -> bool {
        let (bytes, fds) = match crate::wire::receive_now(&self.socket, LONGEST_FRAME, MOST_DESCRIPTORS) {
            Ok(Some(received)) => received,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
            Ok(None) | Err(_) => return false,
        };
        let Ok(Frame::Message(message)) = service::decode::<ToLauncher>(&bytes) else { return false };
        match (message, self.version) {
            (ToLauncher::Hello { versions }, _) => self.greet(versions, launcher),
            (_, None) => false,
            (message, Some(_)) => {
                let answer = launcher.answer(message, fds).unwrap_or_else(FromLauncher::Refused);
                self.say(&answer)
            }
        }
    }

    fn greet(&mut self, versions: Versions, launcher: &Launcher) -> bool {
        self.version = Versions::OWN.common(versions);
        let Some(version) = self.version else {
            let detail = format!(
                "this launcher speaks versions {} to {}: update the older of the two",
                Versions::OWN.oldest,
                Versions::OWN.newest
            );
            let refusal = Refusal { reason: Reason::Version, detail, field: None };
            let _ = self.say(&FromLauncher::Refused(refusal));
            return false;
        };
        self.say(&FromLauncher::Welcome {
            version,
            program: env!("CARGO_PKG_VERSION").into(),
            boot: launcher.boot().into(),
        })
    }

    /// Without waiting: a daemon that does not take its answers gets none.
    fn say(&self, answer: &FromLauncher) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(self.socket.as_fd(), &service::encode(answer), flags).is_ok()
    }
}
