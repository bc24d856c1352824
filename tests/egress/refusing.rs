//! The ways out that are none. Each is first shown to be open where the policy opens it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use stockade::netns::Range;
use stockade::wire::egress::{Protocol, Reason, Socket, Verdict};

use crate::tls::{Says, Tls};
use crate::world::World;

fn greet(mut stream: std::net::TcpStream) -> std::io::Result<String> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a_raw_address_is_reached_by_a_rule_about_it_and_not_otherwise() {
    let mut world = World::new(&["203.0.113.7:5432"]);
    world.echo("203.0.113.7:5432");
    world.echo("203.0.113.8:5432");
    world.start();
    let (open, closed) = (Ipv4Addr::new(203, 0, 113, 7), Ipv4Addr::new(203, 0, 113, 8));
    assert_eq!(greet(world.connect_to(open, 5432).expect("accepted")).expect("carried"), "hello");
    let rule = world.record(|record| record.address == Some(open.into())).verdict;
    assert_eq!(rule, Verdict::Allowed { rule: "203.0.113.7:5432".into(), trouble: None });

    assert!(world.is_refused(closed, 5432));

    let (reason, detail, remedy) = world.refusal(5432);
    assert_eq!((reason, detail.as_str()), (Reason::Address, "no rule covers the address 203.0.113.8"));
    assert_eq!(remedy.as_deref(), Some(r#"[network] allow = ["203.0.113.8:5432"]"#));
}

#[test]
fn a_raw_address_on_the_port_of_a_suffix_and_a_range_is_refused_at_once_and_reported() {
    let range = |a, b, length| Range { first: Ipv4Addr::new(a, b, 0, 0), length };
    let ranges = vec![range(198, 18, 15), range(203, 0, 16)];
    let mut world = World::within(&["*.example.org:5432", "203.0.0.0/16:5432"], 5432, ranges);
    world.echo("203.0.113.7:5432");
    world.resolve("api.example.org", "203.0.113.7");
    world.start();
    for open in [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)), world.address("api.example.org").into()] {
        assert_eq!(greet(world.connect_to(open, 5432).expect("accepted")).expect("carried"), "hello");
    }
    for n in 1..=20 {
        let refused = world.connect_to(Ipv4Addr::new(192, 0, 2, n), 5432).expect_err("refused");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
    }

    // From the sandbox's own loopback, too: the way back leads there.
    let refused = world.inside.run(|| {
        let socket = stockade::netns::unconnected().expect("a socket");
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bound");
        rustix::net::connect(&socket, &SocketAddr::from(([192, 0, 2, 99], 5432)))
    });
    assert_eq!(refused, Err(rustix::io::Errno::CONNREFUSED));

    let record = world.record(|record| record.address == Some(Ipv4Addr::new(192, 0, 2, 20).into()));

    let Verdict::Refused { reason, remedy, .. } = record.verdict else { panic!("{record:?}") };
    assert_eq!(reason, Reason::Address);
    assert_eq!(remedy.as_deref(), Some(r#"[network] allow = ["192.0.2.20:5432"]"#));
}

#[test]
fn attempts_that_come_too_fast_to_be_told_apart_are_counted_all_the_same() {
    const MANY: u32 = 30_000;
    let range = Range { first: Ipv4Addr::new(198, 18, 0, 0), length: 15 };
    let mut world = World::within(&["*.example.org:5432"], 5432, vec![range]);
    world.start();
    world.inside.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        for n in 0..MANY {
            // What the kernel says of the one before is said here, and it is not sent.
            while socket.send_to(b"x", (Ipv4Addr::new(192, 0, 2, (n % 200) as u8), 9)).is_err() {}
        }
    });
    let mut counted = 0;
    while counted < MANY {
        counted += world
            .record(|record| record.verdict != Verdict::Allowed { rule: String::new(), trouble: None })
            .count;
    }
    assert_eq!(counted, MANY);
}

