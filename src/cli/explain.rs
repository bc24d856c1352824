//! `stockade policy explain NAME SUBJECT`: what would happen to it, which wall, which line decides, which would change it.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::destination;
use super::policy::Answer;
use super::request::{self, Home, RequestError, Words};
use crate::host::Host;
use crate::host::survey::Survey;
use crate::plan::outlook::{Entry, Scene};
use crate::plan::seccomp::{self, Cause, table};
use crate::plan::{Given, PlanError, resolve};
use crate::policy::load::Layer;
use crate::policy::origin::{Origin, origins};
use crate::policy::{Library, PolicyError, error::nearest};

/// What is asked, and about which start.
#[derive(Debug, Clone, clap::Args)]
pub struct Question {
    /// A path (with a slash in it, or beginning with . or ~), a host with or without a port, a system call, or tcp
    #[arg(value_name = "PATH|HOST[:PORT]|SYSCALL|tcp")]
    subject: Option<String>,
    /// Asked about a start with this workspace
    #[arg(long, value_name = "DIR", requires = "subject")]
    workspace: Option<PathBuf>,
    /// Asked about a start with this home
    #[arg(long, value_name = "DIR", requires = "subject")]
    home: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A directory of the question.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Such a start would be refused.
    #[error("a start like this would be refused: {0}")]
    Plan(#[from] PlanError),
    /// Neither a path, nor a call, nor tcp.
    #[error(
        "{subject:?} is no system call{}; a path has a slash in it, a host a dot or a port, and TCP is \"tcp\"",
        suggestion(.nearest)
    )]
    Subject {
        /// As given.
        subject: String,
        /// A call of a similar name.
        nearest: Option<&'static str>,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

impl Question {
    /// What is asked about, if it is not the whole policy.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// Answers it for the last of `layers`.
    pub fn answer(&self, subject: &str, library: &Library, policy: &str) -> Result<Answer, ExplainError> {
        let layers = library.layers(&policy.parse().map_err(PolicyError::from)?)?;
        let finding = match (subject, destination::subject(subject)) {
            ("tcp", _) => tcp(&layers, Host::probe().landlock_abi),
            (_, Some(wanted)) => destination::look(&wanted, &last(&layers).policy.network),
            (subject, None) if subject.contains('/') || subject.starts_with(['.', '~']) => {
                self.path(subject, &layers)?
            }
            (subject, None) => call(subject, &layers)?,
        };
        Ok(finding.told(subject, &layers))
    }

    fn path(&self, subject: &str, layers: &[Layer]) -> Result<Finding, ExplainError> {
        let policy = &last(layers).policy;
        let words = Words {
            command: Vec::new(),
            workspace: self.workspace.clone(),
            home: self.home.clone().map_or(Home::Ephemeral, Home::Directory),
            environment: Vec::new(),
            policy_file: None,
            published: Vec::new(),
            widened: Vec::new(),
        };
        let request = request::resolve(words, policy)?;
        let survey = Survey::look(resolve::paths_of_interest(policy, &request));
        let host = Host::probe();
        let given = Given { policy, host: &host, limits_missing: Default::default(), survey: &survey };
        let (user, mounts) = resolve::scenery(&given, &request)?;
        let scene = Scene {
            policy,
            request: &request,
            mounts: &mounts,
            home: &user.home,
            read_link: &|path| fs::read_link(path).ok(),
            exists: &|path| fs::symlink_metadata(path).is_ok(),
        };
        let start = request.workspace.as_ref().map_or(&request.caller.directory, |place| &place.path);
        let path = match subject.strip_prefix('~') {
            Some(below) => request.caller.home.join(below.trim_start_matches('/')),
            None => start.join(subject),
        };
        let found = scene.look(&path);
        Ok(Finding {
            wall: "mounts",
            verdict: json!(found.verdict),
            says: found.verdict.says().to_owned(),
            resolved: (found.path != path).then_some(found.path),
            cause: found.cause,
            decided_by: found.decided_by,
            remedy: found.remedy,
        })
    }
}

/// The answer for people and for programs alike.
pub struct Finding {
    /// Which wall decides.
    pub wall: &'static str,
    /// In one word.
    pub verdict: Value,
    /// In a few words.
    pub says: String,
    /// Where the path's links lead, if it has any.
    pub resolved: Option<PathBuf>,
    /// Why.
    pub cause: String,
    /// The entry of the policy.
    pub decided_by: Option<Entry>,
    /// What to write to change it.
    pub remedy: Option<String>,
}

impl Finding {
    fn told(self, subject: &str, layers: &[Layer]) -> Answer {
        let by = self.decided_by.as_ref().map(|entry| (entry, layer_of(entry, layers)));
        let led = self.resolved.as_deref().map(|path| format!(" (leads to {})", path.display()));
        let line = match &by {
            Some((Entry { key, value }, Some(policy))) => format!("{key}: {value}, in {policy}"),
            Some((Entry { key, value }, None)) => format!("{key}: {value}, the default"),
            None => "no entry of the policy".to_owned(),
        };
        let text = format!(
            "{subject}{}: {}\n  wall:          {}\n  because:       {}\n  decided by:    {line}\n  to change it:  {}\n",
            led.unwrap_or_default(),
            self.says,
            self.wall,
            self.cause,
            self.remedy.as_deref().unwrap_or("nothing in a policy does"),
        );
        let json = json!({
            "policy": last(layers).policy.name, "subject": subject, "path": self.resolved,
            "wall": self.wall, "verdict": self.verdict, "cause": self.cause,
            "decidedBy": by.map(|(entry, policy)| json!({ "key": entry.key, "value": entry.value, "policy": policy })),
            "remedy": self.remedy,
        });
        Answer { text, json }
    }
}

/// The policy of the chain that wrote this entry; none: it is the strictest there is.
fn layer_of<'l>(entry: &Entry, layers: &'l [Layer]) -> Option<&'l str> {
    let written = [entry.value.clone(), format!("{:?}", entry.value)];
    let is_it = |origin: &Origin| origin.key == entry.key && written.contains(&origin.value);
    let index = origins(layers).into_iter().find(is_it)?.layer?;
    Some(layers[index].policy.name.as_str())
}

