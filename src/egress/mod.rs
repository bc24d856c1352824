//! The gateway of one sandbox.
pub mod dns;
pub mod guard;
pub mod hello;
pub mod names;
pub mod rules;
/// x
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
