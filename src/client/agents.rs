//! One agent of a service, from `spawn` to `rm`.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use super::error::{ClientError, code};
use super::http::{Client, PATIENCE, agent_path, query};
use super::output::{Output, colours, plain};
use super::table::{self, Table};
use crate::api::agent::{Agent, AgentPage, Exec, ExecResult, File, Limits, Size, Spawn, Stats, Stop};
use crate::api::node::{Node, QuotaLine};
use crate::cli::service::agent as words;

/// A sandbox is built in milliseconds; a node under load gets longer.
const SPAWN: Duration = Duration::from_secs(120);
/// The service's own grace period, if none is given.
const GRACE: Duration = Duration::from_secs(5);
/// The service's own patience with `exec`, if none is given.
const EXEC: Duration = Duration::from_secs(60);
/// One question of `wait`.
const WAIT: Duration = Duration::from_secs(25);
/// How long a service that was there may be away, and how often it is asked meanwhile.
const AWAY: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// Starts one; prints its id.
pub async fn spawn(client: &Client, output: Output, words: words::Spawn) -> Result<u8, ClientError> {
    let agent: Agent = client.post("/v1/agents", &request(words)?, SPAWN).await?;
    output.result(&agent, || format!("{}\n", agent.id))?;
    Ok(code::OK)
}

fn request(words: words::Spawn) -> Result<Spawn, ClientError> {
    let workspace = words.workspace.map(|path| {
        std::path::absolute(&path).map_err(|source| ClientError::File { verb: "find", path, source })
    });
    let workspace = workspace.transpose()?.map(|path| {
        path.into_os_string()
            .into_string()
            .map_err(|path| ClientError::Usage(format!("--workspace {} is no text", path.to_string_lossy())))
    });
    let limits = Limits {
        memory: words.memory.map(crate::policy::Bytes::get),
        cpus: words.cpus.map(|cpus| f64::from(cpus.millis()) / 1000.0),
        processes: words.processes,
    };
    Ok(Spawn {
        id: words.id,
        name: words.name,
        kind: words.kind,
        policy: words.policy,
        command: (!words.command.is_empty()).then_some(words.command),
        arguments: words.arguments,
        workspace: workspace.transpose()?,
        workspace_id: words.workspace_id,
        home: words.home,
        home_wait: words.home_wait,
        env: words.environment.into_iter().collect(),
        files: words.files.into_iter().map(file).collect::<Result<_, _>>()?,
        labels: words.labels.into_iter().collect(),
        capabilities: words.capabilities,
        limits: (limits != Limits::default()).then_some(limits),
        allow: (!words.allow.is_empty()).then_some(words.allow),
        size: words.size.map(|(cols, rows)| Size { cols, rows }),
        auto_restart: words.auto_restart,
        idle_timeout: words.idle_timeout.map(|time| time.as_secs().max(1)),
        lifetime: words.lifetime.map(|time| time.as_secs().max(1)),
        answers: match (words.no_answers, words.answers.is_empty()) {
            (true, _) => Some(Vec::new()),
            (false, true) => None,
            (false, false) => Some(std::iter::once("safe".to_owned()).chain(words.answers).collect()),
        },
    })
}

fn file((path, source): (String, String)) -> Result<File, ClientError> {
    let content = std::fs::read_to_string(&source).map_err(|error| ClientError::File {
        verb: "read",
        path: source.into(),
        source: error,
    })?;
    Ok(File { path, content })
}

/// Lists them.
pub async fn ls(client: &Client, output: Output, words: words::Ls) -> Result<u8, ClientError> {
    let agents = all(client, words).await?;
    let page = AgentPage { agents, cursor: None };
    output.result(&page, || listing(&page.agents))?;
    Ok(code::OK)
}

