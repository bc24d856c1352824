//! From what Parallax asks for to what the supervisor understands. Fields that nobody here knows are left out of account,
//! as Parallax's own runtimes do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::handle::{EXECUTION, REPORTS_TO, ROLE, THREAD, TYPE};
use crate::api::agent::{File, Limits, Spawn};
use crate::daemon::api::seed::SeedSpawn;
use crate::daemon::problem::Fault;
use crate::daemon::supervisor;
use crate::id::{AgentId, PlaceName};

const GRACE: u64 = 5_000;
/// Parallax gives up after 30 seconds.
const LONGEST_GRACE: u64 = 20_000;
/// Of what a thread is given to keep.
const LONGEST_KEPT: usize = 64 * 1024;

/// `POST /api/agents`
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentConfig {
    /// None: one is made.
    pub id: Option<String>,
    /// Must be there.
    pub name: Option<String>,
    /// Must be there: `claude`, `codex`, `gemini`, `aider`, `shell`, `custom` (the command of the policy shell).
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// For the registry.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Kept and shown.
    pub role: Option<String>,
    /// Kept and shown.
    pub reports_to: Option<String>,
    /// A directory of the node's.
    pub workdir: Option<String>,
    /// Variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Become variables.
    pub credentials: Option<Credentials>,
    /// Limits.
    pub resources: Option<Resources>,
    /// Start it again when it fails.
    #[serde(default)]
    pub auto_restart: bool,
    /// Seconds.
    pub idle_timeout: Option<u64>,
    /// Kept and shown.
    pub execution_id: Option<String>,
    /// Beyond Parallax: the program and arguments of a `custom` agent.
    pub command: Option<Vec<String>>,
}

/// Keys of providers.
#[derive(Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    anthropic_key: Option<String>,
    openai_key: Option<String>,
    google_key: Option<String>,
    github_token: Option<String>,
    #[serde(default)]
    custom: BTreeMap<String, String>,
}

// A key is shown to nobody, not even for debugging.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// Limits, as Kubernetes writes them.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
pub struct Resources {
    /// `1`, `500m`
    cpu: Option<String>,
    /// `2Gi`
    memory: Option<String>,
    /// Seconds.
    timeout: Option<u64>,
}

/// `POST /api/threads`
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpawnThreadInput {
    /// None: one is made.
    pub id: Option<String>,
    /// Must be there.
    pub execution_id: Option<String>,
    /// Must be there.
    pub name: Option<String>,
    /// Must be there.
    pub agent_type: Option<String>,
    /// Must be there. It travels in the environment; it is not typed.
    pub objective: Option<String>,
    /// Kept and shown.
    pub role: Option<String>,
    /// Without a `path` the node's own of this `workspaceId`, else one of the thread's own.
    pub workspace: Option<Value>,
    /// Variables.
    pub env: Option<BTreeMap<String, String>>,
    /// Written into the workspace.
    pub context_files: Option<Vec<File>>,
    /// `readonly`, `standard`, `permissive`, `autonomous`
    pub approval_preset: Option<String>,
    /// Kept and shown.
    pub metadata: Option<Value>,
    /// What stands here wins over the fields of the same names.
    pub preparation: Option<Preparation>,
}

/// Wins over the fields of the same names.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preparation {
    workspace: Option<Value>,
    env: Option<BTreeMap<String, String>>,
    context_files: Option<Vec<File>>,
    approval_preset: Option<String>,
}

/// A thread that is asked for: its agent, and what is kept of it beside that.
pub struct Thread {
    /// The agent.
    pub spawn: Spawn,
    /// The thread's id, its agent's too.
    pub id: AgentId,
    /// As given.
    pub execution: String,
    /// As given.
    pub name: String,
    /// As given.
    pub kind: String,
    /// As given.
    pub objective: String,
    /// As given.
    pub workspace: Option<Value>,
}

/// The agent that is asked for.
///
/// # Errors
/// 400 for what is missing, 422 for what makes no sense.
pub fn of_config(config: AgentConfig) -> Result<Spawn, Fault> {
    let kind = required("type", config.kind)?;
    let name = required("name", config.name)?;
    let mut labels =
        labels([(ROLE, config.role), (REPORTS_TO, config.reports_to), (EXECUTION, config.execution_id)]);
    let (kind, command) = program("type", kind, config.command, &mut labels)?;
    let mut env = config.env;
    if let Some(credentials) = config.credentials {
        credentials.into_variables(&mut env);
    }
    let answers = answers(&env, None);
    let (limits, lifetime) = config.resources.map(limits).transpose()?.unwrap_or_default();
    Ok(Spawn {
        id: config.id,
        name: Some(name),
        kind,
        command,
        workspace: config.workdir,
        env,
        labels,
        capabilities: config.capabilities,
        limits,
        auto_restart: config.auto_restart,
        idle_timeout: config.idle_timeout.filter(|seconds| *seconds > 0),
        lifetime,
        answers,
        ..Spawn::default()
    })
}

