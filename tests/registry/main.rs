//! The registry against a real etcd, which every test starts for itself, breaks, and stops.

#[allow(dead_code)]
#[path = "../common/dev.rs"]
mod dev;
#[path = "../common/ports.rs"]
mod ports;

mod agents;
mod certificates;
mod chaos;
mod claims;
mod deletions;
mod doors;
mod etcd;
mod faults;
mod lines;
mod load;
mod named;
mod node;
mod relay;
mod security;
mod service;
mod signatures;
