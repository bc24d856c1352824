//! What is recorded as used is what the kernel has counted: nothing is lost and nothing is told twice, whoever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use stockade::api::agent::Spawn;
use stockade::api::usage::{Amounts, Kind, Record};
use stockade::daemon::supervisor::{Config, Rules, Supervisor};
use stockade::daemon::usage::Options;
use stockade::shim::service::kept;
use stockade::wire::service::Places;

use crate::common::node::{DAEMON, Node};
use crate::world::{KILL, World, caller, daemon, patiently, shell, soon};

/// How many agents; 1,000 with STOCKADE_TEST_USAGE_AGENTS=1000.
const AGENTS: usize = 40;

/// The daemons in between that are killed.
const DAEMONS: usize = 4;

/// Where the daemon that is to be killed lives, and the agents that it is to start.
const ROOT: &str = "STOCKADE_TEST_ROOT";
const UP_TO: &str = "STOCKADE_TEST_UP_TO";

/// All records on disk, in their order.
fn records(places: &Places) -> Vec<Record> {
    let mut files: Vec<PathBuf> = fs::read_dir(places.records().join("usage"))
        .expect("a log")
        .map(|entry| entry.expect("listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let text: String = files.iter().map(|path| fs::read_to_string(path).expect("read")).collect();
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// An agent that uses some CPU time, and then ends or has to be killed.
fn busy(number: usize) -> Spawn {
    let then = if number.is_multiple_of(2) { "exit 3" } else { "echo done; exec sleep 1000" };
    let script = format!("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; {then}");
    Spawn { policy: Some("offline".into()), kind: "custom".into(), ..shell(&format!("u{number}"), &script) }
}

/// With a moment's interval, so that there are records of every kind.
fn config() -> Config {
    let moment = std::time::Duration::from_millis(50);
    let usage = Options { interval: moment, look: moment, ..Options::default() };
    Config { rules: Rules { usage, ..Rules::default() }, ..Config::default() }
}

#[test]
#[ignore = "the daemon of the test below, in a process of its own"]
fn a_daemon_that_starts_and_kills_agents_until_it_is_killed() {
    let var = |name: &str| std::env::var(name).expect("started by the test below");
    let (places, up_to) = (Places::under(var(ROOT)), var(UP_TO).parse().expect("a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let supervisor = Supervisor::start(places, config()).await.expect("it starts");
        let me = caller("research");
        for number in 0..up_to {
            let request = busy(number);
            let id = request.id.clone().expect("an id");
            supervisor.spawn(&me, request).await.expect("started");
            match number % 4 {
                1 => drop(supervisor.stop(&me, &id, KILL).await.expect("killed")),
                // Only root can.
                3 => println!("kill {id}"),
                _ => {}
            }
            println!("did {number}");
        }
        std::future::pending::<()>().await;
    });
}

#[test]
fn the_sum_of_all_usage_records_is_what_the_kernel_has_counted_whoever_was_killed() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;

    let count =
        std::env::var("STOCKADE_TEST_USAGE_AGENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(AGENTS);
    let view = View::make();
    let mut node = view.within(Node::start);
    for round in 1..=DAEMONS {
        let up_to = count * round / DAEMONS;
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let test = "usage::a_daemon_that_starts_and_kills_agents_until_it_is_killed";
        command.args(["--exact", test, "--ignored", "--nocapture"]);
        command.env(ROOT, node.root()).env(UP_TO, up_to.to_string());
        command.uid(DAEMON).gid(DAEMON).stdout(Stdio::piped());
        let mut killed = command.spawn().expect("it starts");
        let lines = BufReader::new(killed.stdout.take().expect("piped")).lines().map_while(Result::ok);
        // In the middle of something: the last of them are still at it.
        let last = format!("did {}", up_to - if round == DAEMONS { 1 } else { 3 });
        let is_last = |line: String| {
            if let Some((_, id)) = line.split_once("kill ") {
                kill_shim(&node, id);
            }
            line.ends_with(&last)
        };
        assert!(lines.into_iter().any(is_last), "{last}");
        killed.kill().expect("killed");
        killed.wait().expect("reaped");
        // All of them at once: the launcher, too, and a shim that nobody looks after any more.
        node.kill_launcher();
        kill_shim(&node, &format!("u{}", up_to - 4));
        view.within(|| node.start_launcher());
    }
    let agents = daemon(&mut node, config(), async |world| {
        let agents = world.supervisor.list(&world.me);
        for agent in &agents {
            if !world.get(&agent.id).state.is_final() {
                patiently(world.supervisor.stop(&world.me, &agent.id, KILL)).await.expect("stopped");
            }
            world.ended(&agent.id).await;
        }
        agents.len()
    });
    // One that finds all of it recorded already.
    daemon(&mut node, config(), async |_| {});
    assert_eq!(agents, count);
    let records = records(&node.places());
    let sum = check(&records, count);
    let (counted, how) = view.cpu_us();
    println!("{} records of {count} agents: {} us of CPU, {how} says {counted}", records.len(), sum.cpu_us);
    let apart = sum.cpu_us.abs_diff(i64::try_from(counted).expect("not so long"));
    // Nearly always 0.02 to 0.1 ms: what a process still does after it was counted. In one run of thirty 0.3 to 0.9 ms of the 480 are
    // missing; where, nobody has found out yet (docs/usage.md).
    assert!(apart * 100 <= counted, "{} us are recorded, and {how} has {counted}", sum.cpu_us);
    drop(node);
}

/// Its agent may have ended by itself.
fn kill_shim(node: &Node, id: &str) {
    let whereabouts = fs::read(kept::whereabouts(&node.places(), id)).unwrap_or_default();
    if let Ok(found) = serde_json::from_slice::<kept::Whereabouts>(&whereabouts)
        && found.shim.is_there()
    {
        crate::common::stockade::kill(found.shim.pid, libc::SIGKILL);
    }
}

/// Each record is there once, each agent has one end, and the parts are the whole. What they come to.
fn check(records: &[Record], agents: usize) -> Amounts {
    let ids: BTreeSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids.len(), records.len(), "an id came twice");
    let mut sums = BTreeMap::<&str, Amounts>::new();
    let (mut finals, mut sum) = (BTreeMap::<&str, &Record>::new(), Amounts::default());
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record.sequence, format!("{:016}", at + 1));
        let of = sums.entry(&record.data.incarnation).or_default();
        of.add(&record.data.delta, 1);
        assert_eq!(*of, record.data.total, "the deltas so far are not the total of {}", record.id);
        assert_eq!(record.data.total.states_ms.values().sum::<i64>(), record.data.total.wall_ms);
        sum.add(&record.data.delta, 1);
        if record.kind == Kind::Final {
            assert!(record.data.complete, "{record:?}");
            assert_eq!(finals.insert(&record.subject, record).map(|earlier| &earlier.id), None);
        }
    }
    assert_eq!(finals.len(), agents);
    assert!(finals.values().all(|last| last.data.total.memory_byte_seconds_at_most > 0), "memory is counted");
    sum
}

