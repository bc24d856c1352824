//! What of `/proc` is covered or frozen in every sandbox, whatever its policy.

/// Covered by an empty file or directory: they describe the host's kernel, hardware or keys.
pub const MASKED: [&str; 21] = [
    "acpi",
    "asound",
    "bus",
    "config.gz",
    "cmdline",
    "diskstats",
    "driver",
    "interrupts",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "latency_stats",
    "locks",
    "modules",
    "partitions",
    "scsi",
    "sched_debug",
    "softirqs",
    "swaps",
    "timer_list",
];

/// Covered by read-only views of themselves: they act on the host's kernel.
pub const READ_ONLY: [&str; 4] = ["fs", "irq", "sys", "sysrq-trigger"];
