//! What waits to be written.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::event::Event;
use crate::audit::ticket::{Ticket, Unavailable};

/// The most events that wait; more are counted and lost, which the log says when it is back.
const MOST: usize = 65_536;
/// The most events of one batch: a ticket does not wait for the whole queue.
const BATCH: usize = 4096;

/// How long what nobody waits for is gathered before it is written and synced.
const GATHER: Duration = Duration::from_millis(10);

/// One event that waits.
pub struct Entry {
    /// When it happened, RFC 3339.
    pub at: String,
    /// What happened.
    pub event: Event,
    /// Who waits.
    pub ticket: Ticket,
}

impl Entry {
    /// This happened now.
    pub fn now(event: Event) -> Self {
        Self { at: now(), event, ticket: Ticket::new() }
    }
}

/// RFC 3339 with microseconds.
pub fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// By when the first of them is to be written.
    due: Option<Instant>,
    phase: Phase,
    closing: bool,
    lost: u64,
    rotate: Option<Ticket>,
    /// How many events were ever taken in.
    count: u64,
    /// Who waits until so many of them are written.
    flush: Vec<(u64, Ticket)>,
}

/// What the writer is to do next.
#[derive(Default)]
pub struct Turn {
    pub batch: Vec<Entry>,
    /// Who waits until this batch is written, as the last of what there was then.
    pub flush: Vec<Ticket>,
    /// Who wants another key to sign.
    pub rotate: Option<Ticket>,
    /// Whether this is the end.
    pub closing: bool,
}

#[derive(Default)]
enum Phase {
    #[default]
    Opening,
    Ready,
    Unavailable(Unavailable),
    Closed,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An intent is written at once, anything else soon.
    pub fn push(&self, event: Event) -> Ticket {
        let patience = if event.is_intent() { Duration::ZERO } else { GATHER };
        self.push_within(event, patience)
    }

    /// Is written after so long, if not before with others.
    pub fn push_within(&self, event: Event, patience: Duration) -> Ticket {
        let entry = Entry::now(event);
        let ticket = entry.ticket.clone();
        let mut state = self.lock();
        match state.admit(&entry.event) {
            Ok(()) => {
                state.waiting.push_back(entry);
                state.count += 1;
                let due = Instant::now() + patience;
                let is_sooner = state.due.is_none_or(|other| due < other);
                if is_sooner {
                    state.due = Some(due);
                }
                if is_sooner || state.waiting.len() == BATCH {
                    self.changed.notify_all();
                }
            }
            Err(unavailable) => ticket.complete(Err(unavailable)),
        }
        ticket
    }

    pub fn rotate_key(&self) -> Ticket {
        let ticket = Ticket::new();
        let mut state = self.lock();
        match &state.phase {
            Phase::Ready if !state.closing => {
                if let Some(other) = state.rotate.replace(ticket.clone()) {
                    other.complete(Err(closed("another rotation of its key came in between")));
                }
            }
            _ => ticket.complete(Err(state.why())),
        }
        self.changed.notify_all();
        ticket
    }

    /// Completes when everything that was recorded before is written, and it is written at once.
    pub fn flush(&self) -> Ticket {
        let ticket = Ticket::new();
        let mut state = self.lock();
        match &state.phase {
            Phase::Opening | Phase::Ready => {
                // Who has given up is not kept for as long as a disk may hang.
                state.flush.retain(|(_, other)| other.is_awaited());
                let last = state.count;
                state.flush.push((last, ticket.clone()));
            }
            Phase::Unavailable(_) | Phase::Closed => ticket.complete(Err(state.why())),
        }
        self.changed.notify_all();
        ticket
    }

    /// Waits for something to do, for so long.
    pub fn take(&self, wait: Duration) -> Turn {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        loop {
            let left = state.next(until).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.turn()
    }

    /// Events that could not be written: intents are refused, the others wait on.
    pub fn put_back(&self, batch: Vec<Entry>, why: &Unavailable) {
        let mut state = self.lock();
        for entry in batch.into_iter().rev() {
            if entry.event.is_intent() {
                entry.ticket.complete(Err(why.clone()));
            } else {
                state.due = Some(Instant::now());
                state.waiting.push_front(entry);
            }
        }
    }

    /// Waits a while; whether the log is being closed, and nothing more is to be tried.
    pub fn pause(&self, time: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, time, |state| !state.closing)
            .unwrap_or_else(PoisonError::into_inner);
        state.closing
    }

    /// Waits until the log was opened.
    pub fn opened(&self) -> Result<(), Unavailable> {
        let state = self.lock();
        let opening = |state: &mut State| matches!(state.phase, Phase::Opening);
        let state = self.changed.wait_while(state, opening).unwrap_or_else(PoisonError::into_inner);
        state.result()
    }

    pub fn state(&self) -> Result<(), Unavailable> {
        self.lock().result()
    }

    pub fn is_ready(&self) {
        self.lock().phase = Phase::Ready;
        self.changed.notify_all();
    }

    pub fn is_unavailable(&self, why: Unavailable) {
        let mut state = self.lock();
        let intents = state.waiting.iter().filter(|entry| entry.event.is_intent());
        intents.for_each(|entry| entry.ticket.complete(Err(why.clone())));
        state.waiting.retain(|entry| !entry.event.is_intent());
        state.refuse(&why);
        state.phase = Phase::Unavailable(why);
        self.changed.notify_all();
    }

    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// So many lost events were reported.
    pub fn told_of(&self, lost: u64) {
        self.lock().lost -= lost;
    }

    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    pub fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }
}

