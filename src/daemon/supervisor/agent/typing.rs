//! Typed bytes on their way to a shim: no more of them than it has room for, none lost with a connection.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::daemon::terminal::Typed;
use crate::wire::service::{INPUT_WINDOW, LONGEST_INPUT};

/// So much may wait here before nobody is listened to any more.
const ROOM: u64 = INPUT_WINDOW;

/// What was typed and has not reached the agent's terminal yet.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    /// Whether the numbers here are the shim's.
    counted: bool,
    /// How much has reached it, since it was started.
    taken: u64,
    /// How much was sent to the shim.
    sent: u64,
    /// How much was typed in all.
    typed: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    bytes: Bytes,
    /// Where it ends.
    end: u64,
    done: oneshot::Sender<io::Result<()>>,
}

impl Typing {
    /// Whether more may be typed.
    pub(crate) fn has_room(&self) -> bool {
        self.typed.saturating_sub(self.taken) < ROOM
    }

    /// Takes what was typed.
    pub(crate) fn push(&mut self, typed: Typed) {
        self.typed += typed.bytes.len() as u64;
        self.waiting.push_back(Waiting { bytes: typed.bytes, end: self.typed, done: typed.done });
        self.tell();
    }

    /// A new connection: so much has reached the shim, and with that the terminal, sooner or later; what was sent beyond
    /// that is lost with the old connection, and sent again.
    pub(crate) fn resume(&mut self, taken: u64) {
        if !std::mem::replace(&mut self.counted, true) {
            // A daemon that has just come knows nothing of what was typed before.
            self.typed += taken;
            self.waiting.iter_mut().for_each(|waiting| waiting.end += taken);
        }
        self.typed = self.typed.max(taken);
        (self.taken, self.sent) = (taken, taken);
        self.tell();
    }

    /// So much has reached the terminal.
    pub(crate) fn take(&mut self, total: u64) {
        self.taken = self.taken.max(total.min(self.sent));
        self.tell();
    }

    /// The next bytes that the shim has room for.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let room = INPUT_WINDOW.saturating_sub(self.sent - self.taken).min(LONGEST_INPUT as u64);
        let waiting = self.waiting.iter().find(|waiting| waiting.end > self.sent)?;
        let left = waiting.end - self.sent;
        let from = waiting.bytes.len() - usize::try_from(left).expect("it is part of these bytes");
        let count = usize::try_from(left.min(room)).expect("at most a frame");
        self.sent += count as u64;
        (count > 0).then(|| waiting.bytes.slice(from..from + count))
    }

    /// Nothing can be typed any more.
    pub(crate) fn end(&mut self) {
        for waiting in std::mem::take(self).waiting {
            let error = io::Error::new(io::ErrorKind::BrokenPipe, "the agent has ended before it read this");
            // Whoever typed may be gone.
            let _ = waiting.done.send(Err(error));
        }
    }

    fn tell(&mut self) {
        while self.waiting.front().is_some_and(|waiting| waiting.end <= self.taken) {
            let waiting = self.waiting.pop_front().expect("it was just looked at");
            let _ = waiting.done.send(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(length: usize) -> (Typed, oneshot::Receiver<io::Result<()>>) {
        let (done, told) = oneshot::channel();
        (Typed { bytes: vec![b'x'; length].into(), done }, told)
    }

    fn sent(typing: &mut Typing) -> u64 {
        std::iter::from_fn(|| typing.next()).map(|bytes| bytes.len() as u64).sum()
    }

    #[test]
    fn no_more_is_sent_than_the_window_holds_and_whoever_typed_hears_when_it_is_there() {
        let mut typing = Typing::default();
        let (bytes, mut told) = typed(100_000);
        typing.push(bytes);
        assert!(!typing.has_room());
        assert_eq!(sent(&mut typing), INPUT_WINDOW);
        typing.take(INPUT_WINDOW);
        assert_eq!(sent(&mut typing), 100_000 - INPUT_WINDOW);
        told.try_recv().expect_err("not all of it is there");
        typing.take(100_000);
        told.try_recv().expect("it is there").expect("typed");
    }

    #[test]
    fn what_a_lost_connection_swallowed_is_sent_again_and_nothing_else() {
        let mut typing = Typing::default();
        typing.resume(0);
        let (bytes, mut told) = typed(10);
        typing.push(bytes);
        assert_eq!(sent(&mut typing), 10);
        typing.resume(4);
        assert_eq!(sent(&mut typing), 6);
        typing.take(10);
        told.try_recv().expect("it is there").expect("typed");
    }

    #[test]
    fn a_daemon_that_has_just_come_goes_on_where_the_shim_is() {
        let mut typing = Typing::default();
        typing.resume(7_000);
        let (bytes, mut told) = typed(5);
        typing.push(bytes);
        assert_eq!(sent(&mut typing), 5);
        typing.take(7_005);
        told.try_recv().expect("it is there").expect("typed");
        // And also if something was typed while it was looking for the shim.
        let mut early = Typing::default();
        let (bytes, _told) = typed(5);
        early.push(bytes);
        early.resume(7_000);
        assert_eq!(sent(&mut early), 5);
        assert_eq!((early.taken, early.typed), (7_000, 7_005));
    }
}
