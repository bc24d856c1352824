//! One agent behind its door: what it answers to each of the four calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Struct, Timestamp, Value};
use tokio::sync::{Semaphore, watch};
use tonic::Status as Refusal;

use super::messages::{AgentRequest, Capabilities, ConfidenceResult, Health, Status};
use super::{TurnError, Turns};
use crate::daemon::registry::running::{Registered, Running, health};
use crate::registry::entry::HealthStatus;

/// A turn that nobody said a time for, and the longest that somebody can ask for.
const USUAL: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(3600);
/// Turns that wait for one agent: it does one after another anyway.
const WAITING: usize = 8;
/// Bytes of a task that are typed into a terminal.
const LARGEST: usize = 256 * 1024;

/// One agent.
pub struct Agent {
    pub id: String,
    pub running: watch::Receiver<Option<Running>>,
    pub turns: Arc<dyn Turns>,
    pub usual_confidence: f64,
    room: Semaphore,
}

impl Agent {
    pub fn new(
        id: String,
        running: watch::Receiver<Option<Running>>,
        turns: Arc<dyn Turns>,
        usual_confidence: f64,
    ) -> Self {
        Self { id, running, turns, usual_confidence, room: Semaphore::new(WAITING) }
    }

    fn now(&self) -> Option<Registered> {
        self.running.borrow().as_ref()?.agents.get(&self.id).cloned()
    }

    /// Whose it is, while it runs.
    pub fn tenant(&self) -> Option<String> {
        self.now().map(|agent| agent.tenant)
    }

    /// `HealthCheck`
    pub fn health(&self) -> Health {
        let (status, message) = match self.now() {
            None => (Status::Unhealthy, "the agent is gone"),
            Some(agent) => {
                let status = match health(agent.state) {
                    HealthStatus::Healthy => Status::Healthy,
                    HealthStatus::Degraded => Status::Degraded,
                    HealthStatus::Unhealthy => Status::Unhealthy,
                };
                (status, agent.state.as_str())
            }
        };
        Health {
            status: status.into(),
            message: message.into(),
            last_check: Some(now()),
            details: HashMap::new(),
        }
    }

    /// `GetCapabilities`
    pub fn capabilities(&self) -> Result<Capabilities, Refusal> {
        let agent = self.now().ok_or_else(|| Refusal::not_found(format!("agent {} is gone", self.id)))?;
        Ok(Capabilities {
            agent_id: self.id.clone(),
            name: agent.name,
            capabilities: agent.capabilities,
            expertise_level: self.usual_confidence,
            capability_scores: HashMap::new(),
        })
    }

    /// `Analyze`: one turn. Dropped when the caller goes away.
    pub async fn analyze(&self, request: AgentRequest) -> Result<ConfidenceResult, Refusal> {
        let agent = self.now().ok_or_else(|| Refusal::not_found(format!("agent {} is gone", self.id)))?;
        let text = task(&request);
        if text.trim().is_empty() {
            return Err(Refusal::invalid_argument("task_description is empty: there is nothing to do"));
        }
        if text.len() > LARGEST {
            return Err(Refusal::invalid_argument(format!(
                "the task has {} bytes, more than {LARGEST}",
                text.len()
            )));
        }
        let Ok(_room) = self.room.try_acquire() else {
            return Err(Refusal::resource_exhausted(format!(
                "{WAITING} tasks wait for agent {} already",
                self.id
            )));
        };
        let patience = match u64::try_from(request.timeout_ms) {
            Ok(asked @ 1..) => Duration::from_millis(asked).min(LONGEST),
            _ => USUAL,
        };
        // The carrier keeps time; this is for one that does not.
        let turn = self.turns.turn(&agent.tenant, &self.id, text, patience);
        let output = match tokio::time::timeout(patience + Duration::from_secs(1), turn).await {
            Ok(turned) => turned,
            Err(_) => Err(TurnError::Late(patience)),
        };
        let output = output.map_err(|error| match error {
            TurnError::NotNow(_) => Refusal::failed_precondition(error.to_string()),
            TurnError::Late(_) => Refusal::deadline_exceeded(error.to_string()),
            TurnError::Failed(_) => Refusal::internal(error.to_string()),
        })?;
        Ok(self.result(&output))
    }

    fn result(&self, output: &str) -> ConfidenceResult {
        ConfidenceResult {
            value_json: serde_json::to_string(output).expect("text is JSON"),
            confidence: stated(output).unwrap_or(self.usual_confidence),
            agent_id: self.id.clone(),
            timestamp: Some(now()),
            uncertainties: Vec::new(),
            reasoning: String::new(),
            metadata: HashMap::new(),
        }
    }
}

fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// What is typed: the task, and what came with it.
fn task(request: &AgentRequest) -> String {
    let mut text = request.task_description.clone();
    if let Some(data) = request.data.as_ref().filter(|data| !data.fields.is_empty()) {
        text.push_str("\n\n");
        text.push_str(&object(data).to_string());
    }
    text
}

fn object(data: &Struct) -> serde_json::Value {
    let fields = data.fields.iter().map(|(name, value)| (name.clone(), json(value)));
    serde_json::Value::Object(fields.collect())
}

/// How deep it may go, prost has checked.
fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::NumberValue(number)) => self::number(*number),
        Some(Kind::StringValue(text)) => serde_json::json!(text),
        Some(Kind::BoolValue(flag)) => serde_json::json!(flag),
        Some(Kind::StructValue(data)) => object(data),
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
    }
}

/// The wire has nothing but doubles; a whole one is shown as whoever sent it wrote it.
fn number(number: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return serde_json::json!(number as i64);
    }
    serde_json::json!(number)
}

/// How sure the agent says it is: the last `CONFIDENCE: 0.85` in its answer.
fn stated(output: &str) -> Option<f64> {
    const WORD: &str = "confidence:";
    // Only ASCII changes, so that what is found here is there as well.
    let lower = output.to_ascii_lowercase();
    lower.rmatch_indices(WORD).find_map(|(at, _)| {
        let rest = output[at + WORD.len()..].trim_start_matches(['*', ' ', '\t']);
        let number = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        number.trim_end_matches('.').parse::<f64>().ok().map(|number| number.clamp(0.0, 1.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stated_confidence_counts_and_stays_between_nothing_and_one() {
        assert_eq!(stated("CONFIDENCE: 0.2 … Confidence: 0.85."), Some(0.85));
        assert_eq!(stated("confidence: 0.5\nconfidence: very"), Some(0.5));
        assert_eq!(stated("**Confidence:** 95"), Some(1.0));
        assert_eq!(stated("ÄÖÜ confidence:\u{1F980}"), None);
        assert_eq!(stated(""), None);
    }

    #[test]
    fn data_is_typed_after_the_task_and_nothing_if_there_is_none() {
        let mut request = AgentRequest { task_description: "sum".into(), ..Default::default() };
        assert_eq!(task(&request), "sum");
        let seven = Value { kind: Some(Kind::NumberValue(7.0)) };
        request.data = Some(Struct { fields: [("a".to_owned(), seven)].into() });
        assert_eq!(task(&request), "sum\n\n{\"a\":7}");
        assert_eq!(
            [0.5, -0.0, f64::NAN, 1e300].map(|n| number(n).to_string()),
            ["0.5", "0", "null", "1e+300"]
        );
    }
}
