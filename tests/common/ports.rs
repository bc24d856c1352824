//! Ports of the loopback for servers that have to be told theirs.

use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what the kernel gives to whoever asks for any (net.ipv4.ip_local_port_range of ip(7)): nobody comes by one of these by chance.
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// One that nobody listens on, and that nobody else in this process gets.
pub fn free() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        let spread = std::process::id() * 97 % u32::from(LAST - FIRST);
        AtomicU16::new(FIRST + u16::try_from(spread).expect("below the last"))
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let step = |port| Some(if port >= LAST { FIRST } else { port + 1 });
    let mut ports = std::iter::repeat_with(|| {
        next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).expect("there is always a next")
    });
    ports.find(is_free).expect("a port of the loopback")
}
