//! A sandbox's network, a host's network, and a gateway between them: the real process, started as the shim does.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, RecordType};
use stockade::netns::{self, DNS, Door, Range};
use stockade::wire::egress::{Config, FromEgress, GATEWAY_ADDRESS, Record, Socket, ToEgress, Verdict};

use crate::room::Room;

/// A uid that owns nothing.
const NOBODY: u32 = 65_534;
/// Long enough for anything that is going to happen; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Both networks, the sockets between them, and the gateway.
pub struct World {
    /// Where the agent is.
    pub inside: Room,
    /// Where the gateway and the servers are.
    pub outside: Room,
    /// What the gateway works by.
    pub config: Config,
    sockets: Vec<OwnedFd>,
    gateway: Option<Gateway>,
    records: Vec<Record>,
}

struct Gateway {
    process: Child,
    control: OwnedFd,
}

impl World {
    /// A sandbox with these destinations, and no gateway yet. The host's DNS is on 127.0.0.1.
    pub fn new(allow: &[&str]) -> Self {
        Self::on(allow, "nameserver 127.0.0.1\n")
    }

    /// The same, on a host with another resolv.conf.
    pub fn on(allow: &[&str], resolv_conf: &str) -> Self {
        let everywhere = [DNS, 22, 80, 443, 5432, 8443].map(|port| Door::Everywhere { port });
        Self::with(allow, resolv_conf, everywhere.into())
    }

    /// A sandbox whose one port beside DNS is listened on within `ranges`.
    pub fn within(allow: &[&str], port: u16, ranges: Vec<Range>) -> Self {
        let doors = vec![Door::Everywhere { port: DNS }, Door::Within { port, ranges, except: Vec::new() }];
        Self::with(allow, "nameserver 127.0.0.1\n", doors)
    }

    /// Its sockets are made as the shim makes them.
    fn with(allow: &[&str], resolv_conf: &str, doors: Vec<Door>) -> Self {
        let mut world = Self::bare(allow, resolv_conf);
        let listeners = doors.iter().map(|door| match door {
            Door::Everywhere { port: DNS } => Socket::DnsTcp,
            door => Socket::Listener { port: door.port(), within: matches!(door, Door::Within { .. }) },
        });
        let kinds: Vec<Socket> = [Socket::DnsUdp, Socket::Monitor].into_iter().chain(listeners).collect();
        let sockets = world.inside.run(move || {
            netns::own_every_address(GATEWAY_ADDRESS).expect("routes");
            netns::open_doors(&doors).expect("doors")
        });
        kinds.into_iter().zip(sockets).for_each(|(kind, socket)| world.add_made(kind, socket));
        world
    }

    fn bare(allow: &[&str], resolv_conf: &str) -> Self {
        let inside = Room::open(&format!("nameserver {GATEWAY_ADDRESS}\n"), "127.0.0.1 localhost\n");
        let outside = Room::open(resolv_conf, "127.0.0.1 localhost\n203.0.113.9 in-hosts.test\n");
        let allow: Vec<String> = allow.iter().map(|text| (*text).to_owned()).collect();
        let config = Config { sandbox: "test".into(), allow, ..Config::default() };
        Self { inside, outside, config, sockets: Vec::new(), gateway: None, records: Vec::new() }
    }

    /// Adds a socket that the test has made.
    pub fn add_made(&mut self, kind: Socket, socket: OwnedFd) {
        self.config.sockets.push(kind);
        self.sockets.push(socket);
    }

    /// The site says where a name leads.
    pub fn resolve(&mut self, name: &str, address: &str) {
        self.config.resolve.insert(name.into(), vec![address.parse().expect("an address")]);
    }

    /// Starts a gateway with the sockets, and waits until it is confined.
    pub fn start(&mut self) {
        self.spawn();
        match self.next() {
            FromEgress::Ready => {}
            other => panic!("instead of Ready: {other:?}"),
        }
    }