/// Every page of the list.
pub async fn all(client: &Client, words: words::Ls) -> Result<Vec<Agent>, ClientError> {
    let mut agents = Vec::new();
    let mut cursor = None;
    loop {
        let mut pairs = vec![
            ("type", words.kind.clone()),
            ("status", words.status.clone()),
            ("limit", Some("500".into())),
            ("cursor", cursor),
        ];
        pairs.extend(words.labels.iter().map(|label| ("label", Some(label.clone()))));
        let page: AgentPage = client.get(&format!("/v1/agents{}", query(&pairs))).await?;
        agents.extend(page.agents);
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(agents);
        }
    }
}

fn listing(agents: &[Agent]) -> String {
    let mut table = Table::new(&["ID", "TYPE", "STATE", "SINCE", "AGE", "POLICY", "TENANT"]);
    for agent in agents {
        table.row(vec![
            plain(&agent.id),
            plain(&agent.kind),
            agent.state.as_str().into(),
            since(&agent.since),
            since(&agent.created_at),
            plain(&agent.policy),
            plain(&agent.tenant),
        ]);
    }
    let painted = colours(&std::io::stdout());
    let state = |cell: &str| agents.iter().map(|agent| agent.state).find(|state| state.as_str() == cell);
    table.draw(|column, cell| state(cell).filter(|_| painted && column == 2).map(table::colour))
}

/// How long ago, as far as this host's clock knows.
fn since(time: &str) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else { return plain(time) };
    let ago = jiff::Timestamp::now().duration_since(then);
    table::age(Duration::try_from(ago).unwrap_or_default())
}

/// Shows one.
pub async fn get(client: &Client, output: Output, words: words::Get) -> Result<u8, ClientError> {
    let agent: Agent = client.get(&agent_path(&words.id, "")?).await?;
    output.result(&agent, || description(&agent))?;
    Ok(code::OK)
}

fn description(agent: &Agent) -> String {
    let mut table = Table::new(&["id:", &plain(&agent.id)]);
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            table.row(vec![format!("{name}:"), plain(&value)]);
        }
    };
    row("name", Some(agent.name.clone()).filter(|name| *name != agent.id));
    row("type", Some(agent.kind.clone()));
    row("policy", Some(agent.policy.clone()));
    row("tenant", Some(agent.tenant.clone()));
    row("owner", Some(agent.owner.clone()));
    row("state", Some(format!("{} for {}", agent.state.as_str(), since(&agent.since))));
    row("evidence", Some(agent.evidence.clone()));
    row("safe to type", Some(if agent.safe_to_type { "yes" } else { "no" }.into()));
    row("created", Some(agent.created_at.clone()));
    row("started", agent.started_at.clone());
    row("ended", agent.ended_at.clone());
    row("how it ended", ended(agent));
    row("restarts", Some(agent.restarts.to_string()).filter(|_| agent.restarts > 0));
    row("last activity", agent.last_activity_at.clone());
    row("workspace", agent.workspace.clone());
    row("home", agent.home.clone());
    let labels: Vec<String> = agent.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    row("labels", Some(labels.join(" ")));
    row("capabilities", Some(agent.capabilities.join(" ")));
    row(
        "terminal",
        Some(format!("{}x{}, {} put out", agent.size.cols, agent.size.rows, table::bytes(agent.offset))),
    );
    if let Some(login) = &agent.login {
        row("login", Some(format!("at {} ({})", login.provider, login.method)));
        row("login url", login.url.clone());
        row("login code", login.user_code.clone());
    }
    table.draw(|_, _| None)
}

/// How it ended, in words; none while it has not.
pub fn ended(agent: &Agent) -> Option<String> {
    if !agent.state.is_final() {
        return None;
    }
    let how = match (agent.out_of_memory, agent.signal, agent.exit_code, &agent.error) {
        (true, ..) => "out of memory".into(),
        (_, Some(signal), ..) => format!("signal {signal}"),
        (_, _, Some(code), _) => format!("exit code {code}"),
        (_, _, None, Some(error)) => error.clone(),
        (_, _, None, None) => "unknown".into(),
    };
    Some(how)
}