/// Uses CPU time and the disk after it was measured last, and says so.
const SPENDER: &str = "read x; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; \
    dd if=/dev/zero of=f bs=1M count=8 oflag=direct; echo spent; exec sleep 1000";

/// One that was measured, has then used more, and whose shim is killed in this way. Its last record.
fn killed(how: impl AsyncFnOnce(&World) + Send) -> Record {
    let mut node = Node::start();
    daemon(&mut node, config(), async |world| {
        let workspace_id = Some("disk".into());
        world.spawn(Spawn { policy: Some("offline".into()), workspace_id, ..shell("a", SPENDER) }).await;
        patiently(world.supervisor.stats(&world.me, "a")).await.expect("asked, it writes down what it has");
        world.type_in("a", "go\r").await;
        world.shows("a", "spent").await;
        how(world).await;
        world.ended("a").await;
    });
    let records = records(&node.places());
    let last = records.last().expect("a record").clone();
    assert_eq!(last.kind, Kind::Final);
    assert!(last.data.total.states_ms.values().sum::<i64>() == last.data.total.wall_ms, "{last:?}");
    assert!(last.data.total.cpu_us > 50_000, "the loop is in it: {last:?}");
    if !last.data.uncounted.iter().any(|what| what == "ioWritten") {
        assert!(last.data.total.io_written >= 8 << 20, "and so is the file: {last:?}");
    }
    last
}

#[test]
fn an_agent_whose_shim_was_killed_is_recorded_to_the_last() {
    let last = killed(async |world| world.kill_shim("a"));
    assert!(last.data.complete, "{last:?}");
}

#[test]
fn an_agent_whose_launcher_and_shim_were_killed_is_recorded_to_the_last() {
    let last = killed(async |world| {
        world.kill_launcher();
        world.kill_shim("a");
        world.start_launcher();
    });
    assert!(last.data.complete, "{last:?}");
}

#[test]
fn where_nobody_was_left_to_see_it_end_the_kernels_counters_are_read_all_the_same() {
    let last = killed(async |world| {
        world.kill_keeper("a");
        world.kill_shim("a");
    });
    assert!(!last.data.complete, "nobody knows when it ended: {last:?}");
}