fn last(layers: &[Layer]) -> &Layer {
    layers.last().expect("a policy has at least its own layer")
}

fn tcp(layers: &[Layer], landlock_abi: u32) -> Finding {
    let network = &last(layers).policy.network;
    let loopback = network.loopback;
    if network.has_destinations() {
        return destination::tcp(network);
    }
    let own = "the sandbox has a loopback interface of its own, and nothing leads out of it";
    let (verdict, says, cause) = match (loopback, landlock_abi) {
        (true, _) => ("inside-only", "only between the sandbox's own processes", own.to_owned()),
        (false, 0..=3) => (
            "inside-only",
            "only between the sandbox's own processes, although the policy allows none",
            format!(
                "this host's Landlock (ABI {landlock_abi}) refuses no TCP, where the policy tolerates that; {own}"
            ),
        ),
        (false, _) => (
            "refused",
            "refused, inside as well",
            format!("Landlock refuses bind and connect (EACCES); {own}"),
        ),
    };
    Finding {
        wall: if verdict == "refused" { "landlock" } else { "network" },
        verdict: verdict.into(),
        says: says.into(),
        resolved: None,
        cause,
        decided_by: Some(Entry { key: "network.loopback", value: loopback.to_string() }),
        remedy: (!loopback).then(|| "[network] loopback = true".to_owned()),
    }
}

fn call(name: &str, layers: &[Layer]) -> Result<Finding, ExplainError> {
    let policy = &last(layers).policy;
    let syscalls = &policy.syscalls;
    let calls = table::calls();
    let Some((number, _)) = calls.iter().find(|(_, known)| *known == name) else {
        let nearest = nearest(name, calls.iter().map(|(_, known)| *known));
        let nearest =
            nearest.and_then(|near| calls.iter().find(|(_, known)| *known == near)).map(|(_, n)| *n);
        return Err(ExplainError::Subject { subject: name.into(), nearest });
    };
    let explained = seccomp::explain_under(policy, *number);
    let (verdict, says) = match explained.cause {
        Cause::NotTheFilter => ("allowed", "allowed"),
        Cause::Arguments(_) => ("arguments", "allowed with some arguments, refused with others (EPERM)"),
        Cause::Denied | Cause::NoLoopback | Cause::NotAllowed(_) | Cause::Unknown => ("refused", "refused"),
    };
    let entry = |key, value: &str| Some(Entry { key, value: value.to_owned() });
    let decided_by = if syscalls.deny.contains(name) {
        entry("syscalls.deny", name)
    } else if explained.cause == Cause::NoLoopback {
        entry("network.loopback", "false")
    } else if syscalls.allow.contains(name) {
        entry("syscalls.allow", name)
    } else if explained.remedy.as_deref().is_some_and(|remedy| remedy.contains("nested-namespaces")) {
        entry("syscalls.nested-namespaces", "false")
    } else {
        None
    };
    let cause = match explained.cause {
        Cause::NotTheFilter => {
            "the filter lets it through; if it fails inside, another wall or the kernel said so".into()
        }
        cause => cause.to_string(),
    };
    Ok(Finding {
        wall: "seccomp",
        verdict: verdict.into(),
        says: says.into(),
        resolved: None,
        cause,
        decided_by,
        remedy: explained.remedy,
    })
}
