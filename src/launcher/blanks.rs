//! What every agent has of its own on disk, made before it is wanted: names are all that is left to change.
//!
//! ```text
//!  agents/.blank-7/  .agent.json.new .attestation.json.new .exit.json.new .usage.json.new      agents/<id>/
//!                    .terminal.new/0000000000000000.{out,idx}                              ──▶
//!  shims/.blank-7.sock (it listens)  .blank-7.new       orders/.blank-7                         shims/<id>.sock …
//! ```
//! A file that is to be written is written under such a name anyway, and gets its own as a whole (`kept::put`). To make
//! a new file is what costs: on some filesystems (ext4 without a journal, where many were removed lately) more than all
//! the rest of a start.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::renameat;
use rustix::io::Errno;

use super::tree::Tree;
use crate::shim::service::kept;
use crate::wire::service::{Places, log, places};

/// No agent's name begins like that.
const PREFIX: &str = ".blank-";

/// Those that wait.
#[derive(Default)]
pub struct Blanks {
    ready: VecDeque<Blank>,
    made: u64,
}

/// One.
struct Blank {
    name: String,
    listener: OwnedFd,
}

impl Blanks {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.ready.len()
    }

    /// Makes one more.
    pub fn prepare(&mut self, tree: &Tree) -> io::Result<()> {
        let blank = self.make(tree)?;
        self.ready.push_back(blank);
        Ok(())
    }

    /// One less.
    pub fn discard(&mut self, tree: &Tree) {
        if let Some(blank) = self.ready.pop_back() {
            remove(tree, &blank.name);
        }
    }

    /// All of them go.
    pub fn dismiss(&mut self, tree: &Tree) {
        while self.count() > 0 {
            self.discard(tree);
        }
    }

    /// Gives an agent what it has of its own, and hands out the listening end of its shim's socket; `None`: there is such an agent
    /// already.
    pub fn give(&mut self, tree: &Tree, id: &str) -> io::Result<Option<OwnedFd>> {
        loop {
            let (blank, is_new) = match self.ready.pop_front() {
                Some(blank) => (blank, false),
                None => (self.make(tree)?, true),
            };
            // Nothing takes the place of a directory with something in it, and an agent's never is empty.
            match renameat(&tree.agents, &blank.name, &tree.agents, id) {
                Ok(()) => {}
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {
                    self.ready.push_front(blank);
                    return Ok(None);
                }
                // Somebody has removed what waited.
                Err(Errno::NOENT) if !is_new => {
                    remove(tree, &blank.name);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let taken = blank.take(&tree.places, id).map(Some);
            if taken.is_err() {
                let _ = fs::remove_dir_all(tree.places.agent(id));
            }
            return taken;
        }
    }

    fn make(&mut self, tree: &Tree) -> io::Result<Blank> {
        self.made += 1;
        let name = format!("{PREFIX}{}", self.made);
        let made = make(tree, &name);
        if made.is_err() {
            remove(tree, &name);
        }
        made
    }
}

impl Blank {
    /// The directory is the agent's by now: so are the other files.
    fn take(self, places: &Places, id: &str) -> io::Result<OwnedFd> {
        let Self { name, listener } = self;
        fs::rename(places.shim_socket(&name), places.shim_socket(id))?;
        // Whoever does not find these makes them.
        let _ = fs::rename(told(places, &name), kept::beside(&kept::whereabouts(places, id)));
        let _ = fs::rename(places.orders().join(&name), kept::beside(&places.orders().join(id)));
        Ok(listener)
    }
}

fn make(tree: &Tree, name: &str) -> io::Result<Blank> {
    // Of a launcher that was killed, if of anybody.
    remove(tree, name);
    tree.make_agent(name)?.ok_or(io::ErrorKind::AlreadyExists)?;
    let directory = tree.places.agent(name);
    kept::reserve_exit(&directory)
        .map_err(|error| io::Error::new(error.kind(), format!("no room to say how it ends: {error}")))?;
    for document in [places::AGENT, places::ATTESTATION, places::USAGE] {
        touch(&kept::beside(&directory.join(document)), 0o640)?;
    }
    let terminal = kept::beside(&directory.join(places::TERMINAL));
    fs::DirBuilder::new().mode(0o750).create(&terminal)?;
    for file in [log::index(0), log::segment(0)] {
        touch(&terminal.join(file), 0o640)?;
    }
    touch(&told(&tree.places, name), 0o600)?;
    touch(&tree.places.orders().join(name), 0o600)?;
    Ok(Blank { name: name.into(), listener: tree.listen_for(name)? })
}

/// Where its shim will say where it is. No `.json`: whoever looks for shims finds none there.
fn told(places: &Places, name: &str) -> PathBuf {
    places.shims().join(format!("{name}.new"))
}

/// An empty file.
fn touch(path: &Path, mode: u32) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map(drop)
}

fn remove(tree: &Tree, name: &str) {
    let _ = fs::remove_dir_all(tree.places.agent(name));
    let _ = fs::remove_file(tree.places.shim_socket(name));
    let _ = fs::remove_file(told(&tree.places, name));
    let _ = fs::remove_file(tree.places.orders().join(name));
}

/// Removes what a launcher that was killed has left.
pub fn sweep(tree: &Tree) {
    let Ok(entries) = fs::read_dir(tree.places.agents()) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if name.starts_with(PREFIX) {
            remove(tree, &name);
        }
    }
}
