//! Tries one way out of the sandbox that it runs in.
fn main() -> std::process::ExitCode {
    sandbox_tests::prober::main()
}
