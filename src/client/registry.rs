//! What is registered, and what Parallax would choke on: read from etcd itself, as Parallax reads it, or told by the service.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use etcd_client::{Client, GetOptions};
use serde::Serialize;
use serde_json::Value;

use super::error::{ClientError, code};
use super::http;
use super::output::{Output, colours, plain};
use super::table::Table;
use crate::cli::service::site as words;
use crate::registry::access::within;
use crate::registry::check::{self, Fault, Harm, short};
use crate::registry::entry::{self, NODES, SERVICES, agent_key, node_key};
use crate::registry::{Access, AccessError, Entry, View};

/// For each member, to answer one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Keys of one page.
const PAGE: i64 = 500;

/// One key, and what is wrong with it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    key: String,
    /// The node that wrote it; none: not Stockade's.
    node: Option<String>,
    /// Nothing: it is no JSON.
    value: Option<Value>,
    faults: Vec<Fault>,
}

/// Shows what is in etcd, or what is wrong with it.
pub async fn in_etcd(output: Output, command: &words::RegistryCommand) -> Result<u8, ClientError> {
    show(output, command, rows(command.etcd()).await?, Vec::new())
}

/// Shows what a service registers, or what keeps it from that.
pub async fn of_service(
    client: &http::Client,
    output: Output,
    command: &words::RegistryCommand,
) -> Result<u8, ClientError> {
    let view: View = client.get("/v1/registry").await?;
    let trouble = view.trouble.iter().chain(&view.unregistered).cloned().collect();
    let row = |entry: &Entry| {
        let key = if entry.kind == "agent" { agent_key(&entry.id) } else { node_key(&entry.id) };
        row((key, entry.value()))
    };
    show(output, command, view.agents.iter().chain([&view.node]).map(row).collect(), trouble)
}

/// `trouble`: what is to be told beside entries.
fn show(
    output: Output,
    command: &words::RegistryCommand,
    rows: Vec<Row>,
    trouble: Vec<String>,
) -> Result<u8, ClientError> {
    let told = |text: &mut String| trouble.iter().for_each(|why| text.push_str(&format!("{}\n", plain(why))));
    match command {
        words::RegistryCommand::Ls(_) => {
            output.result(&rows, || {
                let mut text = table(&rows);
                told(&mut text);
                text
            })?;
            Ok(code::OK)
        }
        words::RegistryCommand::Check(_) => {
            let count = rows.len();
            let faulty: Vec<Row> = rows.into_iter().filter(|row| !row.faults.is_empty()).collect();
            output.result(&faulty, || {
                let mut text = faults(&faulty, count);
                told(&mut text);
                text
            })?;
            Ok(if faulty.is_empty() && trouble.is_empty() { code::OK } else { code::FAILURE })
        }
    }
}

/// Shows the nodes that are registered in etcd.
pub async fn nodes_in_etcd(output: Output, etcd: &words::Etcd) -> Result<u8, ClientError> {
    nodes(output, rows(etcd).await?.into_iter().filter(|row| row.key.starts_with(NODES)).collect())
}

/// Shows the service's own node as it registers it.
pub async fn node_of_service(client: &http::Client, output: Output) -> Result<u8, ClientError> {
    let view: View = client.get("/v1/registry").await?;
    nodes(output, vec![row((node_key(&view.node.id), view.node.value()))])
}

