//! The table: every endpoint, its method, its path, and what it takes to call it. A handler cannot be reached but by an
//! [`Endpoint`], and an endpoint cannot exist without its row.

use super::Role;

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing but a connection: liveness.
    Probe,
    /// To see agents, and what there is on the node.
    See,
    /// To start, stop, type, log in.
    Operate,
    /// To drain, and set what the whole node does.
    Administer,
    /// To read the audit.
    Audit,
}

impl Action {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::See => "see",
            Self::Operate => "operate",
            Self::Administer => "administer",
            Self::Audit => "audit",
        }
    }

    /// Who may.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Probe => &[Role::Auditor, Role::Viewer, Role::Operator, Role::Admin],
            Self::See => &[Role::Viewer, Role::Operator, Role::Admin],
            Self::Operate => &[Role::Operator, Role::Admin],
            Self::Administer => &[Role::Admin],
            Self::Audit => &[Role::Auditor, Role::Admin],
        }
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// `GET`, `POST` …
    pub method: &'static str,
    /// As axum writes it: `/v1/agents/{id}`.
    pub path: &'static str,
    /// What it takes.
    pub action: Action,
}

macro_rules! endpoints {
    ($($name:ident: $method:literal $path:literal $action:ident;)*) => {
        /// Every way in.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Endpoint { $($name,)* }

        impl Endpoint {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As the table calls it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Whether it is gRPC, which OpenAPI does not describe.
            pub const fn is_grpc(self) -> bool {
                use Endpoint::{ConfidenceAnalyze, ConfidenceCapabilities, ConfidenceHealth, ConfidenceStream};
                matches!(self, ConfidenceHealth | ConfidenceCapabilities | ConfidenceAnalyze | ConfidenceStream)
            }

            /// Its row.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row { method: $method, path: $path, action: Action::$action },)*
                }
            }
        }
    };
}

endpoints! {
    // Operations.
    Livez: "GET" "/livez" Probe;
    Readyz: "GET" "/readyz" Probe;
    Metrics: "GET" "/metrics" See;
    OpenApi: "GET" "/openapi.json" Probe;
    // Native.
    Spawn: "POST" "/v1/agents" Operate;
    List: "GET" "/v1/agents" See;
    Get: "GET" "/v1/agents/{id}" See;
    Remove: "DELETE" "/v1/agents/{id}" Operate;
    Stop: "POST" "/v1/agents/{id}/stop" Operate;
    Restart: "POST" "/v1/agents/{id}/restart" Operate;
    Send: "POST" "/v1/agents/{id}/send" Operate;
    Deliveries: "GET" "/v1/agents/{id}/deliveries" See;
    Input: "POST" "/v1/agents/{id}/input" Operate;
    Resize: "POST" "/v1/agents/{id}/resize" Operate;
    Exec: "POST" "/v1/agents/{id}/exec" Operate;
    Wait: "GET" "/v1/agents/{id}/wait" See;
    Logs: "GET" "/v1/agents/{id}/logs" See;
    Screen: "GET" "/v1/agents/{id}/screen" See;
    Recording: "GET" "/v1/agents/{id}/recording" See;
    Attestation: "GET" "/v1/agents/{id}/attestation" See;
    Stats: "GET" "/v1/agents/{id}/stats" See;
    Login: "GET" "/v1/agents/{id}/login" See;
    LogIn: "POST" "/v1/agents/{id}/login" Operate;
    Secret: "PUT" "/v1/agents/{id}/secrets/{name}" Operate;
    // Viewing takes a viewer; typing there takes an operator, which the handler checks.
    Terminal: "GET" "/v1/agents/{id}/terminal" See;
    Events: "GET" "/v1/events" See;
    Policies: "GET" "/v1/policies" See;
    Node: "GET" "/v1/node" See;
    Registry: "GET" "/v1/registry" See;
    Drain: "POST" "/v1/node/drain" Administer;
    AuditTail: "GET" "/v1/audit" Audit;
    AuditRotate: "POST" "/v1/audit/rotate-key" Administer;
    Usage: "GET" "/v1/usage" See;
    // gRPC, for registered agents that answer by name (docs/registry.md).
    ConfidenceHealth: "POST" "/parallax.confidence.ConfidenceAgent/HealthCheck" See;
    ConfidenceCapabilities: "POST" "/parallax.confidence.ConfidenceAgent/GetCapabilities" See;
    ConfidenceAnalyze: "POST" "/parallax.confidence.ConfidenceAgent/Analyze" Operate;
    ConfidenceStream: "POST" "/parallax.confidence.ConfidenceAgent/StreamAnalyze" Operate;
    // As the user first asked for it.
    SeedSpawn: "POST" "/spawn" Operate;
    SeedStop: "POST" "/stop" Operate;
    SeedList: "GET" "/agents" See;
    SeedLogs: "GET" "/agents/{id}/logs" See;
    // Parallax.
    Root: "GET" "/" See;
    ParallaxHealth: "GET" "/api/health" See;
    ParallaxAgents: "GET" "/api/agents" See;
    ParallaxSpawn: "POST" "/api/agents" Operate;
    ParallaxAgent: "GET" "/api/agents/{id}" See;
    ParallaxStop: "DELETE" "/api/agents/{id}" Operate;
    ParallaxRestart: "POST" "/api/agents/{id}/restart" Operate;
    ParallaxSend: "POST" "/api/agents/{id}/send" Operate;
    ParallaxLogs: "GET" "/api/agents/{id}/logs" See;
    ParallaxMetrics: "GET" "/api/agents/{id}/metrics" See;
    ParallaxThreads: "GET" "/api/threads" See;
    ParallaxThreadSpawn: "POST" "/api/threads" Operate;
    ParallaxThread: "GET" "/api/threads/{id}" See;
    ParallaxThreadStop: "DELETE" "/api/threads/{id}" Operate;
    ParallaxThreadSend: "POST" "/api/threads/{id}/send" Operate;
    ParallaxCleanup: "DELETE" "/api/executions/{id}/resources" Operate;
    ParallaxBus: "GET" "/ws" See;
    ParallaxEvents: "GET" "/ws/events" See;
    ParallaxTerminal: "GET" "/ws/agents/{id}/terminal" See;
}
