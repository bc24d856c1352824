//! What the gateway serves itself: the list of refusals, and published ports.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;

use stockade::wire;
use stockade::wire::egress::{GATEWAY_ADDRESS, Protocol, Socket, Verdict};

use crate::world::{PATIENCE, World, is_cut_off};

/// Sends a request and returns everything that comes back.
pub fn http(mut stream: TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn an_agent_can_read_what_it_was_refused_and_change_nothing() {
    let mut world = World::new(&["api.example.org:443"]);
    world.start();
    assert_eq!(world.address("stockade.internal"), GATEWAY_ADDRESS);
    world.ask("evil.test", hickory_proto::rr::RecordType::A);
    let get = "GET /denials HTTP/1.1\r\nHost: stockade.internal\r\nConnection: close\r\n\r\n";

    let answer = http(world.connect("stockade.internal", 80), get);

    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let denial = &body["denials"][0];
    assert_eq!(denial["name"], "evil.test");
    assert_eq!(denial["reason"], "name");
    assert_eq!(denial["remedy"], r#"[network] allow = ["evil.test:443"]"#);
    let post = get.replace("GET", "POST");
    assert!(http(world.connect("stockade.internal", 80), &post).starts_with("HTTP/1.1 405"));
    let elsewhere = get.replace("/denials", "/policy");
    assert!(http(world.connect("stockade.internal", 80), &elsewhere).starts_with("HTTP/1.1 404"));
    assert!(world.connect_to(GATEWAY_ADDRESS, 9).is_err());
}

#[test]
fn a_connection_is_told_what_was_refused_once() {
    let mut world = World::new(&["api.example.org:443"]);
    world.start();
    let get = "GET /denials HTTP/1.1\r\nHost: stockade.internal\r\n\r\n";

    let answer = http(world.connect("stockade.internal", 80), &get.repeat(60));

    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
}

#[test]
fn whoever_does_not_read_what_was_refused_frees_its_place() {
    let mut world = World::new(&["api.example.org:443"]);
    world.config.patience.hello = 2_000;
    world.start();
    for n in 0..256 {
        world.ask(&format!("{n}.{0}.{0}.{0}.test", "x".repeat(60)), hickory_proto::rr::RecordType::A);
    }
    let address = SocketAddr::from((GATEWAY_ADDRESS, 80));
    let stream = world.inside.run(move || {
        use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        // Room for so little that most of the answer has to wait on the other side.
        sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("a small buffer");
        connect(&socket, &address).expect("accepted");
        TcpStream::from(socket)
    });
    (&stream).write_all(b"GET /denials HTTP/1.1\r\nHost: stockade.internal\r\n\r\n").expect("sent");

    let mut polled = [rustix::event::PollFd::new(&stream, rustix::event::PollFlags::empty())];
    let patience = rustix::event::Timespec::try_from(PATIENCE).expect("a time");
    let ready = rustix::event::poll(&mut polled, Some(&patience)).expect("polled");

    assert_eq!(ready, 1, "the connection is reset");
}

#[test]
fn a_published_port_of_the_host_leads_to_a_server_inside() {
    let mut world = World::new(&[]);
    let (dialer, theirs) = wire::pair().expect("a socket pair");
    world.inside.run(move || std::thread::spawn(move || dial(&theirs)));
    let listener = world.outside.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 8080)).expect("a listener"));
    world.add_made(Socket::Published { inside: 3000 }, listener.into());
    world.add_made(Socket::Dialer, dialer);
    let server = world.inside.run(|| {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 3000)).expect("a listener");
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("a connection");
            let mut question = String::new();
            stream.read_to_string(&mut question).expect("a question");
            stream.write_all(format!("{question}, hello").as_bytes()).expect("answered");
        })
    });
    world.start();
    let connect = || {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 8080)).expect("accepted");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    };

    let answer = world.outside.run(move || {
        let mut stream = connect();
        stream.write_all(b"host").expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    });

    assert_eq!(answer, "host, hello");
    let record = world.record(|record| record.protocol == Protocol::Published);
    assert_eq!((record.port, record.sent, record.received), (3000, 11, 4));
    // The server has gone: the host's side is cut off, and told why.
    server.join().expect("the server has ended");
    assert!(world.outside.run(move || is_cut_off(&mut connect())));
    let record = world.record(|record| record.protocol == Protocol::Published);
    let Verdict::Allowed { trouble: Some(trouble), .. } = record.verdict else { panic!("{record:?}") };
    assert!(trouble.contains("Connection refused"), "{trouble}");
}

/// What the shim's process inside does: connects to the port that it is told, and hands over the socket.
fn dial(socket: &OwnedFd) {
    while let Ok(Some((request, _))) = wire::receive(socket, 1) {
        answer(socket, &request);
    }
}

/// Answers one request: what came in front of the port goes back in front of the errno.
fn answer(socket: &OwnedFd, request: &[u8]) {
    let (number, port) = request.split_last_chunk().expect("a port at the end");
    let (errno, stream) = match TcpStream::connect((Ipv4Addr::LOCALHOST, u16::from_be_bytes(*port))) {
        Ok(stream) => (0, Some(stream)),
        Err(error) => (error.raw_os_error().expect("an errno"), None),
    };
    let fd = stream.as_ref().map(AsFd::as_fd);
    wire::send(socket.as_fd(), &[number, &i32::to_le_bytes(errno)].concat(), fd.as_slice())
        .expect("answered");
}

#[test]
fn an_answer_that_comes_too_late_is_for_nobody() {
    let mut world = World::new(&[]);
    world.config.patience.hello = 2_000;
    let (dialer, theirs) = wire::pair().expect("a socket pair");
    let (answer_first, wait) = mpsc::channel();
    world.inside.run(move || {
        for port in [3001_u16, 3002] {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a listener");
            std::thread::spawn(move || {
                for mut stream in server.incoming().map_while(Result::ok) {
                    let _ = stream.write_all(&port.to_be_bytes());
                }
            });
        }
        std::thread::spawn(move || {
            let (first, _) = wire::receive(&theirs, 1).expect("asked").expect("a request");
            wait.recv().expect("the test goes on");
            answer(&theirs, &first);
            dial(&theirs);
        })
    });
    for (outside, inside) in [(7001, 3001), (7002, 3002)] {
        let listener = world.outside.run(move || TcpListener::bind((Ipv4Addr::LOCALHOST, outside)));
        world.add_made(Socket::Published { inside }, listener.expect("a listener").into());
    }
    world.add_made(Socket::Dialer, dialer);
    world.start();
    let connect = |world: &World, port: u16| {
        world.outside.run(move || {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("accepted");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            stream
        })
    };
    assert!(is_cut_off(&mut connect(&world, 7002)), "it takes too long");

    answer_first.send(()).expect("the dialer waits");

    for _ in 0..3 {
        let mut server = [0; 2];
        connect(&world, 7001).read_exact(&mut server).expect("a server");
        assert_eq!(u16::from_be_bytes(server), 3001);
    }
}
