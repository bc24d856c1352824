//! policy + host + survey + request → [`Plan`]. Pure: the same words give the same plan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::request::{GitRepository, Request};
use super::{
    Command, Landlock, Mount, Plan, PlanError, Rights, Rlimit, User, browser, environment, etc, git, network,
    seccomp, view,
};
use crate::host::survey::Survey;
use crate::host::{Host, Refusal, Wanted};
use crate::ordered;
use crate::policy::{Policy, Shortfall};

/// Readable for everybody, granted by no Landlock rule: if it opens, Landlock is not in force.
pub const CANARY: &str = "/.stockade";

const HOSTNAME: &str = "stockade";

/// The agent's uid and gid inside. Not 0: some agents refuse to run as root, and nothing needs it.
const UID: u32 = 1000;

/// What the plan is made from, besides the request.
pub struct Given<'a> {
    /// What is allowed.
    pub policy: &'a Policy,
    /// What this kernel can.
    pub host: &'a Host,
    /// Which of the policy's limits the cgroups of this host cannot enforce.
    pub limits_missing: BTreeSet<Shortfall>,
    /// What the paths look like.
    pub survey: &'a Survey,
}

/// Decides everything.
pub fn resolve(given: &Given<'_>, request: &Request) -> Result<Plan, PlanError> {
    let policy = given.policy;
    let shortfalls = tolerated(given)?;
    let hostname = HOSTNAME.to_owned();
    let (user, mounts) = scenery(given, request)?;
    let argv = if request.command.is_empty() {
        policy.agent.command.iter().map(Into::into).collect()
    } else {
        request.command.clone()
    };
    if argv.is_empty() {
        return Err(PlanError::NoCommand { policy: policy.name.clone() });
    }
    let directory = view::directory(request, &user);
    let environment = environment::resolve(policy, given.survey, request, &user, &mounts);
    let network = network::resolve(policy, request)?;
    if network.is_some() {
        refuse_if_any(given.host.network_refusals())?;
    }
    Ok(Plan {
        policy: policy.name.clone(),
        widened: request.widened.clone(),
        landlock: landlock(given, &mounts, &user, network.is_some()),
        seccomp: seccomp::filter(&seccomp::asked(policy), given.host.seccomp.notify)?,
        hostname,
        user,
        mounts,
        limits: policy.limits,
        rlimits: rlimits(policy),
        capabilities: policy.capabilities.keep.clone(),
        network,
        nested_namespaces: policy.syscalls.nested_namespaces,
        command: Command { argv, environment, directory },
        terminal: policy.terminal.allocate,
        shortfalls,
    })
}

/// Who the agent is, and all that it sees: whatever the host may lack.
pub fn scenery(given: &Given<'_>, request: &Request) -> Result<(User, Vec<Mount>), PlanError> {
    let user = User { name: "agent".into(), uid: UID, home: PathBuf::from("/home/agent") };
    let mut mounts = view::mounts(given, request, &user)?;
    let network = network::resolve(given.policy, request)?;
    mounts.extend(etc::files(&user, HOSTNAME, network.as_ref()));
    mounts.extend(git::files(request.caller.identity.as_ref(), &mounts));
    mounts.extend(browser::files(given.policy));
    mounts.push(Mount::File { target: CANARY.into(), content: "Landlock keeps this file closed.\n".into() });
    Ok((user, mounts))
}

/// Refuses a host that lacks what the policy does not tolerate.
fn tolerated(given: &Given<'_>) -> Result<BTreeSet<Shortfall>, PlanError> {
    refuse_if_any(given.host.refusals())?;
    let mut shortfalls = given.host.shortfalls(Wanted::from(given.policy));
    shortfalls.extend(&given.limits_missing);
    let refused: Vec<_> = shortfalls.difference(&given.policy.tolerate.shortfalls).copied().collect();
    if refused.is_empty() {
        Ok(shortfalls)
    } else {
        Err(PlanError::Shortfall { policy: given.policy.name.clone(), shortfalls: refused })
    }
}

