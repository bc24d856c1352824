//! Requests to injected names: what is passed on has one reading, and no spelling of a secret is left in an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stockade::egress::inject::heads::Heads;
use stockade::egress::inject::mask::Mask;
use stockade::egress::inject::path;

const SECRET: &str = "sk-live+0/1";

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let piece = usize::from(cut).max(1);
    let seen = |piece: usize| {
        let (mut heads, smuggling) = Heads::watch(());
        bytes.chunks(piece).for_each(|bytes| heads.see(bytes));
        smuggling.was_seen()
    };
    assert_eq!(seen(piece), seen(bytes.len().max(1)), "it depends on how the stream is cut");

    if let Ok(text) = std::str::from_utf8(bytes)
        && path::check(text).is_ok()
    {
        let lower = text.to_ascii_lowercase();
        assert!(
            !["//", "/../", "/./", "%2e", "%2f", "\\", ";"].iter().any(|bad| lower.contains(bad)),
            "{text:?}"
        );
    }

    let mut mask = Mask::of([SECRET]);
    let mut out: Vec<u8> = bytes.chunks(piece).flat_map(|bytes| mask.feed(bytes)).collect();
    out.extend(mask.finish());
    assert!(!out.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "the secret got through");
    assert_eq!(out.len(), bytes.len(), "masking changes no length");
});
