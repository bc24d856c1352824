//! What the gateway withstands: its own death, crowds, the slow and the stuck.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use stockade::wire::egress::{FromEgress, GATEWAY_ADDRESS, Reason, Verdict};

use crate::world::{World, is_cut_off};

fn greet(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])
}

fn world(allow: &[&str]) -> World {
    let mut world = World::new(allow);
    for rule in allow.iter().filter(|rule| !rule.starts_with('*')) {
        world.resolve(rule.split(':').next().expect("a name"), "127.0.0.1");
    }
    world.echo("127.0.0.1:5432");
    world
}

#[test]
fn a_gateway_that_dies_is_followed_by_one_with_the_same_sockets_and_names() {
    let mut world = world(&["db.example.org:5432", "*.wide.example:5432"]);
    world.resolve("a.wide.example", "127.0.0.1");
    world.start();
    let (exact, passing) = (world.address("db.example.org"), world.address("a.wide.example"));
    let FromEgress::Named { name, address } = world.next() else { panic!("the passing name is announced") };
    assert_eq!((name.as_str(), address), ("a.wide.example", passing));
    let mut cut = world.connect_to(exact, 5432).expect("accepted");
    greet(&mut cut).expect("carried");

    world.kill();
    // The listener is still there: this connection waits for the next gateway.
    let mut waiting = world.connect_to(exact, 5432).expect("accepted by the kernel");
    world.config.named.insert(address, name);
    world.start();

    let end = cut.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "what was cut off does not look complete");
    greet(&mut waiting).expect("carried by the next gateway");
    greet(&mut world.connect_to(passing, 5432).expect("accepted")).expect("the name's address is remembered");
}

#[test]
fn connections_beyond_the_bound_are_turned_away_and_places_become_free() {
    let mut world = world(&["db.example.org:5432"]);
    world.config.connections = 3;
    world.start();
    let address = world.address("db.example.org");
    let mut held: Vec<TcpStream> =
        (0..3).map(|_| world.connect_to(address, 5432).expect("accepted")).collect();
    held.iter_mut().for_each(|stream| greet(stream).expect("carried"));

    assert!(world.is_refused(address, 5432));
    assert_eq!(world.refusal(5432).0, Reason::TooMany);

    drop(held);
    // Records of one kind that come together are one.
    let mut ended = 0;
    while ended < 3 {
        ended += world.record(|record| matches!(record.verdict, Verdict::Allowed { .. })).count;
    }
    greet(&mut world.connect_to(address, 5432).expect("accepted")).expect("there is room again");
}

#[test]
fn a_crowd_of_idle_connections_is_held_and_the_next_one_served() {
    let mut world = world(&["db.example.org:5432"]);
    world.start();
    let address = world.address("db.example.org");
    let mut held: Vec<TcpStream> =
        (0..400).map(|_| world.connect_to(address, 5432).expect("accepted")).collect();
    held.iter_mut().for_each(|stream| greet(stream).expect("carried"));
    let descriptors = fs::read_dir(format!("/proc/{}/fd", world.pid())).expect("its descriptors").count();
    assert!(
        descriptors < 2 * held.len() + 180,
        "an idle connection costs two descriptors, not {descriptors} / 400"
    );
    held.iter_mut().for_each(|stream| greet(stream).expect("still carried"));
    drop(held);
    let records: u32 = world.finish().iter().map(|record| record.count).sum();
    assert_eq!(records, 400);
}

#[test]
fn ten_thousand_connections_beyond_its_bound_cost_the_gateway_nothing() {
    let mut world = world(&["db.example.org:5432"]);
    world.config.connections = 20;
    world.start();
    let address = world.address("db.example.org");
    let mut held: Vec<TcpStream> =
        (0..20).map(|_| world.connect_to(address, 5432).expect("accepted")).collect();
    held.iter_mut().for_each(|stream| greet(stream).expect("carried"));
    let descriptors =
        |world: &World| fs::read_dir(format!("/proc/{}/fd", world.pid())).expect("its descriptors").count();
    let before = descriptors(&world);

    world.inside.run(move || {
        for _ in 0..10_000 {
            // The reset may come before connect(2) has returned.
            assert!(TcpStream::connect((address, 5432)).map_or(true, |mut stream| is_cut_off(&mut stream)));
        }
    });

    assert!(descriptors(&world) <= before, "{before} became {}", descriptors(&world));
    let mut turned_away = 0;
    while turned_away < 10_000 {
        turned_away += world.record(|record| matches!(record.verdict, Verdict::Refused { .. })).count;
    }
    held.iter_mut().for_each(|stream| greet(stream).expect("still carried"));
}

