//! Quotas hold however many ask at once; budgets warn, and then end what has used them up.

use std::fs;
use std::time::Duration;

use stockade::api::State;
use stockade::api::agent::Spawn;
use stockade::api::events::Happened;
use stockade::daemon::quota::{Budget, Period};
use stockade::daemon::supervisor::{Config, Quota, SupervisorError};
use stockade::daemon::usage::Options;
use stockade::wire::service::Places;

use crate::common::node::Node;
use crate::world::{KILL, caller, daemon, patiently, shell, soon};

/// With this quota for the tests' tenant, looked at all the time.
fn config(quota: Quota) -> Config {
    let moment = Duration::from_millis(20);
    let usage = Options { interval: moment, look: moment, ..Options::default() };
    Config { quotas: [("research".into(), quota)].into(), usage, ..Config::default() }
}

fn waiting(id: &str) -> Spawn {
    Spawn { policy: Some("offline".into()), kind: "custom".into(), ..shell(id, "read x") }
}

fn audited(places: &Places) -> String {
    let files = fs::read_dir(places.audit()).expect("a log").map(|entry| entry.expect("listed").path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .map(|path| fs::read_to_string(path).expect("read"))
        .collect()
}

#[test]
fn of_many_that_ask_at_once_no_more_start_than_the_quota_has_room_for() {
    let mut node = Node::start();
    let quota = Quota { max_agents: Some(3), ..Quota::default() };
    daemon(&mut node, config(quota), async |world| {
        let all = (0..12).map(|n| {
            let (supervisor, me) = (world.supervisor.clone(), world.me.clone());
            tokio::spawn(async move { supervisor.spawn(&me, waiting(&format!("a{n}"))).await })
        });
        let (mut started, mut refused) = (Vec::new(), 0);
        for asked in all.collect::<Vec<_>>() {
            match asked.await.expect("it did not panic") {
                Ok(spawned) => started.push(spawned.agent.id),
                Err(SupervisorError::Quota { detail, retry_after }) => {
                    assert!(detail.contains("tenant research has 3 agents, and may have 3"), "{detail}");
                    assert!(!retry_after.is_zero());
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((started.len(), refused), (3, 9));
        let lines = world.supervisor.node_for(&world.me).quotas;
        let agents = lines.iter().find(|line| line.what == "agents").expect("it is told");
        assert_eq!((agents.whose.as_str(), agents.used, agents.limit), ("tenant research", 3, 3));
        for id in &started {
            world.kill(id).await;
        }
    });
}

#[test]
fn cpus_processes_starts_and_lifetimes_are_limited_and_an_identity_has_its_own_quota() {
    let mut node = Node::start();
    let hour = Duration::from_secs(3600);
    let quota =
        Quota { processes: Some(100), millicpus: Some(2000), lifetime: Some(hour), ..Quota::default() };
    let own = Quota { starts_per_minute: Some(3), ..Quota::default() };
    let pattern = "spiffe://example.org/*".parse().expect("a pattern");
    let config = Config { identities: vec![(pattern, own)], ..config(quota) };
    daemon(&mut node, config, async |world| {
        let of = |id: &str, processes, cpus| {
            let limits = serde_json::json!({ "processes": processes, "cpus": cpus });
            Spawn { limits: serde_json::from_value(limits).expect("limits"), ..waiting(id) }
        };
        let refused =
            async |request: Spawn, why: &str| match patiently(world.supervisor.spawn(&world.me, request))
                .await
            {
                Err(SupervisorError::Quota { detail, retry_after }) => {
                    assert!(detail.contains(why), "{detail}");
                    retry_after
                }
                other => panic!("{why}: {:?}", other.map(|spawned| spawned.created)),
            };
        world.spawn(of("a", 60, 1.0)).await;
        refused(of("b", 41, 0.5), "60 processes, and 41 more would exceed its 100").await;
        refused(of("b", 10, 1.5), "1000 thousandths of a CPU, and 1500 more would exceed its 2000").await;
        let long = Spawn { lifetime: Some(3601), ..of("b", 10, 0.5) };
        let long = patiently(world.supervisor.spawn(&world.me, long)).await;
        assert!(matches!(long, Err(SupervisorError::Field { field: "lifetime", .. })), "{:?}", long.err());
        // What was refused was no start.
        world.spawn(of("b", 10, 0.1)).await;
        world.spawn(of("c", 10, 0.1)).await;
        let wait = refused(of("d", 10, 0.1), "identity spiffe://example.org/test may start 3 agents").await;
        assert!(wait > Duration::from_secs(1) && wait <= Duration::from_secs(60), "{wait:?}");
        for id in ["a", "b", "c"] {
            world.kill(id).await;
        }
    });
}

#[test]
fn an_agent_that_uses_up_its_budget_is_told_of_and_then_ended() {
    let mut node = Node::start();
    let cpu = Some(Duration::from_secs(2));
    let budget = Budget { cpu, memory: None, egress: None, wall: None, warn: 0.5, per: None };
    let quota = Quota { agent_budget: Some(budget), ..Quota::default() };
    daemon(&mut node, config(quota), async |world| {
        let (_, mut events) = world.supervisor.events().follow(None);
        world.spawn(waiting("idle")).await;
        world.spawn(Spawn { policy: Some("offline".into()), ..shell("busy", "while :; do :; done") }).await;
        soon("it is ended", async || {
            // Asked for its usage, the shim writes it down: nobody has to wait for that.
            let _ = world.supervisor.stats(&world.me, "busy").await;
            world.get("busy").state.is_final().then_some(())
        })
        .await;
        assert!(!world.get("idle").state.is_final(), "who has used nothing goes on");
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            match &event.happened {
                Happened::BudgetWarning(budget) => {
                    told.push(("warning", event.agent.clone(), budget.clone()))
                }
                Happened::BudgetExceeded(budget) => {
                    told.push(("exceeded", event.agent.clone(), budget.clone()))
                }
                _ => {}
            }
        }
        let said: Vec<_> = told.iter().map(|(what, agent, _)| (*what, agent.as_deref())).collect();
        assert_eq!(said, [("warning", Some("busy")), ("exceeded", Some("busy"))]);
        assert!(
            told.iter().all(|(.., budget)| budget.what == "cpu-seconds" && budget.limit == 2),
            "{told:?}"
        );
        world.kill("idle").await;
    });
    let audited = audited(&node.places());
    assert!(audited.contains(r#""type":"budget","agent":"busy""#) && audited.contains(r#""level":"over""#));
}

#[test]
fn a_tenant_that_has_used_up_its_budget_starts_nothing_until_it_is_new_not_even_at_another_daemon_s() {
    let mut node = Node::start();
    let wall = Some(Duration::from_secs(1));
    let budget = Budget { cpu: None, memory: None, egress: None, wall, warn: 0.8, per: Some(Period::Day) };
    let quota = || Quota { budget: Some(budget.clone()), ..Quota::default() };
    daemon(&mut node, config(quota()), async |world| {
        world.spawn(waiting("a")).await;
        world.spawn(waiting("b")).await;
        soon("both are ended", async || {
            for id in ["a", "b"] {
                let _ = world.supervisor.stats(&world.me, id).await;
            }
            ["a", "b"].iter().all(|id| world.get(id).state.is_final()).then_some(())
        })
        .await;
        assert_eq!(world.get("a").state, State::Exited);
    });
    daemon(&mut node, config(quota()), async |world| {
        let refused = patiently(world.supervisor.spawn(&world.me, waiting("c"))).await.err();
        let Some(SupervisorError::Quota { detail, retry_after }) = refused else { panic!("{refused:?}") };
        assert!(detail.contains("the budget of tenant research is used up"), "{detail}");
        assert!(retry_after <= Duration::from_secs(24 * 60 * 60), "{retry_after:?}");
        // Others have theirs.
        let other = caller("other");
        patiently(world.supervisor.spawn(&other, waiting("d"))).await.expect("started");
        patiently(world.supervisor.stop(&other, "d", KILL)).await.expect("stopped");
    });
}

#[test]
fn of_agents_that_have_ended_the_oldest_are_removed_and_what_they_used_stays_recorded() {
    let mut node = Node::start();
    let quota = Quota { max_ended: Some(2), ..Quota::default() };
    daemon(&mut node, config(quota), async |world| {
        for id in ["a", "b", "c", "d"] {
            world.spawn(Spawn { policy: Some("offline".into()), ..shell(id, "exit 0") }).await;
            if world.supervisor.get(&world.me, id).is_ok() {
                let _ = world.supervisor.wait(&world.me, id, Duration::from_secs(30)).await;
            }
        }
        let left = soon("two are left", async || {
            let left: Vec<String> =
                world.supervisor.list(&world.me).into_iter().map(|agent| agent.id).collect();
            (left.len() == 2).then_some(left)
        })
        .await;
        assert_eq!(left, ["c", "d"]);
    });
    assert!(!node.places().agent("a").exists() && node.places().agent("d").exists());
    let audited = audited(&node.places());
    assert!(audited.contains(r#""type":"intent","act":"remove","agent":"a""#));
    let usage =
        fs::read_to_string(node.places().records().join("usage/0000000000000001.jsonl")).expect("read");
    assert!(usage.contains(r#""subject":"a""#));
}
