//! Where a command is installed: what must be shown for it to run, when no other rule shows it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Directories that are never shown as a whole just because a command lies in them.
const NEVER: [&str; 14] = [
    "/", "/root", "/home", "/etc", "/var", "/tmp", "/run", "/srv", "/opt", "/usr", "/mnt", "/media", "/proc",
    "/sys",
];

/// Host paths to show read-only so that `command` can run; empty if it is visible anyway or cannot be found.
///
/// The path itself, what its symbolic links lead to, and the installation around each: the outermost `node_modules` of
/// an npm package, the virtual environment of a Python program, and the interpreter's own prefix behind that.
pub fn installation(command: &OsStr, path: &OsStr, is_visible: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let Some(found) = find(command, path) else { return Vec::new() };
    let mut shown = Vec::new();
    let mut queue = vec![found];
    let mut hops = 0;
    while let Some(file) = queue.pop() {
        hops += 1;
        if hops > 16 {
            break;
        }
        let place = surroundings(&file);
        if !is_visible(&file) && !shown.iter().any(|seen: &PathBuf| file.starts_with(seen)) {
            if let Some(interpreter) = interpreter(&place) {
                queue.push(interpreter);
            }
            shown.push(place);
        }
        if let Ok(target) = fs::read_link(&file)
            && let Some(parent) = file.parent()
            && let Some(target) = normalise(&parent.join(target))
        {
            queue.push(target);
        }
    }
    shown
}

fn find(command: &OsStr, path: &OsStr) -> Option<PathBuf> {
    let candidate = Path::new(command);
    if candidate.components().count() > 1 {
        return normalise(&std::path::absolute(candidate).ok()?).filter(|file| is_executable(file));
    }
    std::env::split_paths(path).map(|directory| directory.join(candidate)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The same path with its directories resolved, the last component left as it is.
fn normalise(path: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
}

fn surroundings(file: &Path) -> PathBuf {
    let modules = file.ancestors().filter(|a| a.file_name().is_some_and(|n| n == "node_modules")).last();
    let prefix = file
        .parent()
        .filter(|bin| bin.file_name().is_some_and(|n| n == "bin"))
        .and_then(Path::parent)
        .filter(|prefix| {
            prefix.join("pyvenv.cfg").is_file() || prefix.join("lib").join(python_of(file)).is_dir()
        });
    match modules.or(prefix) {
        Some(place) if !NEVER.iter().any(|never| place == Path::new(never)) => place.to_path_buf(),
        _ => file.to_path_buf(),
    }
}

/// `python3.11` for `…/bin/python3.11`; a name that no library directory has for anything else.
fn python_of(file: &Path) -> PathBuf {
    match file.file_name().and_then(OsStr::to_str) {
        Some(name) if name.starts_with("python3.") => PathBuf::from(name),
        _ => PathBuf::from("no-python-library"),
    }
}

fn interpreter(place: &Path) -> Option<PathBuf> {
    let python = place.join("bin/python3");
    let resolved = fs::canonicalize(&python).ok()?;
    (place.join("pyvenv.cfg").is_file() && !resolved.starts_with(place)).then_some(resolved)
}