/// Stops them.
pub async fn stop(client: &Client, output: Output, words: words::Stop) -> Result<u8, ClientError> {
    let grace = if words.force { Duration::ZERO } else { words.grace.unwrap_or(GRACE) };
    let stop = Stop {
        force: words.force,
        grace_ms: words.grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
        wait: !words.no_wait,
    };
    for id in &words.ids {
        let agent: Agent = client.post(&agent_path(id, "/stop")?, &stop, grace + PATIENCE).await?;
        if stop.wait && !agent.state.is_final() {
            let what = format!("{id} has not ended");
            return Err(ClientError::Timeout { what, after: grace });
        }
        output.result(&agent, || line(&agent))?;
    }
    Ok(code::OK)
}

/// `shell-1 exited (exit code 0)`
fn line(agent: &Agent) -> String {
    let how = ended(agent).map(|how| format!(" ({})", plain(&how))).unwrap_or_default();
    format!("{} {}{how}\n", plain(&agent.id), agent.state.as_str())
}

/// Starts it anew.
pub async fn restart(client: &Client, output: Output, words: words::Restart) -> Result<u8, ClientError> {
    let path = agent_path(&words.id, "/restart")?;
    let agent: Agent = client.post(&path, &serde_json::json!({}), SPAWN).await?;
    output.result(&agent, || line(&agent))?;
    Ok(code::OK)
}

/// Waits for its end.
pub async fn wait(client: &Client, output: Output, words: words::Wait) -> Result<u8, ClientError> {
    let path = agent_path(&words.id, "/wait")?;
    // Nobody there at first is an answer; later it may be a restart.
    let _: Agent = client.get(&agent_path(&words.id, "")?).await?;
    let begun = Instant::now();
    let mut heard = begun;
    loop {
        let left = words.timeout.map_or(WAIT, |timeout| timeout.saturating_sub(begun.elapsed()));
        let step = left.min(WAIT);
        let path = format!("{path}?timeoutMs={}", step.as_millis());
        let answer = match client.ask(Method::GET, &path, None, step + PATIENCE).await {
            Ok(answer) => answer,
            // The service is started anew; the agent knows nothing of that.
            Err(error) if error.is_passing() && heard.elapsed() < AWAY => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        heard = Instant::now();
        let has_ended = answer.status() == StatusCode::OK;
        let agent: Agent = client.json(answer).await?;
        if has_ended {
            output.result(&agent, || line(&agent))?;
            return Ok(code::OK);
        }
        if let Some(after) = words.timeout.filter(|timeout| begun.elapsed() >= *timeout) {
            return Err(ClientError::Timeout { what: format!("{} has not ended", words.id), after });
        }
    }
}

/// Removes them.
pub async fn rm(client: &Client, output: Output, words: words::Rm) -> Result<u8, ClientError> {
    for id in &words.ids {
        let path = agent_path(id, "")?;
        if words.force {
            let stop = Stop { force: true, grace_ms: None, wait: true };
            let _: Agent = client.post(&format!("{path}/stop"), &stop, PATIENCE).await?;
        }
        client.ask(Method::DELETE, &path, None, PATIENCE).await?;
        output.result(&serde_json::json!({ "id": id, "removed": true }), || format!("{id}\n"))?;
    }
    Ok(code::OK)
}

/// Runs a command within its walls; the exit code is the command's.
pub async fn exec(client: &Client, output: Output, words: words::Exec) -> Result<u8, ClientError> {
    let stdin = if words.stdin { standard_input()? } else { String::new() };
    let exec = Exec {
        command: words.command,
        env: words.environment.into_iter().collect(),
        stdin,
        timeout_ms: words.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    };
    let patience = words.timeout.unwrap_or(EXEC) + PATIENCE;
    let result: ExecResult = client.post(&agent_path(&words.id, "/exec")?, &exec, patience).await?;
    if output.voice.json {
        output.document(&result)?;
    } else {
        super::output::print(result.stdout.as_bytes())?;
        eprint!("{}", result.stderr);
        if result.truncated {
            output.remark("its output was longer than a megabyte: the rest is cut off");
        }
    }
    Ok(result.exit_code)
}

/// All of it, as text.
pub fn standard_input() -> Result<String, ClientError> {
    std::io::read_to_string(std::io::stdin())
        .map_err(|source| ClientError::Stream { what: "cannot read standard input", source })
}

/// What they use.
pub async fn stats(client: &Client, output: Output, words: words::Stats) -> Result<u8, ClientError> {
    if let Some(id) = words.id {
        let stats: Stats = client.get(&agent_path(&id, "/stats")?).await?;
        output.result(&stats, || usage(std::slice::from_ref(&stats)))?;
        return Ok(code::OK);
    }
    let mut found = Vec::new();
    for agent in all(client, words::Ls::default()).await?.iter().filter(|agent| !agent.state.is_final()) {
        match client.get::<Stats>(&agent_path(&agent.id, "/stats")?).await {
            Ok(stats) => found.push(stats),
            // It ended meanwhile.
            Err(error) if matches!(error.exit_code(), code::NOT_FOUND | code::CONFLICT) => {}
            Err(error) => return Err(error),
        }
    }
    let node: Node = client.get("/v1/node").await?;
    let all = serde_json::json!({ "stats": found, "quotas": node.quotas });
    output.result(&all, || usage(&found) + &quotas(&node.quotas))?;
    Ok(code::OK)
}

fn quotas(lines: &[QuotaLine]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["QUOTA OF", "WHAT", "USED", "LIMIT", "UNTIL"]);
    for line in lines {
        let until = line.resets_at.as_deref().map_or_else(|| "-".to_owned(), plain);
        let amount = |count: u64| match line.what.as_str() {
            "memory" | "egress-bytes" | "egress-bytes-per-day" => table::bytes(count),
            _ => count.to_string(),
        };
        table.row(vec![plain(&line.whose), plain(&line.what), amount(line.used), amount(line.limit), until]);
    }
    format!("\n{}", table.draw(|_, _| None))
}

