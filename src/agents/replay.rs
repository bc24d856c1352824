//! Runs a recording through the watcher, as the daemon runs live output through it.

use std::io::BufRead;
use std::time::Duration;

use serde_json::{Value, json};

use super::cast::{Cast, CastError, Event};
use super::kind::Kind;
use super::watcher::{Observation, Watcher};

/// How long after the last event something that was already on the screen may still become known.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Everything that becomes known, in its order, to `each`, with what is on the screen then.
pub fn replay<E: From<CastError>>(
    kind: Kind,
    recording: impl BufRead,
    mut each: impl FnMut(&Observation, &mut Watcher) -> Result<(), E>,
) -> Result<(), E> {
    let mut cast = Cast::open(recording)?;
    let mut watcher = Watcher::new(kind, cast.size());
    let first = watcher.observation().clone();
    each(&first, &mut watcher)?;
    let mut end = Duration::ZERO;
    while let Some((at, event)) = cast.next_event()? {
        pass(&mut watcher, at, &mut each)?;
        let news = match event {
            Event::Output(text) => watcher.feed(at, text.as_bytes()),
            Event::Resize(size) => watcher.resize(at, size),
            Event::Exit(_) => Some(watcher.ended(at)),
            Event::Other => None,
        };
        if let Some(news) = news {
            each(&news, &mut watcher)?;
        }
        end = at;
    }
    pass(&mut watcher, end + AFTERWARDS, &mut each)
}

/// Lets time pass up to `to`, each moment at which something could be due.
fn pass<E>(
    watcher: &mut Watcher,
    to: Duration,
    each: &mut impl FnMut(&Observation, &mut Watcher) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(due) = watcher.deadline().filter(|due| *due <= to) {
        if let Some(news) = watcher.tick(due) {
            each(&news, watcher)?;
        }
    }
    Ok(())
}

/// One line of `stockade agents replay --json`.
pub fn line(observation: &Observation) -> Value {
    let login = observation.login.as_ref();
    json!({
        "t": seconds(observation.at),
        "state": observation.state,
        "since": seconds(observation.since),
        "screen": observation.screen,
        "evidence": observation.evidence,
        "safeToType": observation.safe_to_type,
        "loginUrl": login.and_then(|login| login.url.as_deref()),
        "browserUrl": login.and_then(|login| login.browser_url.as_deref()),
        "refused": login.and_then(|login| login.refused.as_deref()),
        "userCode": login.and_then(|login| login.user_code.as_deref()),
        "provider": login.map(|login| login.provider.as_str()),
        "method": login.map(|login| login.method.as_str()),
        "expiresAt": login.and_then(|login| login.expires).map(seconds),
    })
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}
