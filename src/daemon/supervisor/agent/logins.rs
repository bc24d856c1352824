//! What an agent's task has to do with its logins: the way in for a callback, and the account.

use std::os::fd::{AsFd, OwnedFd};

use tracing::warn;

use super::Agent;
use crate::api;
use crate::api::{Login, State};
use crate::audit::Event;
use crate::audit::parts::Outcome;
use crate::audit::text::Host;
use crate::wire::service::{DIALS, ToShim};

impl Agent {
    /// Asks its shim for a connection to this port inside; whether it could be asked.
    pub(super) async fn dial(&self, port: u16, socket: OwnedFd) -> bool {
        let Some(shim) = self.socket.as_ref().filter(|_| self.version >= DIALS) else { return false };
        let asked = shim.send(&ToShim::Dial { port }, &[socket.as_fd()]).await;
        asked.inspect_err(|error| warn!(agent = self.record.id, %error, "the shim does not listen")).is_ok()
    }

    /// It is shown so: a login may have begun, or be over. What does not say what it is doing says nothing of its login.
    pub(super) fn account_for_login(&self, now: &api::Agent) {
        let Ok(agent) = self.record.id.parse() else { return };
        let (desk, site) = (&self.handle.desk, now.login.as_ref().and_then(site));
        let event = match now.state {
            State::LoginRequired if desk.opens(&self.record.id, site.as_ref()) => {
                Event::LoginBegun { agent, site }
            }
            State::Ready | State::Busy | State::Blocked if desk.closes() => {
                Event::LoginCompleted { agent, outcome: Outcome::Done }
            }
            State::Stopping | State::Exited | State::Failed if desk.closes() => {
                Event::LoginCompleted { agent, outcome: Outcome::Failed }
            }
            _ => return,
        };
        self.shared.audit.record(event);
    }
}

/// The host, and nothing else of the address.
fn site(login: &Login) -> Option<Host> {
    let rest = login.url.as_ref()?.strip_prefix("https://")?;
    Some(Host::of(rest.split(['/', '?', '#']).next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_the_account_has_the_host_and_nothing_else() {
        let host = |url: &str| {
            let login = Login { url: Some(url.into()), ..Login::default() };
            site(&login).map(|host| host.as_str().to_owned())
        };
        assert_eq!(host("https://auth.openai.com/a?state=s").as_deref(), Some("auth.openai.com"));
        assert_eq!(host("https://a.example?state=s").as_deref(), Some("a.example"));
        assert_eq!(host("https://u:p@a/").as_deref(), Some("(unfit)"));
    }
}