fn nodes(output: Output, rows: Vec<Row>) -> Result<u8, ClientError> {
    output.result(&rows, || {
        let mut table =
            Table::new(&["NODE", "STATE", "AGENTS", "CPUS", "MEMORY", "VERSION", "KERNEL", "SERVICE"]);
        for value in rows.iter().filter_map(|row| row.value.as_ref()) {
            let node = &value["metadata"]["node"];
            // What an older daemon does not say is not held against it.
            let state = match (node["launcher"] == false, node["draining"] == true) {
                (_, true) => "draining",
                (true, _) => "no launcher",
                _ => "ready",
            };
            let (capacity, used) = (&node["capacity"], &node["used"]);
            let bytes = |value: &Value| super::table::bytes(value.as_u64().unwrap_or(0));
            let agents = match capacity["agents"].as_u64() {
                None | Some(0) => text(&used["agents"]),
                Some(most) => format!("{}/{most}", text(&used["agents"])),
            };
            table.row(vec![
                text(&value["name"]),
                state.into(),
                agents,
                format!("{}/{}", text(&used["cpus"]), text(&capacity["cpus"])),
                format!("{}/{}", bytes(&used["memory"]), bytes(&capacity["memory"])),
                text(&value["metadata"]["version"]),
                text(&node["kernel"]),
                text(&value["endpoint"]),
            ]);
        }
        table.draw(|_, _| None)
    })?;
    Ok(code::OK)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["KEY", "NODE", "HEALTH", "ENDPOINT", "CAPABILITIES", "FAULTS"]);
    for row in rows {
        let value = row.value.as_ref().unwrap_or(&Value::Null);
        let capabilities = value["metadata"]["capabilities"].as_array();
        let names: Vec<String> = capabilities.into_iter().flatten().map(text).collect();
        table.row(vec![
            plain(short(&row.key)),
            row.node.as_deref().map_or("-".into(), plain),
            text(&value["health"]["status"]),
            text(&value["endpoint"]),
            names.join(","),
            if row.faults.is_empty() { "-".into() } else { row.faults.len().to_string() },
        ]);
    }
    let painted = colours(&io::stdout());
    table.draw(|column, cell| match (column, cell) {
        _ if !painted => None,
        (2, "healthy") => Some("\x1b[32m"),
        (2, "degraded") => Some("\x1b[33m"),
        (5, faults) if faults != "-" => Some("\x1b[31m"),
        _ => None,
    })
}

fn faults(faulty: &[Row], count: usize) -> String {
    let mut text = String::new();
    for row in faulty {
        for fault in &row.faults {
            let whom = match fault.harm {
                Harm::Everybody => "breaks Parallax for everybody",
                Harm::Entry => "breaks this entry",
            };
            text.push_str(&format!("{}: {whom}: {}\n", plain(&row.key), fault.what));
        }
    }
    text + &format!("{count} entries, {} of them with faults\n", faulty.len())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

async fn rows(etcd: &words::Etcd) -> Result<Vec<Row>, ClientError> {
    let access = access(etcd)?;
    let mut last = None;
    for turn in 0..access.endpoints.len() {
        match everything(&access, turn).await {
            Ok(found) => return Ok(found.into_iter().map(row).collect()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("there is an endpoint").into())
}

fn row((key, value): (String, Vec<u8>)) -> Row {
    Row {
        node: entry::mark(&value).map(|mark| mark.node),
        faults: check::faults(&key, &value),
        value: serde_json::from_slice(&value).ok(),
        key,
    }
}

fn access(etcd: &words::Etcd) -> Result<Access, ClientError> {
    let access = Access {
        endpoints: etcd.etcd.clone(),
        ca: etcd.etcd_ca.clone(),
        identity: etcd.etcd_cert.clone().zip(etcd.etcd_key.clone()),
        user: etcd.etcd_user.clone().zip(etcd.etcd_password_file.clone()),
    };
    match access.contradiction() {
        None => Ok(access),
        Some(why) => {
            Err(ClientError::Usage(format!("{why} (here: --etcd, --etcd-ca, --etcd-cert, --etcd-key …)")))
        }
    }
}

async fn everything(access: &Access, turn: usize) -> Result<BTreeMap<String, Vec<u8>>, AccessError> {
    let endpoint = &access.endpoints[turn];
    let mut client: Client = access.connect(turn, PATIENCE).await?;
    let mut found = BTreeMap::new();
    let mut end = SERVICES.as_bytes().to_vec();
    *end.last_mut().expect("not empty") += 1;
    let (mut from, mut revision) = (SERVICES.as_bytes().to_vec(), 0);
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
        let page = within(endpoint, PATIENCE, client.get(from, Some(options))).await?;
        revision = page.header().map_or(0, |header| header.revision());
        for kv in page.kvs() {
            found.insert(String::from_utf8_lossy(kv.key()).into_owned(), kv.value().to_vec());
        }
        match page.kvs().last() {
            Some(last) if page.more() => from = [last.key(), b"\0"].concat(),
            _ => return Ok(found),
        }
    }
}

impl From<AccessError> for ClientError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::File { path, source } => Self::File { verb: "read", path, source },
            AccessError::Etcd { endpoint, detail } => {
                Self::Unreachable { server: endpoint, source: io::Error::other(detail) }
            }
            AccessError::Silent { endpoint, after } => {
                Self::Timeout { what: format!("{endpoint} did not answer"), after }
            }
        }
    }
}
