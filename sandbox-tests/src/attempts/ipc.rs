//! System V and POSIX objects that a host process has made.

use std::fs;

use crate::attempt::{Attempt, Class, Verdict};
use crate::decoys;
use crate::kernel::{call, done, succeeded, text};

const KEY: usize = decoys::SYSV_KEY as usize;

/// Attempts on inter-process communication.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Ipc, "ipc_namespaces(7)", success, move |_| deed())
    };
    vec![
        new("sysv_memory", "the host's shared memory is found", || {
            succeeded("shmget", call(libc::SYS_shmget, &[KEY, 0, 0]))
        }),
        new("sysv_semaphores", "the host's semaphores are found", || {
            succeeded("semget", call(libc::SYS_semget, &[KEY, 0, 0]))
        }),
        new("sysv_queue", "the host's queue is found", || {
            succeeded("msgget", call(libc::SYS_msgget, &[KEY, 0]))
        }),
        new("posix_queue", "the host's queue is opened", || {
            let name = text(decoys::POSIX_NAME);
            succeeded(
                "mq_open",
                call(libc::SYS_mq_open, &[name.as_ptr() as usize, libc::O_RDONLY as usize, 0, 0]),
            )
        }),
        new("posix_memory", "the host's shared memory is opened", || {
            let path = format!("/dev/shm/{}", decoys::POSIX_NAME);
            done(&path, fs::File::open(&path))
        }),
        new("sysv_list", "some System V object is listed", || {
            let lists = ["shm", "sem", "msg"].map(|kind| fs::read_to_string(format!("/proc/sysvipc/{kind}")));
            let objects: usize = lists.iter().flatten().map(|list| list.lines().skip(1).count()).sum();
            Verdict::when(objects > 0, format!("{objects} objects"))
        }),
    ]
}
