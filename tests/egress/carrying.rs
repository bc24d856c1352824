//! Connections that are let through, and what is known of them afterwards.

use std::io::{Read, Write};
use std::net::Shutdown;

use stockade::wire::egress::Verdict;

use crate::world::World;

#[test]
fn a_name_is_reached_where_the_site_says_and_accounted_for() {
    let mut world = World::new(&["db.example.org:5432"]);
    world.resolve("db.example.org", "127.0.0.1");
    world.echo("127.0.0.1:5432");
    world.start();

    let mut stream = world.connect("db.example.org", 5432);
    stream.write_all(b"hello").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");

    assert_eq!(answer, "hello");
    let record = world.record(|_| true);
    assert_eq!(record.name.as_deref(), Some("db.example.org"), "{record:?}");
    assert_eq!(record.address, Some([127, 0, 0, 1].into()));
    assert_eq!((record.port, record.sent, record.received, record.count), (5432, 5, 5, 1));
    assert_eq!(record.verdict, Verdict::Allowed { rule: "db.example.org:5432".into(), trouble: None });
    assert_eq!(world.finish(), []);
}
