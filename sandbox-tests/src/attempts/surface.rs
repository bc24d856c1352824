//! Entry points of the kernel that an agent has no use for, each with arguments that change nothing.

use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{NOWHERE, call, done, failed, own, reached, succeeded};

const NO_FD: usize = usize::MAX;
const SYS_OPEN_TREE_ATTR: i64 = 467;

/// A call, its arguments, and where one reads about it.
struct Entry(&'static str, i64, &'static [usize], &'static str);

const ENTRIES: &[Entry] = &[
    Entry("io_uring_enter", libc::SYS_io_uring_enter, &[NO_FD, 0, 0, 0, 0, 0], "io_uring_enter(2)"),
    Entry("io_uring_register", libc::SYS_io_uring_register, &[NO_FD, 0, 0, 0], "io_uring_register(2)"),
    Entry("fanotify_mark", libc::SYS_fanotify_mark, &[NO_FD, 0, 0, NO_FD, 0], "fanotify_mark(2)"),
    Entry("syslog", libc::SYS_syslog, &[10, 0, 0], "syslog(2)"),
    Entry("quotactl", libc::SYS_quotactl, &[0x8000_0700, NOWHERE, 0, NOWHERE], "quotactl(2)"),
    Entry("quotactl_fd", 443, &[NO_FD, 0x8000_0700, 0, NOWHERE], "quotactl(2)"),
    Entry("acct", libc::SYS_acct, &[NOWHERE], "acct(2)"),
    Entry("swapon", libc::SYS_swapon, &[NOWHERE, 0], "swapon(2)"),
    Entry("swapoff", libc::SYS_swapoff, &[NOWHERE], "swapoff(2)"),
    Entry("reboot", libc::SYS_reboot, &[0, 0, 0, 0], "reboot(2)"),
    Entry("kexec_load", libc::SYS_kexec_load, &[0, 0, NOWHERE, 0], "kexec_load(2)"),
    Entry("kexec_file_load", libc::SYS_kexec_file_load, &[NO_FD, NO_FD, 0, NOWHERE, 0], "kexec_load(2)"),
    Entry("init_module", libc::SYS_init_module, &[NOWHERE, 64, NOWHERE], "init_module(2)"),
    Entry("finit_module", libc::SYS_finit_module, &[NO_FD, NOWHERE, 0], "init_module(2)"),
    Entry("delete_module", libc::SYS_delete_module, &[NOWHERE, 0], "delete_module(2)"),
    Entry("settimeofday", libc::SYS_settimeofday, &[NOWHERE, 0], "settimeofday(2)"),
    Entry("clock_settime", libc::SYS_clock_settime, &[0, NOWHERE], "clock_settime(2)"),
    Entry("clock_adjtime", libc::SYS_clock_adjtime, &[0, NOWHERE], "clock_adjtime(2)"),
    Entry("adjtimex", libc::SYS_adjtimex, &[NOWHERE], "adjtimex(2)"),
    Entry("sethostname", libc::SYS_sethostname, &[NOWHERE, 4], "sethostname(2)"),
    Entry("setdomainname", libc::SYS_setdomainname, &[NOWHERE, 4], "setdomainname(2)"),
    Entry("migrate_pages", libc::SYS_migrate_pages, &[1, 0, 0, 0], "migrate_pages(2)"),
    Entry("move_pages", libc::SYS_move_pages, &[1, 0, 0, 0, 0, 0], "CVE-2017-14140"),
    Entry("open_tree_attr", SYS_OPEN_TREE_ATTR, &[NO_FD, NOWHERE, 0, NOWHERE, 0], "open_tree(2)"),
];

/// Attempts on the kernel's surface.
pub fn attempts() -> Vec<Attempt> {
    let mut all: Vec<_> = ENTRIES.iter().map(reach).collect();
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Surface, reference, success, move |_| deed())
    };
    all.extend([
        new(
            "io_uring",
            "CVE-2022-29582 class; file and socket calls out of seccomp's sight",
            "a ring is set up",
            || {
                let mut parameters = [0u8; 120];
                kept("io_uring_setup", call(libc::SYS_io_uring_setup, &[4, parameters.as_mut_ptr() as usize]))
            },
        )
        .unless(libc::EPERM, "kernel.io_uring_disabled is 2"),
        new("bpf", "CVE-2021-3490 class", "a BPF map is made", || {
            let mut attributes = [0u32; 32];
            attributes[..5].copy_from_slice(&[1, 4, 4, 1, 0]);
            kept("bpf", call(libc::SYS_bpf, &[0, attributes.as_ptr() as usize, 72]))
        }),
        new("bpf_reached", "CVE-2021-3490 class", "bpf looks at its arguments", || {
            reached("bpf", call(libc::SYS_bpf, &[usize::from(u8::MAX), NOWHERE, 8]))
        }),
        new("userfaultfd", "CVE-2021-22555 exploits", "a userfaultfd for user-mode faults is made", || {
            kept("userfaultfd", call(libc::SYS_userfaultfd, &[1]))
        })
        .unless(libc::ENOSYS, "CONFIG_USERFAULTFD is off"),
        new("perf_event", "CVE-2013-2094 class", "a software event is opened", || {
            let mut attributes = [0u32; 30];
            attributes[..2].copy_from_slice(&[1, 120]);
            let arguments = [attributes.as_ptr() as usize, 0, usize::MAX, usize::MAX, 0];
            kept("perf_event_open", call(libc::SYS_perf_event_open, &arguments))
        }),
        new("fanotify", "fanotify(7)", "a fanotify group is made", || {
            kept("fanotify_init", call(libc::SYS_fanotify_init, &[0x0000_0200, 0]))
        })
        .unless(libc::ENOSYS, "CONFIG_FANOTIFY is off"),
        new("vhangup", "vhangup(2)", "vhangup is permitted", || {
            succeeded("vhangup", call(libc::SYS_vhangup, &[]))
        }),
        new(
            "open_by_handle",
            "CVE-2014-9357 (Shocker)",
            "a file is opened by its handle, past every path",
            open_by_handle,
        ),
        new("personality_no_aslr", "personality(2)", "ASLR is switched off", || {
            succeeded("personality", call(libc::SYS_personality, &[0x0004_0000]))
        }),
        new("personality_exec", "personality(2)", "READ_IMPLIES_EXEC is switched on", || {
            succeeded("personality", call(libc::SYS_personality, &[0x0040_0000]))
        }),
        new("memfd_exec", "memfd_create(2), vm.memfd_noexec", "code without a path is executed", memfd_exec)
            .unless(libc::EACCES, "vm.memfd_noexec is set"),
        new(
            "loader_exec",
            "ld.so(8), noexec",
            "the loader runs a file of /tmp that nobody may execute",
            loader_exec,
        )
        .mutating(),
        new(
            "alias_exec",
            "Ona, March 2026",
            "an allowed program is executed by an alias of its path",
            || run(c"/proc/self/root/usr/bin/true", &[c"true"]),
        ),
        new("clone3", "clone3(2)", "clone3 makes a process whose flags no filter sees", || clone3(0))
            .unless(libc::ENOSYS, "clone3 is missing"),
        new(
            "clone3_set_tid",
            "clone3(2), CAP_CHECKPOINT_RESTORE",
            "a process with a pid of one's choice",
            || clone3(1),
        ),
    ]);
    all
}

