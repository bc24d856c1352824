//! What a daemon can ask, and what is done about it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::audit::Audit;
use super::blanks::{self, Blanks};
use super::bury::{self, Burial};
use super::refuse::Refuse;
use super::spares::Spares;
use super::tree::Tree;
use crate::id::AgentId;
use crate::policy::{self, Policy};
use crate::shim::service::admit::admit;
use crate::shim::service::kept::{self, Whereabouts};
use crate::shim::service::line;
use crate::wire::service::claim::{Claim, Engagement, Settings, read_sealed, sealed};
use crate::wire::service::launcher::{FromLauncher, Reason, Refusal, ToLauncher};
use crate::wire::service::order::{self, Home, Workspace};
use crate::wire::service::{Order, places};

/// How long a shim that was just executed may take to say where it is.
const MOMENT: Duration = Duration::from_secs(5);

/// The launcher.
pub struct Launcher {
    node: Settings,
    tree: Tree,
    boot: String,
    /// The next one.
    pub spares: Spares,
    /// As many.
    blanks: Blanks,
    audit: Audit,
    /// Those shims that are children of this process.
    shims: BTreeMap<u32, String>,
    /// Workspaces that are to go.
    pub refuse: Refuse,
    /// Agents that are being ended.
    ends: Vec<Ending>,
}

/// An agent that is being ended.
struct Ending {
    id: String,
    /// Its boot, and what is said of it.
    boot: String,
    what: String,
    burial: Burial,
    /// The question that is to be answered then.
    asker: Option<u64>,
}

/// `agent.json`: who it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentRecord {
    id: String,
    tenant: String,
    policy: String,
    workspace: Workspace,
    home: Home,
    /// Milliseconds since 1970.
    created: u64,
    boot: String,
}

pub type Answer = Result<FromLauncher, Refusal>;

