//! Key rings: not in any namespace, so whoever reaches them shares them.

use std::fs;

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{call, failed, reached, succeeded};

const PROCESS_KEYRING: usize = -2isize as usize;
const SESSION_KEYRING: usize = -3isize as usize;
const USER_KEYRING: usize = -4isize as usize;
const KEYCTL_GET_KEYRING_ID: usize = 0;
const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
const KEYCTL_READ: usize = 11;

/// Attempts on key rings.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Keys, "CVE-2014-9529 class; keyrings(7)", success, move |_| deed())
    };
    let rings = "CONFIG_KEYS is off";
    vec![
        new("add_key", "a key is stored", || {
            let (kind, name) = (c"user".as_ptr() as usize, c"stockade-probe".as_ptr() as usize);
            succeeded("add_key", call(libc::SYS_add_key, &[kind, name, name, 1, PROCESS_KEYRING]))
        })
        .unless(libc::ENOSYS, rings),
        new("keyctl", "the session's ring is found", || {
            succeeded("keyctl", call(libc::SYS_keyctl, &[KEYCTL_GET_KEYRING_ID, SESSION_KEYRING, 0]))
        })
        .unless(libc::ENOSYS, rings),
        new("keyctl_user", "the user's ring is read", || {
            let mut keys = [0u8; 256];
            let arguments = [KEYCTL_READ, USER_KEYRING, keys.as_mut_ptr() as usize, keys.len()];
            succeeded("keyctl", call(libc::SYS_keyctl, &arguments))
        })
        .unless(libc::ENOSYS, rings),
        new("keyctl_join", "another session ring is joined", || {
            succeeded("keyctl", call(libc::SYS_keyctl, &[KEYCTL_JOIN_SESSION_KEYRING, 0]))
        })
        .unless(libc::ENOSYS, rings),
        new("request_key", "the kernel looks for a key", || {
            let (kind, name) = (c"user".as_ptr() as usize, c"stockade-probe-none".as_ptr() as usize);
            reached("request_key", call(libc::SYS_request_key, &[kind, name, 0, 0]))
        })
        .unless(libc::ENOSYS, rings),
        new("proc_keys", "/proc/keys lists keys", || listed("/proc/keys")).unless(libc::ENOENT, rings),
        new("proc_key_users", "/proc/key-users lists users", || listed("/proc/key-users"))
            .unless(libc::ENOENT, rings),
    ]
}

fn listed(path: &str) -> Verdict {
    match fs::read(path) {
        Ok(text) => Verdict::when(!text.is_empty(), format!("{path} has {} bytes", text.len())),
        Err(error) => failed(path, &error),
    }
}
