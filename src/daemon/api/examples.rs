//! For tests: an agent as a supervisor would show it.

use crate::api::agent::{Agent, Size, State};

/// A `shell` that is ready.
pub fn agent(id: &str) -> Agent {
    Agent {
        id: id.into(),
        name: id.into(),
        kind: "shell".into(),
        tenant: "default".into(),
        owner: "spiffe://example.org/parallax".into(),
        policy: "shell".into(),
        state: State::Ready,
        since: "2026-01-31T12:00:00Z".into(),
        evidence: "quiet for a second".into(),
        safe_to_type: true,
        created_at: "2026-01-31T11:59:58Z".into(),
        started_at: Some("2026-01-31T11:59:59Z".into()),
        ended_at: None,
        last_activity_at: None,
        exit_code: None,
        signal: None,
        out_of_memory: false,
        error: None,
        restarts: 0,
        workspace: None,
        home: None,
        labels: Default::default(),
        capabilities: vec![],
        size: Size { cols: 120, rows: 40 },
        offset: 0,
        login: None,
    }
}
