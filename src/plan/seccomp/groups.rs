//! Every system call that we know, by what is done about it. A call stands in exactly one group; a test says so.

/// What happens to the calls of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Allowed whatever the arguments.
    Allowed,
    /// Allowed if its arguments satisfy the call's rule in [`super::arguments`].
    Checked,
    /// Answered ENOSYS without a report: the caller has another way and takes it.
    Absent,
    /// Refused, and reported where the kernel can.
    Refused,
    /// Allowed with `nested-namespaces`, refused without.
    Nested,
    /// Allowed with `nested-namespaces`, answered ENOSYS without.
    NestedElseAbsent,
    /// Allowed, but answered EOPNOTSUPP with `nested-namespaces`.
    Unnested,
}

/// Calls that are treated alike for the same reason.
#[derive(Debug)]
pub struct Group {
    /// What they are for.
    pub title: &'static str,
    /// What is done about them.
    pub class: Class,
    /// Why.
    pub because: &'static str,
    /// By name, as in the kernel's table. One text, for each one of its own would be relocated in every process that starts.
    calls: &'static str,
}

impl Group {
    /// Its calls, by name.
    pub fn calls(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.calls.split_ascii_whitespace()
    }
}

/// All of them. Names, not numbers: the same list serves any architecture.
#[rustfmt::skip]
pub const GROUPS: &[Group] = &[
    Group {
        title: "Reading and writing",
        class: Class::Allowed,
        because: "work on descriptors that the sandbox already holds",
        calls: "
            read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2
            lseek close close_range dup dup2 dup3 fcntl flock fsync fdatasync
            sync_file_range sync syncfs truncate ftruncate fallocate fadvise64 readahead
            sendfile copy_file_range splice tee vmsplice pipe pipe2
        ",
    },
    Group {
        title: "Asynchronous I/O of the old kind",
        class: Class::Allowed,
        because: "databases in test suites use it; it reads and writes open descriptors and nothing else",
        calls: "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents",
    },
    Group {
        title: "Names and directories",
        class: Class::Allowed,
        because: "what exists is decided by the mounts, what may be done to it by Landlock; \
                  mkdir cannot set set-id bits (the kernel masks them)",
        calls: "
            access faccessat faccessat2 stat fstat lstat newfstatat statx statfs fstatfs
            getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir rename renameat
            renameat2 link linkat unlink unlinkat symlink symlinkat readlink readlinkat
            umask utime utimes futimesat utimensat chown fchown lchown fchownat
            inotify_init inotify_init1 inotify_add_watch inotify_rm_watch file_getattr
        ",
    },
    Group {
        title: "Reading extended attributes",
        class: Class::Allowed,
        because: "reads, or removes the caller's own",
        calls: "
            getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat
            removexattr lremovexattr fremovexattr removexattrat
        ",
    },
    Group {
        title: "Writing extended attributes",
        class: Class::Unnested,
        because: "without capabilities only the caller's own attributes and ACLs can be written. Inside a nested user \
                  namespace the agent has CAP_SETFCAP, and file capabilities written through the idmapped workspace \
                  would be those of the workspace's owner on the host, so there the filesystem seems to have none",
        calls: "setxattr lsetxattr fsetxattr setxattrat",
    },
    Group {
        title: "Memory",
        class: Class::Allowed,
        because: "a process's own address space; JIT compilers need writable code, so W^X is not enforced here",
        calls: "
            mmap munmap mremap mprotect msync mincore madvise process_madvise brk mlock
            mlock2 munlock mlockall munlockall remap_file_pages pkey_alloc pkey_free
            pkey_mprotect mseal map_shadow_stack membarrier mbind set_mempolicy get_mempolicy
            set_mempolicy_home_node
        ",
    },
    Group {
        title: "Processes and threads",
        class: Class::Allowed,
        because: "their number is limited by the cgroup, their reach by the PID namespace",
        calls: "
            fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill
            pidfd_open pidfd_send_signal getpid getppid gettid getpgid getpgrp setpgid getsid
            setsid set_tid_address set_robust_list get_robust_list rseq arch_prctl getrlimit
            setrlimit prlimit64 getrusage times getpriority setpriority ioprio_get ioprio_set
        ",
    },
    Group {
        title: "Scheduling",
        class: Class::Allowed,
        because: "real-time classes need a capability or an rlimit that the agent lacks",
        calls: "
            sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam
            sched_getscheduler sched_setscheduler sched_getattr sched_setattr sched_get_priority_max
            sched_get_priority_min sched_rr_get_interval getcpu
        ",
    },
    Group {
        title: "Signals",
        class: Class::Allowed,
        because: "they reach processes of the sandbox's own PID namespace only",
        calls: "
            rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo
            rt_tgsigqueueinfo rt_sigsuspend sigaltstack pause restart_syscall signalfd signalfd4
        ",
    },
    Group {
        title: "The kernel's own trampolines",
        class: Class::Allowed,
        because: "made by code that the kernel places when the host traces a program; from anywhere else the kernel \
                  answers SIGILL",
        calls: "uprobe uretprobe",
    },
    Group {
        title: "Waiting",
        class: Class::Allowed,
        because: "puts the caller to sleep, or wakes others that share its memory or descriptors",
        calls: "
            futex futex_waitv futex_wake futex_wait futex_requeue poll ppoll select pselect6
            epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd
            eventfd2
        ",
    },
    Group {
        title: "Time",
        class: Class::Allowed,
        because: "reads clocks and sets the caller's own timers",
        calls: "
            time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep alarm
            getitimer setitimer timer_create timer_settime timer_gettime timer_getoverrun
            timer_delete timerfd_create timerfd_settime timerfd_gettime
        ",
    },
    Group {
        title: "Identity",
        class: Class::Allowed,
        because: "without capabilities a process changes only between ids that it has; capset can only give up",
        calls: "
            getuid geteuid getgid getegid getgroups getresuid getresgid setuid setgid
            setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capget capset
        ",
    },
    Group {
        title: "Sockets once made",
        class: Class::Allowed,
        because: "which sockets can be made is checked at socket and socketpair; whom they reach is up to the network \
                  namespace",
        calls: "
            connect accept accept4 bind listen shutdown sendto recvfrom sendmsg recvmsg
            sendmmsg recvmmsg getsockname getpeername setsockopt getsockopt
        ",
    },
    Group {
        title: "System V and POSIX IPC",
        class: Class::Allowed,
        because: "the sandbox has an IPC namespace of its own",
        calls: "
            shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd
            msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
            mq_getsetattr
        ",
    },
    Group {
        title: "The system",
        class: Class::Allowed,
        because: "reads what the namespaces show",
        calls: "uname sysinfo getrandom",
    },
    Group {
        title: "Narrowing oneself",
        class: Class::Allowed,
        because: "a Landlock domain can only take away; security modules can be asked, not told",
        calls: "
            landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_get_self_attr
            lsm_list_modules
        ",
    },
    Group {
        title: "Allowed with some arguments",
        class: Class::Checked,
        because: "see the rules",
        calls: "
            clone socket socketpair ioctl prctl personality seccomp memfd_create open
            openat creat chmod fchmod fchmodat fchmodat2 mknod mknodat
        ",
    },
    Group {
        title: "New forms of old calls",
        class: Class::Absent,
        because: "their arguments lie in memory, where a filter cannot look, or nothing needs them yet; libc and \
                  runtimes fall back to calls that can be checked",
        calls: "clone3 file_setattr",
    },
    Group {
        title: "io_uring",
        class: Class::Absent,
        because: "its operations bypass this filter, and it has been a steady source of kernel exploits; runtimes that \
                  probe for it take epoll",
        calls: "io_uring_setup io_uring_enter io_uring_register",
    },
    Group {
        title: "Page cache statistics",
        class: Class::Absent,
        because: "tells which pages of shared system files others have used (restricted only since Linux 6.14)",
        calls: "cachestat",
    },
    Group {
        title: "Calls that the kernel no longer has, or never had",
        class: Class::Absent,
        because: "the kernel would answer the same",
        calls: "
            create_module get_kernel_syms query_module nfsservctl getpmsg putpmsg afs_syscall
            tuxcall security vserver epoll_ctl_old epoll_wait_old set_thread_area get_thread_area
            _sysctl lookup_dcookie uselib
        ",
    },
    Group {
        title: "Other processes' memory, descriptors and secrets",
        class: Class::Refused,
        because: "debugging reaches into processes that guard something; kcmp and process_vm_* are its companions",
        calls: "
            ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_mrelease move_pages
            migrate_pages
        ",
    },
    Group {
        title: "Kernel machinery",
        class: Class::Refused,
        because: "programs run in the kernel, page faults handled by a user, memory hidden from the kernel: the parts of \
                  the kernel that exploits start from",
        calls: "
            bpf perf_event_open userfaultfd memfd_secret modify_ldt iopl ioperm init_module
            finit_module delete_module kexec_load kexec_file_load lsm_set_self_attr
        ",
    },
    Group {
        title: "Keyrings",
        class: Class::Refused,
        because: "keyrings are shared by uid across namespaces, and have been a source of kernel exploits",
        calls: "add_key request_key keyctl",
    },
    Group {
        title: "Files by handle, and watching whole filesystems",
        class: Class::Refused,
        because: "a file handle names a file outside the sandbox's mounts (the Shocker escape)",
        calls: "open_by_handle_at name_to_handle_at fanotify_init fanotify_mark quotactl quotactl_fd",
    },
    Group {
        title: "The machine",
        class: Class::Refused,
        because: "accounting, swap, clocks, the kernel's log and power belong to the host",
        calls: "
            acct swapon swapoff reboot syslog settimeofday clock_settime adjtimex
            clock_adjtime vhangup sysfs ustat listns
        ",
    },
    Group {
        title: "Namespaces and mounts",
        class: Class::Nested,
        because: "a new user namespace gives capabilities over kernel code that was written for root; bubblewrap needs it",
        calls: "
            unshare setns mount umount2 pivot_root chroot open_tree open_tree_attr
            move_mount mount_setattr fsopen fsconfig fsmount fspick statmount listmount
            sethostname setdomainname
        ",
    },
    Group {
        title: "Opening by description",
        class: Class::NestedElseAbsent,
        because: "its mode lies in memory, where a filter cannot look for set-id bits; callers fall back to openat",
        calls: "openat2",
    },
];
