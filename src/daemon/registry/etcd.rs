//! The registry in etcd: session after session, for as long as the daemon lives.
//!
//! A session is one connection to one member: it makes sure of the lease, claims the node's name, lists, watches, and
//! writes what differs. Whatever goes wrong ends it; the next one begins from what etcd says then. Only the lease, and
//! what was usable, outlive a session.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Wires;
use super::session::{self, Trouble};
use super::settings::{EtcdSettings, Settings};
use super::status::Status;
use super::wanted::Wanted;

/// Between two sessions, first and longest. Short: within these two seconds after a fault everything has to be as it was.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Everything that outlives a session.
pub struct Etcd {
    pub settings: Settings,
    pub etcd: EtcdSettings,
    pub wanted: Wanted,
    pub wires: Wires,
    pub told: watch::Sender<Status>,
    /// Of the lease that may still be alive.
    pub lease: Option<i64>,
    /// This daemon's, once it has claimed its name.
    pub generation: Option<u64>,
}

impl Etcd {
    pub fn new(
        settings: Settings,
        etcd: EtcdSettings,
        wanted: Wanted,
        wires: Wires,
        told: watch::Sender<Status>,
    ) -> Self {
        Self { settings, etcd, wanted, wires, told, lease: None, generation: None }
    }

    /// Until nobody says any more what runs.
    pub async fn run(mut self) {
        // What runs is not known yet: whoever registered now would withdraw everything that is there.
        if self.wires.running.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let (mut turn, mut pause) = (0, FIRST_PAUSE);
        loop {
            let began = Instant::now();
            let trouble = session::session(&mut self, turn).await;
            match trouble {
                Trouble::Ended => return,
                // Old enough; the next one reads certificates and passwords anew.
                Trouble::Aged => continue,
                Trouble::Superseded(ref why) => {
                    self.lose(why.clone());
                    tracing::error!(reason = %why, "this daemon no longer registers agents");
                    return;
                }
                Trouble::Fault(ref why) => self.lose(why.clone()),
            }
            turn += 1;
            if began.elapsed() > LONGEST_PAUSE * 2 {
                pause = FIRST_PAUSE;
            }
            if self.pause(jittered(pause)).await.is_err() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn lose(&self, why: String) {
        let known = self.told.borrow().trouble.as_ref() == Some(&why);
        if !known {
            tracing::warn!(reason = %why, "agents cannot be registered; trying again");
        }
        self.told.send_modify(|status| status.lost(why));
    }

    /// Waits; fails when the daemon ends meanwhile.
    async fn pause(&mut self, pause: Duration) -> Result<(), watch::error::RecvError> {
        let until = tokio::time::sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return Ok(()),
                changed = self.wires.running.changed() => changed?,
            }
        }
    }
}

/// Between 75 and 125 of a hundred parts, so that nodes that lost etcd together do not come back together.
pub fn jittered(time: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u8;
    time.mul_f64(0.75 + f64::from(random) / 510.0)
}
