//! The shim of a service's agent: executed by the launcher with a claim, it builds the sandbox and stays with the agent,
//! whoever else of the service lives or dies meanwhile.
//!
//! ```text
//!  launcher ──exec──▶ ready ──claim, line, listener──▶ admit ──▶ commission ──▶ … ──▶ exit.json
//!                                                       │ ▲
//!                                      terminal/ ◀──────┘ └── daemon (the first over `line`, later ones over `listener`)
//! ```

pub mod admit;
pub mod estate;
pub mod front;
mod home;
pub mod kept;
pub mod line;
pub mod log;
pub mod meter;
pub mod terminal;
mod usage;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::ahead::Ahead;
use super::attestation::Attestation;
use super::commission::{Commission, CommissionError};
use super::keeper::{self, Keeper};
use super::words::Home;
use super::{Outcome, ShimError, words};
use crate::host::Host;
use crate::plan::{Plan, PlanError, seccomp};
use crate::policy::Policy;
use crate::sys::process::End;
use crate::sys::{fd, process, signal};
use crate::wire::service::claim::{Claim, ENGAGEMENT, Engagement, SPARE, read_sealed};
use crate::wire::service::launcher::{Reason, Refusal};
use crate::wire::service::{Ended, Order, Places, order, places};
use admit::Admitted;
use front::{Identity, ServiceFront};
use log::Log;
use meter::Meter;
use terminal::Terminal;

/// What is the same for every agent, done before anybody waits for it.
struct Ready {
    /// It makes the network namespace meanwhile. None on a host where nothing can start.
    keeper: io::Result<Option<Keeper>>,
    ahead: Ahead,
}

/// Runs the shim to the end of its agent.
pub fn main() -> ExitCode {
    process::end_on_panic();
    if keeper::was_called() {
        return ExitCode::SUCCESS;
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody reads this but an administrator who starts it by hand: the launcher gives it no stream.
            eprintln!("stockade-shim: {error} (it is started by stockade-launcher, and not by hand)");
            ExitCode::from(125)
        }
    }
}

fn serve() -> io::Result<()> {
    let socket = fd::adopt(ENGAGEMENT)?;
    process::rename(SPARE)?;
    super::inherited::count_filters()?;
    // Whoever sends these means the service, not the agent; a daemon that goes away is no reason to end.
    for ignored in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        signal::ignore(ignored)?;
    }
    let ready = Ready::make();
    match Engagement::receive(socket.as_fd()) {
        Ok(Some(engagement)) => {
            drop(socket);
            process::rename("stockade-shim")?;
            attend(ready, engagement)
        }
        // The launcher has gone, and nobody needs it any more.
        none => {
            ready.dismiss();
            none.map(|_| ())
        }
    }
}

impl Ready {
    fn make() -> Self {
        // An unfit host may not even have the calls that a keeper takes; the plan says that better.
        let fit = Host::probe().refusals().is_empty();
        let keeper = fit.then(Keeper::start).transpose();
        seccomp::prepare();
        Self { keeper, ahead: if fit { Ahead::make() } else { Ahead::default() } }
    }

    fn dismiss(self) {
        if let Ok(Some(keeper)) = self.keeper {
            keeper.dismiss();
        }
    }

    /// The host as it is now, the keeper if anything can start on it, and what was made ahead.
    fn look(self, audit: Option<&Result<(), String>>) -> Result<(Host, Option<Keeper>, Ahead), Refusal> {
        let mut host = Host::probe();
        if let Some(Err(why)) = audit {
            host.audit = host.audit.and_then(|()| Err(why.clone()));
        }
        let keeper = match self.keeper {
            Ok(Some(keeper)) if keeper.is_well() => Ok(Some(keeper)),
            // What was so while it waited need not be so any more.
            other => {
                if let Ok(Some(keeper)) = other {
                    keeper.dismiss();
                }
                host.refusals().is_empty().then(Keeper::start).transpose()
            }
        };
        let keeper = keeper.map_err(|error| refusal(&ShimError::Keeper(error).into()))?;
        Ok((host, keeper, self.ahead))
    }
}

