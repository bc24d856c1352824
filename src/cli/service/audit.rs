//! The audit log: what the commands take.

use std::path::PathBuf;

/// What can be done with the audit log.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Audit {
    /// Print the service's audit log, one record a line
    Tail(Tail),
    /// Verify a log, or one file of it: offline, on a copy, or while it is written
    ///
    /// Exit codes: 0 intact, 8 tampered (the first bad record is named), 1 unreadable.
    Verify(Verify),
    /// Copy the service's audit log, byte for byte as it is on the node
    Export(Export),
    /// Have another key sign the service's audit log from now on; the old one vouches for it in a record
    RotateKey,
}

/// Which records to print.
#[derive(Debug, Clone, clap::Args)]
pub struct Tail {
    /// Go on with what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Only records after number SEQ [default: the last ten]
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
}

/// What to verify.
#[derive(Debug, Clone, clap::Args)]
pub struct Verify {
    /// Directory of a log, or a file of records
    pub path: PathBuf,
    /// The log's public key (PEM, or 64 digits), or the 16 digits of its id, as known from elsewhere
    #[arg(long, value_name = "FILE|ID")]
    pub signed_by: Option<String>,
    /// A checkpoint that was kept elsewhere: a copy of the head, or of a checkpoint's record
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
}

/// Where to copy it.
#[derive(Debug, Clone, clap::Args)]
pub struct Export {
    /// File to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only records after number SEQ
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
}
