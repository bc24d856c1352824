//! System calls by number, name and verdict, for one architecture.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

use super::arguments::{self, Rule};
use super::groups::{Class, GROUPS, Group};
use crate::policy::Syscalls;

/// `AUDIT_ARCH_X86_64`: what the kernel calls the only architecture that is let in.
pub const ARCH: u32 = 0xc000_003e;

/// Every call in the order of its number, from 0 on; a number says where the next ones stand. One text: a table of names would be
/// relocated, name by name, in every process that starts.
const CALLS: &str = "
    read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction
    rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield
    mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer
    getpid sendfile socket connect accept sendto recvfrom sendmsg recvmsg shutdown bind listen
    getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve exit wait4 kill
    uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync fdatasync truncate
    ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink chmod
    fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo times ptrace getuid syslog
    getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid setregid getgroups
    setgroups setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget capset
    rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod uselib
    personality ustat statfs fstatfs sysfs getpriority setpriority sched_setparam sched_getparam
    sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt pivot_root _sysctl prctl
    arch_prctl adjtimex setrlimit chroot sync acct settimeofday mount umount2 swapon swapoff reboot
    sethostname setdomainname iopl ioperm create_module init_module delete_module get_kernel_syms
    query_module quotactl nfsservctl getpmsg putpmsg afs_syscall tuxcall security gettid readahead
    setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity sched_getaffinity
    set_thread_area io_setup io_destroy io_getevents io_submit io_cancel get_thread_area lookup_dcookie
    epoll_create epoll_ctl_old epoll_wait_old remap_file_pages getdents64 set_tid_address
    restart_syscall semtimedop fadvise64 timer_create timer_settime timer_gettime timer_getoverrun
    timer_delete clock_settime clock_gettime clock_getres clock_nanosleep exit_group epoll_wait
    epoll_ctl tgkill utimes vserver mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend
    mq_timedreceive mq_notify mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set
    ioprio_get inotify_init inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat
    fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat
    pselect6 ppoll unshare set_robust_list get_robust_list splice tee sync_file_range vmsplice
    move_pages utimensat epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime
    timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev
    rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at
    open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv process_vm_writev kcmp
    finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create kexec_file_load
    bpf execveat userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc
    pkey_free statx io_pgetevents rseq uretprobe uprobe 424 pidfd_send_signal io_uring_setup
    io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick pidfd_open
    clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr
    quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret
    process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake
    futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules
    mseal setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr
    listns
";

/// What is done about one call under one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, whatever its arguments.
    Allow,
    /// Allowed if the rule holds, refused otherwise.
    Check(&'static Rule),
    /// Answered with this errno, without a report.
    Answer(u16),
    /// Refused: reported where the kernel can, EPERM elsewhere.
    Refuse,
}

/// Every call that we know: number and name, by number.
pub fn calls() -> Vec<(u32, &'static str)> {
    let mut next = 0;
    let call = |word: &'static str| match word.parse() {
        Ok(number) => {
            next = number;
            None
        }
        Err(_) => {
            next += 1;
            Some((next - 1, word))
        }
    };
    CALLS.split_ascii_whitespace().filter_map(call).collect()
}

/// What is done about every call under `syscalls`, by number.
pub fn verdicts(syscalls: &Syscalls) -> impl Iterator<Item = (u32, Verdict)> {
    /// With the group that decides. Looked up once: a filter asks for all of them.
    static DECIDED: LazyLock<Vec<(u32, &str, Option<&Group>)>> =
        LazyLock::new(|| calls().into_iter().map(|(number, call)| (number, call, group(call))).collect());
    DECIDED.iter().map(|(number, call, group)| (*number, decide(call, *group, syscalls)))
}

/// What is done about `call` under `syscalls`.
pub fn verdict(call: &str, syscalls: &Syscalls) -> Verdict {
    decide(call, group(call), syscalls)
}

fn decide(call: &str, group: Option<&Group>, syscalls: &Syscalls) -> Verdict {
    let denied = syscalls.deny.contains(call);
    if !denied && syscalls.allow.contains(call) {
        return Verdict::Allow;
    }
    // A call in no group is one that a newer table knows and nobody has decided about.
    let class = group.map_or(Class::Refused, |group| group.class);
    match (class, syscalls.nested_namespaces) {
        (Class::Absent, _) | (Class::NestedElseAbsent, false) => Verdict::Answer(libc::ENOSYS as u16),
        (Class::Unnested, true) => Verdict::Answer(libc::EOPNOTSUPP as u16),
        _ if denied => Verdict::Refuse,
        (Class::Allowed, _) | (Class::Unnested, false) => Verdict::Allow,
        (Class::Nested | Class::NestedElseAbsent, true) => Verdict::Allow,
        (Class::Checked, nested) => checked(call, nested),
        (Class::Refused, _) | (Class::Nested, false) => Verdict::Refuse,
    }
}

/// The group that decides about `call`.
pub fn group(call: &str) -> Option<&'static Group> {
    static BY_CALL: LazyLock<HashMap<&str, &Group, BuildHasherDefault<Fnv>>> = LazyLock::new(|| {
        let mut groups = HashMap::with_capacity_and_hasher(512, BuildHasherDefault::default());
        groups.extend(GROUPS.iter().flat_map(|group| group.calls().map(move |call| (call, group))));
        groups
    });
    BY_CALL.get(call).copied()
}

/// FNV-1a. The keys are this program's own, so nobody can choose them to collide; the standard hasher, which is made against
/// that, takes three times as long, at every start.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn checked(call: &str, nested: bool) -> Verdict {
    match arguments::rule(call) {
        Some(rule) if nested && rule.nested_lifts => Verdict::Allow,
        Some(rule) => Verdict::Check(rule),
        None => Verdict::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use syscalls::x86_64::Sysno;

    use super::*;

    #[test]
    fn it_has_the_number_and_the_name_of_every_call_that_the_kernel_has() {
        // One by one: `Sysno::iter` leaves out the last.
        let last = Sysno::last().id() as u32;
        let known = (0..=last).filter_map(|number| Some((number, Sysno::new(number as usize)?.name())));
        let newer = [(470, "listns")].into_iter().filter(|(number, _)| *number > last);
        assert_eq!(calls(), known.chain(newer).collect::<Vec<_>>());
    }
}
