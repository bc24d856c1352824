//! The description of every route, OpenAPI 3.1: made from the handlers, completed from the table of endpoints.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};

use super::{agents, events, input, logs, node, seed, terminal};
use crate::daemon::audit::tail as audit;
use crate::daemon::authz::{Action, Endpoint};
use crate::daemon::parallax;
use crate::daemon::problem::MEDIA_TYPE;
use crate::daemon::registry::view as registry;
use crate::daemon::usage::tail as usage;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Stockade",
        description = "Hardened sandboxes for CLI coding agents. mTLS always: the client certificate says who calls.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        livez, readyz, metrics, description,
        agents::spawn, agents::list, agents::get, agents::remove, agents::stop, agents::restart, agents::wait,
        agents::attestation, agents::stats, agents::login, agents::log_in,
        input::send, input::deliveries, input::input, input::resize, input::exec, input::secret,
        logs::logs, logs::screen, logs::recording,
        terminal::attach,
        events::follow,
        node::policies, node::node, node::drain, registry::registry,
        audit::tail, audit::rotate_key, usage::tail,
        seed::spawn, seed::stop, seed::list, seed::logs,
        parallax::agents::root, parallax::agents::health, parallax::agents::list, parallax::agents::spawn,
        parallax::agents::get, parallax::agents::stop, parallax::agents::restart, parallax::agents::send,
        parallax::agents::logs, parallax::agents::metrics, parallax::agents::cleanup,
        parallax::threads::list, parallax::threads::spawn, parallax::threads::get, parallax::threads::stop,
        parallax::threads::send,
        parallax::sockets::bus, parallax::sockets::events, parallax::terminal::attach,
    ),
    components(schemas(crate::api::Problem, crate::api::terminal::FromServer, crate::api::terminal::FromClient)),
    modifiers(&FromTheTable),
    tags(
        (name = "agents", description = "Agents, from the request to the end"),
        (name = "terminal", description = "What goes in and comes out"),
        (name = "events", description = "What happens"),
        (name = "node", description = "The node"),
        (name = "minimal", description = "As little as will do"),
        (name = "parallax", description = "What an unmodified Parallax control plane drives"),
        (name = "operations", description = "For whoever runs it")
    )
)]
struct Described;

/// Whether the daemon lives: it answers.
#[utoipa::path(get, path = "/livez", tag = "operations",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain; charset=utf-8")))]
#[allow(dead_code)]
fn livez() {}

/// Whether agents can be started and reached, and what that is made of.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses((status = 200, description = "They can", body = Value), (status = 503, description = "They cannot, and why", body = Value)))]
#[allow(dead_code)]
fn readyz() {}

/// What there is to count, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "In the text format", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8")))]
#[allow(dead_code)]
fn metrics() {}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, description = "OpenAPI 3.1", body = Value)))]
#[allow(dead_code)]
fn description() {}

static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| Described::openapi().to_pretty_json().expect("a description is always JSON"));

/// The document.
pub fn document() -> &'static str {
    &DOCUMENT
}

/// As it is served.
pub fn answer() -> Response {
    ([(CONTENT_TYPE, "application/json")], document()).into_response()
}

/// Gives every operation its endpoint's name, and the refusals that every such endpoint has.
struct FromTheTable;

impl Modify for FromTheTable {
    fn modify(&self, document: &mut OpenApi) {
        for endpoint in Endpoint::ALL {
            if let Some(operation) = operation(document, *endpoint) {
                complete(operation, *endpoint);
            }
        }
    }
}

fn operation(document: &mut OpenApi, endpoint: Endpoint) -> Option<&mut Operation> {
    let row = endpoint.row();
    let item = document.paths.paths.get_mut(row.path)?;
    match method(row.method) {
        HttpMethod::Get => item.get.as_mut(),
        HttpMethod::Post => item.post.as_mut(),
        HttpMethod::Put => item.put.as_mut(),
        HttpMethod::Delete => item.delete.as_mut(),
        _ => None,
    }
}

fn method(name: &str) -> HttpMethod {
    match name {
        "GET" => HttpMethod::Get,
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "DELETE" => HttpMethod::Delete,
        other => unreachable!("the table of endpoints has the method {other}"),
    }
}

