//! The agent's view of the filesystem, as a list of mounts sorted so that what is below comes later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::request::{GitRepository, Place, Request};
use super::resolve::Given;
use super::{Bind, ETC, Mount, PlanError, Source, StandIn, User, precious};
use crate::host::survey::{Found, Kind};
use crate::policy::path::InvalidPath;
use crate::policy::{Access, HostPath, Policy, WorkspacePath};

/// In a repository that a worktree belongs to: what git on the host would execute, or take commands from.
pub const GIT_PROTECTED: [&str; 4] = ["commondir", "config", "hooks", "modules"];

/// Below it a repository keeps, for each linked worktree, a directory whose files name its repository and its config.
pub const GIT_WORKTREES: &str = "worktrees";

/// In such a directory: what git takes the place of the repository, and a config, from.
pub const GIT_WORKTREE_PROTECTED: [&str; 3] = ["commondir", "config.worktree", "gitdir"];

type View = BTreeMap<PathBuf, Mount>;

/// All mounts but the files of /etc.
pub fn mounts(given: &Given<'_>, request: &Request, user: &User) -> Result<Vec<Mount>, PlanError> {
    let mut view = View::new();
    skeleton(&mut view, given);
    shown(&mut view, given, request)?;
    home(&mut view, given, request, user)?;
    workspace(&mut view, given, request)?;
    links(&mut view);
    mount_below_mounts(&mut view);
    Ok(view.into_values().collect())
}

/// A copy of a file below a directory that is mounted would be hidden by it: there it is a mount, too, and read-only as well.
fn mount_below_mounts(view: &mut View) {
    let mounted = |mount: &Mount| matches!(mount, Mount::Bind(_)) && mount.target().starts_with(ETC);
    let directories: Vec<PathBuf> =
        view.values().filter(|mount| mounted(mount)).map(|mount| mount.target().to_path_buf()).collect();
    for mount in view.values_mut() {
        if let Mount::Copy { source, target } = mount
            && directories.iter().any(|directory| target.starts_with(directory))
        {
            *mount = Mount::Bind(Bind {
                source: Source::Path { path: source.clone() },
                target: target.clone(),
                writable: false,
                exec: false,
                owner: None,
            });
        }
    }
}

/// Where the agent starts: where the caller is, if that is in the workspace; else the workspace; else home.
pub fn directory(request: &Request, user: &User) -> PathBuf {
    match &request.workspace {
        Some(Place { path, .. }) if request.caller.directory.starts_with(path) => {
            request.caller.directory.clone()
        }
        Some(Place { path, .. }) => path.clone(),
        None => user.home.clone(),
    }
}

/// `~` is the caller's home.
pub fn expand(path: &HostPath, home: &Path) -> PathBuf {
    match path.0.strip_prefix("~") {
        Ok(below) => home.join(below),
        Err(_) => path.0.clone(),
    }
}

/// How a policy names `path`: with `~/` where it lies in `home`; or why no policy can.
pub fn nameable(path: &Path, home: Option<&Path>) -> Result<HostPath, InvalidPath> {
    let text = match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(below) => format!("~/{}", below.display()),
        None => path.display().to_string(),
    };
    text.parse()
}

fn skeleton(view: &mut View, given: &Given<'_>) {
    let files = &given.policy.filesystem;
    let tmpfs = |target: &str, size, mode, exec| Mount::Tmpfs {
        target: target.into(),
        size,
        mode,
        owned_by_agent: false,
        exec,
    };
    for mount in [
        tmpfs("/tmp", files.tmp_size, 0o1777, files.tmp_exec),
        tmpfs("/dev/shm", files.shm_size, 0o1777, false),
        Mount::Directory { target: "/etc".into() },
        Mount::Directory { target: "/run".into() },
    ] {
        add(view, mount);
    }
}

/// Other names of /tmp and /run, unless something is shown below them.
fn links(view: &mut View) {
    for (link, points_to) in [("/var/tmp", "/tmp"), ("/var/run", "/run")] {
        if !view.keys().any(|target| target.starts_with(link)) {
            add(view, Mount::Symlink { target: link.into(), points_to: points_to.into() });
        }
    }
}

