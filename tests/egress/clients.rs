//! Programs as people have them, inside, with no setting for a proxy: they resolve, connect, and get their answer.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::tls::Tls;
use crate::world::World;

const URL: &str = "https://api.example.org/";

/// How each program fetches [`URL`], trusting the authority in the file CA.
const CLIENTS: &[(&str, &[&str])] = &[
    ("curl", &["curl", "--silent", "--show-error", "--cacert", "CA", URL]),
    (
        "python3",
        &[
            "python3",
            "-c",
            "import ssl, sys, urllib.request as r; print(r.urlopen(sys.argv[1], \
             context=ssl.create_default_context(cafile=sys.argv[2])).read().decode())",
            URL,
            "CA",
        ],
    ),
    (
        "node",
        &[
            "node",
            "-e",
            "fetch(process.argv[1]).then(r => r.text()).then(console.log, e => console.log(e.cause))",
            URL,
        ],
    ),
];

#[test]
fn programs_that_know_nothing_of_a_gateway_get_their_answer() {
    let tls = Tls::new(&["api.example.org"]);
    let mut world = World::new(&["api.example.org:443"]);
    world.resolve("api.example.org", "127.0.0.1");
    let accept = tls.server();
    world.serve("127.0.0.1:443", move |stream| {
        let mut stream = BufReader::new(accept(stream));
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|length| length > 2) {
            line.clear();
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nreached";
        let _ = stream.get_mut().write_all(answer);
        stream.get_mut().conn.send_close_notify();
        let _ = stream.get_mut().flush();
    });
    world.start();
    let bundle = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(bundle.path(), &tls.pem).expect("written");
    std::fs::set_permissions(bundle.path(), std::fs::Permissions::from_mode(0o644)).expect("readable");
    let ca = bundle.path().display().to_string();
    let mut ran = 0;
    for (name, command) in CLIENTS {
        let command: Vec<String> =
            command.iter().map(|word| if *word == "CA" { ca.clone() } else { (*word).to_owned() }).collect();
        let ca = ca.clone();
        let output = world.inside.run(move || {
            Command::new(&command[0]).args(&command[1..]).env("NODE_EXTRA_CA_CERTS", ca).output()
        });
        match output {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                assert_eq!(said.trim(), "reached", "{name}: {}", String::from_utf8_lossy(&output.stderr));
                ran += 1;
            }
            Err(error) => eprintln!("left out: {name}, which does not start: {error}"),
        }
    }
    if ran > 0 {
        let carried = world.record(|record| record.name.as_deref() == Some("api.example.org"));
        assert!(carried.sent > 0 && carried.received > 0, "{carried:?}");
    }
}