    /// Starts a gateway.
    pub fn spawn(&mut self) {
        let (ours, theirs) = stockade::wire::pair().expect("a socket pair");
        rustix::net::sockopt::set_socket_timeout(&ours, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))
            .expect("a time-out");
        let mut config = tempfile::tempfile().expect("a file");
        config.write_all(&serde_json::to_vec(&self.config).expect("JSON")).expect("written");
        let clone = |fd: &OwnedFd| fd.as_fd().try_clone_to_owned().expect("a copy");
        let given = [theirs, OwnedFd::from(config)].into_iter().chain(self.sockets.iter().map(clone));
        let mappings =
            (3..).zip(given).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
        let process = self.outside.run(move || {
            // By descriptor: the uid may not be able to look into the directory of the checkout.
            let program =
                std::fs::File::open(env!("CARGO_BIN_EXE_stockade-egress")).expect("the gateway is built");
            // Above the places of the descriptors that are handed over.
            let program = rustix::io::fcntl_dupfd_cloexec(&program, 100).expect("a high number");
            Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
                .arg0("stockade-egress")
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .uid(NOBODY)
                .gid(NOBODY)
                .fd_mappings(mappings)
                .expect("the descriptors fit")
                .spawn()
                .expect("the gateway starts")
        });
        self.gateway = Some(Gateway { process, control: ours });
    }

    /// The gateway's process.
    pub fn pid(&self) -> u32 {
        self.gateway.as_ref().expect("a gateway").process.id()
    }

    /// The gateway dies.
    pub fn kill(&mut self) {
        let mut gateway = self.gateway.take().expect("a gateway");
        gateway.process.kill().expect("killed");
        gateway.process.wait().expect("reaped");
    }

    /// Tells the gateway something.
    pub fn tell(&self, message: &ToEgress) {
        let bytes = message.encode().expect("a message");
        stockade::egress::control::transmit(&self.gateway.as_ref().expect("a gateway").control, &bytes)
            .expect("sent");
    }

    /// The gateway's next message.
    pub fn next(&mut self) -> FromEgress {
        let control = &self.gateway.as_ref().expect("a gateway").control;
        let mut buffer = vec![0; stockade::wire::egress::LONGEST];
        let flags = rustix::net::RecvFlags::empty();
        let received = rustix::io::retry_on_intr(|| rustix::net::recv(control, &mut *buffer, flags));
        let (_, length) = received.expect("the gateway says something in time");
        FromEgress::decode(&buffer[..length]).unwrap_or_else(|error| panic!("{length} bytes: {error}"))
    }

    /// Waits for a record that is like this; what else comes is kept for later.
    pub fn record(&mut self, like: impl Fn(&Record) -> bool) -> Record {
        loop {
            if let Some(at) = self.records.iter().position(&like) {
                return self.records.remove(at);
            }
            match self.next() {
                FromEgress::Connection(record) => self.records.push(record),
                FromEgress::Named { .. } => {}
                other => panic!("while waiting for a record: {other:?}; so far {:?}", self.records),
            }
        }
    }

    /// Waits for a refusal of this port, and returns its detail and remedy.
    pub fn refusal(&mut self, port: u16) -> (stockade::wire::egress::Reason, String, Option<String>) {
        let record =
            self.record(|record| record.port == port && matches!(record.verdict, Verdict::Refused { .. }));
        match record.verdict {
            Verdict::Refused { reason, detail, remedy } => (reason, detail, remedy),
            Verdict::Allowed { .. } => unreachable!("only refusals are waited for"),
        }
    }

    /// Ends the gateway as the shim does, and returns what it still had to say.
    pub fn finish(&mut self) -> Vec<Record> {
        self.tell(&ToEgress::Finish);
        loop {
            match self.next() {
                FromEgress::Connection(record) => self.records.push(record),
                FromEgress::Named { .. } => {}
                FromEgress::Done => break,
                other => panic!("while it finishes: {other:?}"),
            }
        }
        let status = self.gateway.take().expect("a gateway").process.wait().expect("reaped");
        assert!(status.success(), "{status}");
        std::mem::take(&mut self.records)
    }

    /// What DNS says inside.
    pub fn ask(&self, name: &str, kind: RecordType) -> Message {
        let name = format!("{name}.");
        self.inside.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
            // As resolvers do: a datagram gets lost where a burst came before it.
            socket.set_read_timeout(Some(PATIENCE / 30)).expect("a time-out");
            // Whatever address the agent thinks that its server has.
            socket.connect("9.9.9.9:53").expect("connected");
            let mut question = Message::query();
            question.add_query(Query::query(Name::from_ascii(&name).expect("a name"), kind));
            let packet = question.to_vec().expect("a packet");
            let mut buffer = [0; 1500];
            let tries = (0..30).find_map(|_| {
                socket.send(&packet).expect("sent");
                socket.recv(&mut buffer).ok()
            });
            let length = tries.expect("an answer");
            let answer = Message::from_vec(&buffer[..length]).expect("a message");
            assert_eq!(answer.metadata.id, question.metadata.id);
            answer
        })
    }

    /// The synthetic address of a name.
    pub fn address(&self, name: &str) -> Ipv4Addr {
        let answer = self.ask(name, RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
        match answer.answers.first().map(|record| &record.data) {
            Some(RData::A(A(address))) => *address,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Connects from inside to a name.
    pub fn connect(&self, name: &str, port: u16) -> TcpStream {
        let address = self.address(name);
        self.connect_to(address, port).expect("the listener accepts")
    }

    /// Connects from inside to an address.
    pub fn connect_to(&self, address: impl Into<IpAddr>, port: u16) -> std::io::Result<TcpStream> {
        let address = SocketAddr::new(address.into(), port);
        self.inside.run(move || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        })
    }

    /// Whether the gateway resets a connection to this address. It may do so before connect(2) has returned.
    pub fn is_refused(&self, address: impl Into<IpAddr>, port: u16) -> bool {
        match self.connect_to(address, port) {
            Ok(mut stream) => is_cut_off(&mut stream),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// A server outside that sends back what it gets until the end, then ends.
    pub fn echo(&self, address: &'static str) {
        self.serve(address, |mut stream| {
            let mut buffer = [0; 16384];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
        });
    }

    /// A server outside.
    pub fn serve(&self, address: &'static str, answer: impl Fn(TcpStream) + Send + Sync + 'static) {
        let address: SocketAddr = address.parse().expect("an address");
        if !address.ip().is_loopback() {
            self.outside.adopt(address.ip());
        }
        let answer = Arc::new(answer);
        self.outside.run(move || {
            // A route is enough for bind(2) to take an IPv4 address as one's own, but not for IPv6.
            let any = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), address.port());
            let bound = if address.is_ipv6() { any } else { address };
            let listener = TcpListener::bind(bound).expect("a listener");
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let answer = Arc::clone(&answer);
                    std::thread::spawn(move || answer(stream));
                }
            });
        });
    }

    /// The host's DNS: answers A questions by `zone`, and remembers all that was asked.
    pub fn dns(&self, zone: impl Fn(&str, usize) -> Option<IpAddr> + Send + 'static) -> Questions {
        let asked = Questions::default();
        let noted = asked.clone();
        self.outside.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("a socket");
            std::thread::spawn(move || {
                let mut buffer = [0; 1500];
                while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    let question = Message::from_vec(&buffer[..length]).expect("a question");
                    let query = question.queries[0].clone();
                    let name = query.name().to_ascii().to_lowercase();
                    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
                    answer.add_query(query.clone());
                    let times = noted.note(&name, query.query_type());
                    match zone(name.trim_end_matches('.'), times) {
                        Some(address) if query.query_type() == kind(address) => {
                            let data = match address {
                                IpAddr::V4(v4) => RData::A(A(v4)),
                                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
                            };
                            answer.add_answer(hickory_proto::rr::Record::from_rdata(
                                query.name().clone(),
                                0,
                                data,
                            ));
                        }
                        Some(_) => {}
                        None => answer.metadata.response_code = ResponseCode::NXDomain,
                    }
                    let _ = socket.send_to(&answer.to_vec().expect("a packet"), client);
                }
            });
        });
        asked
    }
}

/// The questions that reached the host's DNS.
#[derive(Clone, Default)]
pub struct Questions(Arc<Mutex<Vec<(String, RecordType)>>>);

impl Questions {
    /// Notes one; returns how often it was asked before.
    fn note(&self, name: &str, kind: RecordType) -> usize {
        let mut asked = self.0.lock().expect("nobody panicked");
        let before = asked.iter().filter(|(n, k)| n == name && *k == kind).count();
        asked.push((name.to_owned(), kind));
        before
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("nobody panicked").iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            let _ = gateway.process.kill();
            let _ = gateway.process.wait();
        }
    }
}

fn kind(address: IpAddr) -> RecordType {
    if address.is_ipv4() { RecordType::A } else { RecordType::AAAA }
}

/// Whether the other side has reset the connection, or ended it without a byte.
pub fn is_cut_off(stream: &mut TcpStream) -> bool {
    loop {
        match stream.read(&mut [0]) {
            Ok(length) => break length == 0,
            // A machine that was stopped for a moment interrupts every read that has a time-out.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
