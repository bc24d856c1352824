//! The plan is pure: hosts, files and policies that exist only here, and what is decided from them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use stockade::host::survey::{Found, Kind, Survey};
use stockade::host::{Host, Seccomp};
use stockade::plan::request::{Caller, GitRepository, Place, Request};
use stockade::plan::seccomp::simulate::{self, Call};
use stockade::plan::{Bind, Given, Mount, Owner, Plan, PlanError, Source, resolve};
use stockade::policy::{Access, Bytes, HostPath, Library, Policy, Shortfall};

const ALLOW: u32 = 0x7fff_0000;
const X86_64: u32 = 0xc000_003e;

/// A host that can do everything.
fn able() -> Host {
    Host {
        kernel: "6.18.0".into(),
        landlock_abi: 7,
        audit: Ok(()),
        seccomp: Seccomp { filter: true, notify: true },
        user_namespaces: true,
        euid: 0,
        missing_capabilities: BTreeSet::new(),
        missing_for_network: BTreeSet::new(),
        missing_calls: Vec::new(),
        swap: false,
    }
}

/// A policy as it is shipped.
fn shipped(name: &str) -> Policy {
    Library::of([], 0).load(&name.parse().expect("a name")).expect("it is shipped")
}

/// A Debian with a project in /home/ann/project.
fn debian() -> Survey {
    let mut survey = Survey::default();
    let directories = [
        "/usr",
        "/etc/ssl",
        "/etc/alternatives",
        "/sys/devices/system/cpu",
        "/srv/cache",
        "/home/ann/.cargo/bin",
    ];
    let files = ["/etc/ld.so.cache", "/etc/shadow", "/home/ann/.ssh/id", "/home/ann/project/.envrc"];
    let links = [("/bin", "usr/bin"), ("/lib", "usr/lib"), ("/etc/localtime", "/usr/share/zoneinfo/UTC")];
    let project = [".git", ".git/hooks", ".vscode"].map(|path| format!("/home/ann/project/{path}"));
    for directory in directories.into_iter().chain(project.iter().map(String::as_str)) {
        found(&mut survey, directory, Kind::Directory);
    }
    files.into_iter().for_each(|file| found(&mut survey, file, Kind::File));
    links.into_iter().for_each(|(link, says)| found(&mut survey, link, Kind::Symlink(says.into())));
    survey
}

fn found(survey: &mut Survey, path: &str, kind: Kind) {
    survey.insert(path, Found { kind, canonical: path.into(), uid: 1001, gid: 1001 });
}

fn place(path: &str) -> Place {
    Place { path: path.into(), owner: Owner { uid: 1001, gid: 1001 }, noexec: false }
}

/// Ann, in her project.
fn ann() -> Request {
    let environment =
        [("TERM", "xterm"), ("LC_ALL", "C.UTF-8"), ("AWS_SECRET", "s3cret"), ("LD_PRELOAD", "/x.so")];
    let environment =
        environment.into_iter().chain([("PATH", "/home/ann/evil:/home/ann/.cargo/bin:/usr/bin")]);
    Request {
        command: vec!["true".into()],
        workspace: Some(place("/home/ann/project")),
        caller: Caller {
            home: "/home/ann".into(),
            directory: "/home/ann/project/src".into(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.into())).collect(),
            ..Caller::default()
        },
        ..Request::default()
    }
}

fn plan(policy: &Policy, request: &Request) -> Result<Plan, PlanError> {
    plan_on(&able(), policy, &debian(), request)
}

fn plan_on(host: &Host, policy: &Policy, survey: &Survey, request: &Request) -> Result<Plan, PlanError> {
    resolve(&Given { policy, host, limits_missing: BTreeSet::new(), survey }, request)
}

