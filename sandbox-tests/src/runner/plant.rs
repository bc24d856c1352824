//! Plants the decoys: everything that an attempt would find if it got out.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::thread;

use crate::decoys::{self, variable};
use crate::kernel::{call, own, text};
use crate::runner::belt;

/// The directory that the host's side of a test lives in.
pub const HOST: &str = "/srv/belt";

/// The decoys, for as long as they stand.
pub struct Planted {
    /// What the probe is told about them.
    pub environment: Vec<(&'static str, String)>,
    _listeners: Vec<TcpListener>,
    _abstract_listener: UnixListener,
    _abstract_datagram: UnixDatagram,
    _path_listener: UnixListener,
    _queue: OwnedFd,
    helper: i32,
}

impl Drop for Planted {
    fn drop(&mut self) {
        // SAFETY: our own child, not yet waited for.
        unsafe {
            libc::kill(self.helper, libc::SIGKILL);
            libc::waitpid(self.helper, std::ptr::null_mut(), 0);
        }
    }
}

/// Plants all of them. `probe` is the program that set-uid copies are made of.
pub fn all(probe: &Path) -> io::Result<Planted> {
    fs::create_dir_all(HOST)?;
    let secret = PathBuf::from(HOST).join("secret");
    fs::write(&secret, decoys::SECRET)?;
    fs::write(format!("/dev/shm/{}", decoys::POSIX_NAME), decoys::SECRET)?;
    // A machine may have neither; root without a sandbox must find both.
    for (path, content) in
        [("/etc/shadow", "root:*:1::::::\n"), ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")]
    {
        if !Path::new(path).exists() {
            fs::write(path, content)?;
        }
    }
    belongings()?;
    fs::copy(probe, decoys::SETUID_SYSTEM)?;
    fs::set_permissions(decoys::SETUID_SYSTEM, fs::Permissions::from_mode(0o4755))?;
    system_v()?;
    let outside = std::net::IpAddr::from(belt::OUTSIDE);
    let [tcp, tcp_outside] = [[127, 0, 0, 1].into(), outside].map(|ip| TcpListener::bind((ip, 0)));
    let (tcp, tcp_outside, tcp6) = (tcp?, tcp_outside?, TcpListener::bind("[::1]:0")?);
    let environment = vec![
        (variable::SECRET, secret.to_string_lossy().into_owned()),
        (variable::TCP, tcp.local_addr()?.to_string()),
        (variable::TCP6, tcp6.local_addr()?.to_string()),
        (variable::TCP_OUTSIDE, tcp_outside.local_addr()?.to_string()),
        (variable::UDP, echo([127, 0, 0, 1].into())?),
        (variable::UDP_OUTSIDE, echo(outside)?),
        (variable::BELT, std::env::var(variable::BELT).expect("planted inside a belt only")),
    ];
    Ok(Planted {
        environment,
        _listeners: vec![tcp, tcp6, tcp_outside],
        _abstract_listener: UnixListener::bind_addr(&SocketAddr::from_abstract_name(
            decoys::ABSTRACT_STREAM,
        )?)?,
        _abstract_datagram: UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(
            decoys::ABSTRACT_DATAGRAM,
        )?)?,
        _path_listener: UnixListener::bind(decoys::UNIX_PATH)?,
        _queue: posix_queue()?,
        helper: helper()?,
    })
}

/// In the home of the host's root, and a toolchain that policies show: what lies beside it is what they must not show.
fn belongings() -> io::Result<()> {
    let home = Path::new(decoys::HOME);
    fs::create_dir_all(home.join(".cargo/bin"))?;
    for (_, name) in decoys::BELONGINGS {
        let path = home.join(name);
        fs::create_dir_all(path.parent().expect("a file below the home"))?;
        fs::write(path, decoys::SECRET)?;
    }
    Ok(())
}

/// Answers every datagram with itself, until the process ends.
fn echo(ip: std::net::IpAddr) -> io::Result<String> {
    let socket = UdpSocket::bind((ip, 0))?;
    let address = socket.local_addr()?.to_string();
    thread::spawn(move || {
        let mut datagram = [0; 64];
        while let Ok((length, sender)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..length], sender);
        }
    });
    Ok(address)
}

fn system_v() -> io::Result<()> {
    let (key, create) = (decoys::SYSV_KEY as usize, libc::IPC_CREAT as usize | 0o666);
    for made in [
        call(libc::SYS_shmget, &[key, 4096, create]),
        call(libc::SYS_semget, &[key, 1, create]),
        call(libc::SYS_msgget, &[key, create]),
    ] {
        made.map_err(io::Error::from_raw_os_error)?;
    }
    Ok(())
}

fn posix_queue() -> io::Result<OwnedFd> {
    let name = text(decoys::POSIX_NAME);
    let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC) as usize;
    let queue = call(libc::SYS_mq_open, &[name.as_ptr() as usize, flags, 0o666, 0]);
    queue.map(own).map_err(io::Error::from_raw_os_error)
}

/// A process of the host, with another root.
fn helper() -> io::Result<i32> {
    const ROOT: &CStr = c"/usr";
    // SAFETY: the child of this many-threaded process only makes system calls.
    unsafe {
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::chroot(ROOT.as_ptr()) != 0 {
                    libc::_exit(1);
                }
                loop {
                    libc::pause();
                }
            }
            child => Ok(child),
        }
    }
}