fn reach(entry: &'static Entry) -> Attempt {
    let &Entry(id, number, arguments, reference) = entry;
    let attempt =
        Attempt::new(id, Class::Surface, reference, format!("{id} looks at its arguments"), move |_| {
            reached(id, call(number, arguments))
        });
    attempt.unless(libc::ENOSYS, "not built into this kernel")
}

/// Through if a descriptor came back, which is closed again.
fn kept(what: &str, result: Result<i64, i32>) -> Verdict {
    succeeded(what, result.map(|descriptor| i64::from(own(descriptor).as_raw_fd())))
}

/// `struct file_handle` with room for the largest handle.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    handle: [u8; 128],
}

fn open_by_handle() -> Verdict {
    let mut handle = Handle { bytes: 128, kind: 0, handle: [0; 128] };
    let mut mount = 0i32;
    let at_cwd = libc::AT_FDCWD as usize;
    let place = c"/tmp".as_ptr() as usize;
    let named = call(
        libc::SYS_name_to_handle_at,
        &[at_cwd, place, &raw mut handle as usize, &raw mut mount as usize, 0],
    );
    let directory = match fs::File::open("/tmp") {
        Ok(directory) => directory,
        Err(error) => return Verdict::Broken(format!("/tmp: {error}")),
    };
    match named {
        Ok(_) => succeeded(
            "open_by_handle_at",
            call(libc::SYS_open_by_handle_at, &[directory.as_raw_fd() as usize, &raw mut handle as usize, 0]),
        ),
        // Without a handle of our own, ask whether the other half is there at all.
        Err(_) => reached("open_by_handle_at", call(libc::SYS_open_by_handle_at, &[NO_FD, NOWHERE, 0])),
    }
}

