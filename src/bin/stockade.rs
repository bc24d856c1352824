//! The user's tool. Everything it does lives in the library, where tests reach it.
fn main() -> std::process::ExitCode {
    stockade::cli::main()
}
