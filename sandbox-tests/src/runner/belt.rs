//! The belt: throw-away namespaces and a throw-away root around everything that a test does.
//!
//! ```text
//!  cargo test ──▶ the test, outside: unshare(1) ──▶ sh (pid 1, reaps) ──▶ the same test, inside
//!                                                                          │ root: overlay of /, upper layer in memory
//!                                                                          │ own /proc /dev /dev/shm /tmp /run /srv, own lo
//!                                                                          ▼
//!                                                                        the body of the test
//! ```
//! An attempt that meets no wall then changes nothing but memory that is gone with the test. What a namespace does not
//! hold (clocks, sysctls, cgroups, disks) no attempt changes: they are opened, or called with arguments that fail.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::decoys::variable;
use crate::kernel::{call, describe, text};
use crate::runner::disk;
use crate::runner::groups::{self, Groups};

/// The namespaces that a belt consists of.
const NAMESPACES: [&str; 5] = ["mnt", "uts", "ipc", "pid", "net"];
/// Where the overlay is put together, before it becomes the root.
const STAGE: &str = "/tmp";
/// Name of the belt's own cgroups, for the inner half.
const GROUP: &str = "STOCKADE_BELT_GROUP";
/// An address beyond loopback that the belt's own `lo` answers to (RFC 5737).
pub const OUTSIDE: [u8; 4] = [198, 51, 100, 7];

/// Runs the test called `name` a second time inside a belt, and `body` there.
///
/// # Panics
/// If there is no root, no belt, or `body` panics.
pub fn inside(name: &str, body: impl FnOnce()) {
    if env::var_os(variable::BELT).is_some() {
        verify();
        build().unwrap_or_else(|error| panic!("the belt cannot be built: {error}"));
        body();
        return;
    }
    // SAFETY: geteuid(2) always succeeds.
    assert_eq!(unsafe { libc::geteuid() }, 0, "these tests build namespaces and mounts: run them as root");
    let machine: Vec<_> = NAMESPACES.iter().map(|kind| namespace(kind)).collect();
    let group = format!("stockade-belt-{}-{name}", std::process::id());
    let (groups, options) = (Groups::make(group.clone()), groups::options());
    let mut unshare = Command::new("/usr/bin/unshare");
    // Without a terminal of their own, attempts like vhangup(2) would meet the developer's.
    // SAFETY: setsid(2) is async-signal-safe and fails only where the session is new already.
    unsafe {
        unshare.pre_exec(|| {
            libc::setsid();
            Ok(())
        })
    };
    let output = unshare
        .args("-m -u -i -n -p -f --kill-child --propagation private --mount-proc".split(' '))
        // A shell as pid 1 reaps what others leave behind.
        .args(["/bin/sh", "-c", "\"$@\"; exit $?", "belt"])
        .arg(env::current_exe().expect("a test knows its own program"))
        .args([name, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(variable::BELT, machine.join(" "))
        .env(GROUP, group)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("unshare(1) of util-linux");
    drop(groups);
    let report = String::from_utf8_lossy(&output.stdout);
    print!("{report}");
    assert!(output.status.success(), "{name} failed inside the belt: {}", output.status);
    assert!(report.contains("1 passed"), "{name} did not run inside the belt");
    assert_eq!(groups::options(), options, "{name} changed the machine's cgroup hierarchies");
}

fn namespace(kind: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).expect("/proc is mounted");
    link.to_string_lossy().into_owned()
}

/// # Panics
/// If one of this process's namespaces is the machine's own.
fn verify() {
    let machine = env::var(variable::BELT).expect("set by the outer half");
    for kind in NAMESPACES {
        let own = namespace(kind);
        assert!(!machine.contains(&own), "the {kind} namespace is the machine's own: there is no belt");
    }
}

fn build() -> Result<(), String> {
    let directory = env::current_dir().map_err(|error| error.to_string())?;
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let kept = covered_but_needed(&program)?;
    let disks = mount_points();
    mount("tmpfs", STAGE, "tmpfs", 0, "mode=1777")?;
    let root = format!("{STAGE}/root");
    for name in ["root", "upper", "work"] {
        fs::create_dir(format!("{STAGE}/{name}")).map_err(|error| format!("{STAGE}/{name}: {error}"))?;
    }
    mount(
        "overlay",
        &root,
        "overlay",
        0,
        &format!("lowerdir=/,upperdir={STAGE}/upper,workdir={STAGE}/work"),
    )?;
    for disk in disks {
        bind_read_only(&disk, &format!("{root}{disk}"))?;
    }
    for place in ["run", "srv"] {
        mount("tmpfs", &format!("{root}/{place}"), "tmpfs", 0, "mode=755")?;
    }
    // Workspaces lie below /srv, on a filesystem that can be idmapped, which an overlay is not.
    disk::make_idmappable(&format!("{root}/srv"), &format!("{STAGE}/srv.img"))?;
    mount("/sys", &format!("{root}/sys"), "", libc::MS_BIND | libc::MS_REC, "")?;
    let group = env::var(GROUP).map_err(|_| format!("{GROUP} is not set by the outer half"))?;
    for (own, hierarchy) in groups::pairs(&group) {
        mount(&own.to_string_lossy(), &format!("{root}{}", hierarchy.display()), "", libc::MS_BIND, "")?;
    }
    mount("/proc", &format!("{root}/proc"), "", libc::MS_MOVE, "")?;
    devices(&format!("{root}/dev"))?;
    mount("tmpfs", &format!("{root}/tmp"), "tmpfs", 0, "mode=1777")?;
    for (place, directory) in kept {
        let target = format!("{root}{}", place.display());
        fs::create_dir_all(&target).map_err(|error| format!("{target}: {error}"))?;
        bind_read_only(&format!("{root}/proc/self/fd/{}", directory.as_raw_fd()), &target)?;
    }
    enter(&root)?;
    env::set_current_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    call(libc::SYS_sethostname, &[c"belt".as_ptr() as usize, 4]).map_err(describe)?;
    loopback()
}

/// The checkout and what was built from it, where they lie below a directory that the belt has its own of. Held open,
/// for soon no path leads there.
fn covered_but_needed(program: &Path) -> Result<Vec<(PathBuf, File)>, String> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let built = program.ancestors().nth(2); // target/debug of target/debug/deps/program
    let mut kept: Vec<(PathBuf, File)> = Vec::new();
    for place in [checkout, built].into_iter().flatten() {
        let covered = [STAGE, "/run", "/srv"].iter().any(|own| place.starts_with(own));
        if covered && !kept.iter().any(|(above, _)| place.starts_with(above)) {
            let directory = File::open(place).map_err(|error| format!("{}: {error}", place.display()))?;
            kept.push((place.to_path_buf(), directory));
        }
    }
    Ok(kept)
}

