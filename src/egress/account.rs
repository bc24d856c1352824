//! The account of one connection: opened when it arrives, entered in the ledger when it ends, however it ends.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use super::ledger::Ledger;
use super::rules::Refusal;
use crate::wire::egress::{Protocol, Record, Verdict};

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
}

impl Account {
    /// Opens one; nothing is entered until it has a verdict.
    pub fn open(ledger: &Rc<Ledger>, protocol: Protocol, name: Option<String>, port: u16) -> Self {
        let verdict = Verdict::Allowed { rule: String::new(), trouble: None };
        let address = None;
        let (sent, received, duration) = (0, 0, 0);
        let record = Record { protocol, name, address, port, sent, received, duration, count: 1, verdict };
        Self {
            ledger: Rc::clone(ledger),
            start: Instant::now(),
            sent: Cell::new(0),
            received: Cell::new(0),
            record: RefCell::new(Some(record)),
        }
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
        if let Some(mut record) = self.record.take() {
            record.sent = self.sent.get();
            record.received = self.received.get();
            record.duration = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.ledger.enter(record);
        }
    }
}