fn attend(ready: Ready, engagement: Engagement) -> io::Result<()> {
    let Engagement { claim, line, listener } = engagement;
    let Claim::<Policy> { node, mut order, policy, policy_hash, audit } =
        serde_json::from_slice(&read_sealed(&claim, 2 * order::LONGEST)?)?;
    // The listener is the launcher's own description, and only this process uses it.
    rustix::io::ioctl_fionbio(&listener, true)?;
    let places = Places::under(&node.root);
    let directory = places.agent(&order.id);
    let size = (order.size.cols, order.size.rows);
    let log = Log::open(&directory.join(places::TERMINAL), order.log_bytes, size)?;
    let boot = kept::boot()?;
    let identity = Identity {
        id: order.id.clone(),
        places: places.clone(),
        daemon_uid: node.daemon_uid,
        boot: boot.clone(),
        audit,
    };
    let meter = Meter::begin(directory.join(places::USAGE))?;
    let mut front = ServiceFront::new(identity, line, listener, Terminal::new(log, window(&order)), meter);
    let admitted = admit::admit_under(&order, &node, policy);
    // Not held for as long as the agent runs: files can be long.
    (order.files, order.environment) = Default::default();
    let wait = Duration::from_millis(order.home_wait_ms.min(order::LONGEST_WAIT_MS));
    let result = match admitted.and_then(|admitted| Ok((hold(&admitted, wait)?, admitted))) {
        Ok((hold, admitted)) => {
            let result = run(ready, admitted, policy_hash, &mut front);
            drop(hold);
            result
        }
        Err(refusal) => {
            ready.dismiss();
            Err(refusal)
        }
    };
    let ended = sum_up(result, &mut front, boot);
    let ended = if places.shutdown().exists() { by_shutdown(ended) } else { ended };
    let written = kept::put_exit(&directory, &ended);
    // From now on nobody finds a shim here, and whoever looks finds how it ended.
    let _ = fs::remove_file(places.shim_socket(&order.id));
    let _ = fs::remove_file(kept::whereabouts(&places, &order.id));
    let _ = fs::remove_file(kept::tally(&places, &order.id));
    if let Some(refusal) = &ended.not_started {
        front.tell_not_started(refusal);
    }
    front.tell_ended(&ended);
    written
}

