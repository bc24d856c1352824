//! One attempt to complete a login.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{MutexGuard, watch};

use super::deliver::{self, Delivery};
use crate::agents::callback::Callback;
use crate::api::login::{Login, LoginAnswer, LoginOutcome, LoginResult};
use crate::api::{Agent, State};
use crate::daemon::audit;
use crate::daemon::supervisor::agent::Handle;
use crate::daemon::supervisor::request::wipe;
use crate::daemon::supervisor::{Result, SupervisorError};

/// How long what comes of it is waited for where nobody says otherwise, and at most. Nobody else may try for the first of them:
/// two codes in one field are none.
const PATIENCE: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(600);
/// How long the next page may take after a refusal.
const NEXT: Duration = Duration::from_secs(5);
/// How long the page may stay that says that a login worked.
const PAGE: Duration = Duration::from_secs(2);
/// Between a code and the key that submits it: in one write with it some take it for a part of it.
const SUBMIT: Duration = Duration::from_millis(150);
/// How long the agent may take to read it: meanwhile nobody else can type.
const READ: Duration = Duration::from_secs(30);
/// Longest code.
const LONGEST_CODE: usize = 4096;

/// What is to be handed over. Wiped when it is.
struct Secret(String);

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(std::mem::take(&mut self.0).into_bytes());
    }
}

enum Deed {
    Type(Secret),
    Deliver(Callback, Secret),
}

/// One that makes sense for the login that is waited for.
pub(crate) struct Attempt {
    handle: Arc<Handle>,
    before: Login,
    deed: Deed,
    patience: Duration,
}

impl Attempt {
    /// Whether it makes sense.
    pub(crate) fn check(handle: &Arc<Handle>, answer: LoginAnswer) -> Result<Self> {
        let patience = answer.timeout_ms.map_or(PATIENCE, Duration::from_millis).min(LONGEST);
        let (code, url) = (answer.code.map(Secret), answer.callback_url.map(Secret));
        let agent = handle.agent();
        let state =
            |what| SupervisorError::State { id: handle.id.clone(), state: agent.state.as_str(), what };
        let Some(before) = agent.login.clone() else { return Err(state("it waits for no login")) };
        let deed = match (code, url) {
            (Some(code), None) => Deed::Type(typed(&before, code, state)?),
            (None, Some(url)) => {
                let Some(callback) = announced(&before) else {
                    return Err(state(
                        "its login does not lead back to a port here: callbackUrl completes no other",
                    ));
                };
                let url = Secret(url.0.trim().to_owned());
                callback.target(&url.0).map_err(|refusal| field("callbackUrl", refusal))?;
                Deed::Deliver(callback, url)
            }
            _ => return Err(field("code", "give either code or callbackUrl")),
        };
        Ok(Self { handle: handle.clone(), before, deed, patience })
    }

    /// Hands it over, and waits for what comes of it. A task of its own: half a code is never left there because whoever
    /// gave it has gone, and what it came to is on record.
    pub(crate) async fn carry_out(self, deed: audit::Deed) -> Result<LoginResult> {
        let gone =
            |_| SupervisorError::Io { what: "the login".into(), source: std::io::ErrorKind::Other.into() };
        let all = async move {
            let result = self.hand_over().await;
            match &result {
                Ok(LoginResult { outcome: LoginOutcome::Refused, .. }) => deed.refused("agent"),
                result => deed.came_to(result),
            }
            result
        };
        tokio::spawn(all).await.map_err(gone)?
    }

    async fn hand_over(self) -> Result<LoginResult> {
        let Self { handle, before, deed, patience } = self;
        let turn = handle.desk.turn.try_lock();
        let busy = "somebody else tries to complete its login: wait for what comes of that";
        let turn = turn.map_err(|_| state(&handle, busy))?;
        let mut shown = handle.shown.subscribe();
        if !is_still(&shown.borrow_and_update(), &before) {
            return Err(state(&handle, "its login is another one by now: look at it again"));
        }
        handle.desk.attempts.fetch_add(1, Ordering::Relaxed);
        handle.desk.another.notify_waiters();
        match deed {
            Deed::Type(code) => type_in(&handle, &before, code).await?,
            Deed::Deliver(callback, url) => match deliver::deliver(&handle, &callback, &url.0).await? {
                Delivery::Taken => {}
                Delivery::Refused(detail) => return Ok(result(&handle, LoginOutcome::Refused, detail)),
            },
        }
        let another = handle.desk.another.notified();
        let (outcome, detail) =
            outcome(&mut shown, &before, [patience.min(PATIENCE), patience], another, turn).await;
        if outcome == LoginOutcome::Accepted {
            // A page that only says so is gone in a moment; a question that comes next stays.
            let next = |agent: &Agent| agent.state != State::Blocked;
            let _ = tokio::time::timeout(PAGE, shown.wait_for(next)).await;
        }
        if outcome == LoginOutcome::Refused {
            // What was refused is of no use any more: a page that offers another attempt is asked for it.
            handle.desk.again.notify_one();
            let next = |agent: &Agent| {
                agent.login.as_ref().is_none_or(|login| login.url.is_some() || login.refused.is_none())
            };
            let _ = tokio::time::timeout(NEXT, shown.wait_for(next)).await;
        }
        Ok(result(&handle, outcome, detail))
    }
}

