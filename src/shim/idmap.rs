//! User namespaces that say which host owner stands for the agent on an idmapped mount (mount_setattr(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::plan::Owner;
use crate::sys::process::{Side, clone3, exit_now, wait};

/// One namespace for each owner that a plan's binds name; usually one in all.
pub struct Idmaps {
    agent: u32,
    made: Vec<(Owner, OwnedFd)>,
}

impl Idmaps {
    /// `agent`: the host uid and gid under which the agent runs.
    pub fn new(agent: u32) -> Self {
        Self { agent, made: Vec::new() }
    }

    /// The namespace for `owner`.
    pub fn namespace(&mut self, owner: Owner) -> io::Result<BorrowedFd<'_>> {
        let at = match self.made.iter().position(|(made, _)| *made == owner) {
            Some(at) => at,
            None => {
                let namespace = make(owner, self.agent)?;
                self.made.push((owner, namespace));
                self.made.len() - 1
            }
        };
        Ok(self.made[at].1.as_fd())
    }
}

/// On an idmapped mount an id on disk is looked up as an *inside* id of the namespace, and the host id that it maps to
/// is what processes see. A namespace exists only together with a process; this one is kept until it has been opened.
fn make(owner: Owner, agent: u32) -> io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match clone3(libc::CLONE_NEWUSER as u64, None)? {
        Side::Child => {
            drop(writer);
            let _ = rustix::io::read(&reader, &mut [0u8; 1]);
            exit_now(0)
        }
        Side::Parent { pid, pidfd } => {
            let opened = write_maps(pid, owner, agent).and_then(|()| open_namespace(pid));
            drop(writer);
            wait(pidfd.as_fd())?;
            opened
        }
    }
}

fn write_maps(pid: u32, owner: Owner, agent: u32) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/uid_map"), format!("{} {agent} 1\n", owner.uid))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), format!("{} {agent} 1\n", owner.gid))
}

fn open_namespace(pid: u32) -> io::Result<OwnedFd> {
    Ok(std::fs::File::open(format!("/proc/{pid}/ns/user"))?.into())
}
