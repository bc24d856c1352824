//! Presses the keys that a kind's rules name for two moments of a login, and none at any other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tracing::{debug, info};

use crate::agents::{Screen, typing};
use crate::api::State;
use crate::daemon::terminal::Terminal;

/// A page that is still there after so long has not heard the key.
const AGAIN: Duration = Duration::from_secs(3);
/// How often one page is answered.
const MOST: u32 = 3;
/// Where the page is not there at this moment, or somebody else types, it is looked at again after this.
const MOMENT: Duration = Duration::from_millis(100);
/// Between two keys.
const BETWEEN: Duration = Duration::from_millis(50);

/// Goes on where a login worked.
pub(crate) struct Acknowledger {
    terminal: Terminal,
    /// Nobody else presses keys meanwhile: one of these would end up in what somebody types.
    hands: Arc<Mutex<()>>,
    /// A login was asked for since the agent was last ready.
    pending: bool,
    /// The page that was answered, how often, and when it may be once more.
    answered: Option<(String, u32, Instant)>,
}

impl Acknowledger {
    /// Types at this terminal.
    pub(crate) fn new(terminal: Terminal, hands: Arc<Mutex<()>>) -> Self {
        Self { terminal, hands, pending: false, answered: None }
    }

    /// When a page may have to be answered once more.
    pub(crate) fn due(&self) -> Option<Instant> {
        let (_, count, at) = self.answered.as_ref()?;
        (*count < MOST).then_some(*at)
    }

    /// This was on the screen when it was believed last, and is still there or not: what comes next is not answered with it.
    pub(crate) fn look(&mut self, screen: Option<&Screen>, there: bool, now: Instant) {
        let page = screen.filter(|screen| self.pending && screen.after_login && !screen.answer.is_empty());
        match screen.map(|screen| screen.state) {
            Some(State::LoginRequired) => self.pending = true,
            Some(State::Ready | State::Busy) => self.pending = false,
            _ => {}
        }
        let Some(page) = page else { return self.answered = None };
        let count = match &self.answered {
            Some((name, count, at)) if *name == page.name => {
                if *count >= MOST || now < *at {
                    return;
                }
                *count
            }
            _ => 0,
        };
        if !there || !self.press(&page.answer) {
            return self.answered = Some((page.name.clone(), count, now + MOMENT));
        }
        info!(screen = page.name, "a login worked: its page is answered by the rules of the agent's kind");
        self.answered = Some((page.name.clone(), count + 1, now + AGAIN));
    }

    /// Presses keys, without waiting for whoever reads them; whether nobody else was typing.
    pub(crate) fn press(&self, keys: &[String]) -> bool {
        let Ok(hands) = self.hands.clone().try_lock_owned() else { return false };
        let (terminal, keys) = (self.terminal.clone(), keys.to_vec());
        tokio::spawn(async move {
            let _hands = hands;
            for key in keys {
                // What does not get in soon is not waited for by whoever wants to type.
                let typed = tokio::time::timeout(AGAIN, terminal.input(typing::key(&key).into())).await;
                if !matches!(typed, Ok(Ok(()))) {
                    debug!("a key was not taken");
                    return;
                }
                tokio::time::sleep(BETWEEN).await;
            }
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::library::Library;
    use crate::api::agent::Size;
    use crate::daemon::terminal::{Extent, Wishes};

    fn at(directory: &std::path::Path) -> (Acknowledger, Wishes, Arc<Mutex<()>>) {
        let extent = Extent { end: 0, ended: false };
        let settled = directory.join("settled");
        let (terminal, wishes) = Terminal::start(directory, Size { cols: 80, rows: 24 }, extent, settled);
        let hands = Arc::<Mutex<()>>::default();
        (Acknowledger::new(terminal, hands.clone()), wishes, hands)
    }

    async fn typed(wishes: &mut Wishes) -> bytes::Bytes {
        let typed = wishes.typed.recv().await.expect("a key");
        typed.done.send(Ok(())).expect("it is waited for");
        typed.bytes
    }

    #[tokio::test]
    async fn only_a_page_that_is_still_there_is_answered_and_not_while_somebody_types() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut acknowledger, mut wishes, hands) = at(directory.path());
        let kind = Library::of([], 0).load("claude").expect("a kind");
        let screen = |name: &str| kind.screens.iter().find(|screen| screen.name == name).expect("a screen");
        let (asks, page) = (screen("sign-in-address"), screen("signed-in"));
        let start = Instant::now();
        acknowledger.look(Some(page), true, start);
        assert!(hands.try_lock().is_ok(), "no login was asked for: nothing is typed");
        acknowledger.look(Some(asks), false, start);
        // It was believed last, and a question stands in its place by now.
        acknowledger.look(Some(page), false, start);
        assert!(hands.try_lock().is_ok(), "nothing is typed");
        let later = acknowledger.due().expect("it is looked at again");
        let typing = hands.lock().await;
        acknowledger.look(Some(page), true, later);
        drop(typing);
        assert!(hands.try_lock().is_ok(), "a key would have been a part of what somebody typed");
        let later = acknowledger.due().expect("it is looked at again");
        acknowledger.look(Some(page), true, later);
        assert!(hands.try_lock().is_err(), "nobody else types meanwhile");
        assert_eq!(typed(&mut wishes).await, "\r");
        let _free = hands.lock().await;
        assert!(wishes.typed.try_recv().is_err(), "it was pressed once");
    }
}
