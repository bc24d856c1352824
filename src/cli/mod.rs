//! `stockade …`: arguments in, exit codes out.

/// Runs the command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