fn memfd_exec() -> Verdict {
    let program = match fs::read("/bin/true") {
        Ok(program) => program,
        Err(error) => return Verdict::Broken(format!("/bin/true: {error}")),
    };
    let descriptor = match call(libc::SYS_memfd_create, &[c"stockade-probe".as_ptr() as usize, 0]) {
        Ok(descriptor) => descriptor,
        Err(errno) => return Verdict::refused(errno, "memfd_create"),
    };
    let mut file = fs::File::from(own(descriptor));
    if let Err(error) = file.write_all(&program) {
        return failed("writing the program", &error);
    }
    let path = crate::kernel::text(&format!("/proc/self/fd/{}", file.as_raw_fd() as RawFd));
    // Executing it while it is open for writing would be ETXTBSY, so it is reopened.
    match fs::File::open(path.to_string_lossy().as_ref()) {
        Ok(readable) => {
            drop(file);
            run(&crate::kernel::text(&format!("/proc/self/fd/{}", readable.as_raw_fd())), &[c"true"])
        }
        Err(error) => failed("reopening the program", &error),
    }
}

fn loader_exec() -> Verdict {
    let copy = "/tmp/stockade-probe-loader";
    let placed = fs::read("/bin/true").and_then(|program| {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(copy)?
            .write_all(&program)
    });
    let verdict = match placed {
        Ok(()) => run(c"/lib64/ld-linux-x86-64.so.2", &[c"ld.so", c"/tmp/stockade-probe-loader"]),
        Err(error) => done("placing the program", Err::<(), _>(error)),
    };
    let _ = fs::remove_file(copy);
    verdict
}

/// Executes a program in a child: through if it ran and ended with 0.
pub fn run(path: &CStr, arguments: &[&CStr]) -> Verdict {
    let mut pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: single-threaded process; the child only calls execve and _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: path, arguments and environment are NUL-terminated and live until exec; errno travels as exit status.
        unsafe {
            libc::execve(path.as_ptr(), pointers.as_ptr(), environment.as_ptr());
            libc::_exit(100 + (crate::kernel::errno() & 0x7f));
        }
    }
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    if child < 0 || unsafe { libc::waitpid(child, &raw mut status, 0) } != child {
        return Verdict::Broken("no child to execute it".into());
    }
    match libc::WEXITSTATUS(status) {
        0 if libc::WIFEXITED(status) => Verdict::through(format!("{} ran", path.to_string_lossy())),
        code if code > 100 => {
            Verdict::refused(code - 100, format!("exec: {}", crate::kernel::describe(code - 100)))
        }
        code => Verdict::absent(format!("{} ended with {code}, status {status:#x}", path.to_string_lossy())),
    }
}

fn clone3(chosen: usize) -> Verdict {
    let pid = 31_337i32;
    let mut arguments = [0u64; 11];
    arguments[4] = libc::SIGCHLD as u64;
    if chosen > 0 {
        arguments[8] = &raw const pid as u64;
        arguments[9] = 1;
    }
    match call(libc::SYS_clone3, &[arguments.as_ptr() as usize, size_of_val(&arguments)]) {
        // SAFETY: the child shares nothing with its parent and ends at once.
        Ok(0) => unsafe { libc::_exit(0) },
        result => succeeded("clone3", result),
    }
}
