//! The secrets of `[[network.inject]]`: read by this process alone, told to the gateway, told again when they change.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;

use super::GatewayError;
use crate::policy::Inject;
use crate::policy::trust::{self, OpenError};
use crate::wire::egress::{SHORTEST_SECRET, Secret, ToEgress};

/// No header of a request is longer; most servers take 8 KiB for all of them.
const LONGEST: u64 = 8 * 1024;

/// One secret, and where it lies.
#[derive(Debug)]
struct Held {
    name: String,
    path: PathBuf,
    value: Secret,
    told: bool,
}

/// All secrets of one sandbox.
#[derive(Debug)]
pub struct Secrets {
    held: Vec<Held>,
    /// Readable when something happened in a directory that holds one.
    changes: Option<OwnedFd>,
}

impl Secrets {
    /// Reads each. A secret that is missing, that others could have written, or that no header can hold, is an error.
    pub fn read(inject: &[Inject]) -> Result<Self, GatewayError> {
        let read = |inject: &Inject| {
            let (name, path) = (inject.name.to_string(), inject.secret.as_path().to_path_buf());
            match value(&path) {
                Ok(value) => Ok(Held { name, path, value, told: false }),
                Err(what) => Err(GatewayError::Secret { name, path, what }),
            }
        };
        let held: Vec<Held> = inject.iter().map(read).collect::<Result<_, _>>()?;
        let changes = if held.is_empty() { None } else { Some(watch(&held)?) };
        Ok(Self { held, changes })
    }

    /// Readable when a secret may have changed.
    pub fn changes(&self) -> Option<&OwnedFd> {
        self.changes.as_ref()
    }

    /// Reads them again after a change. While a new value cannot be used, the old one holds.
    pub fn refresh(&mut self) {
        let Some(changes) = &self.changes else { return };
        let mut events = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(changes, &mut events);
        while reader.next().is_ok() {}
        for held in &mut self.held {
            match value(&held.path) {
                Ok(value) if value != held.value => (held.value, held.told) = (value, false),
                _ => {}
            }
        }
    }

    /// Another value, for as long as the file stays as it is.
    pub fn replace(&mut self, name: &str, text: &str) -> Result<(), String> {
        let named = self.held.iter_mut().find(|held| held.name == name);
        let held = named.ok_or("the policy has no credential of this name (network.inject)")?;
        (held.value, held.told) = (checked(text)?, false);
        Ok(())
    }

    /// A new gateway knows none.
    pub fn forget(&mut self) {
        self.held.iter_mut().for_each(|held| held.told = false);
    }

    /// Tells what has not been told; what `send` does not take is told the next time.
    pub fn tell(&mut self, mut send: impl FnMut(&ToEgress) -> bool) {
        for held in self.held.iter_mut().filter(|held| !held.told) {
            held.told = send(&ToEgress::Secret { name: held.name.clone(), value: held.value.clone() });
        }
    }
}

fn watch(held: &[Held]) -> std::io::Result<OwnedFd> {
    use inotify::WatchFlags as Watch;
    let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    // The directories, for a secret is replaced by renaming: a file of its own, or a link that leads to all of them.
    let events = Watch::CLOSE_WRITE | Watch::MOVED_TO | Watch::CREATE | Watch::ONLYDIR;
    for directory in held.iter().filter_map(|held| held.path.parent()) {
        inotify::add_watch(&changes, directory, events)?;
    }
    Ok(changes)
}

fn value(path: &Path) -> Result<Secret, String> {
    let file: File = match trust::open(path, 0) {
        Ok(file) => file,
        Err(OpenError::Io(error)) => return Err(error.to_string()),
        Err(OpenError::Distrust(distrust)) => return Err(distrust.to_string()),
    };
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    checked(&text)
}

/// A text that a header can hold, and that can be hidden in what comes back.
fn checked(text: &str) -> Result<Secret, String> {
    if text.len() as u64 > LONGEST {
        return Err("it is longer than 8KiB".into());
    }
    let text = text.trim_end_matches(['\r', '\n']);
    if !text.bytes().all(|c| (b' '..=b'~').contains(&c)) || text.trim().is_empty() {
        return Err("it is empty, or no line of plain characters, and so no header's value".into());
    }
    let secret = Secret(text.into());
    match secret.can_be_hidden() {
        true => Ok(secret),
        false => Err(format!(
            "it, or what follows the scheme, is shorter than {SHORTEST_SECRET} characters: too short to be hidden in what comes back"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn inject(path: &Path) -> Inject {
        let text = format!(
            "name = 'raven.internal'\nupstream = 'https://api.example.org'\nheader = 'x-api-key'\nsecret = {path:?}"
        );
        toml::from_str(&text).expect("an inject rule")
    }

    fn told(secrets: &mut Secrets) -> Vec<String> {
        let mut told = Vec::new();
        secrets.tell(|message| {
            if let ToEgress::Secret { name, value } = message {
                told.push(format!("{name}={}", value.0));
            }
            true
        });
        told
    }

    #[test]
    fn a_secret_is_told_once_and_again_when_it_was_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        fs::write(&path, "first-one\n").expect("written");
        let mut secrets = Secrets::read(&[inject(&path)]).expect("read");
        assert_eq!(told(&mut secrets), ["raven.internal=first-one"]);
        assert_eq!(told(&mut secrets), [""; 0]);
        fs::write(directory.path().join("new"), "second-one").expect("written");
        fs::rename(directory.path().join("new"), &path).expect("renamed");
        secrets.refresh();
        assert_eq!(told(&mut secrets), ["raven.internal=second-one"]);
        fs::write(&path, "two\nlines").expect("written");
        secrets.refresh();
        assert_eq!(told(&mut secrets), [""; 0], "the old one holds");
        secrets.forget();
        assert_eq!(told(&mut secrets), ["raven.internal=second-one"]);
    }

    #[test]
    fn a_secret_too_short_to_be_hidden_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        for (value, is_fine) in
            [("abcdefg", false), ("Bearer abcdefg", false), ("abcdefgh", true), ("Bearer abcdefgh", true)]
        {
            fs::write(&path, value).expect("written");
            let read = Secrets::read(&[inject(&path)]);
            assert_eq!(read.is_ok(), is_fine, "{value}");
            let Err(error) = read else { continue };
            assert!(error.to_string().contains("shorter than 8"), "{error}");
            assert!(!error.to_string().contains("abcdefg"), "{error}");
        }
    }

    #[test]
    fn what_no_header_can_hold_is_refused_by_the_name_of_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        for bad in ["", "\n", "a\nb", "a\u{7f}", "é", &"x".repeat(9000)] {
            fs::write(&path, bad).expect("written");
            let error = Secrets::read(&[inject(&path)]).expect_err(bad).to_string();
            assert!(error.contains(path.to_str().expect("text")) && !error.contains("a\nb"), "{error}");
        }
        fs::remove_file(&path).expect("removed");
        assert!(Secrets::read(&[inject(&path)]).is_err());
    }
}
