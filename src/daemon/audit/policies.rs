//! Policies are read when they are used, so that a change of their files is in force at once: here it is noticed, and
//! recorded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Audit;
use crate::audit::Digest;
use crate::audit::event::Event;
use crate::audit::parts::{Outcome, Part};

/// How often files are looked at.
const OFTEN: Duration = Duration::from_secs(5);

/// A file, as a look at it shows it.
type Seen = (PathBuf, u64, Option<SystemTime>);

/// Follows the policies in these directories, those of agents' kinds below them included.
pub async fn follow(audit: Audit, directories: Vec<PathBuf>) {
    let (mut seen, mut known) = (Vec::new(), None);
    loop {
        let (looked, directories) = (seen.clone(), directories.clone());
        // It reads files.
        let look = tokio::task::spawn_blocking(move || look(&directories, &looked)).await;
        if let Ok(Some((now, digest))) = look {
            seen = now;
            if known.is_some_and(|known| known != digest) {
                let outcome = Outcome::Done;
                audit.record(Event::Reloaded {
                    part: Part::Policies,
                    outcome,
                    hash: Some(digest),
                    waits: Vec::new(),
                });
            }
            known = Some(digest);
        }
        tokio::time::sleep(OFTEN).await;
    }
}

/// What is there, and a digest over all of it; nothing, if nothing has changed since.
fn look(directories: &[PathBuf], before: &[Seen]) -> Option<(Vec<Seen>, Digest)> {
    let mut now = Vec::new();
    for directory in directories {
        for directory in [directory.clone(), directory.join("agents")] {
            list(&directory, &mut now);
        }
    }
    now.sort();
    if now == before && !before.is_empty() {
        return None;
    }
    let mut all = Vec::new();
    for (path, ..) in &now {
        all.extend_from_slice(path.as_os_str().as_encoded_bytes());
        all.push(0);
        // One that cannot be read is none, and differs from one that can.
        all.extend(fs::read(path).map_or([0; 32], |content| Digest::of(&content).0));
    }
    Some((now, Digest::of(&all)))
}

fn list(directory: &Path, into: &mut Vec<Seen>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Ok(about) = entry.metadata()
            && about.is_file()
            && path.extension().is_some_and(|extension| extension == "toml")
        {
            into.push((path, about.len(), about.modified().ok()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_changed_added_or_removed_makes_another_digest() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let directories = [directory.path().to_owned()];
        fs::create_dir(at("agents")).expect("made");
        fs::write(at("a.toml"), "x = 1").expect("written");
        let (seen, first) = look(&directories, &[]).expect("something");
        assert!(look(&directories, &seen).is_none());
        fs::write(at("agents/k.toml"), "y = 1").expect("written");
        let (seen, second) = look(&directories, &seen).expect("another");
        fs::write(at("a.toml"), "x = 10").expect("written");
        let (seen, third) = look(&directories, &seen).expect("another");
        fs::remove_file(at("agents/k.toml")).expect("removed");
        let (_, fourth) = look(&directories, &seen).expect("another");
        assert!(first != second && second != third && third != fourth && first != fourth);
    }
}
