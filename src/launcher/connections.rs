//! The daemon's connections: one as a rule, a few while it is replaced.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::SendFlags;

use super::requests::{Answer, Launcher};
use crate::shim::service::line;
use crate::wire::service::launcher::{FromLauncher, Reason, Refusal, ToLauncher};
use crate::wire::service::{self, Frame, LONGEST_FRAME, Versions};

/// More at once are left to wait.
const MOST: usize = 8;

/// Descriptors that belong to the largest message.
const MOST_DESCRIPTORS: usize = 2;

/// All of them.
#[derive(Default)]
pub struct Connections {
    all: Vec<Connection>,
    next: u64,
}

struct Connection {
    socket: OwnedFd,
    version: Option<u16>,
    /// By which an answer finds it.
    number: u64,
    /// A question of its is being seen to: the next one is not read before that is answered.
    waits: bool,
}

impl Connections {
    /// Whether another one can be accepted.
    pub fn has_room(&self) -> bool {
        self.all.len() < MOST
    }

    /// Adds them, in their order.
    pub fn register<'a>(&'a self, polls: &mut Vec<PollFd<'a>>) {
        let wanted =
            |connection: &Connection| if connection.waits { PollFlags::empty() } else { PollFlags::IN };
        polls.extend(self.all.iter().map(|connection| PollFd::new(&connection.socket, wanted(connection))));
    }

    /// Accepts one, if it is the daemon's uid.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, uid: u32) {
        if let Some(socket) = line::accept(listener, uid) {
            self.all.push(Connection { socket, version: None, number: self.next, waits: false });
            self.next += 1;
        }
    }

    /// Reads one message and answers it; whoever says what is none is left alone from then on.
    pub fn attend(&mut self, index: usize, launcher: &mut Launcher) {
        // One that waits is only heard of when it hangs up.
        if self.all[index].waits || !self.all[index].attend(launcher) {
            self.all.remove(index);
        }
    }

    /// Answers a question that took its time, if whoever asked is still there.
    pub fn answer(&mut self, number: u64, answer: Answer) {
        let Some(at) = self.all.iter().position(|connection| connection.number == number) else { return };
        self.all[at].waits = false;
        if !self.all[at].say(&answer.unwrap_or_else(FromLauncher::Refused)) {
            self.all.remove(at);
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
            (message, Some(_)) => match launcher.answer(message, fds, self.number) {
                Some(answer) => self.say(&answer.unwrap_or_else(FromLauncher::Refused)),
                None => {
                    self.waits = true;
                    true
                }
            },
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