fn refuse_if_any(refusals: Vec<Refusal>) -> Result<(), PlanError> {
    if refusals.is_empty() { Ok(()) } else { Err(PlanError::Host { refusals }) }
}

/// Each mount's own rights; below `/` nothing but the names of directories.
fn landlock(given: &Given<'_>, mounts: &[Mount], user: &User, gateway: bool) -> Landlock {
    let mut rules: Vec<(PathBuf, Rights)> = vec![
        ("/".into(), Rights::List),
        ("/dev".into(), Rights::Devices),
        ("/etc".into(), Rights::Read),
        ("/proc".into(), Rights::Existing),
    ];
    for mount in mounts {
        let (target, writable, exec) = match mount {
            Mount::Bind(bind) if matches!(bind.source, super::Source::Path { .. }) => {
                (&bind.target, bind.writable, bind.exec)
            }
            Mount::Tmpfs { target, exec, .. } => (target, true, *exec),
            Mount::Script { target, .. } => (target, false, true),
            _ => continue,
        };
        let rights = match (writable, exec) {
            (true, true) => Rights::WriteExecute,
            (true, false) => Rights::Write,
            (false, true) => Rights::Execute,
            (false, false) => Rights::Read,
        };
        rules.push((target.clone(), rights));
    }
    debug_assert!(rules.iter().any(|(path, _)| path == &user.home));
    Landlock {
        abi: given.host.landlock_abi,
        filesystem: !given.policy.syscalls.nested_namespaces && given.host.landlock_abi > 0,
        rules,
        deny_bind: !given.policy.network.loopback,
        deny_connect: !given.policy.network.loopback && !gateway,
        audit: given.host.audit.clone(),
    }
}

fn rlimits(policy: &Policy) -> Vec<Rlimit> {
    let mut limits = vec![
        // 1, not 0: a core_pattern that names a helper, which runs on the host as root, ignores the limit unless it
        // is exactly 1 (kernel: fs/coredump.c); as a file a core never fits in one byte.
        Rlimit { resource: "core", value: 1 },
        Rlimit { resource: "nofile", value: policy.limits.open_files.into() },
        Rlimit { resource: "memlock", value: 8 << 20 },
        Rlimit { resource: "msgqueue", value: 819_200 },
        Rlimit { resource: "nice", value: 0 },
        Rlimit { resource: "rtprio", value: 0 },
    ];
    limits.extend(policy.limits.file_size.map(|size| Rlimit { resource: "fsize", value: size.get() }));
    limits
}

/// Every host path that a plan for `policy` may have to know about.
pub fn paths_of_interest(policy: &Policy, request: &Request) -> BTreeSet<PathBuf> {
    let files = &policy.filesystem;
    let named = files
        .system
        .iter()
        .chain(&files.read_only)
        .chain(&files.read_write)
        .chain(policy.environment.paths.values());
    let mut paths = ordered::set(named.map(|path| view::expand(path, &request.caller.home)));
    paths.extend(request.installation.iter().cloned());
    let protected = files.protected.iter().chain(&files.protected_if_present);
    if let Some(workspace) = &request.workspace {
        let own = request.policy_file.iter().filter(|file| file.starts_with(&workspace.path)).cloned();
        for inside in protected.map(|path| workspace.path.join(&path.path)).chain(own) {
            paths.extend(inside.ancestors().take_while(|p| *p != workspace.path).map(Path::to_path_buf));
        }
    }
    paths.extend(request.workspace.iter().map(|place| place.path.join(".git").join(view::GIT_WORKTREES)));
    if let Some(GitRepository { common, worktree }) = &request.git_repository {
        let worktrees = common.path.join(view::GIT_WORKTREES);
        let own = worktrees.join(worktree);
        paths.extend(view::GIT_PROTECTED.iter().map(|name| common.path.join(name)));
        paths.extend(view::GIT_WORKTREE_PROTECTED.iter().map(|name| own.join(name)));
        paths.extend([worktrees, own]);
    }
    paths
}