/// One mount as a line: what, how, where, from where.
fn line(mount: &Mount) -> String {
    let at = mount.target().display();
    match mount {
        Mount::Bind(Bind { source, writable, exec, owner, .. }) => {
            let how = format!("{}{}", if *writable { "rw" } else { "ro" }, if *exec { "x" } else { "" });
            let whose = owner.map(|owner| format!(" of {}", owner.uid)).unwrap_or_default();
            match source {
                Source::Path { path } if path == mount.target() => format!("{how} {at}{whose}"),
                Source::Path { path } => format!("{how} {at}{whose} from {}", path.display()),
                Source::Protected { stand_in: None, .. } => format!("{how} {at} fence"),
                Source::Protected { stand_in: Some(stand_in), .. } => {
                    format!("{how} {at} fence, missing {stand_in:?}")
                }
            }
        }
        Mount::Tmpfs { size, mode, exec, .. } => {
            format!("tmpfs{} {at} {size} {mode:04o}", if *exec { "x" } else { "" })
        }
        Mount::Symlink { points_to, .. } => format!("link {at} to {}", points_to.display()),
        Mount::File { .. } => format!("file {at}"),
        Mount::Script { .. } => format!("script {at}"),
        Mount::Copy { .. } => format!("copy {at}"),
        Mount::Directory { .. } => format!("empty {at}"),
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.mounts.iter().map(line).collect()
}

const BASE: &str = "\
link /bin to usr/bin
tmpfs /dev/shm 64MiB 1777
empty /etc
ro /etc/alternatives
copy /etc/ld.so.cache
link /etc/localtime to /usr/share/zoneinfo/UTC
ro /etc/ssl
tmpfs /home/agent 1GiB 0700
rwx /home/ann/project of 1001
rox /home/ann/project/.aider.conf.yml fence, missing File
rox /home/ann/project/.claude fence, missing Directory
rox /home/ann/project/.codex fence, missing Directory
rox /home/ann/project/.cursor fence, missing Directory
rox /home/ann/project/.devcontainer fence, missing Directory
rox /home/ann/project/.envrc fence
rox /home/ann/project/.gemini fence, missing Directory
rwx /home/ann/project/.git fence
rox /home/ann/project/.git/commondir fence, missing GitCommonDirectory
rox /home/ann/project/.git/config fence, missing File
rox /home/ann/project/.git/config.worktree fence, missing File
rox /home/ann/project/.git/hooks fence
rox /home/ann/project/.git/modules fence, missing Directory
rox /home/ann/project/.husky fence, missing Directory
rox /home/ann/project/.idea fence, missing Directory
rox /home/ann/project/.mcp.json fence, missing File
rox /home/ann/project/.pre-commit-config.yaml fence, missing File
rox /home/ann/project/.vscode fence
link /lib to usr/lib
empty /run
ro /sys/devices/system/cpu
tmpfs /tmp 512MiB 1777
rox /usr
link /var/run to /run
link /var/tmp to /tmp
file /etc/passwd
file /etc/group
file /etc/hostname
file /etc/hosts
file /etc/nsswitch.conf
file /etc/resolv.conf
file /etc/stockade/gitconfig
file /etc/stockade/gitignore
file /.stockade";

#[test]
fn base_shows_this_and_nothing_else() {
    let plan = plan(&shipped("base"), &ann()).expect("a plan");
    assert_eq!(lines(&plan).join("\n"), BASE);
}

#[test]
fn the_same_words_give_the_same_plan() {
    let policy = shipped("claude");
    assert_eq!(plan(&policy, &ann()).expect("a plan"), plan(&policy, &ann()).expect("a plan"));
}

#[test]
fn nothing_of_the_host_is_shown_that_neither_policy_nor_request_names() {
    for name in ["base", "offline", "shell", "claude", "codex", "gemini", "aider"] {
        let policy = shipped(name);
        let files = &policy.filesystem;
        let home = Path::new("/home/ann");
        let named: Vec<PathBuf> = files
            .system
            .iter()
            .map(|path| path.0.strip_prefix("~").map_or(path.0.clone(), |p| home.join(p)))
            .collect();
        for mount in plan(&policy, &ann()).expect("a plan").mounts {
            let source = match &mount {
                Mount::Bind(Bind { source: Source::Path { path }, .. }) => path,
                Mount::Copy { source, .. } => source,
                _ => continue,
            };
            let is_named = named.contains(source) || source == Path::new("/home/ann/project");
            assert!(is_named, "{name} shows {}", source.display());
        }
    }
}

#[test]
fn each_missing_feature_refuses_the_start_by_name_or_is_listed() {
    let mut hosts: Vec<Host> = (0..7).map(|landlock_abi| Host { landlock_abi, ..able() }).collect();
    hosts.push(Host { seccomp: Seccomp { filter: true, notify: false }, ..able() });
    for host in hosts {
        let strict = Policy { tolerate: Default::default(), ..shipped("base") };
        let lacking = host.shortfalls((&strict).into());
        let refused = plan_on(&host, &strict, &debian(), &ann());
        match refused {
            Ok(plan) => {
                assert!(lacking.is_empty() && plan.shortfalls.is_empty(), "ABI {}", host.landlock_abi)
            }
            Err(PlanError::Shortfall { shortfalls, .. }) => {
                assert_eq!(shortfalls.into_iter().collect::<BTreeSet<_>>(), lacking);
            }
            Err(other) => panic!("{other}"),
        }
        let mut tolerant = strict;
        tolerant.tolerate.shortfalls = lacking.clone();
        let plan = plan_on(&host, &tolerant, &debian(), &ann()).expect("it is tolerated");
        assert_eq!(plan.shortfalls, lacking);
    }
}

#[test]
fn a_limit_that_the_host_cannot_enforce_is_a_shortfall_like_any_other() {
    let (policy, host, survey) = (shipped("base"), able(), debian());
    for missing in Shortfall::ALL {
        let given = Given { policy: &policy, host: &host, limits_missing: [missing].into(), survey: &survey };
        match resolve(&given, &ann()) {
            Ok(plan) => {
                assert!(policy.tolerate.shortfalls.contains(&missing) && plan.shortfalls.contains(&missing))
            }
            Err(error) => {
                assert!(error.is_refusal() && error.to_string().contains(missing.name()), "{error}")
            }
        }
    }
}

#[test]
fn what_no_policy_can_tolerate_refuses_the_start() {
    let mut policy = shipped("base");
    policy.tolerate.shortfalls = Shortfall::ALL.into();
    for host in [
        Host { euid: 1000, ..able() },
        Host { user_namespaces: false, ..able() },
        Host { seccomp: Seccomp { filter: false, notify: true }, ..able() },
        Host { missing_capabilities: ["CAP_SYS_ADMIN".to_owned()].into(), ..able() },
    ] {
        let error = plan_on(&host, &policy, &debian(), &ann()).expect_err("refused");
        assert!(matches!(error, PlanError::Host { .. }) && error.is_refusal(), "{error}");
    }
}

#[test]
fn a_way_to_the_network_is_refused_before_the_start_where_its_capabilities_are_missing() {
    let host = Host { missing_for_network: ["CAP_NET_RAW".to_owned()].into(), ..able() };
    plan_on(&host, &shipped("base"), &debian(), &ann()).expect("it has no network");
    let error = plan_on(&host, &shipped("claude"), &debian(), &ann()).expect_err("refused");
    assert!(error.is_refusal() && error.to_string().contains("CAP_NET_RAW"), "{error}");
}

#[test]
fn precious_directories_are_refused_as_workspace_and_as_home() {
    let policy = shipped("base");
    for path in
        ["/", "/etc", "/etc/cron.d", "/usr/local/bin", "/home", "/home/ann", "/root", "/tmp", "/run/stockade"]
    {
        let workspace = Request { workspace: Some(place(path)), ..ann() };
        let home = Request { home: Some(place(path)), workspace: None, ..ann() };
        for request in [workspace, home] {
            let error = plan(&policy, &request).expect_err(path);
            assert!(matches!(error, PlanError::Precious { .. }), "{path}: {error}");
        }
    }
}

#[test]
fn every_directory_above_a_protected_path_is_pinned() {
    let plan = plan(&shipped("base"), &ann()).expect("a plan");
    let targets: BTreeSet<&Path> = plan.mounts.iter().map(Mount::target).collect();
    let mut pinned = 0;
    for mount in &plan.mounts {
        let Mount::Bind(Bind { source: Source::Protected { root, .. }, target, .. }) = mount else {
            continue;
        };
        for above in target.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
            assert!(targets.contains(above), "{} can be renamed", above.display());
            pinned += 1;
        }
    }
    assert!(pinned > 15, "only {pinned}");
}

