//! Where the terminal is shown: the user's own, raw and given back as it was found, or a pipe or file.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, Stdout};
use tokio::sync::watch;

use super::keys::{self, Keys};
use crate::api::agent::Size;
use crate::cli::terminal::HostTerminal;
use crate::sys::ready;

/// So much at once: an output that takes little is asked again soon.
const PIECE: usize = 16 * 1024;

/// Here.
pub struct Place {
    /// The terminal that output goes to, or that keys come from.
    terminal: Option<HostTerminal>,
    out: Out,
    /// Keys come from the terminal.
    has_keys: bool,
    /// Whether it is raw.
    raw: watch::Sender<bool>,
}

/// The window that output is shown in.
pub struct Window(Arc<AsyncFd<OwnedFd>>);

impl Window {
    /// Its size, if it says so.
    pub fn size(&self) -> Option<Size> {
        let size = rustix::termios::tcgetwinsize(self.0.get_ref()).ok()?;
        let is_known = size.ws_col > 0 && size.ws_row > 0;
        is_known.then(|| Size { cols: size.ws_col.min(1000), rows: size.ws_row.min(1000) })
    }
}

enum Out {
    Terminal(Arc<AsyncFd<OwnedFd>>),
    Stream(Stdout),
}

impl Place {
    /// As this process's standard streams have it.
    pub fn find() -> io::Result<Self> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let tty = match (stdin.is_terminal(), stdout.is_terminal()) {
            (true, _) => Some(stdin.as_fd()),
            (false, true) => Some(stdout.as_fd()),
            (false, false) => None,
        };
        let terminal = tty.map(HostTerminal::from_tty).transpose()?;
        let out = match &terminal {
            Some(terminal) if stdout.is_terminal() => {
                Out::Terminal(Arc::new(ready::watch(terminal.channel()?)?))
            }
            _ => Out::Stream(tokio::io::stdout()),
        };
        Ok(Self { terminal, out, has_keys: stdin.is_terminal(), raw: watch::Sender::new(false) })
    }

    /// Whether output is seen as a screen.
    pub fn is_screen(&self) -> bool {
        matches!(self.out, Out::Terminal(_))
    }

    /// The window, for whoever follows its size.
    pub fn window(&self) -> Option<Window> {
        match &self.out {
            Out::Terminal(tty) => Some(Window(Arc::clone(tty))),
            Out::Stream(_) => None,
        }
    }

    /// Begins to read what is typed; from a terminal only once it is raw.
    pub fn keys(&self, read_only: bool) -> io::Result<Keys> {
        let Some(terminal) = self.terminal.as_ref().filter(|_| self.has_keys) else {
            return Ok(keys::from_stream(tokio::io::stdin(), read_only));
        };
        let tty = match &self.out {
            Out::Terminal(tty) => Arc::clone(tty),
            Out::Stream(_) => Arc::new(ready::watch(terminal.channel()?)?),
        };
        Ok(keys::from_terminal(tty, self.raw.subscribe(), read_only))
    }

    /// Whether keys are read from a terminal that is not raw yet: this process is in the background.
    pub fn is_waiting(&self) -> bool {
        self.has_keys && !*self.raw.borrow()
    }

    /// Makes the terminal raw, if keys come from one and this process is in its foreground.
    pub fn enter(&mut self) -> io::Result<()> {
        if let Some(terminal) = self.terminal.as_mut().filter(|_| self.has_keys) {
            let is_raw = terminal.enter_raw()?;
            self.raw.send_replace(is_raw);
        }
        Ok(())
    }

    /// Shows output. Whatever it switches on is taken note of.
    pub async fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.out {
            Out::Stream(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Out::Terminal(tty) => {
                for piece in bytes.chunks(PIECE) {
                    write_all(tty, piece).await?;
                    if let Some(terminal) = &mut self.terminal {
                        terminal.modes.observe(piece);
                    }
                }
                Ok(())
            }
        }
    }

    /// An empty screen, nothing switched on: what a drawing begins with.
    pub async fn clear(&mut self) -> io::Result<()> {
        let undo = self.terminal.as_ref().map(|terminal| terminal.modes.undo()).unwrap_or_default();
        self.show(&[&undo[..], b"\x1b[m\x1b[H\x1b[2J"].concat()).await
    }

    /// Whether the alternate screen is on: it has no history that a remark would become part of.
    pub fn is_alternate(&self) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        let undo = terminal.modes.undo();
        let leaves = |code: &[u8]| undo.windows(code.len()).any(|window| window == code);
        leaves(b"\x1b[?1049l") || leaves(b"\x1b[?1047l") || leaves(b"\x1b[?47l")
    }

    /// A dim remark: below the output, or over the last line of a screen, which is drawn anew later.
    pub async fn remark(&mut self, text: &str) -> io::Result<()> {
        let text = match self.is_alternate() {
            true => format!("\x1b7\x1b[999;1H\x1b[2K\x1b[0;2m[{text}]\x1b[0m\x1b8"),
            false => format!("\r\n\x1b[0;2m[{text}]\x1b[0m\r\n"),
        };
        // Not observed: it leaves nothing on.
        match &self.out {
            Out::Terminal(tty) => write_all(tty, text.as_bytes()).await,
            Out::Stream(_) => Ok(()),
        }
    }

    /// Gives the terminal back: everything off that was switched on, attributes as they were found.
    pub async fn leave(&mut self) {
        let Some(terminal) = &mut self.terminal else { return };
        if terminal.is_raw() {
            // Nothing is left to be done about a terminal that is gone.
            let _ = terminal.restore();
        } else if let Out::Terminal(tty) = &self.out {
            let _ = write_all(tty, &terminal.modes.undo()).await;
        }
    }
}

async fn write_all(tty: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = tty.writable().await?;
        match ready.try_io(|tty| Ok(rustix::io::write(tty, bytes)?)) {
            Ok(Ok(count)) => bytes = &bytes[count..],
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
    Ok(())
}
