//! What is kept of a thread beside its agent: one file each, replaced as a whole, so that a restart loses none.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::handle::{self, Completion, ThreadHandle};
use super::words;
use crate::api::agent::Agent;

/// One thread. No variable is in here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its id, its agent's too.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// As given.
    pub execution_id: String,
    /// As given.
    pub name: String,
    /// As given.
    pub agent_type: String,
    /// As given.
    pub objective: String,
    /// As given.
    #[serde(default)]
    pub role: Option<String>,
    /// As given.
    #[serde(default)]
    pub workspace: Option<Value>,
    /// As given.
    #[serde(default)]
    pub metadata: Option<Value>,
    /// ISO 8601
    pub created_at: String,
    /// ISO 8601
    pub updated_at: String,
    /// Whether its readiness was told: that happens once.
    #[serde(default)]
    pub ready: bool,
    /// Whether somebody asked it to stop.
    #[serde(default)]
    pub asked_to_stop: bool,
    /// Whether its end was told.
    #[serde(default)]
    pub ended: bool,
    /// The end of the last turn.
    #[serde(default)]
    pub summary: Option<String>,
    /// How far it has come.
    #[serde(default)]
    pub completion: Option<Completion>,
}

impl Record {
    /// As Parallax reads it; `None`: its agent is gone.
    pub fn handle(&self, agent: Option<&Agent>, runtime_name: &str) -> ThreadHandle {
        let status = match agent {
            Some(agent) => words::thread_status(agent.state, words::crashed(agent, self.asked_to_stop)),
            None if self.ended => "stopped",
            None => "starting",
        };
        let workspace = match (self.workspace.clone(), agent.and_then(|agent| agent.workspace.clone())) {
            (Some(Value::Object(mut given)), Some(path)) => {
                given.insert("path".into(), path.into());
                Some(Value::Object(given))
            }
            (None, Some(path)) => Some(serde_json::json!({ "path": path })),
            (given, _) => given,
        };
        ThreadHandle {
            id: self.id.clone(),
            execution_id: self.execution_id.clone(),
            runtime_name: runtime_name.to_owned(),
            agent_id: self.id.clone(),
            name: self.name.clone(),
            agent_type: self.agent_type.clone(),
            status: status.into(),
            objective: self.objective.clone(),
            role: self.role.clone(),
            workspace,
            created_at: self.created_at.clone(),
            updated_at: self.updated_at.clone(),
            last_activity_at: agent.and_then(|agent| agent.last_activity_at.clone()),
            summary: self.summary.clone(),
            completion: self.completion.clone(),
            metadata: self.metadata.clone(),
        }
    }
}

/// All threads. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    directory: Arc<PathBuf>,
    threads: Arc<Mutex<BTreeMap<String, Record>>>,
}

