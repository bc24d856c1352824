//! An order, held against what root has decided on this node. The launcher asks before it starts a shim; the shim asks again
//! for itself, under the policy that the launcher has admitted it to.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::id::{AgentId, PlaceName, Tenant};
use crate::jail::WindowSize;
use crate::plan::request::Caller;
use crate::policy::request::destination;
use crate::policy::{Access, Cpus, Destination, Library, Policy, PolicyError, Reference, Request};
use crate::shim::words::{Home, Words, is_variable};
use crate::wire::service::Places;
use crate::wire::service::claim::Settings;
use crate::wire::service::launcher::{Reason, Refusal};
use crate::wire::service::order::{self, File, Order, Workspace};

/// The most words of a command, variables and files.
const MOST: usize = 4096;
/// The longest word, variable and path (MAX_ARG_STRLEN of execve(2), less a zero and the variable's name).
const LONGEST: usize = 128 * 1024 - 256;
/// How much of the terminal's output may be kept.
const LOG: std::ops::RangeInclusive<u64> = 64 * 1024..=1 << 40;

/// An order that root's own policies allow.
pub struct Admitted {
    /// Its name.
    pub id: AgentId,
    /// What it may do.
    pub policy: Policy,
    /// What it is to do.
    pub words: Words,
    /// Directories of the node's own that must be there: its home, its workspace.
    pub places: Vec<PathBuf>,
    /// The terminal's first size.
    pub size: WindowSize,
    /// For its workspace and its home.
    pub files: Vec<File>,
}

/// A refusal that names a field.
fn refused(reason: Reason, field: &str, detail: impl ToString) -> Refusal {
    Refusal { reason, detail: detail.to_string(), field: Some(field.into()) }
}

fn malformed(field: &str, detail: impl ToString) -> Refusal {
    refused(Reason::Malformed, field, detail)
}

fn exceeds(field: &str, detail: impl ToString) -> Refusal {
    refused(Reason::Exceeds, field, detail)
}

/// Holds it against the node.
///
/// # Errors
/// Says which field is at fault, and why.
pub fn admit(order: &Order, node: &Settings) -> Result<Admitted, Refusal> {
    admit_under(order, node, policy_of(order, node)?)
}

/// Holds it against the node, under a policy that was narrowed to it already.
///
/// # Errors
/// Says which field is at fault, and why.
pub fn admit_under(order: &Order, node: &Settings, policy: Policy) -> Result<Admitted, Refusal> {
    let id: AgentId = order.id.parse().map_err(|error| malformed("id", error))?;
    let tenant: Tenant = order.tenant.parse().map_err(|error| malformed("tenant", error))?;
    check_form(order)?;
    let places = Places::under(&node.root);
    let mut own = Vec::new();
    let workspace = workspace_of(order, node, &places, &tenant, &policy, &mut own)?;
    let home = home_of(order, &places, &tenant, &mut own)?;
    let files = files_of(order, workspace.as_deref());
    let words = Words {
        command: command_of(order, &policy)?,
        workspace,
        home,
        environment: environment_of(order),
        policy_file: None,
        published: Vec::new(),
        widened: Vec::new(),
    };
    let size = WindowSize { ws_row: order.size.rows, ws_col: order.size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(Admitted { id, policy, words, places: own, size, files })
}

/// Who asks, as policies see it: nobody's home, and no variables but those that policy and order name.
pub fn caller() -> Caller {
    // `~` in a policy stands for what a user has installed; a service has no user, and root's home is not for agents.
    Caller { home: "/nonexistent".into(), directory: "/".into(), ..Caller::default() }
}

/// The policy under which it runs: the named one, or less.
fn policy_of(order: &Order, node: &Settings) -> Result<Policy, Refusal> {
    let name = order.policy.parse().map_err(|error| malformed("policy", error))?;
    let policy = library(node).load(&Reference::Name(name)).map_err(|error| match error {
        PolicyError::Unknown { .. } => refused(Reason::UnknownPolicy, "policy", error),
        error => refused(Reason::Host, "policy", error),
    })?;
    if !policy.terminal.allocate {
        let detail = format!("policy {} gives no terminal, and an agent of the service has one", policy.name);
        return Err(exceeds("policy", detail));
    }
    let allow = order.allow.as_ref().map(|allow| destinations(allow)).transpose()?;
    let asked = Request {
        memory: order.memory.map(|bytes| amount(&bytes.to_string(), "memory")).transpose()?,
        cpus: order.millicpus.map(|millis| amount::<Cpus>(&thousandths(millis), "millicpus")).transpose()?,
        processes: order.processes.map(|count| positive(count, "processes")).transpose()?,
        allow: allow.iter().flatten().cloned().collect(),
        publish: Vec::new(),
    };
    let (mut narrowed, excess) = asked.on(&policy);
    if let Some(excess) = excess {
        let field = excess.iter().next().map_or("policy", |exceeded| field_of(exceeded.key));
        return Err(exceeds(field, format!("the order exceeds policy {}: {excess}", policy.name)));
    }
    if let Some(allow) = allow {
        narrowed.network.allow = allow;
    }
    Ok(narrowed)
}

/// The policies of this node: the administrator's, then the shipped ones.
fn library(node: &Settings) -> Library {
    let own = ["etc/stockade/policies", "usr/lib/stockade/policies"].map(|below| node.root.join(below));
    Library::of(node.policies.iter().cloned().chain(own), 0)
}

fn field_of(key: &str) -> &'static str {
    match key {
        "limits.memory" => "memory",
        "limits.cpus" => "millicpus",
        "limits.processes" => "processes",
        "network.allow" => "allow",
        _ => "policy",
    }
}

