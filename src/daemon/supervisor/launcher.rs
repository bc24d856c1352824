//! The connection to the launcher: questions and answers in order, and a new connection whenever the old one is gone.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use super::socket::Socket;
use crate::wire::service::{FromLauncher, ToLauncher, Versions};

/// Between two attempts: doubled each time, from and to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long a question waits for a launcher that is being restarted.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the launcher may take for one answer.
const ANSWER: Duration = Duration::from_secs(60);

struct Question {
    message: ToLauncher,
    fds: Vec<OwnedFd>,
    answer: oneshot::Sender<io::Result<FromLauncher>>,
}

/// Asks the launcher. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Launcher {
    questions: mpsc::Sender<Question>,
    connected: watch::Receiver<bool>,
}

impl Launcher {
    /// Connects, now and ever again; ends with the last handle.
    pub(crate) fn start(path: PathBuf) -> Self {
        let (questions, asked) = mpsc::channel(64);
        let (connection, connected) = watch::channel(false);
        tokio::spawn(connect(path, asked, connection));
        Self { questions, connected }
    }

    /// Whether it answers.
    pub(crate) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Asks, and waits for the answer. After an error nobody knows whether the question was heard.
    pub(crate) async fn ask(&self, message: ToLauncher, fds: Vec<OwnedFd>) -> io::Result<FromLauncher> {
        let mut connected = self.connected.clone();
        let there = tokio::time::timeout(PATIENCE, connected.wait_for(|connected| *connected));
        if !there.await.is_ok_and(|there| there.is_ok()) {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "stockade-launcher does not accept a connection: start it, and look at its log",
            ));
        }
        let gone =
            || io::Error::new(io::ErrorKind::ConnectionReset, "the launcher ended before it had answered");
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { message, fds, answer }).await.map_err(|_| gone())?;
        match tokio::time::timeout(ANSWER, answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {ANSWER:?}"))),
        }
    }
}

async fn connect(path: PathBuf, mut asked: mpsc::Receiver<Question>, connection: watch::Sender<bool>) {
    let mut pause = PAUSE.0;
    let mut told = false;
    while !asked.is_closed() {
        match greet(&path).await {
            Ok(socket) => {
                (pause, told) = (PAUSE.0, false);
                connection.send_replace(true);
                let end = converse(&socket, &mut asked).await;
                connection.send_replace(false);
                match end {
                    Ok(()) => return,
                    Err(error) => warn!(%error, "the connection to the launcher is gone"),
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(%error, path = %path.display(), "the launcher cannot be reached");
                }
                tokio::select! {
                    () = connection.closed() => return,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                }
            }
        }
    }
}

async fn greet(path: &std::path::Path) -> io::Result<Socket> {
    let socket = Socket::connect(path).await?;
    socket.send(&ToLauncher::Hello { versions: Versions::OWN }, &[]).await?;
    let welcome = tokio::time::timeout(PATIENCE, socket.receive::<FromLauncher>()).await;
    match welcome.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it does not say who it is"))?? {
        Some(FromLauncher::Welcome { version, program, .. }) => {
            info!(version, program, "connected to the launcher");
            Ok(socket)
        }
        Some(FromLauncher::Refused(refusal)) => Err(io::Error::other(refusal.detail)),
        Some(other) => Err(io::Error::other(format!("it said {other:?} instead of who it is"))),
        None => Err(io::Error::new(io::ErrorKind::ConnectionReset, "it closed the connection")),
    }
}

/// Carries questions there and answers back; `Ok` once nobody can ask any more.
async fn converse(socket: &Socket, asked: &mut mpsc::Receiver<Question>) -> io::Result<()> {
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            question = asked.recv() => {
                let Some(Question { message, fds, answer }) = question else { return Ok(()) };
                let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                socket.send(&message, &fds).await?;
                waiting.push_back(answer);
            }
            answer = socket.receive::<FromLauncher>() => {
                let Some(answer) = answer? else { return Err(io::ErrorKind::ConnectionReset.into()) };
                let asker: oneshot::Sender<_> =
                    waiting.pop_front().ok_or_else(|| io::Error::other("an answer to no question"))?;
                // Whoever asked may have given up.
                let _ = asker.send(Ok(answer));
            }
        }
    }
}
