//! Parallax's words for what an agent and a thread are doing.

use crate::api::agent::{Agent, State};

/// An agent's status.
pub fn agent_status(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::LoginRequired => "authenticating",
        State::Ready => "ready",
        // There is no word for "nothing says what": it may be typed to no more than a busy one.
        State::Busy | State::Blocked | State::Unknown => "busy",
        State::Stopping => "stopping",
        State::Exited => "stopped",
        State::Failed => "error",
    }
}

/// A thread's status; `crashed` if it ended by itself with something else than 0.
pub fn thread_status(state: State, crashed: bool) -> &'static str {
    match state {
        State::Starting => "starting",
        State::LoginRequired | State::Blocked => "blocked",
        State::Ready => "ready",
        State::Busy | State::Unknown => "running",
        State::Exited if crashed => "failed",
        State::Stopping | State::Exited => "stopped",
        State::Failed => "failed",
    }
}

/// Whether an agent that nobody had asked to stop ended with something else than 0.
pub fn crashed(agent: &Agent, asked_to_stop: bool) -> bool {
    let well = agent.exit_code.is_none_or(|code| code == 0) && agent.signal.is_none() && !agent.out_of_memory;
    agent.state == State::Exited && !asked_to_stop && !well
}

/// Why an agent is no longer there.
pub fn end(agent: &Agent) -> String {
    match (&agent.error, agent.out_of_memory, agent.signal, agent.exit_code) {
        (Some(error), ..) => error.clone(),
        (None, true, ..) => "out of memory".into(),
        (None, false, Some(signal), _) => format!("signal {signal}"),
        (None, false, None, Some(code)) if code != 0 => format!("exit code {code}"),
        (None, false, None, _) => "normal exit".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::api::examples::agent;

    const ALL: [State; 9] = [
        State::Starting,
        State::LoginRequired,
        State::Ready,
        State::Busy,
        State::Blocked,
        State::Stopping,
        State::Exited,
        State::Failed,
        State::Unknown,
    ];

    #[test]
    fn every_state_has_a_word_that_parallax_knows() {
        let agents =
            ["pending", "starting", "authenticating", "ready", "busy", "stopping", "stopped", "error"];
        let threads = [
            "pending",
            "preparing",
            "starting",
            "ready",
            "running",
            "blocked",
            "idle",
            "waiting",
            "completed",
            "failed",
            "stopped",
        ];
        for state in ALL {
            assert!(agents.contains(&agent_status(state)), "{state:?}");
            assert!(threads.contains(&thread_status(state, false)), "{state:?}");
            let over = ["completed", "failed", "stopped"].contains(&thread_status(state, false));
            assert_eq!(over, state.is_final() || state == State::Stopping, "{state:?}");
        }
    }

    #[test]
    fn an_end_is_told_as_local_tells_it_and_a_stop_is_no_crash() {
        let mut agent = agent("a");
        agent.state = State::Exited;
        agent.exit_code = Some(0);
        assert_eq!((end(&agent).as_str(), crashed(&agent, false)), ("normal exit", false));
        agent.exit_code = Some(3);
        assert_eq!((end(&agent).as_str(), crashed(&agent, false)), ("exit code 3", true));
        assert!(!crashed(&agent, true));
        assert_eq!(thread_status(agent.state, true), "failed");
    }
}
