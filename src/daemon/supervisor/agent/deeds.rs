//! What an agent's task is told to do, and what it makes of the end of a turn.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::warn;

use super::{Agent, Flow};
use crate::api::Stage;
use crate::api::events::{self, Happened};
use crate::daemon::supervisor::Result;
use crate::daemon::supervisor::delivery::answer;
use crate::daemon::terminal::{Drawing, Spoken};
use crate::wire::service::shim::Usage;
use crate::wire::service::{Refusal, ToShim};

/// What its task can be told.
pub(crate) enum Command {
    /// End.
    Stop {
        /// Between SIGTERM and the end of the cgroup.
        grace: Duration,
        /// For people.
        why: String,
        /// It was heard.
        heard: oneshot::Sender<()>,
    },
    /// Start anew, after an end if it runs.
    Restart(oneshot::Sender<Result<()>>),
    /// Vanish, having ended.
    Remove(oneshot::Sender<Result<()>>),
    /// Say what it uses.
    Usage(oneshot::Sender<std::result::Result<Usage, Refusal>>),
    /// Run something else within its walls.
    Exec(Box<ExecOrder>),
    /// Kill what was run so, by its number.
    EndExec(u64),
    /// Take a new value for a credential.
    Secret {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What the shim says to it.
        told: oneshot::Sender<std::result::Result<Usage, Refusal>>,
    },
    /// Connect to a port inside, for whoever holds the socket's other end.
    Dial {
        /// Of its loopback.
        port: u16,
        /// Handed to the shim.
        socket: OwnedFd,
        /// Whether the shim was asked.
        heard: oneshot::Sender<bool>,
    },
    /// A message was submitted: a turn begins.
    Turn(Turn),
}

/// Something else to run.
pub(crate) struct ExecOrder {
    /// What it is known by. No two have the same, whichever daemon ordered them.
    pub(crate) number: u64,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Variables on top.
    pub(crate) environment: std::collections::BTreeMap<String, String>,
    /// Its standard streams.
    pub(crate) streams: [OwnedFd; 3],
    /// Its exit code, or why it was not run.
    pub(crate) ended: oneshot::Sender<std::result::Result<u8, String>>,
}

/// A message that was submitted, until it is answered.
pub(crate) struct Turn {
    /// Its id.
    pub(crate) message: String,
    /// What was said, and where the answer begins.
    pub(crate) spoken: Spoken,
    /// Who waits for the answer.
    pub(crate) answered: oneshot::Sender<String>,
    /// It was seen at work since.
    pub(crate) worked: bool,
}

impl Agent {
    pub(super) async fn told(&mut self, command: Command) -> Flow {
        match command {
            Command::Stop { grace, why, heard } => {
                self.stop(grace, why).await;
                let _ = heard.send(());
            }
            Command::Restart(asker) => return self.restart(asker).await,
            Command::Remove(asker) => {
                let removed = self.remove().await;
                let gone = removed.is_ok();
                let _ = asker.send(removed);
                if gone {
                    return ControlFlow::Break(());
                }
            }
            // Without a shim there is nobody to answer: dropped, whoever asks is told so at once.
            Command::Usage(_) | Command::Secret { .. } if self.socket.is_none() => {}
            Command::Usage(asker) => {
                self.usages.push_back(asker);
                self.say(&ToShim::Usage).await;
            }
            Command::Exec(order) => self.exec(*order).await,
            Command::EndExec(exec) => {
                if self.execs.remove(&exec).is_some() {
                    self.say(&ToShim::EndExec { exec }).await;
                }
            }
            Command::Secret { name, value, told } => {
                let message = ToShim::Secret { name, value };
                self.say(&message).await;
                if let ToShim::Secret { value, .. } = message {
                    crate::daemon::supervisor::request::wipe(value.into_bytes());
                }
                // The shim says nothing to a secret that it takes: the answer to the next question tells that it did.
                self.usages.push_back(told);
                self.say(&ToShim::Usage).await;
            }
            Command::Dial { port, socket, heard } => {
                let asked = self.dial(port, socket).await;
                let _ = heard.send(asked);
            }
            Command::Turn(turn) => self.begin_turn(turn),
        }
        ControlFlow::Continue(())
    }

    async fn restart(&mut self, asker: oneshot::Sender<Result<()>>) -> Flow {
        self.restarting.push(asker);
        self.clocks.failures = 0;
        if self.life.is_over() {
            self.clocks.rest_no_more();
            return self.relaunch().await;
        }
        let grace = self.shared.config.grace;
        self.stop(grace, "it is started anew".into()).await;
        ControlFlow::Continue(())
    }

    async fn exec(&mut self, order: ExecOrder) {
        let exec = order.number;
        let message = ToShim::Exec { exec, command: order.command, environment: order.environment };
        let fds: Vec<BorrowedFd<'_>> = order.streams.iter().map(AsFd::as_fd).collect();
        let Some(socket) = &self.socket else { return };
        match socket.send(&message, &fds).await {
            Ok(()) => drop(self.execs.insert(exec, order.ended)),
            Err(error) => drop(order.ended.send(Err(format!("its shim does not listen: {error}")))),
        }
    }

    /// The shim refuses what was asked last: an exec has its own answer, so it is a secret or the question after it.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        match self.usages.pop_front() {
            Some(asker) => {
                let _ = asker.send(Err(refusal));
                // The answer to the question after it is still to come, and nobody's any more.
                self.usages.push_front(oneshot::channel().0);
            }
            None => warn!(agent = self.record.id, reason = ?refusal.reason, "the shim refused something"),
        }
    }

    fn begin_turn(&mut self, turn: Turn) {
        // Whoever goes on talking gets no more of an answer to what was said before.
        self.end_turn();
        if let Some(observer) = &mut self.observer {
            observer.sent(Instant::now(), turn.worked);
        }
        self.turn = Some(turn);
        self.show();
    }

    /// The turn of an earlier daemon goes on, as far as its terminal still tells.
    pub(super) fn resume_turn(&mut self) {
        let Some(entry) = self.handle.book.taken().filter(|_| self.turn.is_none()) else { return };
        let size = self.handle.terminal.size();
        let before = Drawing { offset: entry.offset, size, ..Drawing::default() };
        let spoken = Spoken { text: entry.text, before };
        self.begin_turn(Turn {
            message: entry.delivery.id,
            spoken,
            answered: oneshot::channel().0,
            worked: false,
        });
    }

    /// Looks what it is doing though nothing came.
    pub(super) fn look(&mut self) {
        if self.observer.as_mut().is_some_and(|observer| observer.turn_ends(Instant::now())) {
            self.end_turn();
        }
        self.show();
    }

    /// The turn is over: its text is kept, and told to whoever waits, and to everybody, once.
    pub(super) fn end_turn(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let to = self.handle.terminal.extent().end;
        let (handle, shared) = (self.handle.clone(), self.shared.clone());
        let tenant = self.record.tenant.clone();
        let rules = self.handle.eye().map(|eye| eye.kind.turn.clone());
        tokio::spawn(async move {
            let output = answer::of(&handle, turn.spoken, to, rules).await;
            let kept =
                handle.book.change(&turn.message, |entry| entry.delivery.response = Some(output.clone()));
            let first = kept.is_some_and(|delivery| !delivery.stage.is_final());
            handle.book.end(&turn.message, Stage::Answered, None);
            if !first {
                return;
            }
            let happened =
                Happened::TurnComplete(events::Turn { message: turn.message, output: output.clone() });
            shared.events.publish_for(&tenant, Some(&handle.id), happened);
            // Whoever waited may have given up.
            let _ = turn.answered.send(output);
        });
    }
}
