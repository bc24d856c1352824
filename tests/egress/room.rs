//! A network of its own for one thread, gone when the thread is.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::netlink::add_local_route;

type Job = Box<dyn FnOnce() + Send>;

/// A thread with its own network and its own view of two files in /etc.
pub struct Room(mpsc::Sender<Job>);

impl Room {
    /// Opens one where names are resolved as these texts say.
    pub fn open(resolv_conf: &str, hosts: &str) -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let room = Self(jobs);
        thread::spawn(move || inbox.into_iter().for_each(|job| job()));
        let (resolv_conf, hosts) = (resolv_conf.to_owned(), hosts.to_owned());
        room.run(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                .expect("namespaces: these tests need root");
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.expect("ip(8) from iproute2 starts").success());
            show("/etc/resolv.conf", &resolv_conf);
            show("/etc/hosts", &hosts);
        });
        room
    }

    /// Does something in there.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, answer) = mpsc::channel();
        let job = Box::new(move || drop(result.send(job())));
        self.0.send(job).expect("the room's thread lives");
        answer.recv().expect("what was done in the room did not panic")
    }

    /// Servers in here can have this address, as if it were somebody else's.
    pub fn adopt(&self, address: IpAddr) {
        self.run(move || match address {
            IpAddr::V4(_) => add_local_route(address, 32, Some(Ipv4Addr::LOCALHOST)),
            IpAddr::V6(_) => add_local_route(address, 128, None),
        });
    }

    /// Servers in here have this address as the host's own.
    pub fn own(&self, address: Ipv4Addr) {
        self.run(move || add_local_route(address.into(), 32, None));
    }
}

/// Puts a text over a file, in this thread's view only.
fn show(path: &str, text: &str) {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("private");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).expect("readable");
    let target = Path::new(path).canonicalize().expect(path);
    mount(Some(file.path()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect(path);
    // The mount keeps what it shows when the name is removed.
}
