//! Quotas hold however many ask at once; budgets warn, and then end what has used them up.

use std::fs;
use std::time::Duration;

use stockade::api::State;
use stockade::api::agent::Spawn;
use stockade::api::events::Happened;
use stockade::api::problem::QuotaExcess;
use stockade::daemon::quota::{Budget, Period};
use stockade::daemon::supervisor::{Config, Quota, Rules, SupervisorError};
use stockade::daemon::usage::Options;
use stockade::wire::service::Places;

use crate::common::node::Node;
use crate::world::{KILL, caller, daemon, patiently, shell, soon};

/// With this quota for the tests' tenant, looked at all the time.
fn config(quota: Quota) -> Config {
    let moment = Duration::from_millis(20);
    let usage = Options { interval: moment, look: moment, ..Options::default() };
    let rules = Rules { quotas: [("research".into(), quota)].into(), usage, ..Rules::default() };
    Config { rules, ..Config::default() }
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
        let all = (0..50).map(|n| {
            let (supervisor, me) = (world.supervisor.clone(), world.me.clone());
            tokio::spawn(async move { supervisor.spawn(&me, waiting(&format!("a{n}"))).await })
        });
        let (mut started, mut refused) = (Vec::new(), 0);
        for asked in all.collect::<Vec<_>>() {
            match asked.await.expect("it did not panic") {
                Ok(spawned) => started.push(spawned.agent.id),
                Err(SupervisorError::Quota { detail, numbers, retry_after }) => {
                    let QuotaExcess { what, used, limit, asked, .. } = &*numbers;
                    assert_eq!((what.as_str(), *used, *limit, *asked), ("agents", 3, 3, 1));
                    assert!(detail.contains("tenant research has 3 agents, and may have 3"), "{detail}");
                    assert!(!retry_after.is_zero());
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((started.len(), refused), (3, 47));
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
    let mut config = config(quota);
    config.rules.identities = vec![(pattern, own)];
    daemon(&mut node, config, async |world| {
        let of = |id: &str, processes, cpus| {
            let limits = serde_json::json!({ "processes": processes, "cpus": cpus });
            Spawn { limits: serde_json::from_value(limits).expect("limits"), ..waiting(id) }
        };
        let refused =
            async |request: Spawn, why: &str| match patiently(world.supervisor.spawn(&world.me, request))
                .await
            {
                Err(SupervisorError::Quota { detail, retry_after, .. }) => {
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
fn what_an_identity_may_send_a_day_is_used_up_by_all_its_agents_whoever_is_killed() {
    let mut node = Node::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let policies = node.places().config().join("policies");
    fs::create_dir(&policies).expect("made");
    let policy = format!(
        "extends = 'offline'\n[network]\nallow = ['host.test:{port}', '127.0.0.1/32:{port}']\n\
         [network.resolve]\n'host.test' = ['127.0.0.1']\n"
    );
    fs::write(policies.join("sender.toml"), policy).expect("written");
    // It takes what comes, and keeps the connection: what is told at its end is never told.
    std::thread::spawn(move || {
        let open: Vec<_> = listener
            .incoming()
            .flatten()
            .map(|mut stream| std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink())))
            .collect();
        drop(open);
    });
    let own = Quota { egress_per_day: Some(500_000), ..Quota::default() };
    let mut config = config(Quota::default());
    config.rules.identities = vec![("spiffe://example.org/*".parse().expect("a pattern"), own)];
    let script = format!(
        "exec 3<>/dev/tcp/host.test/{port} && head -c 600000 /dev/zero >&3 && echo sent; exec sleep 1000"
    );
    let sender = |id: &str| Spawn {
        policy: Some("sender".into()),
        kind: "custom".into(),
        command: Some(["bash", "-c", &script].map(str::to_owned).into()),
        ..shell(id, "")
    };
    daemon(&mut node, config.clone(), async |world| {
        world.spawn(sender("a")).await;
        world.shows("a", "sent").await;
        let asked = async || {
            let _ = world.supervisor.stats(&world.me, "a").await;
            let sent = world.supervisor.node_for(&world.me).quotas;
            let line = sent.into_iter().find(|line| line.what == "egress-bytes-per-day").expect("it is told");
            (line.used >= 600_000).then_some(line)
        };
        let line = soon("it is seen while it runs", asked).await;
        assert_eq!((line.whose.as_str(), line.limit), ("identity spiffe://example.org/test", 500_000));
        assert!(line.resets_at.is_some());
        match patiently(world.supervisor.spawn(&world.me, sender("b"))).await {
            Err(SupervisorError::Quota { detail, numbers, .. }) => {
                assert_eq!(
                    (numbers.what.as_str(), numbers.limit),
                    ("egress-bytes-per-day", 500_000),
                    "{detail}"
                )
            }
            other => panic!("{:?}", other.map(|spawned| spawned.created)),
        }
        world.kill_shim("a");
        world.ended("a").await;
    });
    // Another daemon knows it from the log.
    daemon(&mut node, config, async |world| {
        let lines = world.supervisor.node_for(&world.me).quotas;
        let line = lines.iter().find(|line| line.what == "egress-bytes-per-day").expect("it is told");
        assert!((600_000..700_000).contains(&line.used), "{line:?}");
    });
    let path = node.places().records().join("usage/0000000000000001.jsonl");
    let text = fs::read_to_string(path).expect("a log");
    let last: serde_json::Value = serde_json::from_str(text.lines().last().expect("a record")).expect("JSON");
    let data = &last["data"];
    assert_eq!(data["complete"], true, "{data}");
    assert!(
        data["total"]["egress"]["loopback"]["sent"].as_u64().is_some_and(|sent| sent >= 600_000),
        "{data}"
    );
}

#[test]
fn other_quotas_are_in_force_at_once() {
    let mut node = Node::start();
    let of = |most| Quota { max_agents: Some(most), ..Quota::default() };
    daemon(&mut node, config(of(1)), async |world| {
        world.spawn(waiting("a")).await;
        assert!(patiently(world.supervisor.spawn(&world.me, waiting("b"))).await.is_err());
        world.supervisor.replace_rules(config(of(2)).rules);
        world.spawn(waiting("b")).await;
        assert!(patiently(world.supervisor.spawn(&world.me, waiting("c"))).await.is_err());
        // Fewer than there are: nobody is ended, and nobody else starts.
        world.supervisor.replace_rules(config(of(1)).rules);
        let lines = world.supervisor.node_for(&world.me).quotas;
        let agents = lines.iter().find(|line| line.what == "agents").expect("it is told");
        assert_eq!((agents.used, agents.limit), (2, 1));
        for id in ["a", "b"] {
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
        // On a slow machine the first alone would have used it up before the second is asked for.
        tokio::join!(world.spawn(waiting("a")), world.spawn(waiting("b")));
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
        let Some(SupervisorError::Quota { detail, retry_after, .. }) = refused else { panic!("{refused:?}") };
        assert!(detail.contains("the budget of tenant research is used up"), "{detail}");
        assert!(retry_after <= Duration::from_secs(24 * 60 * 60), "{retry_after:?}");
        // Others have theirs.
        let other = caller("other");
        // The daemon before this one, in the same process, may still be on its way out with the audit log in its hands.
        soon("it starts", async || world.supervisor.spawn(&other, waiting("d")).await.ok()).await;
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
