//! Reaching somebody: over the host's loopback, beyond it, through unix sockets; changing the network.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::attempt::{Attempt, Class, Verdict};
use crate::decoys;
use crate::kernel::{call, describe, done, failed, own, succeeded};

/// Decoys answer at once; a wall may also swallow.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the sandbox's own gateway listens under the policies of agents, in the words of /proc/net/tcp: on every address,
/// for names, for what it refused, and for TLS.
const GATEWAY: [&str; 3] = ["00000000:0035", "00000000:0050", "00000000:01BB"];

/// Attempts on the network.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, reference, success: &str, deed: fn(&decoys::Decoys) -> Verdict| {
        Attempt::new(id, Class::Network, reference, success, deed)
    };
    vec![
        new("tcp_loopback", "network_namespaces(7)", "the host's loopback is reached", |d| connect(d.tcp)),
        new("tcp_loopback6", "network_namespaces(7)", "the host's IPv6 loopback is reached", |d| {
            connect(d.tcp6)
        }),
        new("tcp_mapped", "SSRF filters", "the host's loopback is reached by an IPv4-mapped address", |d| {
            let mapped = match d.tcp {
                SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
                SocketAddr::V6(_) => return Verdict::Broken("the decoy is not on IPv4".into()),
            };
            connect(mapped)
        }),
        new(
            "tcp_any",
            "CVE-2024-0132 class; 0.0.0.0-day",
            "the host's loopback is reached as 0.0.0.0",
            |d| connect(SocketAddr::new([0, 0, 0, 0].into(), d.tcp.port())),
        ),
        new("tcp_outside", "no route", "an address beyond loopback is reached", |d| connect(d.tcp_outside)),
        new(
            "tcp_fast_open",
            "Landlock TCP rules, MSG_FASTOPEN",
            "a connection is made without connect",
            |d| fast_open(d.tcp),
        ),
        new(
            "udp_loopback",
            "Landlock has no UDP before ABI 10",
            "a datagram comes back from the host",
            |d| echo(d.udp),
        ),
        new("udp_outside", "Landlock has no UDP before ABI 10", "a datagram comes back from outside", |d| {
            echo(d.udp_outside)
        }),
        new("abstract_stream", "CVE-2020-15257", "an abstract socket of the host accepts", |_| {
            let address = UnixAddress::from_abstract_name(decoys::ABSTRACT_STREAM);
            done("connect", address.and_then(|address| UnixStream::connect_addr(&address)))
        }),
        new("abstract_datagram", "CVE-2020-15257", "an abstract socket of the host takes a datagram", |_| {
            let address = UnixAddress::from_abstract_name(decoys::ABSTRACT_DATAGRAM);
            done(
                "send",
                address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"probe", &address)),
            )
        }),
        new("unix_path", "docker.sock, D-Bus, ssh-agent", "a host daemon's socket accepts", |_| {
            done("connect", UnixStream::connect(decoys::UNIX_PATH))
        }),
        new(
            "unix_sweep",
            "docker.sock, D-Bus, ssh-agent",
            "some socket outside of the workspace accepts",
            |_| unix_sweep(),
        ),
        new(
            "unix_workspace",
            "unix(7): paths know no namespaces",
            "a socket that the host left in the workspace accepts",
            |_| done("connect", UnixStream::connect(decoys::UNIX_WORKSPACE)),
        ),
        new("bind_low_port", "CAP_NET_BIND_SERVICE", "a port below 1024 is bound", |_| {
            done("bind", TcpListener::bind("127.0.0.1:81"))
        }),
        new("interface_change", "CAP_NET_ADMIN", "an interface is changed", |_| set_loopback_mtu()),
        new("interface_create", "CAP_NET_ADMIN", "a link is asked for over netlink", |_| create_link()),
        new("other_interfaces", "network_namespaces(7)", "an interface besides lo is in view", |_| {
            listed("/sys/class/net", |name| name != "lo" && name != "bonding_masters")
        })
        .unless_absent("the belt has no other interface"),
        new(
            "other_listeners",
            "network_namespaces(7)",
            "somebody listens on a port that is not ours",
            |_| listeners(),
        ),
    ]
}

fn connect(address: SocketAddr) -> Verdict {
    match TcpStream::connect_timeout(&address, PATIENCE) {
        // A connection to an ephemeral port of one's own address can meet itself (simultaneous open).
        Ok(stream) if stream.local_addr().ok() == stream.peer_addr().ok() => {
            Verdict::absent("connected to itself")
        }
        Ok(_) => Verdict::through(format!("connected to {address}")),
        Err(error) => failed(&address.to_string(), &error),
    }
}

fn fast_open(address: SocketAddr) -> Verdict {
    let SocketAddr::V4(v4) = address else { return Verdict::Broken("the decoy is not on IPv4".into()) };
    let socket = match call(libc::SYS_socket, &[libc::AF_INET as usize, libc::SOCK_STREAM as usize, 0]) {
        Ok(socket) => own(socket),
        Err(errno) => return Verdict::refused(errno, describe(errno)),
    };
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: v4.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
        sin_zero: [0; 8],
    };
    let text = b"probe";
    let arguments = [
        socket.as_raw_fd() as usize,
        text.as_ptr() as usize,
        text.len(),
        (libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL) as usize,
        &raw const name as usize,
        size_of_val(&name),
    ];
    succeeded("sendto(MSG_FASTOPEN)", call(libc::SYS_sendto, &arguments))
}

