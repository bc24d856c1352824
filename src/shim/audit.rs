//! What Landlock refused, as the kernel's audit tells it: of one sandbox only, counted, never waited for.
//!
//! ```text
//!  LANDLOCK_ACCESS domain=D blockers=fs.read_file path="/.stockade"    the self-check, before the agent exists
//!  LANDLOCK_DOMAIN domain=D status=allocated pid=INIT uid=OUR_RANGE    so D is ours
//!  LANDLOCK_ACCESS domain=D blockers=net.connect_tcp dest=443          the agent: counted
//!  LANDLOCK_ACCESS domain=E …                                          somebody else, or a domain of its own: not ours
//!  LANDLOCK_DOMAIN domain=D status=deallocated denials=2               all there was; so we know what we missed
//! ```
//! The format is the kernel's Documentation/admin-guide/LSM/landlock.rst, its strings are those of
//! `audit_log_untrustedstring()`: quoted, or hexadecimal where they hold a blank, a quote or what cannot be printed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use super::denials::Denial;
use crate::plan::{CANARY, Landlock};
use crate::sys::audit::{self, Heard, LANDLOCK_ACCESS, LANDLOCK_DOMAIN, Record};
use crate::wire::service::shim::Verdict;

/// Most different refusals that are kept apart; an agent that tries every path must not fill our memory.
const MOST: usize = 512;
/// Most refusals that wait to be told whose they are: the record that says so follows the domain's first.
const MOST_UNCLAIMED: usize = 32;
/// Longest path that is kept, in bytes.
const LONGEST_PATH: usize = 4096;
/// How long the kernel may take, once the sandbox is gone, to release its domain and say so.
const RELEASED_WITHIN: Duration = Duration::from_millis(200);

/// One kind of refusal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// `fs.write_file`, `net.connect_tcp`, `scope.signal` …
    pub right: String,
    /// The object, as it is called inside.
    pub path: Option<String>,
    /// The TCP port.
    pub port: Option<u16>,
}

/// How much of what Landlock refused is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// All that audit told.
    Complete,
    /// This many refusals were not told apart, or not told at all.
    Lost(u64),
    /// Nothing, for this reason.
    Unavailable(String),
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Lost(lost) => write!(f, "incomplete: at least {lost} not recorded"),
            Self::Unavailable(why) => write!(f, "unavailable: {why}"),
        }
    }
}

/// Listens for one sandbox.
#[derive(Debug)]
pub struct Audit {
    listener: Option<OwnedFd>,
    unavailable: Option<String>,
    ledger: Ledger,
}

impl Audit {
    /// Starts to listen, before the sandbox restricts itself: its domain is named in the first record and never again.
    pub fn listen(plan: &Landlock) -> Self {
        let listener = plan
            .audit
            .clone()
            .and_then(|()| audit::listen().map_err(|error| format!("audit cannot be read: {error}")));
        let (listener, unavailable) = match listener {
            Ok(listener) => (Some(listener), None),
            Err(why) => (None, Some(why)),
        };
        Self { listener, unavailable, ledger: Ledger::default() }
    }

    /// Stops listening where nothing is ever said. Asked once there is time for it: the kernel starts a thread to answer.
    pub fn confirm(&mut self) {
        if self.listener.is_some()
            && let Err(why) = crate::host::audit_is_on()
        {
            self.listener = None;
            self.unavailable = Some(why);
        }
    }

    /// Says whose records are ours: init, which restricted itself, by its pid on the host, and the sandbox's host uids.
    ///
    /// The record has the real uid, which at that step is that of the sandbox's root. The uids tell our init from
    /// whoever had its pid before.
    pub fn follow(&mut self, pid: u32, uids: Range<u32>) {
        self.ledger.owner = Some((pid, uids));
    }

    /// Readable when there are records.
    pub fn listener(&self) -> Option<&OwnedFd> {
        self.listener.as_ref()
    }

    /// Takes what there is, at most a thousand records: the agent's terminal comes first.
    pub fn hear(&mut self) {
        for _ in 0..1000 {
            let Some(listener) = &self.listener else { return };
            match audit::receive(listener.as_fd()) {
                Ok(Heard::Record(record)) => self.ledger.enter(&record),
                Ok(Heard::Lost) => self.ledger.lost += 1,
                Ok(Heard::Nothing) => return,
                Err(error) => self.stop(&error),
            }
        }
    }

    /// Takes the rest after the sandbox has ended; waits for the domain's release, the last that is heard of it.
    pub fn finish(&mut self) {
        self.hear();
        let deadline = Instant::now() + RELEASED_WITHIN;
        while self.ledger.is_open() {
            let left = deadline.saturating_duration_since(Instant::now());
            let (Some(listener), false) = (&self.listener, left.is_zero()) else { return };
            let patience = Timespec::try_from(left).expect("less than a second");
            match audit::wait(listener.as_fd(), &patience) {
                Ok(_) => self.hear(),
                Err(error) => self.stop(&error),
            }
        }
    }

    /// What was refused for the first time since this was asked. A path is the agent's own affair.
    pub fn fresh(&mut self) -> impl Iterator<Item = Verdict> {
        self.ledger.fresh.drain(..).map(|refusal| Verdict {
            wall: "landlock".into(),
            allowed: false,
            what: refusal.right,
            port: refusal.port,
            why: None,
        })
    }

