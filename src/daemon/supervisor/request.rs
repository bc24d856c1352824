//! From a request to an order: what is malformed or meaningless is refused here, what exceeds a policy by the launcher.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::{Result, SupervisorError};
use crate::api::agent::{Size, Spawn};
use crate::id::{AgentId, PlaceName, PolicyName};
use crate::wire::service::order::{self, Home, Order, Workspace};

/// Size of a terminal for which nobody asked otherwise.
pub(crate) const SIZE: Size = Size { cols: 120, rows: 40 };

/// Most labels, and most capabilities.
const MOST_LABELS: usize = 64;
/// Longest label, capability, name.
const LONGEST_LABEL: usize = 256;

/// What is not even of the right form: 400.
fn malformed(field: &'static str, detail: impl ToString) -> SupervisorError {
    SupervisorError::Field { field, detail: detail.to_string(), malformed: true }
}

/// What has no meaning: 422.
fn meaningless(field: &'static str, detail: impl ToString) -> SupervisorError {
    SupervisorError::Field { field, detail: detail.to_string(), malformed: false }
}

/// The id of a request, or a short one that is made for it.
pub(crate) fn id(request: &Spawn) -> Result<AgentId> {
    match &request.id {
        Some(id) => id.parse().map_err(|error| malformed("id", error)),
        None => made_up(&request.kind),
    }
}

/// `claude-7f3k2m`
fn made_up(kind: &str) -> Result<AgentId> {
    // Without letters that are taken for others.
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut random = [0; 6];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random));
    read.map_err(|source| SupervisorError::Io { what: "cannot read /dev/urandom".into(), source })?;
    let suffix: String = random.map(|byte| char::from(DIGITS[usize::from(byte % 32)])).iter().collect();
    let kind: String = kind.chars().take(32).collect();
    format!("{kind}-{suffix}").parse().map_err(|error| malformed("type", error))
}

/// The policy that a request names, or that of its kind.
pub(crate) fn policy(request: &Spawn) -> Result<PolicyName> {
    let kind: PolicyName = request.kind.parse().map_err(|error| malformed("type", error))?;
    match &request.policy {
        Some(policy) => policy.parse().map_err(|error| malformed("policy", error)),
        None if kind.as_str() == "custom" => Ok("shell".parse().expect("a plain name")),
        None => Ok(kind),
    }
}

/// Everything that can be said without asking anybody.
pub(crate) fn check(request: &Spawn) -> Result<()> {
    let command = request.command.as_deref().unwrap_or_default();
    if request.kind == "custom" && command.is_empty() {
        return Err(meaningless("command", "an agent of type custom needs a command: program and arguments"));
    }
    if request.command.as_ref().is_some_and(|command| command.first().is_none_or(String::is_empty)) {
        return Err(meaningless("command", "the program is missing: name it, or leave the command out"));
    }
    words("command", command)?;
    words("arguments", &request.arguments)?;
    environment(&request.env)?;
    request.files.iter().try_for_each(|file| relative(&file.path))?;
    if !request.files.is_empty() && request.workspace.is_none() && request.workspace_id.is_none() {
        return Err(meaningless("files", "there is no workspace to write them into: name one"));
    }
    if let Some(limits) = &request.limits
        && limits.cpus.is_some_and(|cpus| !cpus.is_finite() || cpus <= 0.0 || cpus > 4096.0)
    {
        return Err(meaningless("limits", "cpus is a number above 0, and at most 4096"));
    }
    labels(request)?;
    size(request.size.unwrap_or(SIZE))
}

pub(super) fn words(field: &'static str, words: &[String]) -> Result<()> {
    match words.iter().any(|word| word.contains('\0')) {
        true => Err(malformed(field, "a NUL byte cannot be part of a command")),
        false => Ok(()),
    }
}

pub(super) fn environment(variables: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in variables {
        let mut letters = name.bytes();
        let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
        if !first || !letters.all(|c| c.is_ascii_alphanumeric() || c == b'_') {
            let name: String = name.chars().take(80).collect();
            return Err(malformed(
                "env",
                format!("{name:?} is not the name of a variable: use letters, digits and '_'"),
            ));
        }
        if value.contains('\0') {
            return Err(malformed(
                "env",
                format!("the value of {name} has a NUL byte, which no variable can"),
            ));
        }
    }
    Ok(())
}

fn relative(path: &str) -> Result<()> {
    let normal = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || path.contains('\0') || path.ends_with('/') || !normal {
        let path: String = path.chars().take(80).collect();
        return Err(malformed(
            "files",
            format!("{path:?} is not a path below the workspace: no '..', no '/' in front"),
        ));
    }
    Ok(())
}