/// The agent that the minimal face asks for.
///
/// # Errors
/// 422 for a type that there is none of.
pub fn of_seed(seed: SeedSpawn) -> Result<Spawn, Fault> {
    let mut labels = BTreeMap::new();
    let (kind, command) = program("agentType", seed.agent_type, None, &mut labels)?;
    Ok(Spawn {
        id: Some(seed.agent_id.clone()),
        name: Some(seed.agent_id),
        kind,
        command,
        workspace: seed.workdir,
        workspace_id: seed.workspace_id,
        env: seed.env,
        labels,
        capabilities: seed.capabilities,
        ..Spawn::default()
    })
}

/// The thread that is asked for.
///
/// # Errors
/// 400 for what is missing or malformed, 422 for what makes no sense.
pub fn of_thread(input: SpawnThreadInput) -> Result<Thread, Fault> {
    let execution = required("executionId", input.execution_id)?;
    let name = required("name", input.name)?;
    let kind = required("agentType", input.agent_type)?;
    let objective = required("objective", input.objective)?;
    let id = input.id.unwrap_or_else(|| format!("thread-{}", uuid::Uuid::now_v7()));
    let id: AgentId =
        id.parse().map_err(|error| Fault::malformed_field("id", format_args!("id: {error}")))?;
    let prepared = input.preparation.unwrap_or_default();
    let workspace = prepared.workspace.or(input.workspace);
    for (field, given) in [("workspace", &workspace), ("metadata", &input.metadata)] {
        short(field, given.as_ref().map_or(0, |value| value.to_string().len()))?;
    }
    short("objective", objective.len())?;
    let files = prepared.context_files.or(input.context_files).unwrap_or_default();
    let mut env = prepared.env.or(input.env).unwrap_or_default();
    env.insert("PARALLAX_THREAD_ID".into(), id.to_string());
    env.insert("PARALLAX_THREAD_OBJECTIVE".into(), objective.clone());
    env.insert("PARALLAX_EXECUTION_ID".into(), execution.clone());
    if let Some(memory) = files.first() {
        env.insert("PARALLAX_THREAD_MEMORY_FILE".into(), memory.path.clone());
    }
    let mut labels =
        labels([(ROLE, input.role), (EXECUTION, Some(execution.clone())), (THREAD, Some(id.to_string()))]);
    let (program, command) = program("agentType", kind.clone(), None, &mut labels)?;
    let preset = prepared.approval_preset.or(input.approval_preset);
    let arguments = arguments(&program, preset.as_deref())?;
    let command = command.or_else(|| read_only(&program, preset.as_deref()));
    let answers = answers(&env, preset.as_deref());
    let (path, place) = directory(workspace.as_ref(), &id);
    let spawn = Spawn {
        id: Some(id.to_string()),
        name: Some(name.clone()),
        kind: program,
        command,
        arguments,
        workspace: path,
        workspace_id: place,
        env,
        files,
        labels,
        answers,
        ..Spawn::default()
    };
    Ok(Thread { spawn, id, execution, name, kind, objective, workspace })
}

/// How to stop what Parallax wants to be stopped: it waits for the end, and not for long.
pub fn stop(force: bool, timeout: Option<u64>) -> supervisor::Stop {
    let grace = if force { 0 } else { timeout.unwrap_or(GRACE).min(LONGEST_GRACE) };
    supervisor::Stop { grace: Duration::from_millis(grace), wait: true }
}

/// What is kept of a thread goes out with each of its events.
fn short(field: &'static str, length: usize) -> Result<(), Fault> {
    if length <= LONGEST_KEPT {
        return Ok(());
    }
    let detail = format_args!("{field}: {length} bytes are more than the {LONGEST_KEPT} that are kept of it");
    Err(Fault::unprocessable(field, detail))
}

fn required(field: &'static str, given: Option<String>) -> Result<String, Fault> {
    let given = given.filter(|text| !text.is_empty());
    given.ok_or_else(|| Fault::malformed_field(field, format_args!("{field} is missing")))
}

