//! The life of an agent, as the supervisor follows it.
//!
//! ```text
//!  Asked ──Launched──▶ Building ──Started──▶ Running ──StopAsked──▶ Stopping
//!    ▲  └──────────┬──────┴────────────────────┴───────────────────────┘
//!    │             └──Ended──▶ Ended ──Again──▶ Resting ──Relaunch──▶ Asked
//!    └────────────────Relaunch───┘
//! ```

/// Where an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// The launcher was asked for it, or will be.
    Asked,
    /// Its shim runs, and builds.
    Building,
    /// It runs.
    Running,
    /// It was asked to end.
    Stopping,
    /// It has ended.
    Ended,
    /// It has ended, and will be started anew.
    Resting,
}

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is a shim.
    Launched,
    /// The agent itself runs.
    Started,
    /// Somebody, or a limit of time, wants it to end.
    StopAsked,
    /// Nothing of it is left.
    Ended,
    /// It will be started anew after a pause.
    Again,
    /// It is started anew.
    Relaunch,
}

/// It cannot happen there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to an agent that is {from:?}")]
pub(crate) struct InvalidTransition {
    from: Lifecycle,
    event: Event,
}

impl Lifecycle {
    /// The only place where one state becomes another.
    pub(crate) fn after(self, event: Event) -> Result<Self, InvalidTransition> {
        match (self, event) {
            (Self::Asked, Event::Launched) => Ok(Self::Building),
            (Self::Building, Event::Started) => Ok(Self::Running),
            // A shim says so to every daemon that comes, and a stop may have been asked for meanwhile.
            (Self::Running, Event::Started) => Ok(Self::Running),
            (Self::Stopping, Event::Started | Event::StopAsked) => Ok(Self::Stopping),
            (Self::Building | Self::Running, Event::StopAsked) => Ok(Self::Stopping),
            (Self::Resting, Event::StopAsked) => Ok(Self::Ended),
            (Self::Asked | Self::Building | Self::Running | Self::Stopping, Event::Ended) => Ok(Self::Ended),
            (Self::Ended, Event::Again) => Ok(Self::Resting),
            (Self::Ended | Self::Resting, Event::Relaunch) => Ok(Self::Asked),
            (from, event) => Err(InvalidTransition { from, event }),
        }
    }

    /// Whether nothing of it is left.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Resting)
    }
}

#[cfg(test)]
mod tests {
    use super::Event::{Again, Ended, Launched, Relaunch, Started, StopAsked};
    use super::*;

    fn walk(events: &[Event]) -> Result<Lifecycle, InvalidTransition> {
        events.iter().try_fold(Lifecycle::Asked, |state, event| state.after(*event))
    }

    #[test]
    fn an_agent_is_built_runs_is_stopped_and_ends() {
        assert_eq!(walk(&[Launched, Started]), Ok(Lifecycle::Running));
        assert_eq!(walk(&[Launched, Started, StopAsked, StopAsked, Ended]), Ok(Lifecycle::Ended));
    }

    #[test]
    fn an_agent_that_fails_is_started_anew_unless_somebody_wants_it_to_end() {
        assert_eq!(walk(&[Launched, Started, Ended, Again, Relaunch]), Ok(Lifecycle::Asked));
        assert_eq!(walk(&[Launched, Ended, Again, StopAsked]), Ok(Lifecycle::Ended));
    }

    #[test]
    fn an_end_is_reached_from_wherever_something_is_left_and_only_once() {
        for way in [&[][..], &[Launched], &[Launched, Started], &[Launched, Started, StopAsked]] {
            assert_eq!(walk(&[way, &[Ended]].concat()), Ok(Lifecycle::Ended));
        }
        walk(&[Launched, Ended, Ended]).expect_err("it ended twice");
    }

    #[test]
    fn what_has_ended_cannot_be_stopped_started_or_launched() {
        for event in [StopAsked, Started, Launched] {
            Lifecycle::Ended.after(event).expect_err("it has ended");
        }
        Lifecycle::Running.after(Relaunch).expect_err("it runs");
    }
}
