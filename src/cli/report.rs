//! `--report FILE`: the attestation and the outcome as one JSON document.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use serde::Serialize;

use crate::cgroup::Usage;
use crate::host::planted;
use crate::shim::Outcome;
use crate::shim::attestation::Attestation;
use crate::shim::denials::Denial;
use crate::shim::egress::Traffic;
use crate::sys::process::End;

/// As many links as the kernel itself would follow (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A report that will be written; opened before the agent starts, so that a bad path is known at once.
pub struct Report {
    path: PathBuf,
    file: File,
    /// Whether it lies where the agent writes.
    is_exposed: bool,
}

/// The document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    attestation: &'a Attestation,
    exit: Exit,
    usage: &'a Usage,
    denials: &'a [Denial],
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<&'a Traffic>,
    landlock_audit: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exit {
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    out_of_memory: bool,
}

impl Report {
    /// Opens the file, empty. In `written`, where agents write, an earlier one may have planted a link to a file that
    /// only root can write, or a pipe that never opens: there, nothing but a regular file beneath it will do.
    pub fn create(path: &Path, written: &[PathBuf]) -> io::Result<Self> {
        let mut absolute = std::path::absolute(path)?;
        for _ in 0..MOST_LINKS {
            let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else { break };
            if let Some((place, below)) = planted::entrance(parent, written) {
                let file = create_beneath(&place, &below.join(name))?;
                return Ok(Self { path: path.into(), file, is_exposed: true });
            }
            let Ok(target) = std::fs::read_link(&absolute) else { break };
            absolute = parent.join(target);
        }
        Ok(Self { path: path.into(), file: File::create(path)?, is_exposed: false })
    }

    /// Writes it all.
    pub fn write(mut self, outcome: &Outcome) -> io::Result<()> {
        let signal = match outcome.end {
            End::Exited(_) => None,
            End::Signaled(signal) => Some(signal),
        };
        let document = Document {
            attestation: &outcome.attestation,
            exit: Exit { code: outcome.end.code(), signal, out_of_memory: outcome.out_of_memory },
            usage: &outcome.usage,
            denials: &outcome.denials,
            network: outcome.traffic.as_ref(),
            landlock_audit: outcome.landlock_audit.to_string(),
        };
        let mut text = serde_json::to_vec_pretty(&document)?;
        text.push(b'\n');
        if self.is_exposed {
            self.confirm()?;
        }
        self.file.write_all(&text)
    }

    /// That the path still names this file, and that nothing has been written to it: the agent has ended by now, so what
    /// is found stays.
    fn confirm(&self) -> io::Result<()> {
        let (ours, named) = (self.file.metadata()?, std::fs::metadata(&self.path)?);
        if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) || ours.nlink() != 1 {
            return Err(io::Error::other(
                "the agent has replaced it: name a file where the agent cannot write",
            ));
        }
        self.file.set_len(0)
    }

    /// Takes the empty file away again, after a start that failed.
    pub fn abandon(self) {
        if self.file.metadata().is_ok_and(|found| found.is_file() && found.len() == 0) {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

fn create_beneath(place: &Path, below: &Path) -> io::Result<File> {
    let directory = open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(directory, below, flags, Mode::from_raw_mode(0o644), resolve)?);
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 {
        return Err(io::Error::other("an agent could have put there what it is: remove it first"));
    }
    file.set_len(0)?;
    Ok(file)
}