fn labels<const N: usize>(given: [(&str, Option<String>); N]) -> BTreeMap<String, String> {
    given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// The kind, and the command if it is not the policy's. A `custom` agent without a command is the policy's shell.
fn program(
    field: &'static str,
    kind: String,
    command: Option<Vec<String>>,
    labels: &mut BTreeMap<String, String>,
) -> Result<(String, Option<Vec<String>>), Fault> {
    match kind.as_str() {
        "custom" if command.is_none() => {
            labels.insert(TYPE.into(), kind);
            Ok(("shell".into(), None))
        }
        "custom" => Ok((kind, command)),
        "echo" | "hermes" => Err(Fault::unprocessable(
            field,
            format_args!("{field}: no {kind} runs here: use claude, codex, gemini, aider, shell or custom"),
        )),
        _ => Ok((kind, None)),
    }
}

/// The command in the policy's place where a preset cannot be had by more arguments: Codex takes its own sandbox once only, and
/// the shipped policy switches it off. Read-only it changes nothing unless it asked, and where it may make no sandbox inside
/// this one, it runs nothing either unless it asked.
fn read_only(kind: &str, preset: Option<&str>) -> Option<Vec<String>> {
    let words = ["codex", "--no-daemon", "-s", "read-only", "-a", "on-request"];
    (kind == "codex" && preset == Some("readonly")).then(|| words.map(str::to_owned).to_vec())
}

/// What an approval preset means to a CLI. None given: the CLI's own way.
fn arguments(kind: &str, preset: Option<&str>) -> Result<Vec<String>, Fault> {
    let words: &[&str] = match (preset, kind) {
        (Some("permissive"), "claude") => &["--permission-mode", "acceptEdits"],
        (Some("readonly"), "claude") => &["--permission-mode", "plan"],
        (Some("autonomous"), "claude") => &["--dangerously-skip-permissions"],
        // Its own sandbox is its policy's to choose, and off in the shipped one.
        // As `read_only` starts it.
        (Some("readonly"), "codex") => &[],
        (Some("standard" | "permissive"), "codex") => &["-a", "on-request"],
        (Some("autonomous"), "codex") => &["-a", "never"],
        (Some("readonly"), "gemini") => &["--approval-mode", "plan"],
        (Some("permissive"), "gemini") => &["--approval-mode", "auto_edit"],
        (Some("autonomous"), "gemini") => &["-y"],
        (Some("readonly"), "aider") => &["--dry-run", "--no-auto-commits"],
        (Some("permissive" | "autonomous"), "aider") => &["--yes-always"],
        (None | Some("readonly" | "standard" | "permissive" | "autonomous"), _) => &[],
        (Some(other), _) => {
            let shown: String = other.chars().take(40).collect();
            return Err(Fault::unprocessable(
                "approvalPreset",
                format_args!(
                    "approvalPreset: {shown:?} is none: use readonly, standard, permissive or autonomous"
                ),
            ));
        }
    };
    Ok(words.iter().map(|word| (*word).to_owned()).collect())
}

/// What Parallax has no words for, and means: a key that it gives is to be used, and who asks for `autonomous` has been
/// warned. None: what is safe.
fn answers(env: &BTreeMap<String, String>, preset: Option<&str>) -> Option<Vec<String>> {
    let keys = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"];
    let key = keys.iter().any(|name| env.contains_key(*name)).then_some("key-found");
    let bypass = (preset == Some("autonomous")).then_some("bypass");
    let named: Vec<String> = key.into_iter().chain(bypass).map(str::to_owned).collect();
    (!named.is_empty()).then(|| std::iter::once("safe".to_owned()).chain(named).collect())
}

/// A directory of the node's, or the name of one that the node keeps.
fn directory(workspace: Option<&Value>, id: &AgentId) -> (Option<String>, Option<String>) {
    let text = |key: &str| workspace?.get(key)?.as_str().filter(|text| !text.is_empty());
    match (text("path"), text("workspaceId").filter(|name| name.parse::<PlaceName>().is_ok())) {
        (Some(path), _) => (Some(path.to_owned()), None),
        (None, Some(name)) => (None, Some(name.to_owned())),
        (None, None) => (None, Some(id.to_string())),
    }
}

impl Credentials {
    /// A variable that the request names itself is left as it is.
    fn into_variables(self, env: &mut BTreeMap<String, String>) {
        let named = [
            ("ANTHROPIC_API_KEY", self.anthropic_key),
            ("OPENAI_API_KEY", self.openai_key),
            ("GEMINI_API_KEY", self.google_key.clone()),
            ("GOOGLE_API_KEY", self.google_key),
            ("GITHUB_TOKEN", self.github_token),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        for (key, value) in named.chain(self.custom) {
            env.entry(key).or_insert(value);
        }
    }
}

fn limits(resources: Resources) -> Result<(Option<Limits>, Option<u64>), Fault> {
    let wrong = |what| Fault::unprocessable("resources", format_args!("resources.{what}"));
    let cpus = resources.cpu.map(|text| cpus(&text).ok_or_else(|| wrong("cpu: use CPUs like 1.5 or 500m")));
    let memory = resources
        .memory
        .map(|text| bytes(&text).ok_or_else(|| wrong("memory: use a size like 512Mi or 2Gi")));
    let limits = Limits { cpus: cpus.transpose()?, memory: memory.transpose()?, processes: None };
    let given = limits.cpus.is_some() || limits.memory.is_some();
    Ok((given.then_some(limits), resources.timeout.filter(|seconds| *seconds > 0)))
}

fn cpus(text: &str) -> Option<f64> {
    let (number, thousandths) = text.strip_suffix('m').map_or((text, false), |number| (number, true));
    let number: f64 = number.parse().ok()?;
    let cpus = if thousandths { number / 1000.0 } else { number };
    (cpus.is_finite() && cpus > 0.0).then_some(cpus)
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match &text[digits..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit).filter(|bytes| *bytes > 0)
}