fn complete(operation: &mut Operation, endpoint: Endpoint) {
    let row = endpoint.row();
    operation.operation_id = Some(name(endpoint));
    operation.responses.responses.values_mut().for_each(as_problem);
    let mut refusals = vec![
        ("400", "Malformed; names the field if it is one's"),
        ("429", "Too many requests, or a quota is used up; `Retry-After` says when to come again"),
        ("500", "Stockade failed"),
        ("503", "Draining, overloaded, or a part of the node does not answer"),
    ];
    if row.action != Action::Probe {
        refusals.push(("401", "No client certificate"));
        refusals.push(("403", "No grant, or one of another role"));
    }
    if row.path.contains('{') {
        refusals.push(("404", "Not there, or not for this caller"));
    }
    if operation.request_body.is_some() {
        refusals.push(("408", "The request did not come in time"));
        refusals.push(("413", "Longer than is allowed here"));
        refusals.push(("422", "Well-formed and wrong: names the field"));
    }
    if matches!(
        endpoint,
        Endpoint::Spawn | Endpoint::SeedSpawn | Endpoint::ParallaxSpawn | Endpoint::ParallaxThreadSpawn
    ) {
        refusals.push(("409", "The id is taken by another request"));
    }
    if row.method != "GET" {
        refusals.push(("504", "Something took too long"));
    }
    for (status, description) in refusals {
        operation.responses.responses.entry(status.into()).or_insert_with(|| problem(description));
    }
}

/// A refusal that a handler describes itself has its media type, too.
fn as_problem(response: &mut RefOr<utoipa::openapi::Response>) {
    let RefOr::T(response) = response else { return };
    let is_problem = |content: &RefOr<utoipa::openapi::Content>| match content {
        RefOr::T(content) => {
            matches!(&content.schema, Some(RefOr::Ref(to)) if to.ref_location.ends_with("/Problem"))
        }
        RefOr::Ref(_) => false,
    };
    if response.content.get("application/json").is_some_and(is_problem)
        && let Some(content) = response.content.shift_remove("application/json")
    {
        response.content.insert(MEDIA_TYPE.into(), content);
    }
}

fn problem(description: &str) -> RefOr<utoipa::openapi::Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description);
    response.content(MEDIA_TYPE, content).build().into()
}

/// `ParallaxThreadSpawn` is `parallaxThreadSpawn`.
fn name(endpoint: Endpoint) -> String {
    let name = format!("{endpoint:?}");
    let (first, rest) = name.split_at(1);
    first.to_lowercase() + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn described() -> serde_json::Value {
        serde_json::from_str(document()).expect("JSON")
    }

    #[test]
    fn what_is_described_is_what_there_is() {
        let document = described();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for method in item.as_object().expect("an item").keys() {
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
        let rows = Endpoint::ALL.iter().filter(|endpoint| !endpoint.is_grpc()).map(|endpoint| endpoint.row());
        let there: BTreeSet<_> = rows.map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
        assert_eq!(described, there);
        assert_eq!(document["openapi"].as_str().map(|v| &v[..4]), Some("3.1."));
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_a_success_and_its_refusals() {
        let document = described();
        let mut names = BTreeSet::new();
        for endpoint in Endpoint::ALL.iter().filter(|endpoint| !endpoint.is_grpc()) {
            let row = endpoint.row();
            let operation = &document["paths"][row.path][row.method.to_lowercase()];
            assert!(
                names.insert(operation["operationId"].as_str().expect("a name").to_owned()),
                "{endpoint:?}"
            );
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.keys().any(|s| s.starts_with('2') || s == "101"), "{endpoint:?}");
            for (status, response) in responses {
                let plain = response["content"]["application/json"]["schema"]["$ref"].as_str();
                assert_ne!(plain, Some("#/components/schemas/Problem"), "{endpoint:?} {status}");
            }
            for status in ["400", "429", "500", "503"] {
                assert!(responses.contains_key(status), "{endpoint:?} has no {status}");
            }
            assert_eq!(responses.contains_key("403"), row.action != Action::Probe, "{endpoint:?}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = described();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            if let Some(reference) = value.get("$ref").and_then(|r| r.as_str()) {
                let pointer = reference.strip_prefix('#').expect("a reference within");
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            open.extend(value.as_object().into_iter().flat_map(|o| o.values()));
            open.extend(value.as_array().into_iter().flatten());
        }
    }
}
