//! Links the unwinder into each binary instead of loading it as a library.
//!
//! `libgcc_s.so.1` asks for the CPU's features in a constructor, by some twenty `cpuid` instructions. On a virtual machine
//! each one traps into the hypervisor, and together they cost more than the rest of a program's start. The static
//! unwinder (`libgcc_eh.a`, part of gcc) has no such constructor. rustc always says `-lgcc_s`; this makes those
//! words mean the static one.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let directory = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    // A linker script under the library's name (ld(1), "Implicit Linker Scripts").
    fs::write(Path::new(&directory).join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")
        .expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={directory}");
}