    /// Every kind of refusal, explained.
    pub fn denials(&self) -> impl Iterator<Item = Denial> {
        self.ledger.counts.iter().map(|(refusal, count)| Denial::by_landlock(refusal, *count))
    }

    /// How much of it is known.
    pub fn coverage(&self) -> Coverage {
        match (&self.unavailable, self.ledger.missed()) {
            (Some(why), _) => Coverage::Unavailable(why.clone()),
            (None, 0) => Coverage::Complete,
            (None, lost) => Coverage::Lost(lost),
        }
    }

    /// Losing the log ends no agent.
    fn stop(&mut self, error: &io::Error) {
        self.listener = None;
        self.unavailable = Some(format!("audit could not be read to the end: {error}"));
    }
}

/// What was told so far.
#[derive(Debug, Default)]
struct Ledger {
    owner: Option<(u32, Range<u32>)>,
    domain: Option<u64>,
    is_released: bool,
    unclaimed: VecDeque<(u64, Vec<Refusal>)>,
    counts: BTreeMap<Refusal, u64>,
    /// Those that nobody has asked for since they came first.
    fresh: Vec<Refusal>,
    /// Records of ours, and those of them that found no place.
    told: u64,
    lost: u64,
    /// The kernel's own count, when the domain was released.
    refused: Option<u64>,
}

impl Ledger {
    fn enter(&mut self, record: &Record) {
        match record.kind {
            LANDLOCK_ACCESS => self.access(&record.text),
            LANDLOCK_DOMAIN => self.domain(&record.text),
            _ => {}
        }
    }

    fn access(&mut self, text: &str) {
        let fields = Fields(text);
        let Some(domain) = fields.domain() else { return };
        let refusals = fields.refusals();
        match self.domain {
            Some(ours) if ours == domain => self.count(refusals),
            Some(_) => {}
            None => {
                if self.unclaimed.len() == MOST_UNCLAIMED {
                    self.unclaimed.pop_front();
                }
                self.unclaimed.push_back((domain, refusals));
            }
        }
    }

    fn domain(&mut self, text: &str) {
        let fields = Fields(text);
        let Some(domain) = fields.domain() else { return };
        match fields.get("status") {
            Some("allocated") if self.domain.is_none() => {
                let number = |name| fields.get(name)?.parse::<u32>().ok();
                let creator = number("pid").zip(number("uid"));
                let is_ours =
                    |(pid, uid)| self.owner.as_ref().is_some_and(|(p, u)| *p == pid && u.contains(&uid));
                if creator.is_some_and(is_ours) {
                    self.domain = Some(domain);
                    let unclaimed = std::mem::take(&mut self.unclaimed);
                    unclaimed.into_iter().filter(|(d, _)| *d == domain).for_each(|(_, all)| self.count(all));
                }
            }
            Some("deallocated") if self.domain == Some(domain) => {
                self.is_released = true;
                self.refused = fields.get("denials").and_then(|denials| denials.parse().ok());
            }
            _ => {}
        }
    }

    fn count(&mut self, refusals: Vec<Refusal>) {
        self.told += 1;
        for refusal in refusals {
            // The self-check; it is how the domain became known.
            if refusal.path.as_deref() == Some(CANARY) {
                continue;
            }
            if self.counts.len() < MOST && !self.counts.contains_key(&refusal) {
                self.fresh.push(refusal.clone());
                self.counts.insert(refusal.clone(), 0);
            }
            match self.counts.get_mut(&refusal) {
                Some(count) => *count += 1,
                None => self.lost += 1,
            }
        }
    }

    /// Whether more is to come.
    fn is_open(&self) -> bool {
        self.domain.is_some() && !self.is_released
    }

    fn missed(&self) -> u64 {
        self.lost.max(self.refused.unwrap_or(0).saturating_sub(self.told))
    }
}

/// One record's `name=value` pairs.
struct Fields<'r>(&'r str);

impl<'r> Fields<'r> {
    /// The first of that name; what a value says never reaches the kernel's own names, for a blank in it is escaped.
    fn get(&self, name: &str) -> Option<&'r str> {
        self.0.split_ascii_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    }

    fn domain(&self) -> Option<u64> {
        u64::from_str_radix(self.get("domain")?, 16).ok()
    }

    /// One for each right that was lacking.
    fn refusals(&self) -> Vec<Refusal> {
        let path = self.get("path").and_then(unescape);
        let port = ["dest", "src"].into_iter().find_map(|name| self.get(name)?.parse().ok());
        let rights = self.get("blockers").unwrap_or_default().split(',').filter(|right| !right.is_empty());
        rights.take(32).map(|right| Refusal { right: right.to_owned(), path: path.clone(), port }).collect()
    }
}

/// `"plain"`, or hexadecimal. The path is shown to people, so what would act on their terminal stays escaped.
fn unescape(value: &str) -> Option<String> {
    if let Some(plain) = value.strip_prefix('"') {
        return plain.strip_suffix('"').map(str::to_owned);
    }
    if value.len() > 2 * LONGEST_PATH || !value.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes: Option<Vec<u8>> = value
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8))
        .collect();
    let text = String::from_utf8_lossy(&bytes?).into_owned();
    Some(
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect(),
    )
}

#[cfg(test)]
mod tests;
