//! What the child is given of the host: descriptors, opened by the shim while the child prepares what needs none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::plan::{Bind, Mount, Plan, Source};
use crate::wire;

/// Detached trees and open files. Both sides know the plan, so that their order says what each of them is.
pub struct Materials {
    /// A detached, read-only tmpfs with exactly the devices an agent gets.
    pub dev: OwnedFd,
    /// A detached, read-only tmpfs with the small files of /etc, if the plan has an /etc of its own.
    pub etc: Option<OwnedFd>,
    /// A detached tmpfs with what covers protected files that do not exist, if the plan has any.
    pub covers: Option<OwnedFd>,
    /// For each mount of the plan: the detached tree or the open file, where it comes from the host.
    pub trees: Vec<Option<OwnedFd>>,
}

impl Materials {
    /// Hands them over; the shim keeps none.
    pub fn send(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let all =
            [&self.dev].into_iter().chain(&self.etc).chain(&self.covers).chain(self.trees.iter().flatten());
        wire::send_descriptors(socket, &all.map(AsFd::as_fd).collect::<Vec<_>>())
    }

    /// Takes them.
    pub fn receive(socket: BorrowedFd<'_>, plan: &Plan) -> io::Result<Self> {
        let mut given = wire::receive_descriptors(socket)?.into_iter();
        let mut next = || given.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
        let dev = next()?;
        let etc = plan.has_etc().then(&mut next).transpose()?;
        let covers = plan.mounts.iter().any(Mount::needs_cover).then(&mut next).transpose()?;
        let given = |mount: &Mount| comes_from_host(mount) && !(etc.is_some() && mount.is_of_etc());
        let trees = plan.mounts.iter().map(|mount| given(mount).then(&mut next).transpose());
        let trees = trees.collect::<io::Result<_>>()?;
        Ok(Self { dev, etc, covers, trees })
    }
}

/// Whether the shim has something to open for this mount.
fn comes_from_host(mount: &Mount) -> bool {
    matches!(mount, Mount::Copy { .. } | Mount::Bind(Bind { source: Source::Path { .. }, .. }))
}
