//! Where a command is installed: what must be shown for it to run, when no other rule shows it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::planted;

/// Directories that are never shown as a whole just because a command lies in them.
const NEVER: [&str; 14] = [
    "/", "/root", "/home", "/etc", "/var", "/tmp", "/run", "/srv", "/opt", "/usr", "/mnt", "/media", "/proc",
    "/sys",
];

/// What is known already of the sandbox that the command will run in.
pub struct Setting<'a> {
    /// The caller's search path.
    pub path: &'a OsStr,
    /// The caller's home: never shown as a whole.
    pub home: &'a Path,
    /// Shown anyway.
    pub visible: &'a [PathBuf],
    /// Where agents write: a link that lies there leads wherever an agent wants, so it shows nothing.
    pub written: &'a [PathBuf],
}

/// Host paths to show read-only so that `command` can run; empty if it is visible anyway or cannot be found.
///
/// The path itself, what its symbolic links lead to, and the installation around each: the outermost `node_modules` of
/// an npm package, the virtual environment of a Python program, and the interpreter's own prefix behind that.
pub fn installation(command: &OsStr, setting: &Setting<'_>) -> Vec<PathBuf> {
    let Some(found) = find(command, setting) else { return Vec::new() };
    let mut shown = Vec::new();
    let mut queue = vec![found];
    let mut hops = 0;
    while let Some(file) = queue.pop() {
        hops += 1;
        if hops > 16 {
            break;
        }
        let is_visible = setting.visible.iter().chain(&shown).any(|seen| file.starts_with(seen));
        if !is_visible {
            let places = surroundings(&file, setting.home);
            queue.extend(places.iter().filter_map(|place| interpreter(place)));
            shown.extend(places);
        }
        if let Ok(target) = fs::read_link(&file)
            && let Some(parent) = file.parent()
        {
            queue.extend(trusted(&parent.join(target), setting));
        }
    }
    shown
}

fn find(command: &OsStr, setting: &Setting<'_>) -> Option<PathBuf> {
    let candidate = Path::new(command);
    if candidate.components().count() > 1 {
        return trusted(&std::path::absolute(candidate).ok()?, setting).filter(|file| is_executable(file));
    }
    // An entry that is not absolute means the caller's directory, and inside it is not searched.
    let directories = std::env::split_paths(setting.path).filter(|directory| directory.is_absolute());
    let found = directories.map(|directory| directory.join(candidate)).find(|file| is_executable(file))?;
    trusted(&found, setting)
}

/// The same path with its directories resolved, the last component left as it is; `None` where agents write.
fn trusted(path: &Path, setting: &Setting<'_>) -> Option<PathBuf> {
    match planted::entrance(path.parent()?, setting.written) {
        Some(_) => None,
        None => normalise(path),
    }
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The same path with its directories resolved, the last component left as it is.
fn normalise(path: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
}

fn surroundings(file: &Path, home: &Path) -> Vec<PathBuf> {
    let modules = file.ancestors().filter(|a| a.file_name().is_some_and(|n| n == "node_modules")).last();
    let library = |prefix: &Path| prefix.join("lib").join(python_of(file));
    let prefix = file
        .parent()
        .filter(|bin| bin.file_name().is_some_and(|n| n == "bin"))
        .and_then(Path::parent)
        .filter(|prefix| prefix.join("pyvenv.cfg").is_file() || library(prefix).is_dir());
    let is_shown =
        |place: &&Path| !NEVER.iter().any(|never| *place == Path::new(never)) && !home.starts_with(place);
    match (modules.or(prefix).filter(is_shown), prefix.map(library)) {
        (Some(place), _) => vec![place.to_path_buf()],
        (None, Some(library)) if library.is_dir() => vec![file.to_path_buf(), library],
        (None, _) => vec![file.to_path_buf()],
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A host: whatever is asked of it, paths below are meant below it.
    struct Invented(tempfile::TempDir);

    impl Invented {
        fn new(programs: &[&str]) -> Self {
            let host = Self(tempfile::tempdir().expect("a directory"));
            for program in programs {
                let file = host.at(program);
                fs::create_dir_all(file.parent().expect("below the host")).expect("directories");
                fs::write(&file, "#!/bin/sh\n").expect("a program");
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
            }
            host
        }

        fn at(&self, path: &str) -> PathBuf {
            fs::canonicalize(self.0.path()).expect("canonical").join(path)
        }

        /// What is shown for `command`, with the home `home`, while an agent writes to `ws`.
        fn shows(&self, command: &str, path: &str) -> Vec<PathBuf> {
            let (home, ws) = (self.at("home"), [self.at("ws")]);
            let setting = Setting { path: OsStr::new(path), home: &home, visible: &ws, written: &ws };
            installation(OsStr::new(command), &setting)
        }
    }

    #[test]
    fn the_callers_home_is_not_shown_because_python_is_installed_in_it() {
        let host = Invented::new(&[
            "home/bin/python3.11",
            "home/lib/python3.11/os.py",
            "home/.ssh/id",
            "home/pyvenv.cfg",
        ]);
        let shown = host.shows(host.at("home/bin/python3.11").to_str().expect("plain"), "");
        assert_eq!(shown, [host.at("home/bin/python3.11"), host.at("home/lib/python3.11")]);
    }

    #[test]
    fn a_virtual_environment_in_the_home_is_shown_and_nothing_around_it() {
        let host = Invented::new(&["home/venv/bin/tool", "home/venv/pyvenv.cfg", "home/.ssh/id"]);
        assert_eq!(
            host.shows(host.at("home/venv/bin/tool").to_str().expect("plain"), ""),
            [host.at("home/venv")]
        );
    }

    #[test]
    fn a_link_that_an_agent_could_have_made_shows_nothing() {
        let host = Invented::new(&["other/node_modules/x/run", "ws/bin/own"]);
        symlink(host.at("other/node_modules/x/run"), host.at("ws/tool")).expect("a link");
        symlink(host.at("other/node_modules/x"), host.at("ws/directory")).expect("a link");
        symlink(host.at("ws"), host.at("alias")).expect("a link");
        symlink(host.at("ws/tool"), host.at("trusted")).expect("a link");

        for planted in ["ws/tool", "ws/directory/run", "alias/tool", "alias/directory/run"] {
            assert!(host.shows(host.at(planted).to_str().expect("plain"), "").is_empty(), "{planted}");
        }
        assert!(host.shows("tool", host.at("ws").to_str().expect("plain")).is_empty());
        // One that is not the agent's is followed up to the agent's.
        assert_eq!(host.shows(host.at("trusted").to_str().expect("plain"), ""), [host.at("trusted")]);
        let direct = host.at("other/node_modules/x/run");
        assert_eq!(host.shows(direct.to_str().expect("plain"), ""), [host.at("other/node_modules")]);
    }
}
