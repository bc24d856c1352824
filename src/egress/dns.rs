//! Answers to DNS questions, out of the policy alone. No question is ever passed on.
//!
//! ```text
//!  a name that a rule covers   A: its synthetic address   AAAA and all else: nothing, but the name exists
//!  one above such a name       nothing, and the refusal is reported: NXDOMAIN would deny what is below, too (RFC 8020)
//!  any other name              NXDOMAIN, and the refusal is reported
//!  a synthetic address (PTR)   its name
//! ```

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::Names;
use super::rules::{Refusal, Rules};
use crate::policy::Hostname;
use crate::policy::hostname::GATEWAY;
use crate::wire::egress::Reason;

/// Short enough that a name which made room for another is asked for again, long enough not to be asked all the time.
pub(super) const TTL: u32 = 60;
/// How long a client may remember that there is nothing.
const NEGATIVE_TTL: u32 = 10;
/// Largest UDP payload that this server claims to take; a question is never near it.
const PAYLOAD: u16 = 1232;

/// An answer, and what is to be known about it elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The packet.
    pub bytes: Vec<u8>,
    /// The name that was refused.
    pub refused: Option<(String, Refusal)>,
    /// A passing name that now has this address.
    pub named: Option<(Hostname, Ipv4Addr)>,
}

/// Answers one packet; `None` if it is not even the beginning of a question.
pub fn answer(packet: &[u8], rules: &Rules, names: &mut Names) -> Option<Answer> {
    let plain = |message: Message| {
        let bytes = message.to_vec().ok()?;
        Some(Answer { bytes, refused: None, named: None })
    };
    let question = match Message::from_vec(packet) {
        Ok(question) if question.metadata.message_type == MessageType::Query => question,
        Ok(_) => return None,
        Err(_) => {
            let (id, rest) = packet.split_first_chunk::<2>()?;
            let is_question = packet.len() >= 12 && rest[0] & 0x80 == 0;
            let id = u16::from_be_bytes(*id);
            let refusal = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            return is_question.then(|| plain(refusal))?;
        }
    };
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.recursion_desired = question.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        reply.set_edns(edns);
    }
    reply.add_queries(question.queries.iter().cloned());
    let mut fail = |code| {
        reply.metadata.response_code = code;
        plain(reply.clone())
    };
    match question.queries.as_slice() {
        _ if question.metadata.op_code != OpCode::Query => fail(ResponseCode::NotImp),
        [query] if query.query_class() == DNSClass::IN => {
            let known = Known { rules, names };
            let (refused, named) = known.complete(&mut reply, query);
            Some(Answer { bytes: reply.to_vec().ok()?, refused, named })
        }
        [_] => fail(ResponseCode::Refused),
        _ => fail(ResponseCode::FormErr),
    }
}

/// What answers are made from.
struct Known<'a> {
    rules: &'a Rules,
    names: &'a mut Names,
}

type Noted = (Option<(String, Refusal)>, Option<(Hostname, Ipv4Addr)>);

impl Known<'_> {
    /// Puts the answer to `query` into `reply`.
    fn complete(self, reply: &mut Message, query: &Query) -> Noted {
        let owner = query.name().clone();
        let shown = query.name().to_ascii();
        let Ok(name) = shown.parse::<Hostname>() else {
            nothing(reply, owner, ResponseCode::NXDomain);
            let shown: String = shown.chars().take(253).collect();
            let detail = format!("{shown} is not the name of a host");
            return (Some((shown, Refusal::final_one(Reason::Name, detail))), None);
        };
        if name.as_str().ends_with(".arpa") {
            self.reverse(reply, query);
            return (None, None);
        }
        let is_local = name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
        let is_known = is_local || name.as_str() == GATEWAY || self.rules.knows_name(&name);
        if !is_known {
            let is_above = self.rules.knows_names_below(&name);
            nothing(reply, owner, if is_above { ResponseCode::NoError } else { ResponseCode::NXDomain });
            // apt and others ask for `_http._tcp.NAME` before NAME: nothing that somebody wanted to reach is refused.
            let is_service = service_of(&name).is_some_and(|host| self.rules.knows_name(&host));
            let refusal = (!is_service).then(|| (name.to_string(), Rules::refuse_name(&name)));
            return (refusal, None);
        }
        if query.query_type() != RecordType::A {
            nothing(reply, owner, ResponseCode::NoError);
            return (None, None);
        }
        let (address, is_new) =
            if is_local { (Ipv4Addr::LOCALHOST, false) } else { self.names.address(&name) };
        reply.add_answer(Record::from_rdata(owner, TTL, RData::A(A(address))));
        (None, is_new.then_some((name, address)))
    }

    fn reverse(self, reply: &mut Message, query: &Query) {
        let owner = query.name().clone();
        let network = (query.query_type() == RecordType::PTR).then(|| owner.parse_arpa_name().ok()).flatten();
        let address = network.filter(|net| net.prefix_len() == net.max_prefix_len()).map(|net| net.addr());
        let name = match address {
            Some(std::net::IpAddr::V4(v4)) => self.names.name(v4).and_then(|name| host_name(name.as_str())),
            _ => None,
        };
        match name {
            Some(name) => drop(reply.add_answer(Record::from_rdata(owner, TTL, RData::PTR(PTR(name))))),
            None => nothing(reply, owner, ResponseCode::NXDomain),
        }
    }
}

/// `deb.example.org` of `_http._tcp.deb.example.org`.
fn service_of(name: &Hostname) -> Option<Hostname> {
    let mut rest = name.as_str();
    while rest.starts_with('_') {
        rest = rest.split_once('.')?.1;
    }
    if rest == name.as_str() { None } else { rest.parse().ok() }
}

/// A reply without records. The SOA says how long that holds; without it resolvers ask again at once (RFC 2308).
fn nothing(reply: &mut Message, owner: Name, code: ResponseCode) {
    reply.metadata.response_code = code;
    let Some(gateway) = host_name(GATEWAY) else { return };
    let soa = SOA::new(gateway.clone(), gateway, 1, 3600, 600, 86400, NEGATIVE_TTL);
    reply.add_authority(Record::from_rdata(owner, NEGATIVE_TTL, RData::SOA(soa)));
}

fn host_name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}
