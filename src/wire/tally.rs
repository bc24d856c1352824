//! Bytes over the network by where they went, in a file: whoever outlives the gateway, or its shim, finds there what was
//! carried to the last write.
//!
//! The gateway writes all of it after each move; what it finds there at its start is an earlier gateway's, and goes on.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use super::egress::Protocol;
use super::service::usage::Carried;

/// Where a connection leads, in the words and the order of the file.
const CLASSES: [&str; 6] = ["public", "private", "loopback", "published", "dns", "unknown"];

/// Bytes of the file: two numbers a class, little endian.
pub const LENGTH: usize = CLASSES.len() * 16;

/// Bytes by where they went.
pub type Classes = BTreeMap<&'static str, Carried>;

/// The gateway's end.
#[derive(Debug)]
pub struct Tally {
    file: File,
    counted: Cell<[Carried; CLASSES.len()]>,
}

impl Tally {
    /// Goes on with what is there.
    ///
    /// # Errors
    /// As read(2).
    pub fn resume(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let counted = Cell::new(numbers(&file)?);
        Ok(Self { file, counted })
    }

    /// So much more was carried. A file in memory of a fixed size takes it.
    pub fn add(&self, protocol: Protocol, address: Option<IpAddr>, sent: u64, received: u64) {
        let mut counted = self.counted.get();
        let of = &mut counted[class(protocol, address)];
        of.sent = of.sent.saturating_add(sent);
        of.received = of.received.saturating_add(received);
        self.counted.set(counted);
        let bytes: Vec<u8> =
            counted.iter().flat_map(|of| [of.sent, of.received]).flat_map(u64::to_le_bytes).collect();
        let _ = self.file.write_all_at(&bytes, 0);
    }
}

/// What was carried so far; nothing of classes that nothing went to.
///
/// # Errors
/// As read(2).
pub fn read(file: &File) -> io::Result<Classes> {
    let counted = CLASSES.into_iter().zip(numbers(file)?);
    Ok(counted.filter(|(_, carried)| *carried != Carried::default()).collect())
}

/// A file that is shorter was never written to.
fn numbers(file: &File) -> io::Result<[Carried; CLASSES.len()]> {
    let mut bytes = [0; LENGTH];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let number = |at: usize| {
        let bytes = bytes[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    Ok(std::array::from_fn(|class| Carried { sent: number(class * 16), received: number(class * 16 + 8) }))
}

fn class(protocol: Protocol, address: Option<IpAddr>) -> usize {
    match (protocol, address) {
        (Protocol::Published, _) => 3,
        (Protocol::Dns, _) => 4,
        (_, None) => 5,
        (_, Some(address)) if address.is_loopback() => 2,
        (_, Some(address)) if is_private(address) => 1,
        (_, Some(_)) => 0,
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let carrier = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_link_local() || carrier
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private(v4.into()),
            None => v6.is_unique_local() || v6.is_unicast_link_local(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_by_where_they_went_and_the_next_gateway_goes_on() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(read(&file).expect("read"), Classes::new(), "nothing was carried yet");
        let address = |text: &str| Some(text.parse().expect("an address"));
        let resume = || Tally::resume(file.try_clone().expect("a copy").into()).expect("resumed");
        let tally = resume();
        tally.add(Protocol::Tcp, address("1.1.1.1"), 10, 1);
        tally.add(Protocol::Http, address("10.0.0.1"), 20, 2);
        tally.add(Protocol::Tcp, address("100.64.0.1"), 1, 0);
        tally.add(Protocol::Published, address("127.0.0.1"), 3, 4);
        drop(tally);
        let next = resume();
        next.add(Protocol::Tcp, address("2606:4700::1"), 5, 5);
        next.add(Protocol::Tcp, address("::ffff:192.168.0.1"), 1, 0);
        next.add(Protocol::Tcp, None, u64::MAX, 0);
        next.add(Protocol::Tcp, None, 1, 0);
        let carried = |sent, received| Carried { sent, received };
        let expected = [
            ("public", carried(15, 6)),
            ("private", carried(22, 2)),
            ("published", carried(3, 4)),
            ("unknown", carried(u64::MAX, 0)),
        ];
        assert_eq!(read(&file).expect("read"), expected.into());
    }
}