fn usage(stats: &[Stats]) -> String {
    let mut table = Table::new(&[
        "ID",
        "CPU",
        "MEMORY",
        "PEAK",
        "PROCESSES",
        "SENT",
        "RECEIVED",
        "REFUSED",
        "UPTIME",
        "OUTPUT",
    ]);
    let dash = || "-".to_owned();
    let size = |count: Option<u64>| count.map_or_else(dash, table::bytes);
    for of in stats {
        table.row(vec![
            plain(&of.id),
            of.cpu_seconds.map_or_else(dash, |seconds| format!("{seconds:.2}s")),
            size(of.memory),
            size(of.memory_peak),
            of.processes.map_or_else(dash, |count| count.to_string()),
            size(of.sent),
            size(of.received),
            of.refused.to_string(),
            of.uptime.map_or_else(dash, |up| table::age(Duration::from_secs_f64(up.clamp(0.0, 1e12)))),
            table::bytes(of.output),
        ]);
    }
    table.draw(|_, _| None)
}

/// A new value for a credential. It comes from standard input: a command line can be read by everybody on this host.
pub async fn secret(client: &Client, output: Output, words: words::Secret) -> Result<u8, ClientError> {
    let value = standard_input()?;
    let value = value.strip_suffix('\n').unwrap_or(&value);
    let name: crate::id::PlaceName =
        words.name.parse().map_err(|error| ClientError::Usage(format!("{error}")))?;
    let path = agent_path(&words.id, &format!("/secrets/{name}"))?;
    client.send(Method::PUT, &path, &serde_json::json!({ "value": value }), PATIENCE).await?;
    output.result(&serde_json::json!({ "id": words.id, "name": name.as_str(), "set": true }), String::new)?;
    Ok(code::OK)
}