impl State {
    /// When the next batch is to be taken; with nothing to write, `idle`.
    fn next(&self, idle: Instant) -> Instant {
        let is_asked = self.closing || self.rotate.is_some() || !self.flush.is_empty();
        if is_asked || self.waiting.len() >= BATCH {
            return Instant::now();
        }
        self.due.unwrap_or(idle)
    }

    fn turn(&mut self) -> Turn {
        let count = self.waiting.len().min(BATCH);
        let batch = self.waiting.drain(..count).collect();
        self.due = (!self.waiting.is_empty()).then(Instant::now);
        let done = self.count - self.waiting.len() as u64;
        let flush = self.flush.extract_if(.., |(last, _)| *last <= done).map(|(_, ticket)| ticket).collect();
        Turn { batch, flush, rotate: self.rotate.take(), closing: self.closing }
    }

    /// Nobody waits for what cannot be done now.
    fn refuse(&mut self, why: &Unavailable) {
        let asked = self.flush.drain(..).map(|(_, ticket)| ticket).chain(self.rotate.take());
        asked.for_each(|ticket| ticket.complete(Err(why.clone())));
    }

    fn admit(&mut self, event: &Event) -> Result<(), Unavailable> {
        if self.closing {
            return Err(closed("the service ends"));
        }
        match &self.phase {
            Phase::Unavailable(why) if event.is_intent() => Err(why.clone()),
            Phase::Closed => Err(self.why()),
            _ if self.waiting.len() >= MOST => {
                self.lost += u64::from(!event.is_intent());
                Err(closed("too many events wait to be written"))
            }
            _ => Ok(()),
        }
    }

    fn result(&self) -> Result<(), Unavailable> {
        match &self.phase {
            Phase::Opening | Phase::Ready => Ok(()),
            Phase::Unavailable(_) | Phase::Closed => Err(self.why()),
        }
    }

    fn why(&self) -> Unavailable {
        match &self.phase {
            Phase::Unavailable(why) => why.clone(),
            Phase::Opening => closed("it is being opened"),
            Phase::Ready | Phase::Closed => closed("the service ends"),
        }
    }
}

fn closed(reason: &str) -> Unavailable {
    Unavailable { reason: reason.into() }
}

/// When the writer is gone, nobody waits for it.
pub struct Closed(pub Arc<Queue>);

impl Drop for Closed {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let why = state.why();
        state.phase = Phase::Closed;
        state.waiting.drain(..).for_each(|entry| entry.ticket.complete(Err(why.clone())));
        state.refuse(&why);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parts::Act;
    use crate::audit::text::Word;

    fn intent() -> Event {
        Event::Intent {
            act: Act::Stop,
            agent: "a".parse().expect("an id"),
            tenant: None,
            who: None,
            request: None,
            policy: None,
            policy_hash: None,
            order: None,
        }
    }

    #[test]
    fn what_nobody_waits_for_is_gathered_until_its_time_or_an_intent_comes() {
        let (queue, idle) = (Queue::default(), Instant::now() + Duration::from_secs(1000));
        let next = || queue.lock().next(idle);
        assert_eq!(next(), idle);
        queue.push(Event::ServiceStopped { reason: Word::new("asked") });
        let gathered = next();
        assert!(gathered < idle);
        queue.push_within(intent(), Duration::from_secs(10));
        assert_eq!(next(), gathered, "one that has time waits no longer than what is there");
        queue.push(intent());
        assert!(next() <= Instant::now(), "an intent is due when it comes");
        assert_eq!(queue.take(Duration::ZERO).batch.len(), 3);
        assert_eq!(next(), idle);
        let _flushed = queue.flush();
        assert!(next() <= Instant::now(), "so it is when somebody waits for what there is");
        assert_eq!(queue.take(Duration::ZERO).flush.len(), 1);
        assert_eq!(next(), idle);
        queue.close();
        assert!(next() <= Instant::now());
    }

    #[test]
    fn a_flush_waits_for_the_last_of_what_there_was_and_for_no_log_that_cannot_be_written() {
        let queue = Queue::default();
        for _ in 0..=BATCH {
            queue.push(Event::ServiceStopped { reason: Word::new("asked") });
        }
        let flushed = queue.flush();
        drop(queue.flush());
        let first = queue.take(Duration::ZERO);
        assert_eq!((first.batch.len(), first.flush.len()), (BATCH, 0));
        // What comes later is not waited for, and nobody is kept who waits no longer.
        for _ in 0..2 * BATCH {
            queue.push(Event::ServiceStopped { reason: Word::new("asked") });
        }
        let later = queue.flush();
        let last = queue.take(Duration::ZERO);
        assert_eq!((last.batch.len(), last.flush.len()), (BATCH, 1));
        assert_eq!(queue.lock().flush.len(), 1);
        drop(later);
        last.flush.into_iter().for_each(|ticket| ticket.complete(Ok(7)));
        assert_eq!(flushed.wait(), Ok(7));

        let (waits, why) = (queue.flush(), closed("the disk is full"));
        queue.is_unavailable(why.clone());
        assert_eq!([waits, queue.flush()].map(|ticket| ticket.wait()), [Err(why.clone()), Err(why)]);
    }
}
