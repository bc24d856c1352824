//! `stockade proxy`: plain connections from this host, led to the service with this client's certificate.
//!
//! Bytes pass as they are, so HTTP/1.1 and WebSocket do, too. Whoever reaches the address has this client's rights; that is
//! why it must be a loopback one, or a socket that only this user can open.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::Target;
use super::error::{ClientError, code};
use super::output::Output;
use super::tls;
use crate::cli::service::site as words;

/// Terminal output comes in large pieces.
const BUFFER: usize = 64 * 1024;
/// So long a connection may take from one piece of its first request's headers to the next.
const HEADERS: Duration = Duration::from_secs(60);
/// The answer to who calls this host by another name.
const REFUSED: &[u8] =
    b"HTTP/1.1 421 Misdirected Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    this proxy is called by an address or as localhost, so that no page of a browser can be led here\n";
/// Without descriptors or memory, accepting at once again would only fail again.
const BREATH: Duration = Duration::from_millis(100);

/// Where connections come in.
enum Way {
    Tcp(TcpListener),
    /// Removed when it is no longer listened on.
    Unix(UnixListener, #[allow(dead_code)] Socket),
}

struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Serves until it is told to end.
pub async fn proxy(target: &Target, output: Output, words: words::Proxy) -> Result<u8, ClientError> {
    // What could never work is said now, not to whoever connects.
    tls::check(target)?;
    let ways = listen(&words).await?;
    for way in &ways {
        let address = way.address();
        output.result(&serde_json::json!({ "listening": address }), || format!("listening {address}\n"))?;
    }
    let room = Arc::new(Semaphore::new(words.connections.clamp(1, Semaphore::MAX_PERMITS)));
    let (mut interrupt, mut terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let serve = async {
        match &ways[..] {
            [one] => one.serve(target, output, &room).await,
            [one, other, ..] => {
                tokio::join!(one.serve(target, output, &room), other.serve(target, output, &room)).0
            }
            [] => {}
        }
    };
    tokio::select! {
        () = serve => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(code::OK)
}

fn on(kind: SignalKind) -> Result<Signal, ClientError> {
    signal(kind).map_err(|source| ClientError::Stream { what: "cannot listen for signals", source })
}

async fn listen(words: &words::Proxy) -> Result<Vec<Way>, ClientError> {
    let mut ways = Vec::new();
    if let Some(address) = words.listen {
        if !address.ip().is_loopback() && !words.allow_non_loopback {
            return Err(ClientError::Usage(format!(
                "{address} can be reached from other hosts, and whoever reaches it has this client's rights: listen on \
                 127.0.0.1, or say --allow-non-loopback"
            )));
        }
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ClientError::Listen { address: address.to_string(), source })?;
        ways.push(Way::Tcp(listener));
    }
    if let Some(path) = &words.unix {
        ways.push(
            private_socket(path)
                .map_err(|source| ClientError::Listen { address: path.display().to_string(), source })?,
        );
    }
    Ok(ways)
}

/// A socket that nobody else can open, from its first moment.
fn private_socket(path: &Path) -> io::Result<Way> {
    let is_abandoned = matches!(
        StdUnixStream::connect(path),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused
    );
    if is_abandoned {
        std::fs::remove_file(path)?;
    }
    // This process has one thread, so that nobody else makes a file meanwhile.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    Ok(Way::Unix(listener?, Socket(path.to_owned())))
}

impl Way {
    fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
                format!("http://{address}")
            }
            Self::Unix(_, socket) => format!("unix:{}", socket.0.display()),
        }
    }

    async fn serve(&self, target: &Target, output: Output, room: &Arc<Semaphore>) {
        loop {
            let permit = Arc::clone(room).acquire_owned().await.expect("it is never closed");
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // Keys must not wait for more keys. Not being able to say so costs speed, nothing else.
                    let _ = stream.set_nodelay(true);
                    // A name that leads elsewhere today and here tomorrow is some page's.
                    let by_name = !listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
                    carry(target, output, stream, by_name, permit);
                }),
                Self::Unix(listener, _) => {
                    listener.accept().await.map(|(stream, _)| carry(target, output, stream, true, permit))
                }
            };
            if accepted.is_err() {
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Carries one connection, both ways, each to its own end. Without a service it is closed at once.
fn carry(
    target: &Target,
    output: Output,
    mut near: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    by_name: bool,
    permit: OwnedSemaphorePermit,
) {
    let target = target.clone();
    tokio::spawn(async move {
        let head = async { Ok(if by_name { Some(Vec::new()) } else { local_head(&mut near).await }) };
        // At the same time, so that nobody waits for a service that is not there.
        match tokio::try_join!(head, tls::connect(&target)) {
            // How it ended is between the two.
            Ok((Some(head), mut far)) => {
                if far.write_all(&head).await.is_ok() {
                    drop(copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await);
                }
            }
            Ok((None, _)) => {}
            Err(error) => output.remark(&error.line()),
        }
        drop(permit);
    });
}

/// What a connection begins with, up to the end of its first request's headers, if that calls this host by an address or
/// as `localhost`. A browser that was led here by a page's own name (DNS rebinding) says that name; and it never uses a
/// connection for two names.
async fn local_head(near: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < BUFFER {
        let mut piece = [0; 4096];
        let read = tokio::time::timeout(HEADERS, near.read(&mut piece)).await;
        let count = read.ok()?.ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&piece[..count]);
    }
    if is_local(&head) {
        return Some(head);
    }
    // Whoever sent it may be gone.
    let _ = near.write_all(REFUSED).await;
    let _ = near.shutdown().await;
    None
}

fn is_local(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let fields = text.lines().skip(1).take_while(|line| !line.is_empty());
    let hosts: Vec<&str> = fields
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.trim())
        .collect();
    let [host] = hosts[..] else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn words(listen: &str) -> words::Proxy {
        let listen = Some(listen.parse().expect("an address"));
        words::Proxy { listen, unix: None, allow_non_loopback: false, connections: 1 }
    }

    #[tokio::test]
    async fn other_hosts_get_no_rights_unless_that_is_wanted() {
        let refused = listen(&words("0.0.0.0:0")).await.err().expect("refused");
        assert!(
            refused.exit_code() == 2 && refused.line().contains("--allow-non-loopback"),
            "{}",
            refused.line()
        );
        let asked = words::Proxy { allow_non_loopback: true, ..words("0.0.0.0:0") };
        assert!(listen(&asked).await.is_ok());
        assert!(listen(&words("[::1]:0")).await.is_ok());
    }

    #[test]
    fn whoever_was_led_here_by_a_name_of_its_own_is_refused() {
        let head = |host: &str| format!("GET / HTTP/1.1\r\nAccept: */*\r\n{host}\r\n\r\nHost: evil.example");
        for host in ["Host: localhost:9876", "host:127.0.0.1", "HOST: [::1]:9876", "Host: LOCALHOST"] {
            assert!(is_local(head(host).as_bytes()), "{host}");
        }
        for host in
            ["Host: evil.example:9876", "Host: localhost.evil.example", "X: y", "Host: a\r\nHost: localhost"]
        {
            assert!(!is_local(head(host).as_bytes()), "{host}");
        }
    }

    #[tokio::test]
    async fn the_socket_is_its_users_alone_replaces_a_dead_one_and_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("one that nobody listens on any more"));
        let way = private_socket(&path).expect("replaced");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(private_socket(&path).is_err(), "one that somebody listens on was taken");
        drop(way);
        assert!(!path.exists());
    }
}
