//! The sandbox's network namespace by itself: every address leads to a listener, and what leads to none is refused and seen.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use stockade::netns::{self, Door, Range};

const VISIBLE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const INSIDE: &str = "STOCKADE_TEST_NETWORK";

/// Runs `body`, the body of the test named `test`, in a network namespace of its own: this program is started again
/// there for the one test.
fn in_a_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let this = std::env::current_exe().expect("the test program");
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]).arg(this);
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.stdin(Stdio::null()).output().expect("unshare(1) from util-linux starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && told.contains("1 passed");
    assert!(passed, "{}\n{told}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

struct Doors {
    datagrams: UdpSocket,
    monitor: OwnedFd,
    listener: TcpListener,
    _others: Vec<OwnedFd>,
}

fn doors(port: u16) -> Doors {
    doors_at(&[Door::Everywhere { port }])
}

fn doors_at(wanted: &[Door]) -> Doors {
    netns::own_every_address(VISIBLE).expect("routes");
    let mut doors = netns::open_doors(wanted).expect("doors").into_iter();
    let mut next = || doors.next().expect("as many as were asked for");
    let (datagrams, monitor, listener) = (next().into(), next(), next().into());
    Doors { datagrams, monitor, listener, _others: doors.collect() }
}

impl Doors {
    /// What was seen to be refused, as the first word of each packet's protocol and its port.
    fn seen(&self) -> Vec<(u8, u16)> {
        let mut seen = Vec::new();
        let mut packet = [0; 256];
        while let Ok((length, _)) =
            rustix::net::recv(&self.monitor, &mut packet, rustix::net::RecvFlags::DONTWAIT)
        {
            assert!((28..=128).contains(&length), "{length} bytes");
            let (protocol, header) = match packet[0] >> 4 {
                4 => (packet[9], usize::from(packet[0] & 15) * 4),
                6 => (packet[6], 40),
                other => panic!("IP version {other}"),
            };
            seen.push((protocol, u16::from_be_bytes([packet[header + 2], packet[header + 3]])));
        }
        seen
    }
}

fn refused(to: &str) {
    let error = TcpStream::connect(to).expect_err(to);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
}

#[test]
fn without_routes_nothing_is_reached() {
    in_a_namespace("without_routes_nothing_is_reached", || {
        let error = TcpStream::connect("203.0.113.9:443").expect_err("no route");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error}");
    });
}

#[test]
fn a_connection_to_any_address_arrives_with_the_address_that_was_wanted() {
    in_a_namespace("a_connection_to_any_address_arrives_with_the_address_that_was_wanted", || {
        let doors = doors(443);
        for wanted in ["203.0.113.9:443", "10.0.0.1:443", "8.8.8.8:443", "127.0.0.1:443"] {
            let made = TcpStream::connect(wanted).expect(wanted);
            let (accepted, _) = doors.listener.accept().expect("accepted");
            assert_eq!(accepted.local_addr().expect("its address").to_string(), wanted);
            drop(made);
        }
        let _mapped = TcpStream::connect("[::ffff:192.0.2.7]:443").expect("as IPv4");
        let (accepted, _) = doors.listener.accept().expect("accepted");
        assert_eq!(accepted.local_addr().expect("its address").to_string(), "192.0.2.7:443");
        assert_eq!(doors.seen(), [], "what a listener answers is not refused");
    });
}

#[test]
fn what_nobody_listens_on_is_refused_at_once_and_seen() {
    in_a_namespace("what_nobody_listens_on_is_refused_at_once_and_seen", || {
        let doors = doors(443);
        for to in ["203.0.113.9:80", "203.0.113.9:8443", "[2001:db8::1]:443", "[fd00:ec2::254]:80"] {
            refused(to);
        }
        assert_eq!(doors.seen(), [(6, 80), (6, 8443), (6, 443), (6, 80)]);
        for (from, to) in [("0.0.0.0:0", "192.0.2.1:123"), ("[::]:0", "[2001:db8::1]:53")] {
            let socket = UdpSocket::bind(from).expect("a socket");
            socket.connect(to).expect("no packet yet");
            socket.send(b"time?").expect("sent");
            let error = socket.recv(&mut [0; 8]).expect_err("nobody answers");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
        }
        assert_eq!(doors.seen(), [(17, 123), (17, 53)]);
    });
}

#[test]
fn a_port_that_is_listened_on_at_some_addresses_is_refused_at_all_others_and_seen() {
    let test = "a_port_that_is_listened_on_at_some_addresses_is_refused_at_all_others_and_seen";
    in_a_namespace(test, || {
        let at = |text: &str| Door::At(text.parse().expect("a place"));
        let everywhere = Door::Everywhere { port: 5432 };
        let doors = doors_at(&[at("198.18.7.9:443"), at("198.18.7.10:443"), at("198.18.7.9:22"), everywhere]);
        for open in ["198.18.7.9:443", "198.18.7.10:443", "198.18.7.9:22", "203.0.113.9:5432"] {
            TcpStream::connect(open).expect(open);
        }
        assert_eq!(doors.seen(), []);
        for closed in ["203.0.113.9:443", "198.18.7.10:22", "198.18.7.11:443", "198.18.7.9:80"] {
            refused(closed);
        }
        assert_eq!(doors.seen(), [(6, 443), (6, 22), (6, 443), (6, 80)]);
        TcpListener::bind("127.0.0.1:443").expect("the port is free for the agent's own servers");
    });
}

#[test]
fn a_listener_within_ranges_takes_nothing_else_and_what_it_does_not_take_is_seen() {
    let test = "a_listener_within_ranges_takes_nothing_else_and_what_it_does_not_take_is_seen";
    in_a_namespace(test, || {
        let range = |a, b, length| Range { first: Ipv4Addr::new(a, b, 0, 0), length };
        let ranges = vec![range(198, 18, 15), range(10, 2, 16)];
        let doors =
            doors_at(&[Door::Within { port: 5432, ranges, except: vec![Ipv4Addr::new(198, 18, 7, 10)] }]);
        for open in ["198.18.7.9:5432", "198.19.255.255:5432", "10.2.0.0:5432", "127.0.0.1:5432"] {
            let mut made = TcpStream::connect(open).expect(open);
            let (mut accepted, _) = doors.listener.accept().expect("accepted");
            made.write_all(b"more than a beginning").expect("sent");
            let mut heard = [0; 21];
            accepted.read_exact(&mut heard).expect("what is accepted can talk");
        }
        assert_eq!(doors.seen(), []);
        for closed in
            ["198.17.255.255:5432", "198.20.0.0:5432", "10.3.0.1:5432", "0.0.0.1:5432", "198.18.7.10:5432"]
        {
            // Nobody sends the reset here: the gateway does.
            let address: SocketAddr = closed.parse().expect("an address");
            let error = TcpStream::connect_timeout(&address, Duration::from_millis(200)).expect_err(closed);
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{closed}: {error}");
        }
        // Whoever waits for long tries again.
        let mut seen = doors.seen();
        assert!(seen.len() >= 5, "{seen:?}");
        seen.dedup();
        assert_eq!(seen, [(6, 5432)]);
    });
}

#[test]
fn a_connection_comes_from_the_sandbox_s_own_address_and_cannot_meet_itself() {
    in_a_namespace("a_connection_comes_from_the_sandbox_s_own_address_and_cannot_meet_itself", || {
        let doors = doors(443);
        let made = TcpStream::connect("203.0.113.9:443").expect("accepted");
        assert_eq!(made.local_addr().expect("its address").ip(), VISIBLE);
        let socket = netns::unconnected().expect("a socket");
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, 45678))).expect("bound");
        let met = rustix::net::connect(&socket, &SocketAddr::from(([192, 0, 2, 1], 45678)));
        assert_eq!(met, Err(rustix::io::Errno::CONNREFUSED));
        assert_eq!(doors.seen(), [(6, 45678)]);
    });
}