/// Disks mounted below the root, which the overlay does not show.
fn mount_points() -> Vec<String> {
    const OURS: [&str; 5] = ["/proc", "/sys", "/dev", "/tmp", "/run"];
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let all = table.lines().filter_map(|line| line.split(' ').nth(4));
    all.filter(|&point| point != "/" && !OURS.iter().any(|ours| Path::new(point).starts_with(ours)))
        .map(str::to_owned)
        .collect()
}

fn mount(source: &str, target: &str, kind: &str, flags: u64, data: &str) -> Result<(), String> {
    let [source_text, target_text, kind_text, data_text] = [source, target, kind, data].map(text);
    let address = |text: &CString| text.as_ptr() as usize;
    let arguments = [
        address(&source_text),
        address(&target_text),
        address(&kind_text),
        flags as usize,
        address(&data_text),
    ];
    call(libc::SYS_mount, &arguments)
        .map(drop)
        .map_err(|errno| format!("mounting {source} on {target}: {}", describe(errno)))
}

fn bind_read_only(source: &str, target: &str) -> Result<(), String> {
    mount(source, target, "", libc::MS_BIND, "")?;
    mount("", target, "", libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY, "")
}

/// A `/dev` with the machine's nodes, but not the machine's directory; own devpts, own shared memory.
fn devices(target: &str) -> Result<(), String> {
    mount("tmpfs", target, "tmpfs", libc::MS_NOSUID, "mode=755")?;
    copy_nodes(Path::new("/dev"), Path::new(target)).map_err(|error| format!("copying /dev: {error}"))?;
    for name in ["pts", "shm"] {
        fs::create_dir_all(format!("{target}/{name}"))
            .map_err(|error| format!("{target}/{name}: {error}"))?;
    }
    mount("devpts", &format!("{target}/pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620")?;
    mount("tmpfs", &format!("{target}/shm"), "tmpfs", 0, "mode=1777")?;
    // The copied node would open the machine's instance.
    let _ = fs::remove_file(format!("{target}/ptmx"));
    std::os::unix::fs::symlink("pts/ptmx", format!("{target}/ptmx")).map_err(|error| error.to_string())
}

fn copy_nodes(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (entry, target): (_, PathBuf) = {
            let e = entry?;
            let t = to.join(e.file_name());
            (e, t)
        };
        let (kind, about) = (entry.file_type()?, entry.metadata()?);
        if kind.is_dir() && entry.file_name() != "pts" && entry.file_name() != "shm" {
            fs::create_dir(&target)?;
            copy_nodes(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let path = text(&target.to_string_lossy());
            let arguments = [
                libc::AT_FDCWD as usize,
                path.as_ptr() as usize,
                about.mode() as usize,
                about.rdev() as usize,
            ];
            call(libc::SYS_mknodat, &arguments).map_err(std::io::Error::from_raw_os_error)?;
            fs::set_permissions(&target, about.permissions())?;
        }
    }
    Ok(())
}

fn enter(root: &str) -> Result<(), String> {
    env::set_current_dir(root).map_err(|error| format!("{root}: {error}"))?;
    let here = c".".as_ptr() as usize;
    call(libc::SYS_pivot_root, &[here, here]).map_err(|errno| format!("pivot_root: {}", describe(errno)))?;
    call(libc::SYS_umount2, &[here, libc::MNT_DETACH as usize])
        .map_err(|errno| format!("leaving the old root: {}", describe(errno)))?;
    env::set_current_dir("/").map_err(|error| error.to_string())
}

/// Brings `lo` up and gives it the outside address.
fn loopback() -> Result<(), String> {
    let run = |arguments: &[&str]| -> Result<(), String> {
        let status =
            Command::new("/bin/ip").args(arguments).status().map_err(|error| format!("ip(8): {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("ip {arguments:?}: {status}")) }
    };
    let outside = std::net::Ipv4Addr::from(OUTSIDE);
    run(&["link", "set", "lo", "up"])?;
    run(&["address", "add", &format!("{outside}/32"), "dev", "lo"])
}
