//! Before every handler: who calls, which grant it has, whether its role allows this endpoint.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::{Action, Authz, Caller, Decision, Endpoint};
use crate::daemon::problem::Fault;
use crate::daemon::serve::Peer;

/// Lets the request through to the handler of `endpoint`, with its [`Caller`]; or refuses it.
pub async fn let_through(endpoint: Endpoint, mut request: Request, next: Next) -> Response {
    match decide(endpoint, &request) {
        Ok(caller) => {
            if let Some(caller) = caller.clone() {
                request.extensions_mut().insert(caller);
            }
            let mut response = next.run(request).await;
            response.extensions_mut().insert(endpoint);
            // For whoever keeps account of what was answered to whom.
            if let Some(caller) = caller {
                response.extensions_mut().insert(caller);
            }
            response
        }
        Err(fault) => {
            let mut response = fault.into_response();
            response.extensions_mut().insert(endpoint);
            response
        }
    }
}

fn decide(endpoint: Endpoint, request: &Request) -> Result<Option<Caller>, Fault> {
    let action = endpoint.row().action;
    // Without a layer that puts them there nobody is let through.
    let authz = request.extensions().get::<Arc<Authz>>().ok_or_else(unguarded)?;
    let Some(peer) = request.extensions().get::<Arc<Peer>>() else {
        return if action == Action::Probe { Ok(None) } else { Err(unguarded()) };
    };
    let caller = authz.caller(peer);
    if action == Action::Probe {
        return Ok(caller);
    }
    let allowed = caller.as_ref().is_some_and(|caller| caller.may(action));
    authz.record(&Decision {
        endpoint,
        identity: &peer.identity,
        serial: &peer.serial,
        caller: caller.as_ref(),
        allowed,
    });
    match caller {
        Some(caller) if allowed => Ok(Some(caller)),
        Some(caller) => Err(Fault::forbidden(
            "role",
            format_args!(
                "{} has the role {} here, which may not {} {}: ask for a grant of another role",
                caller.identity,
                caller.role.name(),
                endpoint.row().method,
                endpoint.row().path
            ),
        )),
        None => Err(Fault::forbidden(
            "no-grant",
            format_args!(
                "{} has no grant on this node: it takes a [[grant]] in stockaded.toml",
                peer.identity
            ),
        )),
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