fn window(order: &Order) -> crate::jail::WindowSize {
    let (ws_row, ws_col) = (order.size.rows, order.size.cols);
    crate::jail::WindowSize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Nobody else uses its home meanwhile, unless that vanishes with it.
fn hold(admitted: &Admitted, wait: Duration) -> Result<Option<home::Hold>, Refusal> {
    match &admitted.words.home {
        Home::Directory(path) => home::hold(path, wait).map(Some),
        _ => Ok(None),
    }
}

/// Builds it, and stays to its end.
fn run(
    ready: Ready,
    admitted: Admitted,
    policy_hash: String,
    front: &mut ServiceFront,
) -> Result<Outcome, Refusal> {
    let (host, keeper, ahead) = ready.look(front.audit())?;
    let Admitted { id, policy, words, files, .. } = admitted;
    front.put_files(files);
    let mut request = words::resolve(words, admit::caller(), &policy).map_err(|error| Refusal {
        reason: Reason::Exceeds,
        detail: error.to_string(),
        field: Some("workspace".into()),
    })?;
    // Who orders a command does not thereby see what he could not look at himself.
    request.installation.retain(|path| admit::is_open_to_all(path));
    let commission = Commission {
        agent: Some(&id),
        policy: &policy,
        host: &host,
        request: &request,
        keeper: keeper.as_ref(),
        ahead,
    };
    let result = commission
        .carry_out(front, &mut |_: &Plan| -> Result<_, CommissionError> { Ok(Some(policy_hash.clone())) });
    if let Some(keeper) = keeper {
        keeper.dismiss();
    }
    result.map_err(|error| refusal(&error))
}

/// Why not, for the daemon.
fn refusal(error: &CommissionError) -> Refusal {
    let reason = match error {
        CommissionError::Plan(PlanError::Precious { .. }) => Reason::Exceeds,
        CommissionError::Shim(ShimError::Exec { .. }) => Reason::Host,
        error if error.is_refusal() => Reason::Host,
        _ => Reason::Failed,
    };
    let field = (reason == Reason::Exceeds).then(|| "workspace".to_owned());
    Refusal { reason, detail: chain(error), field }
}

/// The error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = source.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn sum_up(result: Result<Outcome, Refusal>, front: &mut ServiceFront, boot: String) -> Ended {
    let nothing = Ended {
        code: None,
        signal: None,
        out_of_memory: false,
        stopped: front.stopped,
        killed: false,
        not_started: None,
        boot,
        at: kept::now(),
        end: front.terminal().end(),
        usage: Default::default(),
        report: serde_json::Value::Null,
        metered: front.metered_so_far(),
    };
    match result {
        Ok(outcome) => Ended {
            code: if let End::Exited(code) = outcome.end { Some(code as u8) } else { None },
            signal: if let End::Signaled(signal) = outcome.end { Some(signal) } else { None },
            out_of_memory: outcome.out_of_memory,
            killed: outcome.killed,
            usage: usage::in_all(&outcome),
            metered: Some(front.metered()),
            report: report(&outcome, front.terminal().has_lost()),
            ..nothing
        },
        // It ran, and could not be attended to any longer.
        Err(refusal) if front.since.is_some() => {
            Ended { report: serde_json::json!({ "error": refusal.detail }), ..nothing }
        }
        Err(refusal) => Ended { not_started: Some(refusal), ..nothing },
    }
}

/// A signal that comes while the machine is shut down is the machine's (systemd-shutdown(8)), and says nothing of the agent.
fn by_shutdown(mut ended: Ended) -> Ended {
    if let Some(signal) = ended.signal.filter(|_| !ended.stopped && !ended.out_of_memory) {
        ended.signal = None;
        ended.report["error"] = "the node was shut down, or rebooted, while it ran".into();
        ended.report["signal"] = signal.into();
    }
    ended
}

/// What it was refused, and what went over the network, as in the report of `stockade run`.
fn report(outcome: &Outcome, lost: bool) -> serde_json::Value {
    let Outcome { denials, traffic, landlock_audit, usage, attestation, .. } = outcome;
    let Attestation { shortfalls, .. } = attestation;
    let mut report = serde_json::json!({
        "denials": denials,
        "landlockAudit": landlock_audit.to_string(),
        "usage": usage,
        "shortfalls": shortfalls,
    });
    if lost {
        report["lostOutput"] = "the disk was full, and what the agent showed last is not in the log".into();
    }
    if let Some(traffic) = traffic {
        report["network"] = serde_json::json!(traffic);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_at_a_shutdown_is_the_machines_unless_there_is_another_reason() {
        let ended = |signal, stopped| Ended {
            code: None,
            signal,
            out_of_memory: false,
            stopped,
            killed: false,
            not_started: None,
            boot: "boot".into(),
            at: 0,
            end: 0,
            usage: Default::default(),
            metered: None,
            report: serde_json::json!({ "denials": [] }),
        };
        let told = by_shutdown(ended(Some(1), false));
        assert_eq!((told.signal, &told.report["signal"]), (None, &1.into()));
        assert!(told.report["error"].as_str().is_some_and(|error| error.contains("rebooted")));
        assert_eq!(by_shutdown(ended(Some(15), true)).signal, Some(15));
        assert_eq!(by_shutdown(ended(None, false)).report["error"], serde_json::Value::Null);
    }
}
