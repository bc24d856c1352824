//! What the child is given of the host: descriptors, opened by the shim while the child prepares what needs none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::plan::{Bind, Mount, Plan, Source};
use crate::wire;

/// Detached trees. Both sides know the plan, so that their order says what each of them is.
pub struct Materials {
    /// A detached, read-only tmpfs with exactly the devices an agent gets.
    pub dev: OwnedFd,
    /// A detached, read-only tmpfs with the small files of /etc.
    pub etc: OwnedFd,
    /// A detached tmpfs with what covers protected files that do not exist, if the plan has any.
    pub covers: Option<OwnedFd>,
    /// For each mount of the plan: the detached tree, where it comes from the host.
    pub trees: Vec<Option<OwnedFd>>,
}

impl Materials {
    /// Hands them over; the shim keeps none.
    pub fn send(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let all = [&self.dev, &self.etc].into_iter().chain(&self.covers).chain(self.trees.iter().flatten());
        wire::send_descriptors(socket, &all.map(AsFd::as_fd).collect::<Vec<_>>())
    }

    /// Takes them.
    pub fn receive(socket: BorrowedFd<'_>, plan: &Plan) -> io::Result<Self> {
        let mut given = wire::receive_descriptors(socket)?.into_iter();
        let mut next = || given.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
        let dev = next()?;
        let etc = next()?;
        let covers = plan.mounts.iter().any(Mount::needs_cover).then(&mut next).transpose()?;
        let trees = plan.mounts.iter().map(|mount| comes_from_host(mount).then(&mut next).transpose());
        Ok(Self { dev, etc, covers, trees: trees.collect::<io::Result<_>>()? })
    }
}

/// Whether the shim has something to open for this mount.
fn comes_from_host(mount: &Mount) -> bool {
    matches!(mount, Mount::Bind(Bind { source: Source::Path { .. }, .. }))
}
