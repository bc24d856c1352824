//! Starts a command on a kernel that seems to lack a feature.
fn main() -> std::process::ExitCode {
    sandbox_tests::hide::main()
}
