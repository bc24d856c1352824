//! The account of one connection: opened when it arrives, entered in the ledger when it ends, however it ends.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::rules::Refusal;
use crate::wire::egress::{Protocol, Record, Verdict};

/// What a connection that lasts has carried is told this often, so that it counts before its end.
const TELL: Duration = Duration::from_secs(5);

/// One connection's account. Entered on drop.
#[derive(Debug)]
pub struct Account {
    ledger: Rc<Ledger>,
    start: Instant,
    /// Bytes from the agent to the outside.
    pub sent: Cell<u64>,
    /// Bytes from the outside to the agent.
    pub received: Cell<u64>,
    record: RefCell<Option<Record>>,
    /// When the ledger was told of it, and what it was told: bytes sent and received.
    told: Cell<(Instant, u64, u64)>,
    /// What the tally has: bytes sent and received.
    tallied: Cell<(u64, u64)>,
}

impl Account {
    /// Opens one; nothing is entered until it has a verdict.
    pub fn open(ledger: &Rc<Ledger>, protocol: Protocol, name: Option<String>, port: u16) -> Self {
        let verdict = Verdict::Allowed { rule: String::new(), trouble: None };
        let address = None;
        let (sent, received, duration) = (0, 0, 0);
        let record = Record { protocol, name, address, port, sent, received, duration, count: 1, verdict };
        let start = Instant::now();
        Self {
            ledger: Rc::clone(ledger),
            start,
            sent: Cell::new(0),
            received: Cell::new(0),
            record: RefCell::new(Some(record)),
            told: Cell::new((start, 0, 0)),
            tallied: Cell::new((0, 0)),
        }
    }

    /// One for so many attempts, of which nothing else is known.
    pub fn several(ledger: &Rc<Ledger>, protocol: Protocol, count: u32) -> Self {
        let account = Self::open(ledger, protocol, None, 0);
        account.change(|record| record.count = count);
        account
    }

    /// It goes to this address.
    pub fn to(&self, address: IpAddr) {
        self.change(|record| record.address = Some(address));
    }

    /// It is let through by this rule.
    pub fn allow(&self, by: String) {
        self.change(|record| record.verdict = Verdict::Allowed { rule: by, trouble: None });
    }

    /// It was let through, and came to nothing or to an early end.
    pub fn trouble(&self, what: String) {
        self.change(|record| {
            if let Verdict::Allowed { trouble, .. } = &mut record.verdict {
                *trouble = Some(what);
            }
        });
    }

    /// It is refused.
    pub fn refuse(&self, refusal: Refusal) {
        let Refusal { reason, detail, remedy } = refusal;
        self.change(|record| record.verdict = Verdict::Refused { reason, detail, remedy });
    }

    /// Bytes have moved. Now and then the ledger hears of them before the end; such a record counts no connection.
    pub fn moved(&self) {
        self.tally();
        let (at, ..) = self.told.get();
        if at.elapsed() < TELL {
            return;
        }
        let so_far = self.record.borrow().as_ref().map(|record| self.untold(record));
        if let Some(record) = so_far.filter(|record| matches!(record.verdict, Verdict::Allowed { .. })) {
            self.told.set((Instant::now(), self.sent.get(), self.received.get()));
            self.ledger.enter(Record { count: 0, ..record });
        }
    }

    /// Counts what has moved since it was counted last.
    fn tally(&self) {
        let (Some(tally), record) = (self.ledger.tally(), self.record.borrow()) else { return };
        let allowed = record.as_ref().filter(|record| matches!(record.verdict, Verdict::Allowed { .. }));
        let (now, (sent, received)) = ((self.sent.get(), self.received.get()), self.tallied.get());
        if let Some(record) = allowed.filter(|_| now != (sent, received)) {
            tally.add(record.protocol, record.address, now.0 - sent, now.1 - received);
            self.tallied.set(now);
        }
    }

    /// What the ledger was not told yet.
    fn untold(&self, record: &Record) -> Record {
        let (_, sent, received) = self.told.get();
        Record { sent: self.sent.get() - sent, received: self.received.get() - received, ..record.clone() }
    }

    /// It leaves no trace.
    pub fn forget(&self) {
        self.record.take();
    }

    fn change(&self, with: impl FnOnce(&mut Record)) {
        self.record.borrow_mut().as_mut().map(with);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.tally();
        if let Some(record) = self.record.take() {
            let mut record = self.untold(&record);
            record.duration = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.ledger.enter(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::egress::FromEgress;

    #[test]
    fn a_connection_that_lasts_is_told_of_before_its_end_and_no_byte_twice() {
        let ledger = Rc::new(Ledger::default());
        let account = Account::open(&ledger, Protocol::Tcp, Some("a.org".into()), 443);
        account.allow("a.org:443".into());
        account.sent.set(70);
        account.moved();
        assert_eq!(ledger.take(), [], "it has only begun");
        let long_ago = Instant::now().checked_sub(2 * TELL).expect("the machine runs for a while");
        account.told.set((long_ago, 0, 0));
        account.moved();
        account.sent.set(100);
        account.received.set(5);
        account.moved();
        let told = |ledger: &Ledger| {
            let of = |message| match message {
                FromEgress::Connection(Record { count, sent, received, .. }) => (count, sent, received),
                other => panic!("{other:?}"),
            };
            ledger.take().into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(told(&ledger), [(0, 70, 0)]);
        drop(account);
        assert_eq!(told(&ledger), [(1, 30, 5)]);
    }
}
