//! The command line, and what the service manager hands over.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::net::SocketType;

use super::LauncherError;
use crate::sys::fd;

/// The first descriptor that a service manager hands over (sd_listen_fds(3)).
const FIRST: i32 = 3;

const ACCOUNTS: &str = "/etc/passwd";

/// What it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Of the tree; absolute and canonical.
    pub root: PathBuf,
    /// The only user that it obeys.
    pub daemon_uid: u32,
    /// The group that reads what it writes.
    pub daemon_gid: u32,
}

impl Arguments {
    /// Reads them; `None`: only the version was asked for, and has been said.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Option<Self>, LauncherError> {
        let (mut root, mut uid, mut gid) = (PathBuf::from("/"), None, None);
        let mut words = words;
        while let Some(word) = words.next() {
            let word = word.to_string_lossy().into_owned();
            if word == "--version" {
                println!("stockade-launcher {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
                None => (word, words.next()),
            };
            let value = value.ok_or_else(|| LauncherError::Arguments(format!("{name} wants a value")))?;
            match name.as_str() {
                "--root" => root = value.into(),
                "--daemon-uid" => uid = Some(number(&name, &value)?),
                "--daemon-gid" => gid = Some(number(&name, &value)?),
                "--daemon-user" => {
                    let found = ids_of(&name, &value, &read_accounts()?)?;
                    (uid, gid) = (Some(found.0), Some(found.1));
                }
                other => return Err(LauncherError::Arguments(format!("{other} is not known"))),
            }
        }
        let missing = |name: &str| {
            LauncherError::Arguments(format!("{name} is missing, and there is no --daemon-user"))
        };
        let (daemon_uid, daemon_gid) =
            (uid.ok_or_else(|| missing("--daemon-uid"))?, gid.ok_or_else(|| missing("--daemon-gid"))?);
        let root = std::fs::canonicalize(&root)
            .map_err(|error| LauncherError::Arguments(format!("--root {}: {error}", root.display())))?;
        Ok(Some(Self { root, daemon_uid, daemon_gid }))
    }
}

/// By the file and nothing else: a name service would load libraries of others' into root's process, and some ask a network.
fn read_accounts() -> Result<String, LauncherError> {
    let text = std::fs::read_to_string(ACCOUNTS);
    text.map_err(|error| LauncherError::Arguments(format!("{ACCOUNTS}: {error}")))
}

/// Uid and gid of an account (passwd(5)).
fn ids_of(name: &str, value: &OsString, accounts: &str) -> Result<(u32, u32), LauncherError> {
    let line = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields =
        line.into_iter().find(|fields| fields.len() >= 4 && *value == *fields[0]).ok_or_else(|| {
            let value = value.to_string_lossy();
            LauncherError::Arguments(format!(
                "{name} {value}: {ACCOUNTS} has no such account: make it (systemd-sysusers)"
            ))
        })?;
    Ok((number(name, &fields[2].into())?, number(name, &fields[3].into())?))
}

/// Never 0: a daemon that is root needs no launcher, and the launcher could not tell it from the rest of root.
fn number(name: &str, value: &OsString) -> Result<u32, LauncherError> {
    let id = value.to_str().and_then(|text| text.parse::<u32>().ok());
    // The kernel's word for "no id" is -1 (chown(2)).
    id.filter(|id| !matches!(*id, 0 | u32::MAX)).ok_or_else(|| {
        let value = value.to_string_lossy();
        LauncherError::Arguments(format!("{name} {value:?}: the daemon's own id, a number, and not root's"))
    })
}

/// The socket of a `.socket` unit, if there is one. Whatever else was inherited is closed.
pub fn inherited_listener() -> io::Result<Option<OwnedFd>> {
    let number_of = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let is_for_us = number_of("LISTEN_PID") == Some(std::process::id());
    let count = if is_for_us { number_of("LISTEN_FDS").unwrap_or(0) } else { 0 };
    if count > 1 {
        return Err(io::Error::other(
            "more than one socket was handed over: name one in stockade-launcher.socket",
        ));
    }
    fd::close_from(FIRST + i32::from(count == 1))?;
    fill_standard_streams()?;
    if count == 0 {
        return Ok(None);
    }
    let listener = fd::adopt(FIRST)?;
    if rustix::net::sockopt::socket_type(&listener)? != SocketType::SEQPACKET
        || !rustix::net::sockopt::socket_acceptconn(&listener)?
    {
        return Err(io::Error::other(
            "the socket that was handed over is no listening sequential-packet one (ListenSequentialPacket=)",
        ));
    }
    rustix::io::ioctl_fionbio(&listener, true)?;
    Ok(Some(listener))
}

/// A program that was started with one of them closed would have a socket of its own there.
fn fill_standard_streams() -> io::Result<()> {
    for number in 0..3 {
        if !fd::is_open(number) {
            let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
            fd::place(std::os::fd::AsFd::as_fd(&null), number)?;
            std::mem::forget(null);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Option<Arguments>, String> {
        Arguments::parse(words.iter().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_account_stands_for_its_ids_unless_they_are_roots() {
        let ids = |name: &str| {
            let accounts =
                "root:x:0:0::/root:/bin/sh\nbroken:x\nstockade:x:993:992::/nonexistent:/bin/false\n";
            ids_of("--daemon-user", &name.into(), accounts).map_err(|error| error.to_string())
        };
        assert_eq!(ids("stockade"), Ok((993, 992)));
        assert!(ids("root").is_err_and(|said| said.contains("not root's")));
        for nobody in ["nobody", "broken", "", "stock"] {
            assert!(ids(nobody).is_err_and(|said| said.contains("no such account")), "{nobody}");
        }
    }

    #[test]
    fn the_daemon_is_named_by_ids_that_are_not_roots() {
        let parsed = parse(&["--root=/", "--daemon-uid", "7", "--daemon-gid=8"]).expect("parsed");
        assert_eq!(parsed, Some(Arguments { root: "/".into(), daemon_uid: 7, daemon_gid: 8 }));
        for wrong in [
            &["--daemon-uid", "0", "--daemon-gid", "8"][..],
            &["--daemon-uid", "7", "--daemon-gid", "0"],
            &["--daemon-uid", "4294967295", "--daemon-gid", "8"],
            &["--daemon-uid", "x", "--daemon-gid", "8"],
            &["--daemon-uid", "7"],
            &["--daemon-gid", "7"],
            &["--daemon-uid"],
            &["--root", "/nonexistent", "--daemon-uid", "7", "--daemon-gid", "8"],
            &["--listen", "x"],
        ] {
            parse(wrong).expect_err(&format!("{wrong:?}"));
        }
    }
}
