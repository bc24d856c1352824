//! `stockade config`: whether the service could start with what is configured. The daemon itself answers, as its own user, for
//! only it knows what it can read.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process;

/// Beside this program.
const DAEMON: &str = "stockaded";
/// The account that it runs as.
const ACCOUNT: &str = "stockade";

/// What can be asked.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Read the service's configuration, certificates and grants as the service would, and say what is wrong with them
    ///
    /// As root, it is read as the service's own user. Exits 0 if the service would start, 78 if it would not.
    Check {
        /// This file and FILE's stem with .d [default: /etc/stockade/stockaded.toml]
        file: Option<PathBuf>,
    },
}

/// Becomes the daemon's check. Returns only if that failed: the exit code.
pub fn run(command: Command) -> u8 {
    let Command::Check { file } = command;
    let program = match std::env::current_exe() {
        Ok(own) => own.with_file_name(DAEMON),
        Err(error) => {
            eprintln!("stockade: cannot find out where this program is: {error}");
            return 1;
        }
    };
    let mut daemon = process::Command::new(&program);
    daemon.arg("--check");
    if let Some(file) = file {
        daemon.arg("--config").arg(file);
    }
    if rustix::process::geteuid().is_root()
        && let Some((uid, gid)) = std::fs::read_to_string("/etc/passwd").ok().and_then(|text| account(&text))
    {
        daemon.uid(uid).gid(gid);
    }
    eprintln!("stockade: cannot execute {}: {}", program.display(), daemon.exec());
    1
}

/// The uid and gid of the service's account: one of the system's own, which is in passwd(5) itself. To ask other sources
/// a static program would have to load libraries.
fn account(passwd: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find_map(|line| line.strip_prefix(ACCOUNT)?.strip_prefix(':'))?;
    let mut fields = line.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0::/:/bin/sh\nstockade-x:x:7:8::/:\nstockade:x:995:994:Stockade:/:/usr/sbin/nologin\n";
        assert_eq!(account(passwd), Some((995, 994)));
        assert_eq!(account("stockade-x:x:7:8::/:\nstockade"), None);
    }
}
