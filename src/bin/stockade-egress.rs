//! The gateway of one sandbox. Everything it does lives in the library, where tests reach it.
fn main() -> std::process::ExitCode {
    stockade::egress::main()
}
