//! What an agent has used, as the daemon is told.

use crate::cgroup;
use crate::shim::Outcome;
use crate::shim::session::Reins;
use crate::wire::service::shim::Usage;

/// So far.
pub fn now(reins: &Reins<'_>) -> Usage {
    let traffic = reins.gateway.as_ref().map(|gateway| gateway.so_far());
    Usage {
        processes: reins.cgroup.processes(),
        sent: traffic.map(|(sent, ..)| sent),
        received: traffic.map(|(_, received, _)| received),
        refused: reins.denials.total() + traffic.map_or(0, |(.., refused)| refused),
        ..counted(&reins.cgroup.usage())
    }
}

/// In all.
pub fn in_all(outcome: &Outcome) -> Usage {
    Usage {
        memory: None,
        sent: outcome.traffic.as_ref().map(|traffic| traffic.sent),
        received: outcome.traffic.as_ref().map(|traffic| traffic.received),
        refused: outcome.denials.iter().map(|denial| denial.count).fold(0, u64::saturating_add),
        ..counted(&outcome.usage)
    }
}

fn counted(used: &cgroup::Usage) -> Usage {
    Usage {
        cpu_us: used.cpu_micros,
        memory: used.memory_bytes,
        memory_peak: used.memory_peak_bytes,
        ..Usage::default()
    }
}
