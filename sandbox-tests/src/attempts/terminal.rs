//! The terminal: pushing input into it, switching what drives it.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{call, describe, errno, own, reached, succeeded};

const HIGH: usize = 1 << 32;
const TIOCSTI: usize = 0x5412;
const TIOCLINUX: usize = 0x541c;
const TIOCSETD: usize = 0x5423;
/// A line discipline that is always built in and does nothing (`N_NULL`).
const NULL_DISCIPLINE: i32 = 27;

/// Attempts on terminals. All but the last two use a pseudo-terminal of their own: through a pipe they prove nothing.
pub fn attempts() -> Vec<Attempt> {
    let on_own = |id: &str, reference, success: &str, deed: fn(i32) -> Verdict| {
        Attempt::new(id, Class::Terminal, reference, success, move |_| {
            own_terminal().map_or_else(Verdict::Broken, |(_master, slave)| deed(slave.as_raw_fd()))
        })
    };
    let legacy = "dev.tty.legacy_tiocsti is 0";
    vec![
        on_own("tiocsti", "CVE-2017-5226", "TIOCSTI types on a terminal", |tty| push(tty, TIOCSTI))
            .unless(libc::EIO, legacy),
        on_own("tiocsti_high_bits", "CVE-2019-10063", "TIOCSTI with high bits types on a terminal", |tty| {
            push(tty, HIGH | TIOCSTI)
        })
        .unless(libc::EIO, legacy),
        on_own("tioclinux", "CVE-2023-1523", "TIOCLINUX reaches the terminal driver", |tty| {
            selection(tty, TIOCLINUX)
        }),
        on_own(
            "tioclinux_high_bits",
            "CVE-2019-10063",
            "TIOCLINUX with high bits reaches the driver",
            |tty| selection(tty, HIGH | TIOCLINUX),
        ),
        on_own("line_discipline", "CVE-2020-14416 class", "TIOCSETD switches the line discipline", |tty| {
            let discipline = NULL_DISCIPLINE;
            succeeded(
                "TIOCSETD",
                call(libc::SYS_ioctl, &[tty as usize, TIOCSETD, &raw const discipline as usize]),
            )
        })
        .unless(libc::EINVAL, "CONFIG_NULL_TTY is off"),
        Attempt::new(
            "tiocsti_stdin",
            Class::Terminal,
            "CVE-2017-5226",
            "TIOCSTI types on the caller's terminal",
            |_| push_line(0),
        )
        .unless(libc::ENOTTY, "the runner gave it no terminal")
        .unless(libc::EIO, legacy),
    ]
}

/// A new session with a new terminal in control of it.
fn own_terminal() -> Result<(OwnedFd, OwnedFd), String> {
    let (mut master, mut slave) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are written to live locals; name, termios and size are not asked for.
    if unsafe { libc::openpty(&raw mut master, &raw mut slave, none, none.cast(), none.cast()) } != 0 {
        return Err(format!("no pseudo-terminal: {}", describe(errno())));
    }
    let pair = (own(master.into()), own(slave.into()));
    // The end of the master hangs up on the session's leader, which still has a verdict to give.
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    call(libc::SYS_setsid, &[]).map_err(|errno| format!("no session of its own: {}", describe(errno)))?;
    call(libc::SYS_ioctl, &[slave as usize, libc::TIOCSCTTY as usize, 0])
        .map_err(|errno| format!("no controlling terminal: {}", describe(errno)))?;
    Ok(pair)
}

fn push(tty: i32, request: usize) -> Verdict {
    let key = b'x';
    succeeded("TIOCSTI", call(libc::SYS_ioctl, &[tty as usize, request, &raw const key as usize]))
}

fn push_line(tty: i32) -> Verdict {
    let pushed = b"echo typed-by-the-agent\n"
        .iter()
        .map(|key| call(libc::SYS_ioctl, &[tty as usize, TIOCSTI, std::ptr::from_ref(key) as usize]));
    succeeded("TIOCSTI", pushed.collect::<Result<Vec<_>, _>>().map(|keys| keys.len() as i64))
}

/// On anything but a virtual console the driver does not know this request and says so.
fn selection(tty: i32, request: usize) -> Verdict {
    let code = 2u8;
    reached("TIOCLINUX", call(libc::SYS_ioctl, &[tty as usize, request, &raw const code as usize]))
}