#[test]
fn noise_on_every_door_leaves_the_gateway_alive() {
    let mut world = world(&["db.example.org:5432", "api.example.org:443"]);
    world.start();
    let doors = [(world.address("api.example.org"), 443), (GATEWAY_ADDRESS, 80), (GATEWAY_ADDRESS, 53)];
    // Beginnings that look right let the noise get further in.
    let beginnings: [&[u8]; 4] =
        [b"", &[22, 3, 1, 0, 200, 1, 0, 0, 196], b"GET /denials HTTP/1.1\r\n", &[0, 40, 0, 1, 1]];
    world.inside.run(move || {
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise.to_le_bytes()
        };
        let udp = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        for round in 0..400 {
            let bytes: Vec<u8> = (0..1 + round % 40).flat_map(|_| next()).collect();
            let bytes = [beginnings[round % beginnings.len()], &bytes].concat();
            for door in doors {
                let mut stream = TcpStream::connect(door).expect("accepted");
                // Some are cut off before the end.
                let _ = stream.write_all(&bytes);
            }
            let _ = udp.send_to(&bytes, (GATEWAY_ADDRESS, 53));
        }
    });
    greet(&mut world.connect("db.example.org", 5432)).expect("the next one is served");
    world.finish();
}

#[test]
fn a_hello_that_drips_frees_its_place() {
    let mut world = World::new(&["api.example.org:443"]);
    world.resolve("api.example.org", "127.0.0.1");
    world.config.patience.hello = 2_000;
    world.start();
    let mut slow = world.connect("api.example.org", 443);
    slow.write_all(&[22, 3, 1, 2, 0, 1, 0]).expect("the beginning of a hello");

    assert!(is_cut_off(&mut slow));

    let record = world.record(|record| record.port == 443);
    let Verdict::Refused { reason, detail, remedy } = &record.verdict else { panic!("{record:?}") };
    assert!(*reason == Reason::NotTls && detail.contains("no whole TLS hello"), "{detail}");
    assert!(remedy.as_ref().is_some_and(|line| line.contains("sni")), "{remedy:?}");
}

#[test]
fn an_upstream_that_never_accepts_frees_its_place() {
    let mut world = World::new(&["stuck.example.org:5432"]);
    world.resolve("stuck.example.org", "127.0.0.1");
    world.config.patience.connect = 300;
    // Nobody accepts, and the queue of those that wait is full: further ones are not answered at all.
    let (listener, _queue) = world.outside.run(|| {
        use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&listener, &std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5432)).expect("bound");
        listen(&listener, 0).expect("listening");
        let queue = TcpStream::connect((Ipv4Addr::LOCALHOST, 5432)).expect("the one that the queue holds");
        (listener, queue)
    });
    world.start();

    assert!(is_cut_off(&mut world.connect("stuck.example.org", 5432)));

    let record = world.record(|record| record.port == 5432);
    let Verdict::Allowed { trouble: Some(trouble), .. } = &record.verdict else { panic!("{record:?}") };
    assert!(trouble.contains("no connection within") || trouble.contains("timed out"), "{trouble}");
    drop(listener);
}

#[test]
fn a_connection_that_says_nothing_for_too_long_is_ended() {
    let mut world = world(&["db.example.org:5432"]);
    world.config.patience.idle = 5_000;
    world.start();
    let mut stream = world.connect("db.example.org", 5432);
    greet(&mut stream).expect("carried");
    assert!(is_cut_off(&mut stream));
    let record = world.record(|record| record.sent == 5);
    assert!(matches!(record.verdict, Verdict::Allowed { trouble: Some(_), .. }), "{record:?}");
}

#[test]
fn what_is_open_when_the_gateway_finishes_is_accounted_for() {
    let mut world = world(&["db.example.org:5432"]);
    world.start();
    let mut stream = world.connect("db.example.org", 5432);
    greet(&mut stream).expect("carried");
    let records = world.finish();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((records[0].sent, records[0].received), (5, 5));
    assert!(is_cut_off(&mut stream));
}

#[test]
fn the_process_is_confined_before_it_says_that_it_is_ready() {
    let mut world = world(&["db.example.org:5432"]);
    world.start();
    let status = fs::read_to_string(format!("/proc/{}/status", world.pid())).expect("its status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    assert_eq!(field("Threads"), "1");
    let limits = fs::read_to_string(format!("/proc/{}/limits", world.pid())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core")).expect("a limit").split_whitespace();
    assert_eq!(core.collect::<Vec<_>>()[4..6], ["0", "0"]);
}

#[test]
fn a_configuration_that_means_nothing_is_refused_in_words() {
    let mut world = World::new(&["api.example.org"]);
    world.spawn();
    let FromEgress::Failed { what } = world.next() else { panic!("it runs") };
    assert_eq!(what, "allow: \"api.example.org\" has no port: write api.example.org:443");
}