fn echo(address: SocketAddr) -> Verdict {
    let attempt = || -> io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(b"probe", address)?;
        let mut answer = [0; 8];
        let (length, _) = socket.recv_from(&mut answer)?;
        if &answer[..length] == b"probe" { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    };
    done(&format!("echo from {address}"), attempt())
}

/// Connects to every socket in the file tree that is not below the working directory.
fn unix_sweep() -> Verdict {
    let workspace = std::env::current_dir().unwrap_or_default();
    let mut sockets = Vec::new();
    for top in ["/run", "/var/run", "/tmp", "/home", "/root", "/dev", "/var/lib", "/srv", "/opt", "/mnt"] {
        collect_sockets(Path::new(top), &workspace, 6, &mut sockets);
    }
    let open: Vec<_> = sockets
        .iter()
        .filter(|path| {
            let datagram = || UnixDatagram::unbound().and_then(|socket| socket.connect(path));
            UnixStream::connect(path).is_ok() || datagram().is_ok()
        })
        .collect();
    Verdict::when(!open.is_empty(), format!("{} sockets in view, open: {open:?}", sockets.len()))
}

fn collect_sockets(place: &Path, workspace: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    if depth == 0 || place == workspace {
        return;
    }
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            Ok(kind) if kind.is_dir() => collect_sockets(&entry.path(), workspace, depth - 1, found),
            _ => {}
        }
    }
}

/// Sets the size that lo has already, which takes the right to set any.
fn set_loopback_mtu() -> Verdict {
    let socket = match UdpSocket::bind("0.0.0.0:0") {
        Ok(socket) => socket,
        Err(error) => return failed("socket", &error),
    };
    // SAFETY: ifreq is plain data; all zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_mtu = 65_536;
    let arguments = [socket.as_raw_fd() as usize, libc::SIOCSIFMTU as usize, &raw const request as usize];
    succeeded("SIOCSIFMTU", call(libc::SYS_ioctl, &arguments))
}

/// Asks to delete a link that does not exist: without the right, EPERM comes before the search.
fn create_link() -> Verdict {
    let socket = match call(libc::SYS_socket, &[libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, 0]) {
        Ok(socket) => own(socket),
        Err(errno) => return Verdict::refused(errno, describe(errno)),
    };
    const RTM_DELLINK: u16 = 17;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 0x0005;
    let mut message = [0u8; 32];
    message[0] = 32;
    message[4..6].copy_from_slice(&RTM_DELLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message[20..24].copy_from_slice(&0x7fff_0000i32.to_ne_bytes());
    let descriptor = socket.as_raw_fd() as usize;
    if let Err(errno) = call(libc::SYS_write, &[descriptor, message.as_ptr() as usize, message.len()]) {
        return Verdict::refused(errno, describe(errno));
    }
    let mut answer = [0u8; 128];
    match call(libc::SYS_read, &[descriptor, answer.as_mut_ptr() as usize, answer.len()]) {
        Ok(length) if length >= 20 => {
            let error = -i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
            if error == libc::EPERM {
                Verdict::refused(error, describe(error))
            } else {
                Verdict::through(format!("the link was looked for: {}", describe(error)))
            }
        }
        Ok(length) => Verdict::Broken(format!("an answer of {length} bytes")),
        Err(errno) => Verdict::refused(errno, describe(errno)),
    }
}

fn listed(directory: &str, is_of_interest: fn(&str) -> bool) -> Verdict {
    match fs::read_dir(directory) {
        Ok(entries) => {
            let names: Vec<_> = entries
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .filter(|n| is_of_interest(n))
                .collect();
            Verdict::when(!names.is_empty(), format!("{names:?}"))
        }
        Err(error) => Verdict::absent(format!("{directory}: {error}")),
    }
}

/// `/proc/net/tcp` of this network namespace lists who listens; in a fresh one that is nobody but our own gateway.
/// One of the gateway's, as /proc/net/tcp writes it: the address from its last byte to its first, then the port. Besides
/// those on every address there are those on synthetic ones, 198.18.0.0/15.
fn is_door(address: &str) -> bool {
    let host = address.split(':').next().unwrap_or_default();
    GATEWAY.contains(&address)
        || ["12C6", "13C6"].iter().any(|range| host.len() == 8 && host.ends_with(range))
}

fn listeners() -> Verdict {
    match fs::read_to_string("/proc/self/net/tcp") {
        Ok(table) => {
            let foreign = |line: &&str| {
                let mut words = line.split_whitespace().skip(1);
                let (address, state) = (words.next().unwrap_or_default(), words.nth(1));
                state == Some("0A") && !is_door(address)
            };
            let listening = table.lines().skip(1).filter(foreign).count();
            Verdict::when(listening > 0, format!("{listening} listeners"))
        }
        Err(error) => failed("/proc/self/net/tcp", &error),
    }
}