#[test]
fn a_link_on_a_protected_path_refuses_the_start() {
    for link in [".git", ".git/hooks", ".envrc", ".vscode"] {
        let mut survey = debian();
        found(&mut survey, &format!("/home/ann/project/{link}"), Kind::Symlink("/etc".into()));
        let error = plan_on(&able(), &shipped("base"), &survey, &ann()).expect_err(link);
        assert!(matches!(error, PlanError::ProtectedSymlink { .. }), "{link}: {error}");
    }
}

#[test]
fn protected_if_present_holds_a_repository_that_is_there_and_lets_one_be_made() {
    let fences = |survey: &Survey| {
        let plan = plan_on(&able(), &shipped("shell"), survey, &ann()).expect("a plan");
        let is_git = |line: &String| line.contains("/.git");
        lines(&plan).into_iter().filter(is_git).collect::<Vec<_>>()
    };
    assert!(fences(&debian()).iter().any(|line| line.ends_with(".git/config fence, missing File")));
    let mut fresh = Survey::default();
    found(&mut fresh, "/usr", Kind::Directory);
    assert_eq!(fences(&fresh), [""; 0]);
}

#[test]
fn a_tilde_is_the_callers_home() {
    let shown = lines(&plan(&shipped("offline"), &ann()).expect("a plan"));
    assert!(shown.contains(&"rox /home/ann/.cargo/bin".to_owned()), "{shown:?}");
    let mut bob = ann();
    bob.caller.home = "/home/bob".into();
    let shown = lines(&plan(&shipped("offline"), &bob).expect("a plan"));
    assert!(!shown.iter().any(|line| line.contains(".cargo")), "{shown:?}");
}

