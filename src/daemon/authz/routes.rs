//! The only way to a handler: a router that takes [`Endpoint`]s, and puts the guard before each.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};

use super::endpoint::Endpoint;
use super::guard;
use crate::daemon::Daemon;

/// Endpoints with their handlers.
///
/// ```ignore
/// Routes::new().on(Endpoint::Get, get).on(Endpoint::List, list).and(other::routes())
/// ```
#[derive(Default)]
pub struct Routes {
    router: Router<Daemon>,
    registered: Vec<Endpoint>,
}

impl Routes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves this endpoint by this handler, once the guard has let the caller through.
    ///
    /// # Panics
    /// When the endpoint is served already.
    #[must_use]
    pub fn on<H, T>(mut self, endpoint: Endpoint, handler: H) -> Self
    where
        H: Handler<T, Daemon>,
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

    /// The router, with what the guard needs. What it does not know is answered 404 and 405.
    pub fn finish(self, daemon: Daemon) -> Router {
        let gate = axum::Extension(daemon.authz.clone());
        self.router.layer(gate).with_state(daemon)
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
