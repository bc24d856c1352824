//! What is typed: read from the user's terminal or from standard input, and handed on without ever piling up.
//!
//! Ctrl-] leaves, in each form that a terminal has for it: which one comes depends on the keyboard protocol that the agent
//! has switched on.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// One piece of input.
const PIECE: usize = 4096;
/// Pieces that may wait for a service that takes none: what is typed, or pasted, while a connection is made again.
const WAITING: usize = 256;
/// A service that takes nothing for so long does not get what is typed meanwhile; else Ctrl-] could not be seen behind it.
const STUCK: Duration = Duration::from_secs(10);

/// What comes from the user.
#[derive(Debug)]
pub struct Keys {
    /// In the order in which it was typed; closed at its end.
    pub typed: mpsc::Receiver<Vec<u8>>,
    /// The user wants to leave, or the terminal is gone.
    pub leaving: watch::Receiver<Option<Leaving>>,
}

/// Why the user is no longer here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// Ctrl-]
    Wish,
    /// The terminal hung up.
    HungUp,
}

/// Reads keys from a terminal once it is raw: what is typed otherwise is meant for the shell. `read_only`: nothing is handed
/// on, and Ctrl-C leaves as well.
pub fn from_terminal(tty: Arc<AsyncFd<OwnedFd>>, mut raw: watch::Receiver<bool>, read_only: bool) -> Keys {
    let (typist, typed) = mpsc::channel(WAITING);
    let (left, leaving) = watch::channel(None);
    tokio::spawn(async move {
        if raw.wait_for(|raw| *raw).await.is_err() {
            return;
        }
        let why = read_keys(&tty, read_only, &typist).await;
        // In order: whoever sees that the user leaves finds everything typed before that.
        drop(typist);
        let _ = left.send(Some(why));
    });
    Keys { typed, leaving }
}

async fn read_keys(tty: &AsyncFd<OwnedFd>, read_only: bool, typist: &mpsc::Sender<Vec<u8>>) -> Leaving {
    let mut buffer = vec![0; PIECE];
    loop {
        let Ok(mut ready) = tty.readable().await else { return Leaving::HungUp };
        let count = match ready.try_io(|tty| Ok(rustix::io::read(tty, &mut buffer[..])?)) {
            Err(_would_block) => continue,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(Err(_) | Ok(0)) => return Leaving::HungUp,
            Ok(Ok(count)) => count,
        };
        let piece = &buffer[..count];
        let end = leave_key(piece, read_only);
        let before = &piece[..end.unwrap_or(count)];
        if !read_only
            && !before.is_empty()
            && let Ok(Ok(room)) = timeout(STUCK, typist.reserve()).await
        {
            room.send(before.to_vec());
        }
        if end.is_some() {
            return Leaving::Wish;
        }
    }
}

/// Reads bytes from somewhere else, as fast as they are taken.
pub fn from_stream(mut stream: impl AsyncRead + Unpin + Send + 'static, read_only: bool) -> Keys {
    let (typist, typed) = mpsc::channel(1);
    let (left, leaving) = watch::channel(None);
    tokio::spawn(async move {
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            if !read_only && typist.send(buffer[..count].to_vec()).await.is_err() {
                break;
            }
        }
        drop(typist);
        // Its end is not the user's: the agent may still have something to say.
        std::future::pending::<()>().await;
        drop(left);
    });
    Keys { typed, leaving }
}

const BRACKET: (u8, &str) = (0x1d, "93");
const INTERRUPT: (u8, &str) = (0x03, "99");

/// Where the key that leaves begins in these bytes.
fn leave_key(bytes: &[u8], read_only: bool) -> Option<usize> {
    let wanted: &[(u8, &str)] = if read_only { &[BRACKET, INTERRUPT] } else { &[BRACKET] };
    (0..bytes.len())
        .find(|&at| wanted.iter().any(|(byte, key)| bytes[at] == *byte || is_control_with(&bytes[at..], key)))
}

/// `ESC [ KEY ; 5 u` (kitty's protocol) or `ESC [ 27 ; 5 ; KEY ~` (xterm's modifyOtherKeys).
fn is_control_with(bytes: &[u8], key: &str) -> bool {
    let Some(rest) = bytes.strip_prefix(b"\x1b[") else { return false };
    let Some(end) = rest.iter().position(|byte| (0x40..=0x7e).contains(byte)) else { return false };
    let Ok(parameters) = std::str::from_utf8(&rest[..end]) else { return false };
    let parameters: Vec<&str> = parameters.split(';').collect();
    match (rest[end], &parameters[..]) {
        (b'u', [code, modifiers, ..]) => {
            let mut modifiers = modifiers.split(':');
            let is_control = modifiers.next().is_some_and(is_control_alone);
            let is_release = modifiers.next() == Some("3");
            code.split(':').next() == Some(key) && is_control && !is_release
        }
        (b'~', ["27", modifiers, code]) => *code == key && is_control_alone(modifiers),
        _ => false,
    }
}

/// One more than the sum of what is held; Caps Lock and Num Lock do not count.
fn is_control_alone(modifiers: &str) -> bool {
    modifiers.parse::<u16>().is_ok_and(|number| number.wrapping_sub(1) & 0b0011_1111 == 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bracket_leaves_in_every_form_that_a_terminal_has_for_it() {
        for form in ["\x1d", "\x1b[93;5u", "\x1b[93;5:1u", "\x1b[93::93;5u", "\x1b[93;69u", "\x1b[27;5;93~"] {
            assert_eq!(leave_key(format!("ab{form}c").as_bytes(), false), Some(2), "{form:?}");
        }
        for other in
            ["]", "\x1b[93;1u", "\x1b[93;6u", "\x1b[93;5:3u", "\x1b[27;5;91~", "\x1b[A", "\x1b[", "\x03"]
        {
            assert_eq!(leave_key(other.as_bytes(), false), None, "{other:?}");
        }
        assert_eq!(leave_key(b"\x03", true), Some(0));
        assert_eq!(leave_key(b"x\x1b[99;5u", true), Some(1));
    }
}