fn refuse<T>(reason: Reason, detail: impl ToString) -> Result<T, Refusal> {
    Err(Refusal { reason, detail: detail.to_string(), field: None })
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> Refusal {
    move |error| Refusal { reason: Reason::Failed, detail: format!("{what}: {error}"), field: None }
}

fn id_of(id: &str) -> Result<AgentId, Refusal> {
    id.parse().map_err(|error: crate::id::InvalidName| Refusal {
        reason: Reason::Malformed,
        detail: error.to_string(),
        field: Some("id".into()),
    })
}

impl Launcher {
    /// On this node, with so many shims that wait.
    pub fn new(node: Settings, tree: Tree, ready_shims: usize) -> io::Result<Self> {
        let (boot, spares) = (kept::boot()?, Spares::new(ready_shims)?);
        let refuse = Refuse::of(tree.removed.try_clone()?);
        let (blanks, audit) = Default::default();
        let (shims, ends) = Default::default();
        Ok(Self { node, tree, boot, spares, blanks, audit, shims, refuse, ends })
    }

    /// Its own socket.
    pub fn listen(&self) -> Result<OwnedFd, super::LauncherError> {
        self.tree.listen()
    }

    /// The only user that it obeys.
    pub fn daemon_uid(&self) -> u32 {
        self.node.daemon_uid
    }

    /// Which boot this is.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Gets ready for the next agents, while nobody asks for anything.
    pub fn prepare(&mut self) {
        if !self.spares.prepare() {
            return;
        }
        // Where that fails, the next start says why.
        if self.blanks.count() < self.spares.wanted() && self.blanks.prepare(&self.tree).is_ok() {
            self.spares.go_on();
        }
    }

    /// There will be no next agents.
    pub fn dismiss(&mut self) {
        self.spares.dismiss();
        self.blanks.dismiss(&self.tree);
    }

    /// Answers one question; `None`: the answer comes from [`Self::settle`], to whoever asked.
    pub fn answer(&mut self, question: ToLauncher, fds: Vec<OwnedFd>, asker: u64) -> Option<Answer> {
        if let ToLauncher::Kill { id } = question {
            return id_of(&id)
                .and_then(|id| self.kill(&id, asker))
                .map(|done| done.then_some(FromLauncher::Done))
                .transpose();
        }
        Some(self.answer_at_once(question, fds))
    }

    fn answer_at_once(&mut self, question: ToLauncher, fds: Vec<OwnedFd>) -> Answer {
        match question {
            ToLauncher::Launch { id } => self.launch(&id_of(&id)?, fds),
            ToLauncher::Relaunch { id } => self.relaunch(&id_of(&id)?, fds),
            ToLauncher::Remove { id, workspace } => self.remove(&id_of(&id)?, workspace),
            ToLauncher::Hello { .. } | ToLauncher::Kill { .. } => refuse(Reason::Malformed, "said already"),
        }
    }

    fn launch(&mut self, id: &AgentId, fds: Vec<OwnedFd>) -> Answer {
        let Ok([order, line]) = <[OwnedFd; 2]>::try_from(fds) else {
            return refuse(Reason::Malformed, "a Launch comes with two descriptors: the order, and a socket");
        };
        self.check_line(&line)?;
        let bytes = read_sealed(&order, order::LONGEST).or_else(|error| refuse(Reason::Malformed, error))?;
        let order = parse(&bytes, id)?;
        let admitted = admit(&order, &self.node)?;
        for place in &admitted.places {
            self.tree.make_place(place).map_err(failed(&format!("cannot make {}", place.display())))?;
        }
        self.spares.leave_room();
        let given = self.blanks.give(&self.tree, id.as_str());
        let Some(listener) = given.map_err(failed("cannot make its directory"))? else {
            return refuse(
                Reason::Exists,
                format!("agent {id} is there already: remove it, or choose another id"),
            );
        };
        let kept = self.keep(&order, &bytes);
        let started = kept.and_then(|()| self.start(order, admitted.policy, line, listener));
        if started.is_err() {
            self.forget(id);
        }
        started
    }

    fn relaunch(&mut self, id: &AgentId, fds: Vec<OwnedFd>) -> Answer {
        let Ok([line]) = <[OwnedFd; 1]>::try_from(fds) else {
            return refuse(Reason::Malformed, "a Relaunch comes with one descriptor: a socket");
        };
        self.check_line(&line)?;
        self.check_ended(id)?;
        let path = self.tree.places.orders().join(id.as_str());
        let bytes = fs::read(path).or_else(|error| {
            refuse(Reason::Unknown, format!("what agent {id} was started with is gone (a reboot?): {error}"))
        })?;
        let order = parse(&bytes, id)?;
        // The policies, and the directories, may be others by now.
        let admitted = admit(&order, &self.node)?;
        for place in &admitted.places {
            self.tree.make_place(place).map_err(failed(&format!("cannot make {}", place.display())))?;
        }
        let directory = self.tree.places.agent(id.as_str());
        kept::reserve_exit(&directory).map_err(failed("no room to say how it ends"))?;
        let (exit, earlier) = (directory.join(places::EXIT), directory.join(".exit.json.earlier"));
        fs::rename(&exit, &earlier).map_err(failed("exit.json"))?;
        for earlier in [places::ATTESTATION, places::USAGE] {
            let _ = fs::remove_file(directory.join(earlier));
        }
        let listener = self.tree.listen_for(id.as_str()).map_err(failed("cannot make the shim's socket"));
        let started = listener.and_then(|listener| self.start(order, admitted.policy, line, listener));
        let _ = match started {
            Ok(_) => fs::remove_file(earlier),
            // It is as it was.
            Err(_) => fs::rename(earlier, exit),
        };
        started
    }

    /// Both ends of a pair are whose process made it.
    fn check_line(&self, socket: &OwnedFd) -> Result<(), Refusal> {
        match line::is_from(socket, self.node.daemon_uid) {
            true => Ok(()),
            false => refuse(Reason::Malformed, "the line is no sequential-packet socket of the daemon's"),
        }
    }

    /// What is kept of it from the start.
    fn keep(&self, order: &Order, bytes: &[u8]) -> Result<(), Refusal> {
        let record = AgentRecord {
            id: order.id.clone(),
            tenant: order.tenant.clone(),
            policy: order.policy.clone(),
            workspace: order.workspace.clone(),
            home: order.home.clone(),
            created: kept::now(),
            boot: self.boot.clone(),
        };
        let directory = self.tree.places.agent(&order.id);
        kept::put(&directory.join(places::AGENT), &record, 0o640, false).map_err(failed("agent.json"))?;
        let path = self.tree.places.orders().join(&order.id);
        kept::put_bytes(&path, bytes, 0o600, false).map_err(failed("cannot keep the order"))
    }

    fn start(&mut self, order: Order, policy: Policy, line: OwnedFd, listener: OwnedFd) -> Answer {
        let id = order.id.clone();
        let policy_hash = policy::hash(&policy);
        let audit = Some(self.audit.is_on());
        let claim = Claim { node: self.node.clone(), order, policy, policy_hash, audit };
        let claim = serde_json::to_vec(&claim).map_err(io::Error::other);
        let claim = claim.and_then(|claim| sealed("stockade-claim", &claim)).map_err(failed("the claim"))?;
        let engagement = Engagement { claim, line, listener };
        let pid = self.spares.engage(&engagement).map_err(failed("cannot start a shim"))?;
        self.shims.insert(pid, id);
        Ok(FromLauncher::Launched { pid })
    }

    /// A launch that came to nothing leaves nothing.
    fn forget(&self, id: &AgentId) {
        self.clear_run(id.as_str());
        let _ = fs::remove_dir_all(self.tree.places.agent(id.as_str()));
    }

    /// What it was started with, and its shim's socket; its shim may not have come to say where it is.
    fn clear_run(&self, id: &str) {
        let Tree { places, .. } = &self.tree;
        let order = places.orders().join(id);
        let told = kept::beside(&kept::whereabouts(places, id));
        for path in [places.shim_socket(id), told, kept::beside(&order), order] {
            let _ = fs::remove_file(path);
        }
    }

    fn check_ended(&self, id: &AgentId) -> Result<(), Refusal> {
        let directory = self.tree.places.agent(id.as_str());
        if !directory.is_dir() {
            return refuse(Reason::Unknown, format!("there is no agent {id}"));
        }
        // It has said how it ended, and goes; what is its own by name would be the next one's.
        let goes = self.ends.iter().any(|ending| ending.id == id.as_str())
            || bury::whereabouts(&self.tree.places, id.as_str(), &self.boot)
                .is_some_and(|found| found.shim.is_there());
        match directory.join(places::EXIT).exists() && !goes {
            true => Ok(()),
            false => refuse(Reason::Exists, format!("agent {id} has not ended: stop it first")),
        }
    }

    /// Whether it is ended already.
    fn kill(&mut self, id: &AgentId, asker: u64) -> Result<bool, Refusal> {
        let places = &self.tree.places;
        if !places.agent(id.as_str()).is_dir() {
            return refuse(Reason::Unknown, format!("there is no agent {id}"));
        }
        let boot = self.boot.clone();
        self.end(id.as_str(), &boot, "its shim was ended by the launcher", Some(asker))
            .map_err(failed("cannot end it"))
    }

    /// Where its shim is. One that another launcher has just started says so in a moment.
    fn find(&self, id: &str) -> Option<Whereabouts> {
        let deadline = Instant::now() + MOMENT;
        loop {
            let found = bury::whereabouts(&self.tree.places, id, &self.boot);
            let is_ours = || self.shims.values().any(|shim| shim == id);
            if found.is_some() || is_ours() || !self.tree.is_listening(id) || Instant::now() >= deadline {
                return found;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends what is left of an agent, and says so in its directory: at once (true), or when all is gone.
    fn end(&mut self, id: &str, boot: &str, what: &str, asker: Option<u64>) -> io::Result<bool> {
        if let Some(found) = self.find(id) {
            let (id, boot, what) = (id.to_owned(), boot.to_owned(), what.to_owned());
            self.ends.push(Ending { id, boot, what, burial: Burial::begin(found), asker });
            return Ok(false);
        }
        if let Some((pid, _)) = self.shims.iter().find(|(_, shim)| *shim == id) {
            // Not even its range is taken: nothing but the process is there.
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidData)?,
                rustix::process::Signal::KILL,
            );
        }
        self.close(id, boot, what).map(|()| true)
    }

    fn close(&self, id: &str, boot: &str, what: &str) -> io::Result<()> {
        let places = &self.tree.places;
        let _ = fs::remove_file(kept::whereabouts(places, id));
        let _ = fs::remove_file(places.shim_socket(id));
        let _ = fs::remove_file(kept::tally(places, id));
        bury::record(places, id, boot, what)
    }

    /// Whether agents are being ended.
    pub fn is_ending(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Looks after those that are being ended: the answers that are due, and to whom.
    pub fn settle(&mut self) -> Vec<(u64, Answer)> {
        let mut answers = Vec::new();
        let (mut over, mut left) = (Vec::new(), Vec::new());
        for ending in std::mem::take(&mut self.ends) {
            match ending.burial.look() {
                None => left.push(ending),
                Some(result) => over.push((ending, result)),
            }
        }
        self.ends = left;
        for (Ending { id, boot, what, asker, .. }, result) in over {
            // Two may have asked; whoever is first has said what is to be said, and it may have been started anew.
            let is_last = !self.ends.iter().any(|other| other.id == id);
            let result = result.and_then(|()| if is_last { self.close(&id, &boot, &what) } else { Ok(()) });
            match (asker, result) {
                (Some(asker), result) => {
                    let answer = result.map(|()| FromLauncher::Done).map_err(failed("cannot end it"));
                    answers.push((asker, answer));
                }
                (None, Err(error)) => eprintln!("stockade-launcher: agent {id}: {error}"),
                (None, Ok(())) => {}
            }
        }
        answers
    }

    fn remove(&mut self, id: &AgentId, workspace: bool) -> Answer {
        self.check_ended(id)?;
        if workspace {
            self.remove_workspace(id)?;
        }
        let directory = self.tree.places.agent(id.as_str());
        self.clear_run(id.as_str());
        // It follows no link, and nobody but root can have put one there.
        fs::remove_dir_all(directory).map_err(failed("cannot remove its directory"))?;
        Ok(FromLauncher::Done)
    }

    /// Its private workspace, unless another agent works there.
    fn remove_workspace(&mut self, id: &AgentId) -> Result<(), Refusal> {
        let Some(own) = self.record_of(id.as_str()) else { return Ok(()) };
        let Workspace::Named { name } = &own.workspace else { return Ok(()) };
        let others = fs::read_dir(self.tree.places.agents()).map_err(failed("cannot list the agents"))?;
        for other in others.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            let is_same =
                |other: &AgentRecord| other.tenant == own.tenant && other.workspace == own.workspace;
            let runs = !self.tree.places.agent(&other).join(places::EXIT).exists();
            if other != own.id && runs && self.record_of(&other).as_ref().is_some_and(is_same) {
                return refuse(Reason::Exists, format!("agent {other} works in the workspace {name}, too"));
            }
        }
        let (Ok(tenant), Ok(name)) =
            (own.tenant.parse::<crate::id::Tenant>(), name.parse::<crate::id::PlaceName>())
        else {
            return Ok(());
        };
        let path = self.tree.places.workspaces().join(tenant.as_str());
        self.refuse.take(&path, name.as_str()).map_err(failed("cannot remove its workspace"))
    }

    fn record_of(&self, id: &str) -> Option<AgentRecord> {
        let text = fs::read(self.tree.places.agent(id).join(places::AGENT)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Reaps the shims that have ended. One that could not say how its agent ended was killed.
    pub fn reap(&mut self) {
        while let Ok(Some((pid, status))) = crate::sys::process::wait_any() {
            if libc::WIFSTOPPED(status) {
                continue;
            }
            self.spares.ended(pid.cast_unsigned());
            let Some(id) = self.shims.remove(&pid.cast_unsigned()) else { continue };
            if self.shims.values().any(|other| *other == id) {
                continue; // it was started anew meanwhile
            }
            let what = format!("its shim ended without a word (wait status {status:#x})");
            // It was removed already, or is being ended.
            if !self.tree.places.agent(&id).is_dir() || self.ends.iter().any(|ending| ending.id == id) {
                continue;
            }
            let boot = self.boot.clone();
            if let Err(error) = self.end(&id, &boot, &what, None) {
                eprintln!("stockade-launcher: agent {id}: {error}");
            }
        }
    }

    /// Sockets, whereabouts and orders of agents that are no more.
    fn sweep_run(&self) {
        let places = &self.tree.places;
        for directory in [places.shims(), places.orders()] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let stem = ["", ".json", ".sock", ".egress"].iter().find_map(|end| {
                    let id = name.strip_suffix(end)?;
                    (!id.is_empty() && places.agent(id).is_dir()).then_some(id)
                });
                if stem.is_none() {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Looks at every agent that has not ended as far as its directory says, and at what is left of others.
    pub fn sweep(&mut self) {
        blanks::sweep(&self.tree);
        self.sweep_run();
        let Ok(entries) = fs::read_dir(self.tree.places.agents()) else { return };
        for id in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            if id.parse::<AgentId>().is_err() || self.tree.places.agent(&id).join(places::EXIT).exists() {
                continue;
            }
            // One that listens and has not said where it is may be no shim yet, but a child of the last launcher's that
            // still has everything open and will wait for a claim in vain.
            let found = self.find(&id);
            if found.is_some_and(|found| found.shim.is_there()) || self.tree.is_listening(&id) {
                continue;
            }
            if self.tree.places.agent(&id).join(places::EXIT).exists() {
                continue; // its start was refused meanwhile
            }
            let record = self.record_of(&id);
            let what = match &record {
                Some(record) if record.boot != self.boot => "the node was rebooted while it ran",
                Some(_) if self.tree.places.agent(&id).join(places::TERMINAL).exists() => {
                    "its shim vanished while no launcher ran"
                }
                _ => "its start was cut short",
            };
            let boot = record.map_or_else(|| self.boot.clone(), |record| record.boot);
            if let Err(error) = self.end(&id, &boot, what, None) {
                eprintln!("stockade-launcher: agent {id}: {error}");
            }
        }
        while self.is_ending() {
            self.settle();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn parse(bytes: &[u8], id: &AgentId) -> Result<Order, Refusal> {
    // The position says enough: the text around it could be a secret.
    let order: Order = serde_json::from_slice(bytes).or_else(|error| {
        refuse(Reason::Malformed, format!("not an order: line {}, column {}", error.line(), error.column()))
    })?;
    if order.id != id.as_str() {
        return refuse(Reason::Malformed, "the order is another agent's than the message says");
    }
    Ok(order)
}