/// What the policy shows read-only, or writable, wherever it is.
fn shown(view: &mut View, given: &Given<'_>, request: &Request) -> Result<(), PlanError> {
    let files = &given.policy.filesystem;
    let home = &request.caller.home;
    for path in files.system.iter().map(|path| expand(path, home)).chain(request.installation.iter().cloned())
    {
        if let Some(found) = given.survey.get(&path) {
            add(view, show(&path, found, false));
        }
    }
    for (list, writable) in [(&files.read_only, false), (&files.read_write, true)] {
        for path in list {
            let path = expand(path, home);
            let found = given.survey.get(&path).ok_or_else(|| PlanError::Missing { path: path.clone() })?;
            if writable {
                precious::refuse_system(&path)?;
                precious::refuse_system(&found.canonical)?;
            }
            add(view, show(&path, found, writable));
        }
    }
    Ok(())
}

fn show(path: &Path, found: &Found, writable: bool) -> Mount {
    match &found.kind {
        Kind::Symlink(points_to) => Mount::Symlink { target: path.into(), points_to: points_to.clone() },
        // A mount costs more to make, and to take down, than these small files to copy.
        Kind::File if path.starts_with("/etc") && !writable => {
            Mount::Copy { source: found.canonical.clone(), target: path.into() }
        }
        Kind::Directory | Kind::File => Mount::Bind(Bind {
            source: Source::Path { path: found.canonical.clone() },
            target: path.into(),
            writable,
            exec: !["/etc", "/sys"].iter().any(|data| path.starts_with(data)),
            owner: writable.then_some(super::Owner { uid: found.uid, gid: found.gid }),
        }),
    }
}

fn home(view: &mut View, given: &Given<'_>, request: &Request, user: &User) -> Result<(), PlanError> {
    let files = &given.policy.filesystem;
    let mount = match &request.home {
        None => Mount::Tmpfs {
            target: user.home.clone(),
            size: files.home_size,
            mode: 0o700,
            owned_by_agent: true,
            exec: files.home_exec,
        },
        Some(place) => {
            if files.home_exec && place.noexec {
                return Err(PlanError::HomeNoexec {
                    path: place.path.clone(),
                    policy: given.policy.name.clone(),
                });
            }
            precious::refuse(&place.path, &request.caller.home)?;
            refuse_way_round(given.policy, request, &place.path)?;
            Mount::Bind(own(place, &user.home, true, files.home_exec))
        }
    };
    add(view, mount);
    Ok(())
}

fn workspace(view: &mut View, given: &Given<'_>, request: &Request) -> Result<(), PlanError> {
    let Some(place) = &request.workspace else { return Ok(()) };
    precious::refuse(&place.path, &request.caller.home)?;
    let files = &given.policy.filesystem;
    let writable = match files.workspace {
        Access::None => return Err(PlanError::NoWorkspace { policy: given.policy.name.clone() }),
        Access::ReadOnly => false,
        Access::ReadWrite => true,
    };
    add(view, Mount::Bind(own(place, &place.path, writable, true)));
    if !writable {
        return Ok(());
    }
    for (list, even_if_missing) in [(&files.protected, true), (&files.protected_if_present, false)] {
        for path in list {
            protect(view, given, place, path, even_if_missing)?;
        }
    }
    for file in request.policy_file.iter().filter_map(|file| file.strip_prefix(&place.path).ok()) {
        protect(view, given, place, &WorkspacePath { path: file.into(), directory: false }, true)?;
    }
    // The worktrees of a repository in the workspace lie elsewhere, and are somebody else's to work in.
    let worktrees = Path::new(".git").join(GIT_WORKTREES);
    let known = protected_paths(given.policy).any(|path| path.path.starts_with(".git"));
    if known && given.survey.get(&place.path.join(&worktrees)).is_some() {
        protect(view, given, place, &WorkspacePath { path: worktrees, directory: true }, true)?;
    }
    match &request.git_repository {
        Some(repository) if files.git_worktree => git_repository(view, given, request, repository),
        _ => Ok(()),
    }
}

/// The repository that the workspace is a linked worktree of: writable but for what git executes or takes commands
/// from, and of its worktrees only this one.
fn git_repository(
    view: &mut View,
    given: &Given<'_>,
    request: &Request,
    repository: &GitRepository,
) -> Result<(), PlanError> {
    let GitRepository { common, worktree } = repository;
    precious::refuse(&common.path, &request.caller.home)?;
    add(view, Mount::Bind(own(common, &common.path, true, true)));
    for name in GIT_PROTECTED {
        let path = WorkspacePath { path: name.into(), directory: matches!(name, "hooks" | "modules") };
        protect(view, given, common, &path, true)?;
    }
    protect(view, given, common, &WorkspacePath { path: GIT_WORKTREES.into(), directory: true }, true)?;
    let directory = Path::new(GIT_WORKTREES).join(worktree);
    let own_directory = Place { path: common.path.join(&directory), ..common.clone() };
    add(view, Mount::Bind(own(&own_directory, &own_directory.path, true, true)));
    for name in GIT_WORKTREE_PROTECTED {
        let path = WorkspacePath { path: directory.join(name), directory: false };
        protect(view, given, common, &path, true)?;
    }
    Ok(())
}

