//! What goes into an agent: messages, keys, sizes, credentials, and other programs within its walls.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;

use super::body::{Body, Id};
use super::{check, keys};
use crate::api::agent::{Exec, ExecResult, Input, Send, Sent, Size};
use crate::api::delivery::Deliveries;
use crate::api::screen::Secret;
use crate::daemon::Daemon;
use crate::daemon::authz::Caller;
use crate::daemon::problem::Fault;

const LONGEST_WAIT: u64 = 24 * 60 * 60 * 1000;
const BETWEEN_KEYS: Duration = Duration::from_millis(50);
/// The most keys of one request.
pub const MOST_KEYS: usize = 256;

/// Types a message and submits it; with `wait` answers only once the agent has.
#[utoipa::path(
    post, path = "/v1/agents/{id}/send", tag = "terminal",
    params(("id" = String, Path, description = "The agent")),
    request_body = Send,
    responses((status = 200, description = "Submitted, and seen to be taken", body = Sent), (status = 202, description = "Queued", body = Sent),
        (status = 409, description = "It cannot be typed to now, or was not delivered", body = crate::api::Problem),
        (status = 504, description = "No answer in time", body = crate::api::Problem))
)]
pub async fn send(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    Body(mut message): Body<Send>,
) -> Result<(StatusCode, Json<Sent>), Fault> {
    if message.message.contains('\0') {
        return Err(Fault::malformed_field("message", "message: it holds a NUL"));
    }
    message.timeout_ms = message.timeout_ms.map(|t| t.min(LONGEST_WAIT));
    let sent = daemon.supervisor.send(&caller, id.as_str(), message).await?;
    Ok((if sent.sent { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(sent)))
}

/// What became of an agent's latest messages.
#[utoipa::path(
    get, path = "/v1/agents/{id}/deliveries", tag = "terminal",
    params(("id" = String, Path, description = "The agent")),
    responses((status = 200, description = "The latest ones", body = Deliveries))
)]
pub async fn deliveries(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
) -> Result<Json<Deliveries>, Fault> {
    Ok(Json(Deliveries { deliveries: daemon.supervisor.deliveries(&caller, id.as_str())? }))
}

