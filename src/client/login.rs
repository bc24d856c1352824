//! The login that an agent waits for: shown, or completed.

use std::time::Duration;

use super::agents::standard_input;
use super::error::{ClientError, code};
use super::http::{Client, agent_path};
use super::output::{Output, plain};
use crate::api::login::{Login, LoginAnswer, LoginOutcome, LoginResult};
use crate::cli::service::agent as words;

/// What the service may take beside the time that it waits.
const BESIDE: Duration = Duration::from_secs(40);
/// The service's own patience, if none is given.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shows it, or completes it.
pub async fn login(client: &Client, output: Output, words: words::Login) -> Result<u8, ClientError> {
    let path = agent_path(&words.id, "/login")?;
    if words.code.is_none() && words.callback_url.is_none() {
        let login: Login = client.get(&path).await?;
        output.result(&login, || lines(&login))?;
        return Ok(code::OK);
    }
    let answer = LoginAnswer {
        code: words.code.map(secret).transpose()?,
        callback_url: words.callback_url.map(secret).transpose()?,
        timeout_ms: words.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
    };
    let patience = words.timeout.unwrap_or(PATIENCE).saturating_add(BESIDE);
    let result: LoginResult = client.post(&path, &answer, patience).await?;
    output.result(&result, || {
        let head = match result.outcome {
            LoginOutcome::Accepted => "accepted",
            LoginOutcome::Refused => "refused",
            LoginOutcome::Pending => "pending",
        };
        let next = result.login.as_ref().map(lines).unwrap_or_default();
        format!("{head}: {}\n{next}", plain(&result.detail))
    })?;
    Ok(match result.outcome {
        LoginOutcome::Accepted => code::OK,
        LoginOutcome::Refused => code::FAILURE,
        LoginOutcome::Pending => code::TIMEOUT,
    })
}

/// `-` is what comes from standard input: a command line can be read by everybody on this host.
fn secret(word: String) -> Result<String, ClientError> {
    let text = if word == "-" { standard_input()? } else { word };
    Ok(text.trim().to_owned())
}

fn lines(login: &Login) -> String {
    let attempts = (login.attempts > 0).then(|| login.attempts.to_string());
    let rows = [
        ("provider", Some(&login.provider)),
        ("method", Some(&login.method)),
        ("url", login.url.as_ref()),
        ("read from", login.url_source.as_ref()),
        ("code", login.user_code.as_ref()),
        ("expires", login.expires_at.as_ref()),
        ("browser url", login.browser_url.as_ref()),
        ("leads back to", login.callback.as_ref()),
        ("since", Some(&login.since)),
        ("attempts", attempts.as_ref()),
        ("refused", login.refused.as_ref()),
    ];
    let rows = rows.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}\n", plain(value?))));
    rows.collect()
}
