//! That DNS says what the policy says, and nothing else.

use proptest::prelude::*;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use super::dns::{Answer, TTL, answer};
use super::names::Names;
use super::rules::Rules;
use crate::policy::Hostname;
use crate::policy::synthetic::is_synthetic;
use crate::wire::egress::{Config, Reason};

fn gateway() -> (Rules, Names) {
    let allow = vec!["api.example.org:443".into(), "*.wide.example:443".into(), "10.0.0.0/8:22".into()];
    let rules = Rules::parse(&Config { allow, ..Config::default() }).expect("rules");
    let names = Names::new("test", rules.exact_names());
    (rules, names)
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.metadata.recursion_desired = true;
    message
}

fn ask(name: &str, kind: RecordType) -> (Message, Answer) {
    let (rules, mut names) = gateway();
    let packet = question(name, kind).to_vec().expect("a packet");
    let answer = answer(&packet, &rules, &mut names).expect("an answer");
    (Message::from_vec(&answer.bytes).expect("a message"), answer)
}

#[test]
fn an_allowed_name_has_one_synthetic_address() {
    for name in ["api.example.org.", "API.example.ORG.", "a.b.wide.example.", "stockade.internal."] {
        let (message, _) = ask(name, RecordType::A);
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        let [record] = message.answers.as_slice() else { panic!("{name}: {:?}", message.answers) };
        let RData::A(A(address)) = record.data else { panic!("{record}") };
        assert!(is_synthetic(address.into()), "{address}");
        assert_eq!(record.ttl, TTL);
        assert_eq!(record.name.to_ascii(), name, "the case of the question is kept");
    }
}

#[test]
fn other_types_of_an_allowed_name_are_empty_and_can_be_remembered() {
    for kind in [RecordType::AAAA, RecordType::TXT, RecordType::MX, RecordType::HTTPS, RecordType::SRV] {
        let (message, answer) = ask("api.example.org.", kind);
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.answers.is_empty());
        assert_eq!(message.authorities[0].record_type(), RecordType::SOA);
        assert_eq!(answer.refused, None);
    }
}

#[test]
fn a_name_above_an_allowed_one_exists_without_an_address_and_is_reported() {
    let (message, answer) = ask("wide.example.", RecordType::AAAA);
    assert_eq!((message.metadata.response_code, message.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(answer.refused.expect("reported").1.reason, Reason::Name);
}

#[test]
fn any_other_name_does_not_exist_and_is_reported() {
    for (name, kind) in [
        ("evil.test.", RecordType::A),
        ("c2vjcmv0.api.example.org.", RecordType::A),
        ("c2vjcmv0.api.example.org.", RecordType::TXT),
    ] {
        let (message, answer) = ask(name, kind);
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain, "{name}");
        let (refused, refusal) = answer.refused.expect("reported");
        assert_eq!(format!("{refused}."), name);
        assert_eq!(refusal.reason, Reason::Name);
        assert!(refusal.remedy.expect("a remedy").contains(&refused));
    }
    assert_eq!(ask("_http._tcp.api.example.org.", RecordType::SRV).1.refused, None);
}

#[test]
fn a_synthetic_address_leads_back_to_its_name() {
    let (rules, mut names) = gateway();
    let (address, _) = names.address(&"api.example.org".parse().expect("a name"));
    let [a, b, c, d] = address.octets();
    let packet = question(&format!("{d}.{c}.{b}.{a}.in-addr.arpa."), RecordType::PTR).to_vec();
    let answer = answer(&packet.expect("a packet"), &rules, &mut names).expect("an answer");
    let message = Message::from_vec(&answer.bytes).expect("a message");
    assert_eq!(message.answers[0].data.to_string(), "api.example.org.");
    let (message, _) = ask("1.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_passing_name_is_announced_once() {
    let (rules, mut names) = gateway();
    let packet = question("a.wide.example.", RecordType::A).to_vec().expect("a packet");
    let mut named = || answer(&packet, &rules, &mut names).expect("an answer").named;
    assert_eq!(named().expect("new").0.as_str(), "a.wide.example");
    assert_eq!(named(), None);
}

#[test]
fn what_is_no_plain_question_is_answered_as_such() {
    let (rules, mut names) = gateway();
    let mut code = |message: Message| {
        let packet = message.to_vec().expect("a packet");
        let reply = answer(&packet, &rules, &mut names)?;
        Some(Message::from_vec(&reply.bytes).expect("a message").metadata.response_code)
    };
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(chaos), Some(ResponseCode::Refused));
    let mut two = question("api.example.org.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(two), Some(ResponseCode::FormErr));
    let mut update = question("api.example.org.", RecordType::A);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(code(update), Some(ResponseCode::NotImp));
    assert_eq!(
        code(Message::response(1, OpCode::Query)),
        None,
        "two servers would answer each other for ever"
    );
}

proptest! {
    #[test]
    fn no_packet_makes_the_server_panic_or_answer_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (rules, mut names) = gateway();
        let reply = answer(&bytes, &rules, &mut names);
        if bytes.len() > 2 && bytes[2] & 0x80 != 0 {
            prop_assert_eq!(reply, None);
        }
    }

    #[test]
    fn a_damaged_question_never_gets_an_address_for_a_name_that_no_rule_covers(
        at in 0_usize..64, byte in any::<u8>()
    ) {
        let (rules, mut names) = gateway();
        let mut packet = question("api.example.org.", RecordType::A).to_vec().expect("a packet");
        let at = at % packet.len();
        packet[at] = byte;
        if let Some(reply) = answer(&packet, &rules, &mut names) {
            let message = Message::from_vec(&reply.bytes).expect("a message");
            for record in message.answers {
                let name: Hostname = record.name.to_ascii().parse().expect("a name");
                prop_assert!(rules.knows_name(&name), "{name}");
            }
        }
    }
}
