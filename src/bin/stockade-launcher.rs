//! The privileged side of a service. Everything it does lives in the library, where tests reach it.
fn main() -> std::process::ExitCode {
    stockade::launcher::main()
}