/// A home is shown at a path of its own: one that holds the workspace, or a protected path of it, would be a way round
/// every fence.
fn refuse_way_round(policy: &Policy, request: &Request, home: &Path) -> Result<(), PlanError> {
    let workspace = request.workspace.iter();
    let mut fenced: Vec<PathBuf> = workspace.clone().map(|place| place.path.clone()).collect();
    let protected =
        workspace.flat_map(|place| protected_paths(policy).map(|path| place.path.join(&path.path)));
    let mut inside: Vec<PathBuf> = protected.collect();
    inside.extend(request.policy_file.iter().cloned());
    inside.extend(request.git_repository.iter().map(|repository| repository.common.path.clone()));
    let around = inside.iter().find(|path| home.starts_with(path)).cloned();
    fenced.extend(inside);
    match around.or_else(|| fenced.into_iter().find(|path| path.starts_with(home))) {
        Some(fenced) => Err(PlanError::HomeBehindFence { home: home.into(), fenced }),
        None => Ok(()),
    }
}

fn protected_paths(policy: &Policy) -> impl Iterator<Item = &WorkspacePath> {
    policy.filesystem.protected.iter().chain(&policy.filesystem.protected_if_present)
}

fn own(place: &Place, target: &Path, writable: bool, exec: bool) -> Bind {
    let source = Source::Path { path: place.path.clone() };
    Bind { source, target: target.into(), writable, exec, owner: Some(place.owner) }
}

/// Makes one path of the workspace read-only, and pins the directories above it: a mount point cannot be renamed, so
/// the fence does not move with its parent.
fn protect(
    view: &mut View,
    given: &Given<'_>,
    place: &Place,
    protected: &WorkspacePath,
    even_if_missing: bool,
) -> Result<(), PlanError> {
    // "If present" speaks of the first component: where there is a `.git`, nobody makes the `.git/hooks` it lacks.
    let first: PathBuf = protected.path.iter().take(1).collect();
    if !even_if_missing && given.survey.get(&place.path.join(&first)).is_none() {
        return Ok(());
    }
    let mut above = PathBuf::new();
    let mut names = protected.path.components().peekable();
    while let Some(name) = names.next() {
        above.push(name);
        let last = names.peek().is_none();
        let found = given.survey.get(&place.path.join(&above)).map(|found| &found.kind);
        let fence = |writable, stand_in| {
            let source = Source::Protected { root: place.path.clone(), path: above.clone(), stand_in };
            Bind { source, target: place.path.join(&above), writable, exec: true, owner: Some(place.owner) }
        };
        match found {
            Some(Kind::Symlink(_)) => {
                return Err(PlanError::ProtectedSymlink { path: place.path.join(&above) });
            }
            // Its first missing part holds the place for all that would be below.
            None => {
                add_fence(view, fence(false, Some(stand_in(protected, last))));
                return Ok(());
            }
            Some(Kind::Directory) if !last => add_fence(view, fence(true, None)),
            Some(_) => {
                add_fence(view, fence(false, None));
                return Ok(());
            }
        }
    }
    Ok(())
}

fn stand_in(protected: &WorkspacePath, last: bool) -> StandIn {
    if last && protected.path.file_name().is_some_and(|name| name == "commondir") {
        StandIn::GitCommonDirectory
    } else if last && !protected.directory {
        StandIn::File
    } else {
        StandIn::Directory
    }
}

/// A read-only fence stays read-only, whoever else asks for a pin at the same place; and a mount is a pin already.
fn add_fence(view: &mut View, bind: Bind) {
    let stays =
        |there: &Bind| !there.writable || (bind.writable && matches!(there.source, Source::Path { .. }));
    let existing = view.get(&bind.target).is_some_and(|m| matches!(m, Mount::Bind(there) if stays(there)));
    if !existing {
        view.insert(bind.target.clone(), Mount::Bind(bind));
    }
}

fn add(view: &mut View, mount: Mount) {
    view.insert(mount.target().to_path_buf(), mount);
}
