//! Watches the heads of requests go by: one that gives its body two lengths is told of (RFC 9112, section 6.3).
//!
//! ```text
//!  head ──no body, or Content-Length──▶ that many bytes ──▶ head …
//!    └────chunks, or no head at all───▶ the rest: no other request is answered on this connection
//! ```
//! hyper takes the chunks, removes the other length and shows neither that nor the raw head; a server behind it might have
//! taken the other one, so such a request is an attempt to smuggle something past the rules.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than hyper takes (100, and then 431).
const MOST_HEADERS: usize = 128;

/// Whether a request with two lengths was seen on a connection.
#[derive(Debug, Clone, Default)]
pub struct Smuggling(Rc<Cell<bool>>);

impl Smuggling {
    /// Whether it was.
    pub fn was_seen(&self) -> bool {
        self.0.get()
    }
}

/// A connection whose requests are watched as they are read.
pub struct Heads<S> {
    stream: S,
    at: At,
    smuggling: Smuggling,
}

/// Where in the stream of requests reading is.
#[derive(Debug, PartialEq, Eq)]
enum At {
    /// In a head, of which this much has come.
    Head(Vec<u8>),
    /// In a body, with so many bytes to go.
    Body(u64),
    /// Behind the last head that counts.
    Rest,
}

impl<S> Heads<S> {
    /// The connection, and what will be known about it.
    pub fn watch(stream: S) -> (Self, Smuggling) {
        let smuggling = Smuggling::default();
        (Self { stream, at: At::Head(Vec::new()), smuggling: smuggling.clone() }, smuggling)
    }

    /// Looks at what was read.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Rest => return,
                At::Body(left) => {
                    let now = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= now as u64;
                    bytes = &bytes[now..];
                    if *left == 0 {
                        self.at = At::Head(Vec::new());
                    }
                }
                At::Head(head) => {
                    let before = head.len();
                    let Some(length) = end_of_head(head, bytes) else {
                        // hyper refuses a longer head; then nothing of it is answered.
                        return if head.len() > super::LONGEST_HEAD {
                            self.at = At::Rest
                        };
                    };
                    bytes = &bytes[length - before..];
                    let (two_lengths, at) = judge(&head[..length]);
                    if two_lengths {
                        self.smuggling.0.set(true);
                    }
                    self.at = at;
                }
            }
        }
    }
}

/// Adds what has come to a head; its length, once all of it is there.
fn end_of_head(head: &mut Vec<u8>, bytes: &[u8]) -> Option<usize> {
    let start = head.len().saturating_sub(2);
    // Empty lines in front of a request are no head (RFC 9112, section 2.2).
    head.extend_from_slice(bytes);
    let begin = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let from = start.max(begin);
    let ends = |at: usize| {
        let rest = &head[at..];
        [&b"\n\r\n"[..], b"\n\n"].iter().find(|end| rest.starts_with(end)).map(|end| at + end.len())
    };
    (from..head.len()).find_map(ends)
}

/// Whether a head gives two lengths, and where reading is behind it. What is no head is for hyper to refuse, but not trusted.
fn judge(head: &[u8]) -> (bool, At) {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
        return (true, At::Rest);
    }
    let named = |name: &'static str| {
        request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name))
    };
    let length = named("content-length").next();
    if named("transfer-encoding").next().is_some() {
        return (length.is_some(), At::Rest);
    }
    let digits = length.map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim());
    match digits.map_or(Ok(0), str::parse) {
        Ok(0) => (false, At::Head(Vec::new())),
        Ok(length) => (false, At::Body(length)),
        // Not one number: hyper refuses it.
        Err(_) => (true, At::Rest),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.see(&buffer.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether two lengths are seen in `bytes`, read in pieces of this size.
    fn seen(bytes: &[u8], piece: usize) -> bool {
        let (mut heads, smuggling) = Heads::watch(());
        bytes.chunks(piece).for_each(|piece| heads.see(piece));
        smuggling.was_seen()
    }

    const ONE: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    const TWO: &str = "POST / HTTP/1.1\r\nContent-Length: 5\r\ntransfer-encoding: chunked\r\n\r\n";

    #[test]
    fn two_lengths_are_seen_in_any_request_however_it_is_cut() {
        let honest = [
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            format!("{ONE}hello\r\n{ONE}world"),
            // What looks like a head in a body is none.
            format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{TWO}", TWO.len()),
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ];
        let smuggled = [
            TWO.to_owned(),
            TWO.replace("\r\n", "\n"),
            format!("\r\n{TWO}"),
            format!("{ONE}hello{TWO}"),
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n".to_owned(),
            "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n".to_owned(),
        ];
        for piece in 1..80 {
            for text in &honest {
                assert!(!seen(text.as_bytes(), piece), "{text:?} by {piece}");
            }
            for text in &smuggled {
                assert!(seen(text.as_bytes(), piece), "{text:?} by {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_depend_on_how_they_are_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..200),
            piece in 1_usize..50,
        ) {
            prop_assert_eq!(seen(&bytes, piece), seen(&bytes, bytes.len().max(1)));
        }
    }
}
