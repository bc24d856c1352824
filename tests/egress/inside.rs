//! What the gateway serves itself: the list of refusals, and published ports.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

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
    while let Ok(Some((bytes, _))) = wire::receive(socket, 1) {
        let port = u16::from_be_bytes(bytes.try_into().expect("two bytes"));
        let (errno, stream) = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(stream) => (0, Some(stream)),
            Err(error) => (error.raw_os_error().expect("an errno"), None),
        };
        let fd = stream.as_ref().map(AsFd::as_fd);
        wire::send(socket.as_fd(), &i32::to_le_bytes(errno), fd.as_slice()).expect("answered");
    }
}