impl Store {
    /// Reads what is kept in this directory, which is made if it is missing. What is no record is left where it is.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path).map(|text| serde_json::from_slice::<Record>(&text)) {
                Ok(Ok(record)) => drop(threads.insert(record.id.clone(), record)),
                Ok(Err(error)) => tracing::warn!(path = %path.display(), %error, "no record of a thread"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "record of a thread cannot be read")
                }
            }
        }
        Ok(Self { directory: Arc::new(directory), threads: Arc::new(Mutex::new(threads)) })
    }

    /// Adds one, unless there is one of its id. Whether it was added.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, record: Record) -> io::Result<bool> {
        let mut threads = self.threads();
        if threads.contains_key(&record.id) {
            return Ok(false);
        }
        self.write(&record)?;
        threads.insert(record.id.clone(), record);
        Ok(true)
    }

    /// One whose agent has just been started: takes the place of what an earlier agent of its id has left. `added`: it
    /// was added a moment ago, and may have changed since. Whether it was put there now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn renew(&self, record: Record, added: bool) -> io::Result<bool> {
        let mut threads = self.threads();
        if added && threads.contains_key(&record.id) {
            return Ok(false);
        }
        self.write(&record)?;
        threads.insert(record.id.clone(), record);
        Ok(true)
    }

    /// One.
    pub fn get(&self, id: &str) -> Option<Record> {
        self.threads().get(id).cloned()
    }

    /// All, in order of their ids.
    pub fn all(&self) -> Vec<Record> {
        self.threads().values().cloned().collect()
    }

    /// Changes one, and says how it is then. A change that cannot be written holds until the daemon ends.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Record)) -> Option<Record> {
        let mut threads = self.threads();
        let record = threads.get_mut(id)?;
        change(record);
        record.updated_at = handle::now();
        if let Err(error) = self.write(record) {
            tracing::warn!(thread = id, %error, "record of a thread cannot be written");
        }
        Some(record.clone())
    }

    /// Forgets one.
    pub fn remove(&self, id: &str) {
        if self.threads().remove(id).is_some()
            && let Err(error) = fs::remove_file(self.path(id))
        {
            tracing::warn!(thread = id, %error, "record of a thread cannot be removed");
        }
    }

    fn threads(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.threads.lock().expect("nobody panics while holding it")
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        let beside = self.directory.join(format!("{}.new", record.id));
        let text = serde_json::to_vec(record).expect("a record is always JSON");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(beside, self.path(&record.id))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::agent::State;
    use crate::daemon::api::examples::agent;

    pub fn record(id: &str) -> Record {
        Record {
            id: id.into(),
            tenant: "default".into(),
            execution_id: "e".into(),
            name: "lead".into(),
            agent_type: "claude".into(),
            objective: "do it".into(),
            role: Some("lead".into()),
            workspace: None,
            metadata: Some(serde_json::json!({"a": [1]})),
            created_at: handle::now(),
            updated_at: handle::now(),
            ready: false,
            asked_to_stop: false,
            ended: false,
            summary: None,
            completion: None,
        }
    }

    #[test]
    fn a_restart_finds_every_thread_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path().join("threads")).expect("open");
        assert!(store.add(record("a")).expect("written"));
        assert!(!store.add(record("a")).expect("known"));
        store.add(record("b")).expect("written");
        let ready = store.change("a", |record| record.ready = true).expect("there");
        store.remove("b");
        fs::write(directory.path().join("threads/c.json"), "{").expect("written");

        let again = Store::open(directory.path().join("threads")).expect("open");

        assert_eq!(again.all(), [ready]);
    }

    #[test]
    fn a_thread_that_is_started_takes_the_place_of_another_tenant_s_that_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path().join("threads")).expect("open");
        store.add(record("a")).expect("written");
        let other = Record { tenant: "other".into(), objective: "another".into(), ..record("a") };
        assert!(!store.add(other.clone()).expect("known"));
        assert!(store.renew(other.clone(), false).expect("written"));
        assert_eq!(store.get("a"), Some(other));
        // What is told of one that was just added stays.
        let told = store.change("a", |record| record.ready = true);
        assert!(!store.renew(record("a"), true).expect("nothing to do"));
        assert_eq!(store.get("a"), told);
    }

    #[test]
    fn a_handle_has_the_thread_s_own_and_its_agent_s_state() {
        let mut record = record("a");
        record.workspace = Some(serde_json::json!({"workspaceId": "w"}));
        let mut agent = agent("a");
        agent.workspace = Some("/srv/w".into());
        let handle = record.handle(Some(&agent), "docker");
        assert_eq!((handle.status.as_str(), handle.runtime_name.as_str()), ("ready", "docker"));
        assert_eq!(handle.workspace, Some(serde_json::json!({"workspaceId": "w", "path": "/srv/w"})));
        assert_eq!(handle.metadata, record.metadata);
        agent.state = State::Exited;
        agent.exit_code = Some(1);
        assert_eq!(record.handle(Some(&agent), "local").status, "failed");
        record.asked_to_stop = true;
        assert_eq!(record.handle(Some(&agent), "local").status, "stopped");
    }
}
