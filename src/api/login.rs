//! A login that an agent waits for, and what completes it.

use serde::{Deserialize, Serialize};

use super::State;

/// A login that an agent waits for: all of it is the agent's word, as its terminal shows it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// At whom.
    pub provider: String,
    /// `device-code`, `paste-code`, `callback`, `api-key`, `unknown`.
    pub method: String,
    /// Where to go; exact. Only an address at one of the hosts that the kind lists for this provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the address was read: `screen`, or `browser` (what the agent wanted opened in one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_source: Option<String>,
    /// Another address for the same login: what the agent wanted opened in a browser, which leads back to `callback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser_url: Option<String>,
    /// Where the browser is sent in the end, on the agent's own loopback; give what it was sent to as `callbackUrl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// What to type there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_code: Option<String>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Since when the agent has waited for a login.
    #[serde(default)]
    pub since: String,
    /// How often it was tried to complete it over the API, since then.
    #[serde(default)]
    pub attempts: u32,
    /// Why the last attempt failed, in the agent's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Login {
    /// Whether whoever was told of the other one knows all that is needed to complete this one.
    pub fn is_told_by(&self, other: &Self) -> bool {
        let told = |login: &Self| {
            let Self { provider, method, url, browser_url, callback, user_code, .. } = login.clone();
            (provider, method, url, browser_url, callback, user_code)
        };
        told(self) == told(other)
    }
}

/// `POST /v1/agents/{id}/login`: what completes a login. One of the two; nobody logs or records either.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginAnswer {
    /// The code that the address gave (`paste-code`), or a key (`api-key`): typed where the agent asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What the browser was sent to, and could not reach: delivered to that port inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// For how many milliseconds to wait for what comes of it. None: 20000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl std::fmt::Debug for LoginAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginAnswer").field("timeout_ms", &self.timeout_ms).finish_non_exhaustive()
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LoginResult {
    /// In a word.
    pub outcome: LoginOutcome,
    /// In words: the agent's own, where it said something.
    pub detail: String,
    /// What the agent is doing now.
    pub state: State,
    /// The login that it waits for, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

/// What can come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LoginOutcome {
    /// The agent goes on.
    Accepted,
    /// The agent, or its provider, did not take it.
    Refused,
    /// It was handed over, and the agent had not said what it made of it in time.
    Pending,
}
