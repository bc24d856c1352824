//! What went wrong with a request, on its way to becoming `application/problem+json`.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use crate::api::Problem;
use crate::api::problem::QuotaExcess;
use crate::daemon::supervisor::SupervisorError;
use crate::wire::service::Refusal;
use crate::wire::service::launcher::Reason;

/// RFC 9457
pub const MEDIA_TYPE: &str = "application/problem+json";

tokio::task_local! {
    /// The request that this task answers.
    static REQUEST: Arc<str>;
}

/// The answer to a request that fails. Handlers return it; it says nothing that the caller may not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    status: StatusCode,
    code: &'static str,
    detail: String,
    field: Option<String>,
    quota: Option<Box<QuotaExcess>>,
    retry_after: Option<Duration>,
}

impl Fault {
    /// One of this status, with a stable code for programs; `detail` names the object, the cause and the way out.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Display) -> Self {
        Self { status, code, detail: detail.to_string(), field: None, quota: None, retry_after: None }
    }

    /// 400: not even well-formed.
    pub fn malformed(detail: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 400: this field is not well-formed.
    pub fn malformed_field(field: impl Into<String>, detail: impl Display) -> Self {
        Self::malformed(detail).of(field)
    }

    /// 403
    pub fn forbidden(code: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404
    pub fn not_found(code: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 404: no agent of this id, for this caller.
    pub fn no_agent(id: impl Display) -> Self {
        Self::not_found("agent-not-found", format_args!("there is no agent {id}"))
    }

    /// 409
    pub fn conflict(code: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422: well-formed, but this field makes no sense.
    pub fn unprocessable(field: impl Into<String>, detail: impl Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", detail).of(field)
    }

    /// 429
    pub fn too_many(code: &'static str, detail: impl Display, retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail).after(retry_after)
    }

    /// 503
    pub fn unavailable(code: &'static str, detail: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    /// 504
    pub fn timeout(detail: impl Display) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail)
    }

    /// 500: Stockade failed.
    pub fn internal(detail: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Names the request's field at fault, as in its JSON.
    #[must_use]
    pub fn of(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// When to come again.
    #[must_use]
    pub fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// For people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// As it is sent.
    pub fn problem(&self) -> Problem {
        Problem {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or("Error").into(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            code: self.code.into(),
            request_id: REQUEST.try_with(|id| id.to_string()).unwrap_or_default(),
            error: self.detail.clone(),
            field: self.field.clone(),
            quota: self.quota.clone(),
            retry_after: self.retry_after.map(whole_seconds),
        }
    }
}

/// Whole seconds, and never "at once".
fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

/// The request that this task answers, if it answers one.
pub fn request_id() -> Option<Arc<str>> {
    REQUEST.try_with(Arc::clone).ok()
}

/// Runs `answer`; problems that it makes belong to the request `id`.
pub async fn within<F: Future>(id: Arc<str>, answer: F) -> F::Output {
    REQUEST.scope(id, answer).await
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.problem()).expect("a problem is always JSON");
        let mut response = (self.status, body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<SupervisorError> for Fault {
    fn from(error: SupervisorError) -> Self {
        let detail = error.to_string();
        match error {
            SupervisorError::NotFound { .. } => Self::not_found("agent-not-found", detail),
            SupervisorError::Taken { .. } => Self::conflict("id-taken", detail).of("id"),
            SupervisorError::NotDelivered { .. } => Self::conflict("not-delivered", detail),
            SupervisorError::State { .. } => Self::conflict("wrong-state", detail),
            SupervisorError::Field { field, malformed: true, .. } => Self::malformed_field(field, detail),
            SupervisorError::Field { field, malformed: false, .. } => Self::unprocessable(field, detail),
            SupervisorError::Refused(refusal) => refusal.into(),
            SupervisorError::Quota { retry_after, numbers, .. } => {
                Self { quota: Some(numbers), ..Self::too_many("quota", detail, retry_after) }
            }
            SupervisorError::Draining => Self::unavailable("draining", detail).after(Duration::from_secs(30)),
            SupervisorError::Launcher { .. } => {
                Self::unavailable("launcher-unavailable", detail).after(Duration::from_secs(5))
            }
            SupervisorError::Timeout { .. } => Self::timeout(detail),
            SupervisorError::Audit(_) => {
                Self::unavailable("audit-unavailable", detail).after(Duration::from_secs(5))
            }
            SupervisorError::Io { .. } => Self::internal(detail),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match refusal.reason {
            Reason::Malformed => (StatusCode::BAD_REQUEST, "malformed"),
            Reason::UnknownPolicy => (StatusCode::UNPROCESSABLE_ENTITY, "unknown-policy"),
            Reason::Exceeds => (StatusCode::UNPROCESSABLE_ENTITY, "policy-exceeded"),
            Reason::Exists => (StatusCode::CONFLICT, "id-taken"),
            Reason::Busy => (StatusCode::CONFLICT, "home-in-use"),
            Reason::Unknown => (StatusCode::NOT_FOUND, "agent-not-found"),
            Reason::Host => (StatusCode::SERVICE_UNAVAILABLE, "host-lacks-protection"),
            Reason::Version => (StatusCode::SERVICE_UNAVAILABLE, "launcher-version"),
            Reason::Failed | Reason::Other => (StatusCode::INTERNAL_SERVER_ERROR, "start-failed"),
        };
        Self { field: refusal.field.clone(), ..Self::new(status, code, refusal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(fault: Fault) -> serde_json::Value {
        let response = within("r-1".into(), async { fault.into_response() }).await;
        assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.expect("a whole body");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[tokio::test]
    async fn a_fault_says_what_where_and_which_request() {
        let problem = body(Fault::unprocessable("memory", "memory: 2TiB is more than policy base has")).await;
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["field"], "memory");
        assert_eq!(problem["requestId"], "r-1");
        assert_eq!(problem["error"], problem["detail"]);
    }

    #[test]
    fn a_quota_says_when_to_come_again_and_never_at_once() {
        let fault = Fault::too_many("quota", "50 agents run", Duration::from_millis(1));
        assert_eq!(fault.into_response().headers()[RETRY_AFTER], "1");
    }
}
