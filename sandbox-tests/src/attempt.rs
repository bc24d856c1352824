//! One way out of a sandbox, and how to tell whether it was open.

use std::fmt;

use crate::decoys::Decoys;

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The wall was not there.
    Through(String),
    /// The wall held.
    Stopped {
        /// What the kernel or the filter answered, if it was a system call that was refused.
        errno: Option<i32>,
        /// In words.
        detail: String,
    },
    /// The attempt could not be made, so that it says nothing about the wall.
    Broken(String),
}

impl Verdict {
    /// Through, with something to show for it.
    pub fn through(detail: impl Into<String>) -> Self {
        Self::Through(detail.into())
    }

    /// Stopped by the absence of the thing that was looked for.
    pub fn absent(detail: impl Into<String>) -> Self {
        Self::Stopped { errno: None, detail: detail.into() }
    }

    /// Stopped by an answer of the kernel or the filter.
    pub fn refused(errno: i32, detail: impl Into<String>) -> Self {
        Self::Stopped { errno: Some(errno), detail: detail.into() }
    }

    /// Through if `open`, else stopped, with the same words.
    pub fn when(open: bool, detail: impl Into<String>) -> Self {
        if open { Self::through(detail) } else { Self::absent(detail) }
    }
}

/// What an attempt aims at; one file in `attempts/` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Other system-call ABIs, argument bits that a filter may overlook.
    Abi,
    /// Devices, by node and by number.
    Devices,
    /// Files of the host.
    Files,
    /// Uids, capabilities, flags of the process itself.
    Identity,
    /// System V and POSIX queues, semaphores, shared memory.
    Ipc,
    /// Key rings.
    Keys,
    /// How much may be used.
    Limits,
    /// Mounts.
    Mounts,
    /// Namespaces.
    Namespaces,
    /// Reaching somebody.
    Network,
    /// Other processes.
    Processes,
    /// `/proc` and `/sys`.
    Procfs,
    /// Files in the workspace that the host executes later.
    Protected,
    /// Set-id bits and their like, left behind for the host.
    SetId,
    /// Socket families and protocols.
    Sockets,
    /// Kernel entry points that an agent has no use for.
    Surface,
    /// The terminal.
    Terminal,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Abi => "abi",
            Self::Devices => "devices",
            Self::Files => "files",
            Self::Identity => "identity",
            Self::Ipc => "ipc",
            Self::Keys => "keys",
            Self::Limits => "limits",
            Self::Mounts => "mounts",
            Self::Namespaces => "namespaces",
            Self::Network => "network",
            Self::Processes => "processes",
            Self::Procfs => "procfs",
            Self::Protected => "protected",
            Self::SetId => "set-id",
            Self::Sockets => "sockets",
            Self::Surface => "surface",
            Self::Terminal => "terminal",
        })
    }
}

/// Why an attempt may be stopped although there is no sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excuse {
    /// Only this answer excuses it; none: the thing it looks for is not there.
    pub errno: Option<i32>,
    /// Which part of the kernel or of root's power is missing.
    pub because: &'static str,
}

/// The workspace that an attempt needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Workspace {
    /// A git repository with hooks and a configuration.
    #[default]
    Repository,
    /// Nothing in it yet.
    Empty,
}

type Deed = Box<dyn Fn(&Decoys) -> Verdict>;

/// One way out.
pub struct Attempt {
    /// Stable name.
    pub id: String,
    /// What it aims at.
    pub class: Class,
    /// CVE, advisory or manual page.
    pub reference: &'static str,
    /// What getting through means.
    pub success: String,
    /// Whether it changes something outside of itself where no wall stops it: then a belt must be proved.
    pub mutates: bool,
    /// The workspace it needs.
    pub workspace: Workspace,
    /// When it may fail although nothing stands in its way.
    pub excuses: Vec<Excuse>,
    deed: Deed,
}

impl Attempt {
    /// An attempt that is to be carried out by `deed`.
    pub fn new(
        id: impl Into<String>,
        class: Class,
        reference: &'static str,
        success: impl Into<String>,
        deed: impl Fn(&Decoys) -> Verdict + 'static,
    ) -> Self {
        Self {
            id: id.into(),
            class,
            reference,
            success: success.into(),
            mutates: false,
            workspace: Workspace::Repository,
            excuses: Vec::new(),
            deed: Box::new(deed),
        }
    }

    /// Without a wall it changes something outside of its own process.
    pub fn mutating(mut self) -> Self {
        self.mutates = true;
        self
    }

    /// It needs a workspace with nothing in it.
    pub fn in_an_empty_workspace(mut self) -> Self {
        self.workspace = Workspace::Empty;
        self
    }

    /// Without a sandbox it may still be answered with `errno`, because the kernel lacks something.
    pub fn unless(mut self, errno: i32, because: &'static str) -> Self {
        self.excuses.push(Excuse { errno: Some(errno), because });
        self
    }

    /// Without a sandbox the thing that it looks for may be missing.
    pub fn unless_absent(mut self, because: &'static str) -> Self {
        self.excuses.push(Excuse { errno: None, because });
        self
    }

    /// Why this outcome without a sandbox does not disprove the attempt, if there is a reason.
    pub fn excuse(&self, errno: Option<i32>) -> Option<&'static str> {
        self.excuses.iter().find(|excuse| excuse.errno == errno).map(|excuse| excuse.because)
    }

    /// Makes the attempt, in this process.
    pub fn carry_out(&self, decoys: &Decoys) -> Verdict {
        (self.deed)(decoys)
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("id", &self.id).field("class", &self.class).finish_non_exhaustive()
    }
}
