//! The handlers of /v1 and of the minimal face: they turn HTTP into a call, and its error into a problem.

pub mod agents;
pub mod body;
pub mod check;
pub mod events;
#[cfg(test)]
pub mod examples;
pub mod follow;
pub mod input;
pub mod keys;
pub mod logs;
pub mod node;
pub mod openapi;
pub mod page;
pub mod pulse;
pub mod query;
pub mod seed;
pub mod stream;
pub(crate) mod tail;
pub mod terminal;

use super::authz::{Endpoint, Routes};
use super::{audit, usage};

/// Their routes, and the description of all routes there are.
pub fn routes() -> Routes {
    native().and(minimal()).on(Endpoint::OpenApi, description)
}

async fn description() -> axum::response::Response {
    openapi::answer()
}

fn native() -> Routes {
    Routes::new()
        .on(Endpoint::Spawn, agents::spawn)
        .on(Endpoint::List, agents::list)
        .on(Endpoint::Get, agents::get)
        .on(Endpoint::Remove, agents::remove)
        .on(Endpoint::Stop, agents::stop)
        .on(Endpoint::Restart, agents::restart)
        .on(Endpoint::Wait, agents::wait)
        .on(Endpoint::Attestation, agents::attestation)
        .on(Endpoint::Stats, agents::stats)
        .on(Endpoint::Login, agents::login)
        .on(Endpoint::LogIn, agents::log_in)
        .on(Endpoint::Send, input::send)
        .on(Endpoint::Deliveries, input::deliveries)
        .on(Endpoint::Input, input::input)
        .on(Endpoint::Resize, input::resize)
        .on(Endpoint::Exec, input::exec)
        .on(Endpoint::Secret, input::secret)
        .on(Endpoint::Logs, logs::logs)
        .on(Endpoint::Screen, logs::screen)
        .on(Endpoint::Recording, logs::recording)
        .on(Endpoint::Terminal, terminal::attach)
        .on(Endpoint::Events, events::follow)
        .on(Endpoint::Policies, node::policies)
        .on(Endpoint::Node, node::node)
        .on(Endpoint::Drain, node::drain)
        .on(Endpoint::AuditTail, audit::tail::tail)
        .on(Endpoint::AuditRotate, audit::tail::rotate_key)
        .on(Endpoint::Usage, usage::tail::tail)
}

fn minimal() -> Routes {
    Routes::new()
        .on(Endpoint::SeedSpawn, seed::spawn)
        .on(Endpoint::SeedStop, seed::stop)
        .on(Endpoint::SeedList, seed::list)
        .on(Endpoint::SeedLogs, seed::logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_of_the_table_but_those_of_operations_is_served() {
        let routes =
            routes().and(crate::daemon::parallax::routes()).and(crate::daemon::registry::view::routes());
        let operations = [Endpoint::Livez, Endpoint::Readyz, Endpoint::Metrics];
        let known = |endpoint: &&Endpoint| {
            routes.registered().contains(endpoint) || operations.contains(endpoint) || endpoint.is_grpc()
        };
        let missing: Vec<_> = Endpoint::ALL.iter().filter(|endpoint| !known(endpoint)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
