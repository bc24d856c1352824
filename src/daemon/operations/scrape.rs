//! The text of `/metrics`: what is counted as it happens, and what is looked up when somebody asks.

use std::collections::BTreeMap;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::daemon::Daemon;
use crate::daemon::authz::{Caller, Role};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// In the format of OpenMetrics.
pub fn text(daemon: &Daemon) -> String {
    let mut out = String::new();
    let written = text::encode_registry(&mut out, daemon.metrics.registry())
        .and_then(|()| text::encode_registry(&mut out, &looked_up(daemon)))
        .and_then(|()| text::encode_eof(&mut out));
    written.expect("writing to a string does not fail");
    out
}

fn looked_up(daemon: &Daemon) -> Registry {
    let mut registry = Registry::with_prefix("stockade");
    let (node, live) = (daemon.supervisor.node(), &daemon.live);
    let (generation, refused) = live.counts();
    let gauge = |value: i64| ConstGauge::new(value);
    registry.register("connections", "Open connections", gauge(daemon.metrics.connections().count() as i64));
    registry.register("launcher_up", "Whether the launcher answers", gauge(node.launcher.into()));
    registry.register("draining", "Whether new agents are refused", gauge(node.draining.into()));
    registry.register("material_generation", "Certificates and grants in force", gauge(generation as i64));
    registry.register("material_refused", "Changes that could not be used", ConstCounter::new(refused));
    let valid = live.material().certificate_until;
    let left = valid.duration_since(std::time::SystemTime::now()).map_or(0, |left| left.as_secs() as i64);
    registry.register("certificate_seconds_left", "Until the daemon's certificate expires", gauge(left));
    agents(daemon, &mut registry);
    used(daemon, &mut registry);
    sinks(daemon, &mut registry);
    registered(daemon, &mut registry);
    registry
}

fn registered(daemon: &Daemon, registry: &mut Registry) {
    let status = daemon.registry.status().borrow().clone();
    let (gauge, counts) = (ConstGauge::<i64>::new, status.counts);
    registry.register("registry_up", "Whether agents can be registered", gauge(status.connected.into()));
    registry.register("registry_wanted", "Agents that should be registered", gauge(status.wanted as i64));
    registry.register("registry_agents", "Agents that are registered", gauge(status.registered as i64));
    registry.register(
        "registry_conflicts",
        "Agents whose key somebody else has",
        gauge(status.conflicts.len() as i64),
    );
    let counters = [
        ("registry_sessions", "Connections to etcd", counts.sessions),
        ("registry_leases", "Leases granted; more than one: entries were gone for a while", counts.leases),
        ("registry_requests", "Requests to etcd", counts.requests),
        ("registry_meddled", "Keys of this node that somebody else deleted or changed", counts.meddled),
    ];
    for (name, help, count) in counters {
        registry.register(name, help, ConstCounter::new(count));
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: String,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

/// How the audit's sinks do: as many as the configuration names.
fn sinks(daemon: &Daemon, registry: &mut Registry) {
    let up = Family::<SinkLabel, Gauge>::default();
    let lag = Family::<SinkLabel, Gauge>::default();
    let failures = Family::<SinkLabel, Counter>::default();
    for (status, behind) in daemon.supervisor.audit().sinks() {
        let label = SinkLabel { sink: status.name };
        up.get_or_create(&label).set(status.trouble.is_none().into());
        lag.get_or_create(&label).set(behind as i64);
        failures.get_or_create(&label).inc_by(status.failures);
    }
    registry.register("audit_sink_up", "Whether an audit sink takes records", up);
    registry.register("audit_sink_lag_records", "Audit records that a sink has not got yet", lag);
    registry.register("audit_sink_failures", "Attempts to reach an audit sink that failed", failures);
}

/// What is recorded as used, on the whole node. Classes are a handful of words.
fn used(daemon: &Daemon, registry: &mut Registry) {
    let (all, records) = daemon.supervisor.usage().in_all();
    let seconds = |micros: i64| ConstCounter::new(micros.max(0) as f64 / 1e6);
    let whole = |number: i64| ConstCounter::new(u64::try_from(number).unwrap_or(0));
    registry.register("usage_cpu_seconds", "CPU time recorded as used", seconds(all.cpu_us));
    registry.register(
        "usage_wall_seconds",
        "Time that agents ran",
        seconds(all.wall_ms.saturating_mul(1000)),
    );
    let memory = whole(all.memory_byte_seconds);
    registry.register("usage_memory_byte_seconds", "Memory over time recorded as used", memory);
    registry.register("usage_io_read_bytes", "Bytes read from disks", whole(all.io_read));
    registry.register("usage_io_written_bytes", "Bytes written to disks", whole(all.io_written));
    let egress = Family::<ClassLabels, Counter>::default();
    for (class, bytes) in &all.egress {
        for (direction, count) in [("sent", bytes.sent), ("received", bytes.received)] {
            let labels = ClassLabels { class: class.clone(), direction };
            egress.get_or_create(&labels).inc_by(u64::try_from(count).unwrap_or(0));
        }
    }
    registry.register("usage_egress_bytes", "Bytes over the network by where they went", egress);
    let kinds = Family::<KindLabel, Counter>::default();
    for (kind, count) in ["interval", "final", "correction"].into_iter().zip(records) {
        kinds.get_or_create(&KindLabel { kind }).inc_by(count);
    }
    registry.register("usage_records", "Usage records by kind", kinds);
}

fn agents(daemon: &Daemon, registry: &mut Registry) {
    let agents = daemon.supervisor.list(&everything());
    let mut by_state = BTreeMap::<&'static str, i64>::new();
    for agent in &agents {
        *by_state.entry(agent.state.as_str()).or_default() += 1;
    }
    let family = Family::<StateLabel, Gauge>::default();
    for (state, count) in by_state {
        family.get_or_create(&StateLabel { state }).set(count);
    }
    registry.register("agents", "Agents by their state", family);
    let output: u64 = agents.iter().map(|agent| agent.offset).sum();
    registry.register(
        "terminal_bytes",
        "Output of the agents that are listed",
        ConstGauge::new(output as i64),
    );
}

/// Whoever reads metrics sees sums over every tenant, and no tenant.
fn everything() -> Caller {
    let tenant = "metrics".parse().expect("a name");
    Caller { identity: "metrics".into(), role: Role::Admin, tenant, serial: String::new() }
}