fn destinations(allow: &[String]) -> Result<BTreeSet<Destination>, Refusal> {
    let parsed = allow.iter().map(|text| destination(text).map_err(|error| malformed("allow", error)));
    parsed.collect()
}

fn amount<T: std::str::FromStr<Err: ToString>>(text: &str, field: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| malformed(field, error.to_string()))
}

fn positive(count: u32, field: &str) -> Result<u32, Refusal> {
    if count == 0 { Err(malformed(field, "0 is none at all: at least 1")) } else { Ok(count) }
}

fn thousandths(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// What can be judged without looking at the host.
fn check_form(order: &Order) -> Result<(), Refusal> {
    let plain = |text: &str| text.len() <= LONGEST && !text.contains('\0');
    for (field, words) in [("command", &order.command), ("arguments", &order.arguments)] {
        if words.len() > MOST || !words.iter().all(|word| plain(word)) {
            return Err(malformed(
                field,
                format!("at most {MOST} words of at most {LONGEST} bytes, without NUL"),
            ));
        }
    }
    if order.environment.len() > MOST {
        return Err(malformed("environment", format!("at most {MOST} variables")));
    }
    for (name, value) in &order.environment {
        if name.len() > 255 || !is_variable(name) {
            let name: String = name.chars().take(80).collect();
            return Err(malformed(
                "environment",
                format!("{name:?} is no variable's name: letters, digits and '_', at most 255"),
            ));
        }
        if !plain(value) {
            return Err(malformed("environment", format!("the value of {name} is too long, or holds NUL")));
        }
    }
    let side = 1..=1000;
    if !side.contains(&order.size.cols) || !side.contains(&order.size.rows) {
        return Err(malformed("size", "columns and rows are 1 to 1000"));
    }
    let word = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'+');
    if order.term.is_empty() || order.term.len() > 64 || !order.term.bytes().all(word) {
        return Err(malformed("term", "a terminal's name is letters, digits, '-', '_', '.' and '+'"));
    }
    if !LOG.contains(&order.log_bytes) {
        return Err(malformed("logBytes", format!("{} to {} bytes", LOG.start(), LOG.end())));
    }
    check_files(&order.files)
}

fn check_files(files: &[File]) -> Result<(), Refusal> {
    if files.len() > MOST {
        return Err(malformed("files", format!("at most {MOST} files")));
    }
    for File { path, .. } in files {
        let normal = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        let as_written = Path::new(path).components().collect::<PathBuf>().as_os_str() == path.as_str();
        if path.is_empty() || path.len() > 4000 || path.contains('\0') || !normal || !as_written {
            let path: String = path.chars().take(80).collect();
            return Err(malformed("files", format!("{path:?} is not a plain path below the workspace")));
        }
    }
    Ok(())
}

