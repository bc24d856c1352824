//! The only way to a handler: a router that takes [`Endpoint`]s, and puts the guard before each.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};

use super::endpoint::Endpoint;
use super::{Authz, guard};
use crate::daemon::Daemon;

/// Endpoints with their handlers.
///
/// ```ignore
/// Routes::new().on(Endpoint::Get, get).on(Endpoint::List, list).and(other::routes())
/// ```
pub struct Routes<S = Daemon> {
    router: Router<S>,
    registered: Vec<Endpoint>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet.
    pub fn new() -> Self {
        Self { router: Router::new(), registered: Vec::new() }
    }

    /// Serves this endpoint by this handler, once the guard has let the caller through.
    ///
    /// # Panics
    /// When the endpoint is served already.
    #[must_use]
    pub fn on<H, T>(mut self, endpoint: Endpoint, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        assert!(!self.registered.contains(&endpoint), "{endpoint:?} is served twice");
        self.registered.push(endpoint);
        let row = endpoint.row();
        let guarded =
            on(filter(row.method), handler).route_layer(axum::middleware::from_fn(move |request, next| {
                guard::let_through(endpoint, request, next)
            }));
        self.router = self.router.route(row.path, guarded);
        self
    }

    /// These and those.
    ///
    /// # Panics
    /// When both serve one endpoint.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        for endpoint in others.registered {
            assert!(!self.registered.contains(&endpoint), "{endpoint:?} is served twice");
            self.registered.push(endpoint);
        }
        self.router = self.router.merge(others.router);
        self
    }

    /// What is served.
    pub fn registered(&self) -> &[Endpoint] {
        &self.registered
    }

    /// The router, with what the guard decides by, and what the handlers work with. What it does not know is answered
    /// 404 and 405.
    pub fn finish(self, authz: Arc<Authz>, state: S) -> Router {
        // How long a body may be is said by `[limits] body`, not by a default of the framework's.
        self.router
            .layer(axum::Extension(authz))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(state)
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self::new()
    }
}

fn filter(method: &str) -> MethodFilter {
    match method {
        "GET" => MethodFilter::GET,
        "POST" => MethodFilter::POST,
        "PUT" => MethodFilter::PUT,
        "DELETE" => MethodFilter::DELETE,
        other => panic!("the table of endpoints has a method that is none: {other}"),
    }
}