#[test]
fn a_name_above_an_allowed_one_has_no_address_and_is_not_denied_as_a_whole() {
    let mut world = World::new(&["*.wide.example:443", "api.deep.example:443"]);
    world.start();
    for above in ["wide.example", "deep.example", "example"] {
        let answer = world.ask(above, RecordType::A);
        assert_eq!(
            (answer.metadata.response_code, answer.answers.len()),
            (ResponseCode::NoError, 0),
            "{above}"
        );
        let record = world.record(|record| record.name.as_deref() == Some(above));
        assert!(matches!(record.verdict, Verdict::Refused { reason: Reason::Name, .. }), "{record:?}");
    }
    assert_eq!(world.ask("wide.test", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn hellos_that_name_different_hosts_are_different_refusals() {
    let tls = Tls::new(&["api.example.org"]);
    let mut world = World::new(&["api.example.org:443"]);
    world.start();
    for other in ["one.example.net", "two.example.net"] {
        let stream = world.connect("api.example.org", 443);
        tls.greet(stream, Says::Name(other)).expect_err("reset");
        let (reason, detail, _) = world.refusal(443);
        assert!(reason == Reason::Sni && detail.contains(other), "{detail}");
    }
}

#[test]
fn a_port_that_no_rule_names_is_refused_at_once_and_reported() {
    let mut world = World::new(&["api.example.org:443"]);
    world.start();
    let address = world.address("api.example.org");

    let refused = world.connect_to(address, 9).expect_err("refused");

    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let record = world.record(|record| record.port == 9);
    assert_eq!(record.name.as_deref(), Some("api.example.org"));
    let Verdict::Refused { reason, remedy, .. } = record.verdict else { panic!("{record:?}") };
    assert_eq!(reason, Reason::Port);
    assert_eq!(remedy.as_deref(), Some(r#"[network] allow = ["api.example.org:9"]"#));
}

#[test]
fn udp_and_ipv6_are_refused_at_once_and_reported() {
    let mut world = World::new(&["api.example.org:443"]);
    world.start();
    let v6: IpAddr = "2001:db8::7".parse().expect("an address");

    let refused = world.connect_to(v6, 443).expect_err("refused");
    let unreachable = world.inside.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        socket.connect("203.0.113.7:4433").expect("connected");
        socket.send(b"quic?").expect("sent");
        socket.recv(&mut [0; 10]).expect_err("refused")
    });

    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(unreachable.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(world.refusal(443).0, Reason::Ipv6);
    assert_eq!(world.refusal(4433).0, Reason::Udp);
}

#[test]
fn tls_to_a_name_must_say_that_name() {
    let tls = Tls::new(&["api.example.org", "other.example.org"]);
    let open = { to_any_name(&tls, "api.example.org:443 sni=any") };
    assert!(open.iter().all(|(_, answer)| answer.is_some()), "the way is open: {open:?}");

    let closed = to_any_name(&tls, "api.example.org:443");

    assert_eq!(closed[0], (None, Some("hello".into())), "the right name passes");
    assert_eq!(closed[1], (Some(Reason::Sni), None), "another name");
    assert_eq!(closed[2], (Some(Reason::Sni), None), "no name");
}

/// Greets api.example.org on port 443 under one rule, with its name, another name, and no name.
fn to_any_name(tls: &Tls, rule: &str) -> Vec<(Option<Reason>, Option<String>)> {
    let mut world = World::new(&[rule]);
    world.resolve("api.example.org", "127.0.0.1");
    world.serve("127.0.0.1:443", tls.echo());
    world.start();
    let greet = |world: &mut World, says| {
        let answer = tls.greet(world.connect("api.example.org", 443), says).ok();
        let reason = match world.record(|record| record.port == 443).verdict {
            Verdict::Refused { reason, .. } => Some(reason),
            Verdict::Allowed { .. } => None,
        };
        (reason, answer)
    };
    [Says::Name("api.example.org"), Says::Name("other.example.org"), Says::Nothing]
        .map(|says| greet(&mut world, says))
        .to_vec()
}

#[test]
fn port_443_of_a_name_carries_tls_only_and_tls_elsewhere_is_checked_too() {
    let tls = Tls::new(&["api.example.org", "other.example.org"]);
    let mut world = World::new(&["api.example.org:443,8443,5432"]);
    world.resolve("api.example.org", "127.0.0.1");
    world.echo("127.0.0.1:443");
    world.serve("127.0.0.1:8443", tls.echo());
    world.echo("127.0.0.1:5432");
    world.start();
    assert_eq!(greet(world.connect("api.example.org", 5432)).expect("plain text on another port"), "hello");
    let right = tls.greet(world.connect("api.example.org", 8443), Says::Name("api.example.org"));
    assert_eq!(right.expect("the right name"), "hello");

    greet(world.connect("api.example.org", 443)).expect_err("no TLS");
    tls.greet(world.connect("api.example.org", 8443), Says::Name("other.example.org"))
        .expect_err("another name");

    let (reason, detail, remedy) = world.refusal(443);
    assert_eq!(reason, Reason::NotTls, "{detail}");
    let remedy = remedy.expect("a remedy");
    assert_eq!(remedy, r#"[network] allow = [{ to = "api.example.org:443", sni = "any" }]"#);
    assert_eq!(world.refusal(8443).0, Reason::Sni);
}

#[test]
fn what_comes_in_front_of_a_hello_does_not_hide_its_name() {
    // A warning, a change of ciphers, data, a version of its own, and the hello of SSL 2: servers read on after some.
    let beginnings: [&[u8]; 6] = [
        &[0x15, 3, 1, 0, 2, 1, 0],
        &[0x14, 3, 1, 0, 1, 1],
        &[0x17, 3, 1, 0, 0],
        &[0x18, 3, 1, 0, 0],
        &[0x16, 2, 0, 0, 5, 1, 0, 0, 1, 3],
        &[0x80, 0x2e, 1, 3, 1, 0, 0],
    ];
    let sent = |rule: &str, bytes: &'static [u8]| {
        let mut world = World::new(&[rule]);
        world.resolve("api.example.org", "127.0.0.1");
        world.echo("127.0.0.1:8443");
        world.start();
        let mut stream = world.connect("api.example.org", 8443);
        stream.write_all(bytes).expect("sent");
        let mut answer = vec![0; bytes.len()];
        stream.read_exact(&mut answer).map_err(|_| world.refusal(8443).0)
    };
    for bytes in beginnings {
        assert_eq!(sent("api.example.org:8443 sni=any", bytes), Ok(()), "the way is open: {bytes:?}");

        assert_eq!(sent("api.example.org:8443", bytes), Err(Reason::NotTls), "{bytes:?}");
    }
    let length_first: &[u8] = &[0x9a, 0, 0, 1, 5];
    assert_eq!(sent("api.example.org:8443", length_first), Ok(()), "as databases begin");
}

#[test]
fn a_server_that_speaks_first_is_heard_on_a_port_without_tls() {
    let mut world = World::new(&["git.example.org:22"]);
    world.resolve("git.example.org", "127.0.0.1");
    world.serve("127.0.0.1:22", |mut stream| stream.write_all(b"SSH-2.0-x\r\n").expect("sent"));
    world.start();
    let mut banner = String::new();
    world.connect("git.example.org", 22).read_to_string(&mut banner).expect("a banner");
    assert_eq!(banner, "SSH-2.0-x\r\n");
}

#[test]
fn the_hosts_dns_hears_of_a_name_only_when_it_is_connected_to() {
    let mut world = World::new(&["api.example.org:5432", "*.wide.example:5432"]);
    let questions = world.dns(|_, _| Some(Ipv4Addr::new(203, 0, 113, 7).into()));
    world.echo("203.0.113.7:5432");
    world.start();
    for name in ["c2VjcmV0.api.example.org", "c2VjcmV0.attacker.test", "c2VjcmV0.wide.example.attacker.test"]
    {
        for kind in [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::HTTPS, RecordType::NS] {
            assert_eq!(world.ask(name, kind).metadata.response_code, ResponseCode::NXDomain);
        }
        let name = name.to_lowercase();
        world.record(|record| record.protocol == Protocol::Dns && record.name.as_ref() == Some(&name));
    }
    for name in ["api.example.org", "c2VjcmV0.wide.example"] {
        world.ask(name, RecordType::TXT);
        world.address(name);
    }
    assert_eq!(questions.all(), Vec::<String>::new(), "no question was passed on");

    assert_eq!(greet(world.connect("api.example.org", 5432)).expect("carried"), "hello");

    let asked = questions.all();
    assert!(!asked.is_empty(), "this very DNS is the one that is asked");
    assert!(asked.iter().all(|name| name == "api.example.org."), "{asked:?}");
}

#[test]
fn the_hosts_own_list_of_names_is_used() {
    let mut world = World::new(&["in-hosts.test:5432"]);
    world.echo("203.0.113.9:5432");
    world.start();
    let answer = greet(world.connect("in-hosts.test", 5432));
    let record = world.record(|record| record.port == 5432);
    assert_eq!(answer.ok().as_deref(), Some("hello"), "{record:?}");
}

#[test]
fn a_host_without_a_nameserver_still_knows_its_own_list() {
    let mut world = World::on(&["in-hosts.test:5432"], "# no server\n");
    world.echo("203.0.113.9:5432");
    world.start();
    assert_eq!(greet(world.connect("in-hosts.test", 5432)).expect("carried"), "hello");
}

#[test]
fn a_name_that_leads_around_the_host_is_refused_unless_a_rule_opens_the_address() {
    let decoy = |allow: &[&str]| {
        let mut world = World::new(allow);
        world.dns(|_, _| Some(Ipv4Addr::LOCALHOST.into()));
        world.echo("127.0.0.1:5432");
        world.start();
        let answer = greet(world.connect("inward.example.org", 5432)).ok();
        (answer, world.record(|record| record.port == 5432).verdict)
    };
    let (answer, _) = decoy(&["inward.example.org:5432", "127.0.0.1:5432"]);
    assert_eq!(answer.as_deref(), Some("hello"), "the way is open where a rule opens it");

    let (answer, verdict) = decoy(&["inward.example.org:5432"]);

    assert_eq!(answer, None);
    let Verdict::Refused { reason, detail, remedy } = verdict else { panic!("{verdict:?}") };
    assert_eq!(reason, Reason::GuardedAddress);
    assert_eq!(detail, "inward.example.org leads to 127.0.0.1, a loopback address (127.0.0.0/8)");
    assert_eq!(remedy.as_deref(), Some(r#"[network] allow = ["127.0.0.1:5432"]"#));
}

#[test]
fn the_hosts_own_address_is_opened_by_that_address_only() {
    let own = Ipv4Addr::new(203, 0, 113, 20);
    let reach = |allow: &[&str]| {
        let mut world = World::new(allow);
        world.dns(move |_, _| Some(own.into()));
        world.outside.own(own);
        world.outside.run(move || {
            let listener = std::net::TcpListener::bind((own, 5432)).expect("a listener");
            std::thread::spawn(move || listener.accept().map(|(mut stream, _)| stream.write_all(b"hello")))
        });
        world.start();
        greet(world.connect("host.example.org", 5432)).map_err(|_| world.refusal(5432).1)
    };
    assert_eq!(
        reach(&["host.example.org:5432", "203.0.113.20:5432"]).as_deref(),
        Ok("hello"),
        "the way is open"
    );

    let refused = reach(&["host.example.org:5432", "203.0.113.0/24:5432"]).expect_err("refused");

    assert_eq!(refused, "host.example.org leads to 203.0.113.20, an address of this host (203.0.113.20)");
}

#[test]
fn a_name_that_has_only_ipv6_outside_is_reached_there() {
    let mut world = World::new(&["six.example.org:5432"]);
    world.dns(|_, _| Some("2001:db8::7".parse().expect("an address")));
    world.echo("[2001:db8::7]:5432");
    world.start();
    assert_eq!(greet(world.connect("six.example.org", 5432)).expect("carried"), "hello");
    let record = world.record(|record| record.port == 5432);
    assert_eq!(record.address, Some("2001:db8::7".parse().expect("an address")));
}

#[test]
fn a_guarded_address_is_told_of_although_the_name_has_no_other() {
    for inward in ["::1", "::ffff:127.0.0.1"] {
        let mut world = World::new(&["six.example.org:5432"]);
        world.dns(move |_, _| Some(inward.parse::<std::net::Ipv6Addr>().expect("an address").into()));
        world.start();

        greet(world.connect("six.example.org", 5432)).expect_err("refused");

        let record = world.record(|record| record.port == 5432);
        let Verdict::Refused { reason, .. } = record.verdict else { panic!("{record:?}") };
        assert_eq!(reason, Reason::GuardedAddress);
    }
}

#[test]
fn a_listener_may_stand_on_the_address_of_one_name() {
    let mut world = World::new(&["api.example.org:9443"]);
    let name = "api.example.org".parse().expect("a name");
    let placed = stockade::policy::synthetic::place_all("test", std::iter::once(&name))[&name];
    let listener = world.inside.run(move || std::net::TcpListener::bind((placed, 9443)).expect("a listener"));
    world.add_made(Socket::Listener { port: 9443, within: false }, listener.into());
    world.resolve("api.example.org", "127.0.0.1");
    world.serve("127.0.0.1:9443", |mut stream| stream.write_all(b"hello").expect("sent"));
    world.start();
    assert_eq!(greet(world.connect("api.example.org", 9443)).expect("carried"), "hello");

    let refused = world.connect_to(Ipv4Addr::new(203, 0, 113, 7), 9443).expect_err("nobody listens there");

    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(world.refusal(9443).0, Reason::Address);
}

#[test]
fn a_name_that_is_rebound_to_the_host_leads_nowhere() {
    let mut world = World::new(&["rebound.example.org:5432"]);
    let public = Ipv4Addr::new(203, 0, 113, 7);
    world.dns(move |_, times| Some(if times == 0 { public } else { Ipv4Addr::LOCALHOST }.into()));
    world.echo("203.0.113.7:5432");
    world.echo("127.0.0.1:5432");
    world.start();
    assert_eq!(greet(world.connect("rebound.example.org", 5432)).expect("the first time"), "hello");
    assert_eq!(world.record(|record| record.port == 5432).address, Some(public.into()));

    greet(world.connect("rebound.example.org", 5432)).expect_err("the second time");

    assert_eq!(world.refusal(5432).0, Reason::GuardedAddress);
}

#[test]
fn the_agents_own_loopback_is_not_the_gateways_business() {
    let mut world = World::new(&["api.example.org:443"]);
    world.start();
    assert!(world.is_refused(Ipv4Addr::LOCALHOST, 443));
    let own = world.inside.run(|| std::net::TcpListener::bind("127.0.0.1:3000").map(drop));
    own.expect("other ports are free for the agent's own servers");
    assert_eq!(world.finish(), [], "nothing of it is reported");
}