#[test]
fn the_environment_is_exactly_what_the_policy_and_the_request_name() {
    let request = Request { environment: [("GIVEN".into(), "yes".into())].into(), ..ann() };
    let plan = plan(&shipped("offline"), &request).expect("a plan");
    let found = &plan.command.environment;
    for (name, value) in [
        ("TERM", "xterm"),
        ("LC_ALL", "C.UTF-8"),
        ("GIVEN", "yes"),
        ("HOME", "/home/agent"),
        ("USER", "agent"),
        ("TMPDIR", "/tmp"),
        ("PATH", "/home/ann/.cargo/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"),
    ] {
        assert_eq!(found.get(name), Some(&OsString::from(value)), "{name}");
    }
    for name in ["AWS_SECRET", "LD_PRELOAD"] {
        assert_eq!(found.get(name), None, "{name}");
    }
}

#[test]
fn of_a_repository_with_worktrees_only_ones_own_can_be_written() {
    let mut survey = Survey::default();
    let common = "/home/ann/main/.git";
    for path in ["", "/hooks", "/worktrees", "/worktrees/project", "/worktrees/other"] {
        found(&mut survey, &format!("{common}{path}"), Kind::Directory);
    }
    let repository = GitRepository { common: place(common), worktree: "project".into() };
    let request = Request { git_repository: Some(repository), ..ann() };
    let plan = plan_on(&able(), &shipped("base"), &survey, &request).expect("a plan");
    let shown = lines(&plan);
    for line in [
        "rwx /home/ann/main/.git of 1001",
        "rox /home/ann/main/.git/worktrees fence",
        "rwx /home/ann/main/.git/worktrees/project of 1001",
        "rox /home/ann/main/.git/worktrees/project/config.worktree fence, missing File",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line:?} is not in {shown:#?}");
    }
}

