//! `stockade run`, from the outside: what it says, how it ends, what it does to a victim.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::runner::plant::HOST;
use crate::runner::start::{self, Run, binary};

/// Exit status of a start that policy or host refused.
pub const REFUSED: i32 = 77;
/// Exit status of a start that failed.
pub const FAILED: i32 = 125;

/// `stockade run`, with these arguments.
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary("stockade"));
    command.arg("run").args(arguments);
    command
}

/// Runs it to its end.
///
/// # Panics
/// If it does not start, or hangs.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    finish(&mut command(arguments))
}

/// Runs a prepared command to its end.
///
/// # Panics
/// If it does not start, or hangs.
pub fn finish(command: &mut Command) -> Run {
    start::run(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The same, with the standard input that the caller has set: where `/dev/null` is not what it should be.
///
/// # Panics
/// If it does not start.
pub fn finish_as_is(command: &mut Command) -> Run {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Run { stdout, stderr, status: output.status }
}

impl Run {
    /// The exit status; a signal counts as 128 and its number.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// # Panics
    /// Unless [`Run::refusal`] agrees.
    pub fn assert_refused(&self, words: &[&str]) {
        self.refusal(words).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Whether the start was refused, or failed, in one line that contains one of `words`; if not, why not.
    pub fn refusal(&self, words: &[&str]) -> Result<(), String> {
        let said = self.stderr.to_lowercase();
        if ![REFUSED, FAILED].contains(&self.code()) {
            return Err(format!("not refused: {self:?}"));
        }
        if !words.iter().any(|word| said.contains(&word.to_lowercase())) {
            return Err(format!("names none of {words:?}: {self:?}"));
        }
        if self.stderr.trim().lines().count() == 1 { Ok(()) } else { Err(format!("not one line: {self:?}")) }
    }
}

/// A directory below the host's side of the belt, empty.
///
/// # Panics
/// If it cannot be made.
pub fn directory(name: &str) -> PathBuf {
    let path = Path::new(HOST).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the belt is writable");
    path
}

/// Everything below a directory: names, and what files hold or links say.
pub fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    collect(directory, &mut found);
    found
}

fn collect(directory: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let content = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => {
                fs::read_link(&path).map(|to| to.into_os_string().into_encoded_bytes())
            }
            Ok(kind) if kind.is_file() => fs::read(&path),
            _ => Ok(Vec::new()),
        };
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        found.insert(path.clone(), content.unwrap_or_default());
        if is_directory {
            collect(&path, found);
        }
    }
}
