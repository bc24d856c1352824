//! Before every handler: who calls, which grant it has, whether its role allows this endpoint.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::{Action, Authz, Caller, Decision, Endpoint};
use crate::daemon::problem::Fault;
use crate::daemon::serve::{Peer, RequestId};

/// Lets the request through to the handler of `endpoint`, with its [`Caller`]; or refuses it.
pub async fn let_through(endpoint: Endpoint, request: Request, next: Next) -> Response {
    let mut response = match judge(endpoint, request, next) {
        Ok(answer) => answer.await,
        Err(fault) => fault.into_response(),
    };
    if endpoint.is_grpc() && !response.status().is_success() {
        response = in_grpc(&response);
    }
    response.extensions_mut().insert(endpoint);
    response
}

/// A refusal, for a client that does not read problems.
fn in_grpc(response: &Response) -> Response {
    let code = match response.status() {
        http::StatusCode::UNAUTHORIZED => tonic::Code::Unauthenticated,
        http::StatusCode::FORBIDDEN => tonic::Code::PermissionDenied,
        http::StatusCode::PAYLOAD_TOO_LARGE | http::StatusCode::TOO_MANY_REQUESTS => {
            tonic::Code::ResourceExhausted
        }
        _ => tonic::Code::Unavailable,
    };
    let detail =
        response.extensions().get::<Fault>().map(|fault| fault.detail().to_owned()).unwrap_or_default();
    tonic::Status::new(code, detail).into_http()
}

/// What it came to: a gRPC refusal without a body is a 200 in HTTP's words.
fn status_of(response: &Response) -> http::StatusCode {
    match tonic::Status::from_header_map(response.headers()).map(|status| status.code()) {
        None | Some(tonic::Code::Ok) => response.status(),
        Some(tonic::Code::NotFound) => http::StatusCode::NOT_FOUND,
        Some(tonic::Code::PermissionDenied) => http::StatusCode::FORBIDDEN,
        Some(tonic::Code::Unauthenticated) => http::StatusCode::UNAUTHORIZED,
        Some(tonic::Code::ResourceExhausted) => http::StatusCode::TOO_MANY_REQUESTS,
        Some(tonic::Code::InvalidArgument) => http::StatusCode::BAD_REQUEST,
        Some(_) => http::StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What the request is answered, by the handler or in its stead.
fn judge(
    endpoint: Endpoint,
    mut request: Request,
    next: Next,
) -> Result<impl Future<Output = Response>, Fault> {
    let is_probe = endpoint.row().action == Action::Probe;
    let extensions = request.extensions();
    // Without a layer that puts them there nobody is let through.
    let authz = extensions.get::<Arc<Authz>>().cloned().ok_or_else(unguarded)?;
    let peer = extensions.get::<Arc<Peer>>().cloned();
    let id = extensions.get::<RequestId>().map(|id| Arc::clone(&id.0)).unwrap_or_default();
    // What gRPC calls is named by its authority.
    let host = endpoint.is_grpc().then(|| request.uri().host().unwrap_or_default());
    let path = host.unwrap_or_default().to_owned() + request.uri().path();
    if peer.is_none() && !is_probe {
        return Err(unguarded());
    }
    let caller = peer.as_ref().and_then(|peer| authz.caller(peer));
    let allowed = caller.as_ref().is_some_and(|caller| caller.may(endpoint.row().action));
    if let Some(caller) = &caller {
        request.extensions_mut().insert(caller.clone());
    }
    Ok(async move {
        let Some(peer) = peer.filter(|_| !is_probe) else { return next.run(request).await };
        let decision = Decision {
            request: &id,
            endpoint,
            path: &path,
            identity: &peer.identity,
            address: peer.address,
            serial: &peer.serial,
            caller: caller.as_ref(),
            allowed,
        };
        authz.record().decided(&decision);
        let response = if allowed { next.run(request).await } else { refusal(&decision).into_response() };
        authz.record().answered(&decision, status_of(&response));
        response
    })
}

fn refusal(decision: &Decision<'_>) -> Fault {
    let (identity, row) = (decision.identity, decision.endpoint.row());
    match decision.caller {
        Some(caller) => {
            let role = caller.role.name();
            let what = format_args!("{} {}", row.method, row.path);
            Fault::forbidden(
                "role",
                format_args!(
                    "{identity} has the role {role} here, which may not {what}: ask for a grant of another role"
                ),
            )
        }
        None => Fault::forbidden(
            "no-grant",
            format_args!("{identity} has no grant on this node: it takes a [[grant]] in stockaded.toml"),
        ),
    }
}

fn unguarded() -> Fault {
    Fault::new(http::StatusCode::UNAUTHORIZED, "unauthenticated", "this takes a client certificate")
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unguarded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_in_grpc_is_recorded_as_one_though_http_calls_it_a_success() {
        let answer = |code| tonic::Status::new(code, "no").into_http::<axum::body::Body>();
        assert_eq!(answer(tonic::Code::NotFound).status(), http::StatusCode::OK);
        let told =
            [tonic::Code::Ok, tonic::Code::NotFound, tonic::Code::PermissionDenied, tonic::Code::Internal];
        assert_eq!(told.map(|code| status_of(&answer(code)).as_u16()), [200, 404, 403, 503]);
        assert_eq!(status_of(&http::StatusCode::CONFLICT.into_response()).as_u16(), 409);
    }

    #[test]
    fn too_much_is_said_to_be_that_in_grpc() {
        let code = |status: http::StatusCode| {
            tonic::Status::from_header_map(in_grpc(&status.into_response()).headers()).map(|said| said.code())
        };
        for status in [http::StatusCode::TOO_MANY_REQUESTS, http::StatusCode::PAYLOAD_TOO_LARGE] {
            assert_eq!(code(status), Some(tonic::Code::ResourceExhausted));
        }
    }
}