/// With the workspace's path where one for the home leaves room for it: the path inside is the one outside, without links.
fn files_of(order: &Order, workspace: Option<&Path>) -> Vec<File> {
    let path = workspace.map_or_else(|| "/home/agent".into(), |path| path.to_string_lossy());
    let quoted = serde_json::Value::from(path.as_ref()).to_string();
    let mut files = order.files.clone();
    for file in files.iter_mut().filter(|file| file.home) {
        file.content = file.content.replace("{workspace}", &quoted);
    }
    files
}

fn command_of(order: &Order, policy: &Policy) -> Result<Vec<OsString>, Refusal> {
    let words = if order.command.is_empty() { &policy.agent.command } else { &order.command };
    if words.is_empty() {
        let detail = format!("policy {} names no command: the order has to", policy.name);
        return Err(malformed("command", detail));
    }
    Ok(words.iter().chain(&order.arguments).map(OsString::from).collect())
}

fn environment_of(order: &Order) -> Vec<(String, String)> {
    let term = (!order.environment.contains_key("TERM")).then(|| ("TERM".to_owned(), order.term.clone()));
    term.into_iter().chain(order.environment.clone()).collect()
}

fn workspace_of(
    order: &Order,
    node: &Settings,
    places: &Places,
    tenant: &Tenant,
    policy: &Policy,
    own: &mut Vec<PathBuf>,
) -> Result<Option<PathBuf>, Refusal> {
    let path = match &order.workspace {
        Workspace::None => return Ok(None),
        Workspace::Named { name } => {
            let path = named(&places.workspaces(), tenant, name, "workspace")?;
            own.push(path.clone());
            path
        }
        Workspace::Directory { path } => opened(Path::new(path), node, places)?,
    };
    if policy.filesystem.workspace == Access::None {
        return Err(exceeds("workspace", format!("policy {} gives no workspace", policy.name)));
    }
    Ok(Some(path))
}

fn home_of(order: &Order, places: &Places, tenant: &Tenant, own: &mut Vec<PathBuf>) -> Result<Home, Refusal> {
    let order::Home::Named { name } = &order.home else { return Ok(Home::Ephemeral) };
    let path = named(&places.homes(), tenant, name, "home")?;
    own.push(path.clone());
    Ok(Home::Directory(path))
}

fn named(directory: &Path, tenant: &Tenant, name: &str, field: &str) -> Result<PathBuf, Refusal> {
    let name: PlaceName = name.parse().map_err(|error| malformed(field, error))?;
    Ok(directory.join(tenant.as_str()).join(name.as_str()))
}

/// A directory that is really below one of the roots, whatever links lead to it.
fn opened(path: &Path, node: &Settings, places: &Places) -> Result<PathBuf, Refusal> {
    if !path.is_absolute() {
        return Err(malformed("workspace", format!("{} is not an absolute path", path.display())));
    }
    let no = |error: std::io::Error| exceeds("workspace", format!("{}: {error}", path.display()));
    let real = fs::canonicalize(path).map_err(no)?;
    let roots = node.workspace_roots.iter().filter_map(|root| fs::canonicalize(root).ok());
    let is_opened = roots.into_iter().any(|root| real.starts_with(&root) && real != root);
    // The node's own tree is not for orders, wherever it lies.
    let is_ours = [places.state(), places.run(), places.config(), places.audit()]
        .into_iter()
        .map(|ours| fs::canonicalize(&ours).unwrap_or(ours))
        .any(|ours| ours.starts_with(&real) || real.starts_with(&ours));
    if !is_opened || is_ours {
        let detail = format!(
            "{} is not below a directory that this node opens for workspaces (launcher.toml: workspace-roots)",
            path.display()
        );
        return Err(exceeds("workspace", detail));
    }
    Ok(real)
}

/// Whether anybody on this host can get to it, by its name and where its links lead.
pub fn is_open_to_all(path: &Path) -> bool {
    let passes = |directory: &Path| fs::metadata(directory).is_ok_and(|found| found.mode() & 0o001 != 0);
    let real = fs::canonicalize(path);
    real.is_ok_and(|real| [path, &real].iter().all(|path| path.ancestors().skip(1).all(passes)))
}

#[cfg(test)]
mod tests;
