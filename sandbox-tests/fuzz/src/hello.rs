//! TLS hellos, held to rustls: a hello that it takes names the same host to both, however it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;
use stockade::egress::hello::{Progress, read};

/// The host that rustls reads; `None`: it takes no such hello, or wants more.
fn as_rustls_reads(mut bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted.client_hello().server_name().map(str::to_owned));
        }
    }
    None
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    if let (Some(host), Progress::Hello(hello)) = (as_rustls_reads(bytes), &whole)
        && let Some(host) = host
    {
        let name = host.parse().expect("rustls takes only names for hosts");
        // rustls forgives a dot at the end, which RFC 6066 forbids.
        let dotted = |error: &String| error.ends_with(&format!("another host, {host}."));
        let checked = hello.check(&name);
        assert!(checked.as_ref().err().is_none_or(dotted), "{host}: {checked:?}");
    }
    // A decision about the beginning holds for the whole.
    let half = read(&bytes[..bytes.len() / 2]);
    if !matches!(half, Progress::More) {
        assert_eq!(format!("{half:?}"), format!("{whole:?}"));
    }
});
