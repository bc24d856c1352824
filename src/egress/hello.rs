//! The first message of TLS: which host the client says it wants.
//!
//! Only what is needed for that is read, and whatever is ambiguous about it is an error: two names in one hello would let
//! the gateway see the first and a server the second.

use crate::policy::Hostname;

/// Longest hello. Real ones, with post-quantum keys in them, have 2 KiB.
pub const LONGEST: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
/// Every kind of record: a change of ciphers, an alert, a handshake, data, a heartbeat. Servers read on after some of them,
/// so that what begins with any is TLS.
const RECORDS: std::ops::RangeInclusive<u8> = 20..=24;
/// The hello of SSL 2, which servers take to this day: two bytes of length with this bit, then its kind. It names no host.
const SSL2: u8 = 0x80;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
/// encrypted_client_hello, and its predecessor encrypted_server_name.
pub(super) const ENCRYPTED: [u16; 2] = [0xfe0d, 0xffce];

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The beginning of a hello.
    More,
    /// No TLS.
    NotTls,
    /// TLS, but not a hello that says one thing.
    Broken(&'static str),
    /// A hello.
    Hello(Hello),
}

/// What a hello says about the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// The name, as sent.
    pub name: Option<String>,
    /// Whether it carries a second, encrypted hello.
    pub encrypted: bool,
}

impl Hello {
    /// Whether this hello wants `name` and nothing else.
    pub fn check(&self, name: &Hostname) -> Result<(), String> {
        if self.encrypted {
            // Not even with the right name outside: whom the inner one names, only the server can tell, and a server
            // for many sites (a CDN) would lead to another.
            return Err(format!("the TLS hello to {name} hides another one (encrypted client hello)"));
        }
        match &self.name {
            None => Err(format!("the TLS hello to {name} names no host")),
            Some(given) if given.eq_ignore_ascii_case(name.as_str()) => Ok(()),
            Some(given) => {
                let given: String = given.escape_debug().take(253).collect();
                Err(format!("the TLS hello to {name} names another host, {given}"))
            }
        }
    }
}

/// Reads what a client has sent so far.
pub fn read(bytes: &[u8]) -> Progress {
    match bytes {
        [] => Progress::More,
        [first, ..] if RECORDS.contains(first) => records(bytes),
        // Other protocols begin with such a byte as well (a length, in MySQL); their third is another.
        [first, _, kind, ..] if first & SSL2 != 0 && *kind == CLIENT_HELLO => {
            Progress::Broken("a hello of SSL 2, which names no host")
        }
        [first] | [first, _] if first & SSL2 != 0 => Progress::More,
        _ => Progress::NotTls,
    }
}

fn records(bytes: &[u8]) -> Progress {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        if let Some(progress) = hello(&message) {
            return progress;
        }
        // A record: type, version, length, content. A hello may be spread over several.
        let [kind, tail @ ..] = rest else { return Progress::More };
        if *kind != HANDSHAKE {
            return Progress::Broken("a record that is no handshake");
        }
        let [major, tail @ ..] = tail else { return Progress::More };
        if *major != 3 {
            return Progress::Broken("an unknown version");
        }
        let [_minor, high, low, tail @ ..] = tail else { return Progress::More };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > LONGEST {
            return Progress::Broken("a record of an impossible length");
        }
        message.extend_from_slice(&tail[..length.min(tail.len())]);
        if tail.len() < length {
            return hello(&message).unwrap_or(Progress::More);
        }
        rest = &tail[length..];
    }
}

/// Reads a handshake message; `None` if it is not whole yet.
fn hello(message: &[u8]) -> Option<Progress> {
    let (kind, rest) = message.split_first()?;
    if *kind != CLIENT_HELLO {
        return Some(Progress::Broken("the first message is no client hello"));
    }
    let (length, body) = rest.split_at_checked(3)?;
    let length = usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
    if length > LONGEST {
        return Some(Progress::Broken("a hello longer than 16 KiB"));
    }
    let body = body.get(..length)?;
    Some(parse(body).map_or(Progress::Broken("a malformed hello"), |found| match found {
        Ok(hello) => Progress::Hello(hello),
        Err(broken) => Progress::Broken(broken),
    }))
}

/// `None`: it ends in the middle of something.
fn parse(body: &[u8]) -> Option<Result<Hello, &'static str>> {
    // version, random
    let (_, rest) = body.split_at_checked(2 + 32)?;
    let (_session, rest) = short_vector(rest)?;
    let (_ciphers, rest) = vector(rest)?;
    let (_compressions, rest) = short_vector(rest)?;
    let mut found = Hello::default();
    if rest.is_empty() {
        return Some(Ok(found)); // before extensions: no name
    }
    let (mut extensions, rest) = vector(rest)?;
    if !rest.is_empty() {
        return Some(Err("something behind the hello's extensions"));
    }
    while !extensions.is_empty() {
        let (kind, rest) = number(extensions)?;
        let (content, rest) = vector(rest)?;
        extensions = rest;
        if kind == SERVER_NAME {
            match (found.name.is_some(), server_name(content)?) {
                (false, Some(name)) => found.name = Some(name),
                (true, _) | (_, None) => return Some(Err("a hello with several names")),
            }
        }
        found.encrypted |= ENCRYPTED.contains(&kind);
    }
    Some(Ok(found))
}

/// The one name of a server_name extension; `Some(None)` if there is not exactly one.
fn server_name(content: &[u8]) -> Option<Option<String>> {
    const HOST_NAME: u8 = 0;
    let (list, rest) = vector(content)?;
    let (kind, entry) = list.split_first()?;
    let (name, more) = vector(entry)?;
    if *kind != HOST_NAME || !more.is_empty() || !rest.is_empty() {
        return Some(None);
    }
    Some(Some(String::from_utf8_lossy(name).into_owned()))
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_at_checked(2)?;
    Some((u16::from_be_bytes([number[0], number[1]]), rest))
}

/// Content with its length in two bytes in front.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes)?;
    rest.split_at_checked(usize::from(length))
}

/// Content with its length in one byte in front.
fn short_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}
