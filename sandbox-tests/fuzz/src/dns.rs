//! Questions: whatever is asked, the answer is a message, and no address in it is a real one.
#![no_main]

use std::cell::RefCell;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use libfuzzer_sys::fuzz_target;
use stockade::egress::dns;
use stockade::egress::names::Names;
use stockade::egress::rules::Rules;
use stockade::policy::synthetic::is_synthetic;
use stockade::wire::egress::Config;

thread_local! {
    static GATEWAY: RefCell<(Rules, Names)> = RefCell::new(gateway());
}

fn gateway() -> (Rules, Names) {
    let allow = vec!["api.example.org:443".into(), "*.wide.example:443".into(), "10.0.0.0/8:22".into()];
    let rules = Rules::parse(&Config { allow, ..Config::default() }).expect("rules");
    let names = Names::new("fuzz", rules.exact_names());
    (rules, names)
}

fuzz_target!(|packet: &[u8]| {
    GATEWAY.with_borrow_mut(|(rules, names)| {
        let Some(answer) = dns::answer(packet, rules, names) else { return };
        let message = Message::from_vec(&answer.bytes).expect("the answer is a message");
        assert_eq!(packet[..2], answer.bytes[..2], "the answer to another question");
        for record in &message.answers {
            match &record.data {
                RData::A(address) => assert!(is_synthetic(address.0.into()), "{record}"),
                other => panic!("an answer of another kind: {other:?}"),
            }
        }
    });
});
