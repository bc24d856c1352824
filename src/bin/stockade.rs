//! The user's tool. Everything it does lives in the library, where tests reach it.
#![no_main]
stockade::entry!(stockade::cli::main);
