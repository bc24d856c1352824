//! The steps of the sequence, as errors and reports name them.

use std::fmt;
use std::io;

/// One step. The order of the variants is the order of construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Wait until the user namespace has its ids, and take the sandbox's uid 0.
    Ids,
    /// A session of its own.
    Session,
    /// The host name.
    Hostname,
    /// A private procfs.
    Proc,
    /// The tmpfs that becomes the root.
    Root,
    /// Dangerous files of /proc.
    Mask,
    /// Everything else in it.
    Mounts,
    /// devpts and the terminal.
    Terminal,
    /// pivot_root(2), and the old root let go.
    Pivot,
    /// The cgroup namespace.
    Cgroup,
    /// rlimits.
    Limits,
    /// Descriptors 0 to 2, and no others.
    Descriptors,
    /// Signal dispositions and mask.
    Signals,
    /// Capability sets, securebits, uid and gid.
    Privileges,
    /// The parent-death signal.
    Tether,
    /// no_new_privs.
    NoNewPrivs,
    /// Landlock, and its self-check.
    Landlock,
    /// The system-call filter.
    Seccomp,
    /// Talking to the shim.
    Report,
    /// The working directory.
    Directory,
    /// What is to lie there before it starts.
    Files,
    /// execve(2).
    Exec,
}

impl Step {
    const ALL: [Self; 22] = [
        Self::Ids,
        Self::Session,
        Self::Hostname,
        Self::Proc,
        Self::Root,
        Self::Mask,
        Self::Mounts,
        Self::Terminal,
        Self::Pivot,
        Self::Cgroup,
        Self::Limits,
        Self::Descriptors,
        Self::Signals,
        Self::Privileges,
        Self::Tether,
        Self::NoNewPrivs,
        Self::Landlock,
        Self::Seccomp,
        Self::Report,
        Self::Directory,
        Self::Files,
        Self::Exec,
    ];

    /// The step with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ids => "taking its ids",
            Self::Session => "starting a session",
            Self::Hostname => "setting the host name",
            Self::Proc => "mounting a private /proc",
            Self::Root => "making the root filesystem",
            Self::Mounts => "mounting",
            Self::Mask => "masking /proc",
            Self::Terminal => "making the terminal",
            Self::Pivot => "changing the root",
            Self::Cgroup => "entering its cgroups",
            Self::Limits => "setting resource limits",
            Self::Descriptors => "closing descriptors",
            Self::Signals => "resetting signals",
            Self::Privileges => "giving up privileges",
            Self::Tether => "tying its life to the parent",
            Self::NoNewPrivs => "setting no_new_privs",
            Self::Landlock => "restricting itself with Landlock",
            Self::Seccomp => "installing the system-call filter",
            Self::Report => "reporting to the shim",
            Self::Directory => "entering the working directory",
            Self::Files => "writing the files that were ordered",
            Self::Exec => "executing the command",
        })
    }
}

/// A step that failed, on what, and why.
#[derive(Debug)]
pub struct JailError {
    /// Which step.
    pub step: Step,
    /// The object: a path, a limit's name; may be empty.
    pub object: String,
    /// Why.
    pub source: io::Error,
}

/// A failure that knows its object but not yet its step.
#[derive(Debug)]
pub struct Fault {
    /// The object: a path, a limit's name; may be empty.
    pub object: String,
    /// Why.
    pub source: io::Error,
}

impl<E: Into<io::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self { object: String::new(), source: error.into() }
    }
}

/// Names the object of an error.
pub trait On<T> {
    /// `object` is what the user can look for: a path, a limit.
    fn on(self, object: impl fmt::Display) -> Result<T, Fault>;
}

impl<T, E: Into<io::Error>> On<T> for Result<T, E> {
    fn on(self, object: impl fmt::Display) -> Result<T, Fault> {
        self.map_err(|error| Fault { object: object.to_string(), source: error.into() })
    }
}

/// Names the step of an error.
pub trait At<T> {
    /// The step that failed.
    fn at(self, step: Step) -> Result<T, JailError>;
}

impl<T, E: Into<Fault>> At<T> for Result<T, E> {
    fn at(self, step: Step) -> Result<T, JailError> {
        self.map_err(|error| {
            let Fault { object, source } = error.into();
            JailError { step, object, source }
        })
    }
}

/// Why a program could not be executed inside, for people.
pub fn exec_cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            "not found inside the sandbox (policy: filesystem.system, filesystem.expose-command)".into()
        }
        Some(libc::EACCES) => {
            "cannot be executed inside the sandbox: not executable, or on a noexec mount".into()
        }
        _ => error.to_string(),
    }
}