fn state(handle: &Handle, what: &'static str) -> SupervisorError {
    SupervisorError::State { id: handle.id.clone(), state: handle.shown.borrow().state.as_str(), what }
}

fn field(field: &'static str, detail: impl ToString) -> SupervisorError {
    SupervisorError::Field { field, detail: detail.to_string(), malformed: false }
}

/// Whether a code may be typed there, and is one.
fn typed(login: &Login, code: Secret, state: impl Fn(&'static str) -> SupervisorError) -> Result<Secret> {
    match login.method.as_str() {
        "paste-code" | "api-key" => {}
        "device-code" => return Err(state("its code is typed at the address, not here")),
        "callback" => return Err(state("its login has no field for a code: give callbackUrl, or attach")),
        _ => return Err(state("how it logs in is not chosen yet: choose with attach or input first")),
    }
    let code = Secret(code.0.trim().to_owned());
    let plain = !code.0.is_empty() && code.0.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && code.0.len() <= LONGEST_CODE {
        return Ok(code);
    }
    Err(field("code", format!("a code is 1 to {LONGEST_CODE} printable characters without blanks")))
}

/// Where it leads back to: the address that was opened in a browser says, before that on the page.
fn announced(login: &Login) -> Option<Callback> {
    let urls = [&login.browser_url, &login.url];
    urls.into_iter().flatten().find_map(|url| Callback::announced(url))
}

fn is_still(agent: &Agent, before: &Login) -> bool {
    agent.login.as_ref().is_some_and(|login| login.is_told_by(before))
}

/// Types it, if the page that asks for it is there at this moment.
async fn type_in(handle: &Arc<Handle>, before: &Login, code: Secret) -> Result<()> {
    // A message on its way would end up in the same field.
    let _hands = handle.hands.lock().await;
    if !is_still(&handle.shown.borrow(), before) {
        return Err(state(handle, "its login is another one by now: look at it again"));
    }
    input(handle, Bytes::copy_from_slice(code.0.as_bytes())).await?;
    drop(code);
    tokio::time::sleep(SUBMIT).await;
    input(handle, Bytes::from_static(b"\r")).await
}

async fn input(handle: &Handle, bytes: Bytes) -> Result<()> {
    let what = || format!("typing to agent {}", handle.id);
    let typed = tokio::time::timeout(READ, handle.terminal.input(bytes)).await;
    let typed = typed.map_err(|_| SupervisorError::Timeout { what: what(), after: READ })?;
    typed.map_err(|source| SupervisorError::Io { what: what(), source })
}

/// What comes of it, as long as it is waited for; after a while another attempt may be made meanwhile.
async fn outcome(
    shown: &mut watch::Receiver<Agent>,
    before: &Login,
    [alone, patience]: [Duration; 2],
    another: impl Future<Output = ()>,
    turn: MutexGuard<'_, ()>,
) -> (LoginOutcome, String) {
    let pending = |why: String| (LoginOutcome::Pending, format!("it was handed over, and {why}"));
    let silent = || pending(format!("the agent has not said what it made of it within {patience:?}"));
    if let Ok(outcome) = tokio::time::timeout(alone, becomes(shown, before)).await {
        return outcome;
    }
    drop(turn);
    tokio::select! {
        // What is said from then on is said of the other one.
        () = another => pending("another attempt was made before the agent has said what it made of it".into()),
        outcome = tokio::time::timeout(patience - alone, becomes(shown, before)) => outcome.unwrap_or_else(|_| silent()),
    }
}

/// What the terminal says of it.
async fn becomes(shown: &mut watch::Receiver<Agent>, before: &Login) -> (LoginOutcome, String) {
    loop {
        let judged = judge(&shown.borrow_and_update(), before);
        if let ControlFlow::Break(judged) = judged {
            return judged;
        }
        // The sender lives in the handle, which whoever waits here holds.
        let _ = shown.changed().await;
    }
}

fn judge(agent: &Agent, before: &Login) -> ControlFlow<(LoginOutcome, String)> {
    let said = |outcome, detail: &str| ControlFlow::Break((outcome, detail.to_owned()));
    match (agent.state, &agent.login) {
        (State::Ready | State::Busy | State::Blocked, _) => said(LoginOutcome::Accepted, &agent.evidence),
        (State::Stopping | State::Exited | State::Failed, _) => said(LoginOutcome::Refused, &agent.evidence),
        (_, Some(login)) => match &login.refused {
            // What it said of an earlier attempt may still be on the screen.
            Some(words) if login.refused != before.refused || login.url != before.url => {
                said(LoginOutcome::Refused, words)
            }
            _ => ControlFlow::Continue(()),
        },
        (State::Starting | State::Unknown | State::LoginRequired, _) => ControlFlow::Continue(()),
    }
}

fn result(handle: &Handle, outcome: LoginOutcome, detail: String) -> LoginResult {
    let agent = handle.agent();
    LoginResult { outcome, detail, state: agent.state, login: agent.login }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(url: &str, refused: Option<&str>) -> Login {
        Login {
            method: "paste-code".into(),
            url: Some(url.into()),
            refused: refused.map(str::to_owned),
            ..Login::default()
        }
    }

    fn judged(state: State, now: Option<Login>, before: &Login) -> Option<LoginOutcome> {
        let agent = Agent { state, login: now, ..crate::daemon::api::examples::agent("a") };
        judge(&agent, before).break_value().map(|(outcome, _)| outcome)
    }

    #[test]
    fn what_was_said_of_an_earlier_attempt_is_not_taken_for_an_answer() {
        let earlier = login("https://a/1", Some("wrong"));
        assert_eq!(judged(State::LoginRequired, Some(earlier.clone()), &earlier), None);
        let next = login("https://a/2", Some("wrong"));
        assert_eq!(judged(State::LoginRequired, Some(next), &earlier), Some(LoginOutcome::Refused));
        let first = login("https://a/1", None);
        assert_eq!(judged(State::LoginRequired, Some(earlier), &first), Some(LoginOutcome::Refused));
    }

    #[test]
    fn it_is_accepted_once_the_agent_goes_on_and_refused_when_it_ends() {
        let before = login("https://a/1", None);
        assert_eq!(judged(State::Unknown, None, &before), None);
        assert_eq!(judged(State::Ready, None, &before), Some(LoginOutcome::Accepted));
        assert_eq!(judged(State::Exited, None, &before), Some(LoginOutcome::Refused));
    }

    #[tokio::test]
    async fn who_waits_long_lets_another_attempt_be_made_and_does_not_take_its_outcome_for_its_own() {
        let before = login("https://a/1", None);
        let waiting = Agent {
            state: State::LoginRequired,
            login: Some(before.clone()),
            ..crate::daemon::api::examples::agent("a")
        };
        let (_told, shown) = watch::channel(waiting);
        let (turn, another) = (tokio::sync::Mutex::new(()), tokio::sync::Notify::new());
        let mut first_shown = shown.clone();
        let alone = Duration::from_millis(200);
        let waits =
            outcome(&mut first_shown, &before, [alone, LONGEST], another.notified(), turn.lock().await);
        let tries = async {
            assert!(turn.try_lock().is_err(), "two at once");
            // Whoever comes next has to wait until it may.
            let _turn = turn.lock().await;
            another.notify_waiters();
        };
        let ((outcome, detail), ()) = tokio::join!(waits, tries);
        assert_eq!(outcome, LoginOutcome::Pending);
        assert!(detail.contains("another attempt"), "{detail}");
    }

    #[test]
    fn a_code_is_typed_only_where_one_is_asked_for_and_holds_no_key() {
        let at = |method: &str, code: &str| {
            let login = Login { method: method.into(), ..Login::default() };
            let state = |what| SupervisorError::State { id: "a".into(), state: "login-required", what };
            typed(&login, Secret(code.into()), state).map(|code| code.0.clone())
        };
        assert_eq!(at("paste-code", " c#s\n").expect("a code"), "c#s");
        for method in ["device-code", "callback", "unknown"] {
            assert!(matches!(at(method, "c"), Err(SupervisorError::State { .. })), "{method}");
        }
        for code in ["", "a\rb", "a\x1b[201~", "a b", &"x".repeat(LONGEST_CODE + 1)] {
            assert!(matches!(at("paste-code", code), Err(SupervisorError::Field { .. })), "{code:?}");
        }
    }
}