/// What can be written, and where programs can be run from.
fn writable(plan: &Plan) -> BTreeSet<PathBuf> {
    let is_writable = |mount: &&Mount| match mount {
        Mount::Bind(bind) => bind.writable,
        Mount::Tmpfs { .. } => true,
        _ => false,
    };
    plan.mounts.iter().filter(is_writable).map(|mount| mount.target().to_path_buf()).collect()
}

fn allowed(plan: &Plan) -> BTreeSet<u32> {
    let call = |number| Call { number, architecture: X86_64, ..Call::default() };
    (0..512).filter(|n| simulate::run(&plan.seccomp.program, &call(*n)).verdict == ALLOW).collect()
}

fn wide() -> Policy {
    let mut policy = shipped("shell");
    policy.filesystem.tmp_exec = true;
    policy.syscalls.allow = ["ptrace", "bpf", "mknod", "io_uring_setup", "keyctl"].map(str::to_owned).into();
    policy.filesystem.read_write =
        ["/home/ann/.cargo/bin", "/srv/cache"].map(|p| p.parse::<HostPath>().expect("a path")).into();
    policy
}

/// Keeps the entries that `mask` has a bit for.
fn some<T: Ord + Clone>(all: &BTreeSet<T>, mask: u32) -> BTreeSet<T> {
    let kept = |(n, entry): (usize, &T)| (mask & (1 << (n % 32)) != 0).then(|| entry.clone());
    all.iter().enumerate().filter_map(kept).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_narrower_policy_never_plans_what_a_wider_one_lacks(
        masks in any::<[u32; 4]>(), memory in 1..4096u64, denied in any::<bool>(), writes in any::<bool>(),
        exec in any::<[bool; 2]>(), loopback in any::<bool>(),
    ) {
        let wide = wide();
        let mut narrow = wide.clone();
        narrow.filesystem.system = some(&wide.filesystem.system, masks[0]);
        narrow.filesystem.read_write = some(&wide.filesystem.read_write, masks[1]);
        narrow.syscalls.allow = some(&wide.syscalls.allow, masks[2]);
        narrow.environment.pass = some(&wide.environment.pass, masks[3]);
        narrow.limits.memory = format!("{memory}MiB").parse::<Bytes>().expect("a size").min(wide.limits.memory);
        narrow.filesystem.home_exec = exec[0] && wide.filesystem.home_exec;
        narrow.filesystem.tmp_exec = exec[1] && wide.filesystem.tmp_exec;
        narrow.network.loopback = loopback;
        if denied {
            narrow.syscalls.deny.insert("socket".into());
        }
        if !writes {
            narrow.filesystem.workspace = Access::ReadOnly;
        }
        let within = narrow.is_within(&wide);
        prop_assert!(within.is_ok(), "{within:?}");

        let (wide, narrow) = (plan(&wide, &ann()).expect("a plan"), plan(&narrow, &ann()).expect("a plan"));
        prop_assert!(writable(&narrow).is_subset(&writable(&wide)));
        prop_assert!(allowed(&narrow).is_subset(&allowed(&wide)));
        prop_assert!(narrow.limits.memory <= wide.limits.memory);
        prop_assert!(!wide.landlock.deny_bind || narrow.landlock.deny_bind);
        prop_assert!(!wide.landlock.deny_connect || narrow.landlock.deny_connect);
        let names = |plan: &Plan| plan.command.environment.keys().cloned().collect::<BTreeSet<_>>();
        prop_assert!(names(&narrow).is_subset(&names(&wide)));
    }
}
