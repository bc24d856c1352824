//! `stockade …` against a service: what needs TLS, HTTP or a WebSocket. A program of its own, `stockade-client`.

pub mod pki;