#[test]
fn the_largest_filters_fit_into_what_kernels_before_6_7_have_room_for() {
    in_a_namespace("the_largest_filters_fit_into_what_kernels_before_6_7_have_room_for", || {
        // Namespaces of later kernels have a bound of their own, which is larger.
        let _ = std::fs::write("/proc/sys/net/core/optmem_max", "20480");
        let at = |n: u8| Door::At(SocketAddrV4::new(Ipv4Addr::new(198, 18, 7, n), 443));
        let ranges =
            |n: u8| (0..n).map(move |n| Range { first: Ipv4Addr::new(10, n, 0, 0), length: 16 }).collect();
        let except = |n: u8| (0..n).map(|n| Ipv4Addr::new(198, 18, 8, n)).collect();
        let mut all: Vec<Door> = (0..100).map(at).collect();
        all.extend((0..100).map(|n| Door::At(SocketAddrV4::new(Ipv4Addr::new(198, 18, 7, n), 22))));
        all.push(Door::Within { port: 5432, ranges: ranges(40), except: except(15) });
        all.push(Door::Within { port: 5433, ranges: ranges(15), except: except(40) });
        let doors = doors_at(&all);
        TcpStream::connect("10.39.0.1:5432").expect("accepted");
        refused("10.39.0.1:8080");
        assert_eq!(doors.seen(), [(6, 8080)]);
    });
}

#[test]
fn the_sandbox_s_own_loopback_is_its_own_affair() {
    in_a_namespace("the_sandbox_s_own_loopback_is_its_own_affair", || {
        let doors = doors(443);
        ["127.0.0.1:3000", "127.1.2.3:3000", "[::1]:3000"].into_iter().for_each(refused);
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        TcpStream::connect(server.local_addr().expect("its address")).expect("its own server");
        assert_eq!(doors.seen(), []);
    });
}

#[test]
fn a_question_for_a_name_arrives_whichever_server_it_was_for() {
    in_a_namespace("a_question_for_a_name_arrives_whichever_server_it_was_for", || {
        let doors = doors(443);
        for server in ["127.0.0.1:53", "9.9.9.9:53"] {
            let server: SocketAddr = server.parse().expect("an address");
            let client = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            client.connect(server).expect("no packet yet");
            client.send(b"name?").expect("sent");
            let mut question = [0; 8];
            let (length, asker) = doors.datagrams.recv_from(&mut question).expect("it arrives");
            assert_eq!((&question[..length], asker), (&b"name?"[..], client.local_addr().expect("bound")));
        }
        assert_eq!(doors.seen(), []);
    });
}

#[test]
fn an_unconnected_socket_leads_to_a_server_of_the_namespace_that_it_was_made_in() {
    in_a_namespace("an_unconnected_socket_leads_to_a_server_of_the_namespace_that_it_was_made_in", || {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = netns::unconnected().expect("a socket");
        let address = server.local_addr().expect("its address");
        rustix::net::connect(&socket, &address).expect("connected");
        server.accept().expect("accepted");
    });
}
