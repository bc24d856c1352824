//! Messages between our processes, one of which may have been taken over.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stockade::wire::egress::{FromEgress, ToEgress};
use stockade::wire::service::{self, FromLauncher, FromShim, Order, ToLauncher, ToShim};
use stockade::wire::{FromInit, ToInit};

fuzz_target!(|bytes: &[u8]| {
    let _ = (FromInit::decode(bytes), ToInit::decode(bytes));
    let _ = (FromEgress::decode(bytes), ToEgress::decode(bytes));
    let _ = service::decode::<ToLauncher>(bytes);
    let _ = service::decode::<FromLauncher>(bytes);
    let _ = service::decode::<FromShim>(bytes);
    if let Ok(service::Frame::Message(message)) = service::decode::<ToShim>(bytes) {
        let again = service::decode(&service::encode(&message)).expect("what was read can be written");
        assert_eq!(service::Frame::Message(message), again);
    }
    let _ = serde_json::from_slice::<Order>(bytes);
});