#[test]
fn a_better_account_of_an_end_that_is_recorded_is_a_correction_and_is_told_once_by_however_many_daemons() {
    let mut node = Node::start();
    daemon(&mut node, config(), async |world| {
        world.spawn(shell("a", "read x")).await;
        world.kill_keeper("a");
        world.kill_shim("a");
        world.ended("a").await;
    });
    let before = records(&node.places());
    let last = before.last().expect("a record");
    assert_eq!((last.kind, last.data.complete), (Kind::Final, false));
    // As if its end had been found out only now.
    let path = node.places().agent("a").join("exit.json");
    let mut exit: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    let metered = &mut exit["metered"];
    metered["complete"] = true.into();
    metered["wallMs"] = (metered["wallMs"].as_u64().expect("a time") + 5000).into();
    metered["cpuUs"] = (metered["cpuUs"].as_u64().expect("a time") + 70_000).into();
    fs::write(&path, exit.to_string()).expect("written");
    for _ in 0..2 {
        daemon(&mut node, config(), async |world| drop(world.ended("a").await));
    }
    let records = records(&node.places());
    assert_eq!(records.len(), before.len() + 1, "{records:#?}");
    let better = records.last().expect("a record");
    assert_eq!((better.kind, better.data.complete), (Kind::Correction, true));
    assert_eq!((better.data.delta.cpu_us, better.data.delta.wall_ms), (70_000, 5000));
    assert_eq!(better.data.total.cpu_us, last.data.total.cpu_us + 70_000);
}

/// The cgroups as a container sees them: a group of this test's is the root of each, and counts all that is below it.
struct View {
    name: String,
    mounts: Vec<PathBuf>,
}

impl View {
    fn make() -> Self {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        let of = |line: &str| {
            let (mount, filesystem) = line.split_once(" - ")?;
            filesystem.starts_with("cgroup").then(|| PathBuf::from(mount.split(' ').nth(4).expect("a path")))
        };
        let view = Self {
            name: format!("stockade-test-{}", std::process::id()),
            mounts: mountinfo.lines().filter_map(of).collect(),
        };
        for mount in &view.mounts {
            let own = mount.join(&view.name);
            fs::create_dir(&own).expect("a group");
            // v2 hands down what is asked for; v1 has no such file.
            let wanted = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
            for controller in
                wanted.split_whitespace().filter(|name| ["cpu", "memory", "pids", "io"].contains(name))
            {
                fs::write(mount.join("cgroup.subtree_control"), format!("+{controller}"))
                    .expect("handed down");
            }
            for setting in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(above) = fs::read_to_string(mount.join(setting)) {
                    fs::write(own.join(setting), above.trim()).expect("as above");
                }
            }
        }
        view
    }

    /// Does something on a thread that sees it so, and whoever is started there.
    fn within<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        use nix::mount::{MsFlags, mount};
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let flags = nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS;
                nix::sched::unshare(flags).expect("a mount namespace: these tests run as root");
                let none: Option<&str> = None;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
                for path in &self.mounts {
                    mount(Some(&path.join(&self.name)), path, none, MsFlags::MS_BIND, none).expect("bound");
                }
                deed()
            });
            thread.join().expect("it did not panic")
        })
    }

    /// CPU time of all that was ever below it, and which file says so.
    fn cpu_us(&self) -> (u64, &'static str) {
        let unified = |mount: &Path| {
            let text = fs::read_to_string(mount.join(&self.name).join("cpu.stat")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
        };
        if let Some(counted) = self.mounts.iter().find_map(|mount| unified(mount)) {
            return (counted, "cpu.stat");
        }
        let legacy = |mount: &PathBuf| {
            fs::read_to_string(mount.join(&self.name).join("cpuacct.usage")).ok()?.trim().parse::<u64>().ok()
        };
        (self.mounts.iter().find_map(legacy).expect("somebody counts") / 1000, "cpuacct.usage")
    }
}

impl Drop for View {
    fn drop(&mut self) {
        for mount in &self.mounts {
            let removed = fs::remove_dir(mount.join(&self.name));
            assert!(std::thread::panicking() || removed.is_ok(), "{}: {removed:?}", mount.display());
        }
    }
}

#[test]
fn the_log_of_an_agent_that_was_removed_is_not_held_open_until_somebody_looks_again() {
    let mut node = Node::start();
    let pause = Duration::from_secs(12);
    let usage = Options { interval: pause, look: pause, ..Options::default() };
    let config = Config { rules: Rules { usage, ..Rules::default() }, ..Config::default() };
    let (log, places) = (node.places().agent("a"), node.places());
    let is_open = || {
        let open = fs::read_dir("/proc/self/fd").expect("listed").flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path.starts_with(&log))
    };
    daemon(&mut node, config, async |world| {
        for id in ["a", "stays"] {
            world.spawn(shell(id, "echo shown; read x")).await;
            world.shows(id, "shown").await;
        }
        assert!(is_open(), "as long as it is there");
        let looks = |id: &str| {
            let of_it = |record: &&Record| record.kind == Kind::Interval && record.subject.ends_with(id);
            records(&places).iter().filter(of_it).count()
        };
        soon("both are looked at", async || (looks("a") > 0 && looks("stays") > 0).then_some(())).await;
        let before = looks("stays");
        world.kill("a").await;
        patiently(world.supervisor.remove(&world.me, "a")).await.expect("removed");
        soon("its log is closed", async || (!is_open()).then_some(())).await;
        assert_eq!(looks("stays"), before, "nobody has looked meanwhile");
    });
}
