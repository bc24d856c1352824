//! The agent's view of the filesystem, as a list of mounts sorted so that what is below comes later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::request::{Place, Request};
use super::resolve::Given;
use super::{Bind, Mount, PlanError, Source, StandIn, User};
use crate::host::survey::{Found, Kind};
use crate::policy::path::InvalidPath;
use crate::policy::{Access, HostPath, WorkspacePath};

/// In a repository that a worktree belongs to: what git on the host would execute, or take commands from.
pub const GIT_PROTECTED: [&str; 4] = ["commondir", "config", "hooks", "modules"];

/// Places that are never a workspace or home: giving one away gives the host away.
pub const NEVER_WRITABLE: [&str; 17] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var",
    "/var/lib", "/var/log", "/home", "/opt",
];

type View = BTreeMap<PathBuf, Mount>;

/// All mounts but the files of /etc.
pub fn mounts(given: &Given<'_>, request: &Request, user: &User) -> Result<Vec<Mount>, PlanError> {
    let mut view = View::new();
    skeleton(&mut view, given);
    shown(&mut view, given, request)?;
    home(&mut view, given, request, user)?;
    workspace(&mut view, given, request)?;
    links(&mut view);
    Ok(view.into_values().collect())
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
                refuse_precious(&path)?;
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
            refuse_precious(&place.path)?;
            if files.home_exec && place.noexec {
                return Err(PlanError::HomeNoexec {
                    path: place.path.clone(),
                    policy: given.policy.name.clone(),
                });
            }
            Mount::Bind(own(place, &user.home, true, files.home_exec))
        }
    };
    add(view, mount);
    Ok(())
}

fn workspace(view: &mut View, given: &Given<'_>, request: &Request) -> Result<(), PlanError> {
    let Some(place) = &request.workspace else { return Ok(()) };
    refuse_precious(&place.path)?;
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
    if let (Some(common), true) = (&request.git_common, files.git_worktree) {
        refuse_precious(&common.path)?;
        add(view, Mount::Bind(own(common, &common.path, true, true)));
        for name in GIT_PROTECTED {
            let path = WorkspacePath { path: name.into(), directory: matches!(name, "hooks" | "modules") };
            protect(view, given, common, &path, true)?;
        }
    }
    Ok(())
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

/// A read-only fence stays read-only, whoever else asks for a pin at the same place.
fn add_fence(view: &mut View, bind: Bind) {
    let existing = view.get(&bind.target).is_some_and(|m| matches!(m, Mount::Bind(b) if !b.writable));
    if !existing {
        view.insert(bind.target.clone(), Mount::Bind(bind));
    }
}

fn refuse_precious(path: &Path) -> Result<(), PlanError> {
    if NEVER_WRITABLE.iter().any(|never| path == Path::new(never)) {
        return Err(PlanError::Precious { path: path.into() });
    }
    Ok(())
}

fn add(view: &mut View, mount: Mount) {
    view.insert(mount.target().to_path_buf(), mount);
}
