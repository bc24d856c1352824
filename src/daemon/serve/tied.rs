//! A socket that holds its [`Connection`] open, and ends when that has to: whatever is done with it, by HTTP or after
//! an upgrade, by a handler that listens to its `ConnectionWatch` or by one that does not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Closing;
use super::open::Connection;

/// Between being told and being cut off.
pub const GRACE: Duration = Duration::from_secs(5);

/// The socket.
pub struct Tied<S> {
    socket: S,
    connection: Arc<Connection>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
}

impl<S> Tied<S> {
    /// Ties a socket to its connection; when the daemon ends, streams have `drain` to end in.
    pub fn new(socket: S, connection: Arc<Connection>, drain: Duration) -> Self {
        let watch = connection.watch();
        let cut = async move {
            let closing = watch.closing().await;
            tokio::time::sleep(grace(closing, drain)).await;
        };
        Self { socket, connection, cut: Box::pin(cut), is_cut: false }
    }
}

/// How long a connection has, once it was told.
pub fn grace(closing: Closing, drain: Duration) -> Duration {
    match closing {
        Closing::Draining => drain,
        Closing::CertificateExpired | Closing::Revoked | Closing::GrantRemoved | Closing::Idle => GRACE,
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "its certificate or grant is gone")
}

impl<S: AsyncRead + Unpin> AsyncRead for Tied<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Here and not on writing: somebody always waits for the other side's bytes, and only one task can be woken.
        if self.is_cut || self.cut.as_mut().poll(cx).is_ready() {
            self.is_cut = true;
            return Poll::Ready(Err(aborted()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.connection.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tied<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(aborted()));
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            return Poll::Ready(Err(aborted()));
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(aborted()));
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
