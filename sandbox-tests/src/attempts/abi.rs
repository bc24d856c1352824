//! Other ways to number a system call, and argument bits that a filter may overlook.

use std::arch::asm;

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{call, describe, reached, succeeded};

/// Marks an x32 system call (`__X32_SYSCALL_BIT`).
const X32: i64 = 0x4000_0000;
/// A bit that the kernel drops from every 32-bit argument.
const HIGH: usize = 1 << 32;

/// Attempts through another ABI.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Abi, reference, success, move |_| deed())
    };
    vec![
        new("int80", "CVE-2014-4508 family", "int 0x80 reaches getpid by its 32-bit number", || {
            entered(int80(20, [0; 3]))
        })
        .unless_absent("no 32-bit entry in this kernel"),
        new("int80_socket", "CVE-2026-31431", "int 0x80 opens a socket", || entered(int80(359, [2, 1, 0])))
            .unless_absent("no 32-bit entry in this kernel"),
        new(
            "int80_socketcall",
            "moby #52494",
            "socketcall opens a socket whose family no filter sees",
            socketcall,
        )
        .unless_absent("no 32-bit entry in this kernel"),
        new("int80_ptrace", "moby #52547", "int 0x80 reaches ptrace by its 32-bit number", || {
            entered(int80(26, [0; 3]))
        })
        .unless_absent("no 32-bit entry in this kernel"),
        new("x32", "seccomp(2), x32 ABI", "getpid with bit 30 set is let through; ENOSYS counts", || {
            x32(39, &[])
        }),
        new("x32_socket", "CVE-2026-31431", "socket with bit 30 set is let through; ENOSYS counts", || {
            x32(41, &[2, 1, 0])
        }),
        new("x32_ioctl", "CVE-2017-5226", "the x32-only ioctl number is let through; ENOSYS counts", || {
            x32(514, &[0, 0x5412, 0])
        }),
        new("x32_bpf", "seccomp(2), x32 ABI", "bpf with bit 30 set is let through; ENOSYS counts", || {
            x32(321, &[0, 0, 0])
        }),
        new(
            "socket_high_bits",
            "CVE-2019-10063 class",
            "a family with high bits is seen as another one",
            || {
                let family = HIGH | libc::AF_VSOCK as usize;
                match call(libc::SYS_socket, &[family, libc::SOCK_STREAM as usize, 0]) {
                    Err(libc::EAFNOSUPPORT) => Verdict::through("the kernel looked the family up"),
                    result => succeeded("socket", result),
                }
            },
        ),
        new("unshare_high_bits", "unshare(2)", "flags with high bits make a user namespace", || {
            succeeded("unshare", call(libc::SYS_unshare, &[HIGH | libc::CLONE_NEWUSER as usize]))
        })
        // Unlike most calls, unshare takes an unsigned long and looks at all of it.
        .unless(libc::EINVAL, "this kernel looks at all 64 bits of unshare's flags"),
        new(
            "personality_high_bits",
            "CVE-2019-10063 class",
            "a personality with high bits switches ASLR off",
            || succeeded("personality", call(libc::SYS_personality, &[HIGH | 0x0004_0000])),
        ),
        new("modify_ldt", "CVE-2015-5157 class", "modify_ldt reads the descriptor table", || {
            let mut table = [0u8; 64];
            reached("modify_ldt", call(libc::SYS_modify_ldt, &[0, table.as_mut_ptr() as usize, table.len()]))
        })
        .unless(libc::ENOSYS, "CONFIG_MODIFY_LDT_SYSCALL is off"),
        // Level 0 is what every process has: allowed without any right, so the answer is the filter's alone.
        new("iopl", "iopl(2)", "iopl is reachable", || reached("iopl", call(libc::SYS_iopl, &[0])))
            .unless(libc::ENOSYS, "CONFIG_X86_IOPL_IOPERM is off"),
        new("ioperm", "ioperm(2)", "ioperm is reachable", || {
            reached("ioperm", call(libc::SYS_ioperm, &[0, 1, 0]))
        })
        .unless(libc::ENOSYS, "CONFIG_X86_IOPL_IOPERM is off"),
    ]
}

/// System call by the 32-bit entry; a filter that knows one architecture sees the wrong number.
fn int80(number: u32, arguments: [u32; 3]) -> i32 {
    let result: i32;
    // SAFETY: the calls made here take integers only, or addresses below 4 GiB that the caller keeps mapped. LLVM
    // keeps rbx for itself, so it is swapped in and out; the 32-bit entry clears r8 to r11.
    unsafe {
        asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) u64::from(arguments[0]) => _,
            inlateout("eax") number as i32 => result,
            in("ecx") arguments[1],
            in("edx") arguments[2],
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

fn entered(result: i32) -> Verdict {
    match -result {
        errno @ (libc::EPERM | libc::EACCES | libc::ENOSYS) => Verdict::refused(errno, describe(errno)),
        _ if result < 0 => Verdict::through(format!("the call was made: {}", describe(-result))),
        _ => Verdict::through(format!("the call was made and returned {result}")),
    }
}

fn socketcall() -> Verdict {
    // SAFETY: asks for fresh memory; nothing existing is touched.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Verdict::Broken("no memory below 4 GiB".into());
    }
    // SAFETY: the page was mapped above, is writable, aligned, and larger than three words.
    unsafe { page.cast::<[u32; 3]>().write([libc::AF_UNIX as u32, libc::SOCK_STREAM as u32, 0]) };
    const SYS_SOCKET: u32 = 1;
    entered(int80(102, [SYS_SOCKET, page as usize as u32, 0]))
}

fn x32(number: i64, arguments: &[usize]) -> Verdict {
    match call(X32 | number, arguments) {
        Err(errno @ (libc::EPERM | libc::EACCES)) => Verdict::refused(errno, describe(errno)),
        Err(errno) => Verdict::through(format!("the filter let it through: {}", describe(errno))),
        Ok(value) => Verdict::through(format!("returned {value}")),
    }
}