/// Types text, keys or bytes, as they are.
#[utoipa::path(
    post, path = "/v1/agents/{id}/input", tag = "terminal",
    params(("id" = String, Path, description = "The agent")),
    request_body = Input,
    responses((status = 204, description = "With the agent's terminal"), (status = 409, description = "It has ended", body = crate::api::Problem))
)]
pub async fn input(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    Body(request): Body<Input>,
) -> Result<StatusCode, Fault> {
    let writes = typed(&request)?;
    type_in(&daemon, &caller, id.as_str(), writes).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Types these writes one after the other, if the agent runs. What comes in one write with a key before it, programs take
/// for a part of that, and a terminal throws it away if the key is Ctrl-C.
///
/// # Errors
/// 404, 409, and 503 if its terminal is out of reach.
pub async fn type_in(daemon: &Daemon, caller: &Caller, id: &str, writes: Vec<Bytes>) -> Result<(), Fault> {
    let agent = daemon.supervisor.get(caller, id)?;
    if agent.state.is_final() {
        let detail = format_args!("agent {id} is {}: nothing can be typed to it", agent.state.as_str());
        return Err(Fault::conflict("wrong-state", detail));
    }
    let terminal = daemon.supervisor.terminal(caller, id)?;
    let out_of_reach = |error| {
        Fault::unavailable(
            "terminal-unavailable",
            format_args!("the terminal of agent {id} takes no input: {error}"),
        )
    };
    for (n, bytes) in writes.into_iter().enumerate() {
        if n > 0 {
            tokio::time::sleep(BETWEEN_KEYS).await;
        }
        terminal.input(bytes).await.map_err(out_of_reach)?;
    }
    Ok(())
}

fn typed(request: &Input) -> Result<Vec<Bytes>, Fault> {
    if let Some(text) = &request.base64 {
        if request.text.is_some() || !request.keys.is_empty() {
            return Err(Fault::unprocessable("base64", "base64: give either bytes or text and keys"));
        }
        return STANDARD
            .decode(text)
            .map(|bytes| vec![Bytes::from(bytes)])
            .map_err(|error| Fault::malformed_field("base64", format_args!("base64: {error}")));
    }
    if request.keys.len() > MOST_KEYS {
        return Err(Fault::unprocessable("keys", format_args!("keys: at most {MOST_KEYS} at once")));
    }
    let text = request.text.iter().filter(|text| !text.is_empty());
    let mut writes: Vec<Bytes> = text.map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
    for key in &request.keys {
        let unknown = || {
            let shown: String = key.chars().take(80).collect();
            Fault::unprocessable(
                "keys",
                format_args!("keys: {shown:?} is no key: use enter, ctrl+c, up, f1 …"),
            )
        };
        writes.push(keys::bytes(key).ok_or_else(unknown)?.into());
    }
    if writes.is_empty() {
        return Err(Fault::unprocessable(
            "text",
            "text: there is nothing to type: give text, keys or base64",
        ));
    }
    Ok(writes)
}

/// Sets the terminal's size. A viewer that owns the size keeps it.
#[utoipa::path(
    post, path = "/v1/agents/{id}/resize", tag = "terminal",
    params(("id" = String, Path, description = "The agent")),
    request_body = Size,
    responses((status = 204, description = "Taken"), (status = 409, description = "It has ended", body = crate::api::Problem))
)]
pub async fn resize(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    Body(size): Body<Size>,
) -> Result<StatusCode, Fault> {
    check::size("cols", size)?;
    daemon.supervisor.resize(&caller, id.as_str(), size).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs something else within the agent's walls, and waits for it.
#[utoipa::path(
    post, path = "/v1/agents/{id}/exec", tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    request_body = Exec,
    responses((status = 200, description = "It has ended", body = ExecResult), (status = 409, description = "The agent does not run", body = crate::api::Problem),
        (status = 504, description = "Not in time", body = crate::api::Problem))
)]
pub async fn exec(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    Body(request): Body<Exec>,
) -> Result<Json<ExecResult>, Fault> {
    Ok(Json(daemon.supervisor.exec(&caller, id.as_str(), request).await?))
}

/// Gives the gateway a new value for a credential of the policy's. The agent never sees it.
#[utoipa::path(
    put, path = "/v1/agents/{id}/secrets/{name}", tag = "agents",
    params(("id" = String, Path, description = "The agent"), ("name" = String, Path, description = "The credential's name in the policy")),
    request_body = Secret,
    responses((status = 204, description = "In use from now on"), (status = 409, description = "The agent does not run", body = crate::api::Problem))
)]
pub async fn secret(
    State(daemon): State<Daemon>,
    caller: Caller,
    id: Id,
    Path(path): Path<(String, String)>,
    Body(secret): Body<Secret>,
) -> Result<StatusCode, Fault> {
    let (_, name) = path;
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 256 || !name.bytes().all(plain) || name.starts_with(['-', '.']) {
        return Err(Fault::malformed_field("name", "name: use letters, digits, . _ -"));
    }
    daemon.supervisor.secret(&caller, id.as_str(), &name, secret.value).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(request: &Input) -> Result<Vec<u8>, u16> {
        typed(request).map(|writes| writes.concat()).map_err(|fault| fault.status().as_u16())
    }

    #[test]
    fn what_is_typed_is_text_then_keys_or_else_bytes() {
        let text = Input { text: Some("ls".into()), keys: vec!["enter".into()], base64: None };
        assert_eq!(bytes(&text), Ok(b"ls\r".to_vec()));
        assert_eq!(bytes(&Input { base64: Some("AAE=".into()), ..Input::default() }), Ok(vec![0, 1]));
        assert_eq!(bytes(&Input { base64: Some("?".into()), ..Input::default() }), Err(400));
        assert_eq!(bytes(&Input { base64: Some("AAE=".into()), ..text }), Err(422));
        assert_eq!(bytes(&Input { keys: vec!["hyper+x".into()], ..Input::default() }), Err(422));
        assert_eq!(bytes(&Input::default()), Err(422));
    }
}