fn labels(request: &Spawn) -> Result<()> {
    let long = |text: &str| text.chars().count() > LONGEST_LABEL || text.chars().any(char::is_control);
    if request.labels.len() > MOST_LABELS
        || request.labels.iter().any(|(key, value)| long(key) || long(value))
    {
        return Err(meaningless(
            "labels",
            format!("at most {MOST_LABELS}, each of {LONGEST_LABEL} plain characters"),
        ));
    }
    if request.capabilities.len() > MOST_LABELS || request.capabilities.iter().any(|text| long(text)) {
        let detail = format!("at most {MOST_LABELS}, each of {LONGEST_LABEL} plain characters");
        return Err(meaningless("capabilities", detail));
    }
    if let Some(answers) = &request.answers
        && (answers.len() > MOST_LABELS || answers.iter().any(|text| long(text)))
    {
        let detail = format!("at most {MOST_LABELS}, each of {LONGEST_LABEL} plain characters");
        return Err(meaningless("answers", detail));
    }
    match &request.name {
        Some(name) if long(name) => {
            Err(malformed("name", format!("at most {LONGEST_LABEL} characters, no control characters")))
        }
        _ => Ok(()),
    }
}

/// Whether a terminal can have this size.
pub(crate) fn size(size: Size) -> Result<()> {
    let fits = |n: u16| (1..=1000).contains(&n);
    if fits(size.cols) && fits(size.rows) {
        Ok(())
    } else {
        Err(meaningless("size", "cols and rows are 1 to 1000"))
    }
}

/// The order of a request that was checked; `seeds` are for its home. The request's variables and files move into it.
pub(crate) fn order(
    id: &AgentId,
    tenant: &str,
    request: Spawn,
    log_bytes: u64,
    seeds: Vec<order::File>,
) -> Result<Order> {
    let policy = policy(&request)?.to_string();
    let workspace = match (request.workspace, request.workspace_id) {
        (Some(_), Some(_)) => {
            return Err(meaningless("workspaceId", "workspace and workspaceId exclude each other: name one"));
        }
        (Some(path), None) if !path.starts_with('/') => {
            return Err(malformed("workspace", "it is an absolute path of the node's"));
        }
        (Some(path), None) => Workspace::Directory { path },
        (None, Some(name)) => Workspace::Named { name: place("workspaceId", name)? },
        (None, None) => Workspace::None,
    };
    let home = match request.home {
        Some(name) => Home::Named { name: place("home", name)? },
        None => Home::Ephemeral,
    };
    let home_wait_ms = home_wait(request.home_wait)?;
    let limits = request.limits.unwrap_or_default();
    let size = request.size.unwrap_or(SIZE);
    let files = request.files.into_iter();
    Ok(Order {
        id: id.to_string(),
        tenant: tenant.to_owned(),
        policy,
        command: request.command.unwrap_or_default(),
        arguments: request.arguments,
        workspace,
        home,
        home_wait_ms,
        environment: request.env,
        files: files
            .map(|file| order::File { path: file.path, content: file.content, home: false })
            .chain(seeds)
            .collect(),
        memory: limits.memory,
        // At least one thousandth: 0 would mean something else to a kernel.
        millicpus: limits.cpus.map(|cpus| (cpus * 1000.0).ceil() as u64),
        processes: limits.processes,
        allow: request.allow,
        size: order::Size { cols: size.cols, rows: size.rows },
        term: "xterm-256color".into(),
        log_bytes,
    })
}

fn home_wait(seconds: Option<u64>) -> Result<u64> {
    let milliseconds = seconds.unwrap_or(0).saturating_mul(1000);
    if milliseconds <= order::LONGEST_WAIT_MS {
        return Ok(milliseconds);
    }
    Err(meaningless("homeWait", format!("at most {} seconds", order::LONGEST_WAIT_MS / 1000)))
}

fn place(field: &'static str, name: String) -> Result<String> {
    name.parse::<PlaceName>().map(String::from).map_err(|error| malformed(field, error))
}

/// Puts an order where nobody can change it any more, and wipes what is left of its variables.
pub(crate) fn seal(order: Order) -> Result<OwnedFd> {
    let failed = |source| SupervisorError::Io { what: "cannot write an order".into(), source };
    let mut text = serde_json::to_vec(&order).expect("an order is always JSON");
    for value in order.environment.into_values() {
        wipe(value.into_bytes());
    }
    if text.len() as u64 > order::LONGEST {
        wipe(text);
        return Err(meaningless("files", format!("the request has more than {} bytes", order::LONGEST)));
    }
    let sealed = sealed(&text).map_err(failed);
    text.fill(0);
    std::hint::black_box(&text);
    sealed
}

/// Overwrites a secret that is no longer needed.
pub(crate) fn wipe(mut bytes: Vec<u8>) {
    bytes.fill(0);
    // So that the compiler takes somebody to read it.
    std::hint::black_box(&bytes);
}

fn sealed(text: &[u8]) -> io::Result<OwnedFd> {
    let memfd = memfd_create("stockade-order", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memfd);
    file.write_all(text)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file.into())
}
