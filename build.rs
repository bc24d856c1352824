//! Links the unwinder into each binary instead of loading it as a library.
//!
//! `libgcc_s.so.1` asks for the CPU's features in a constructor, by some twenty `cpuid` instructions. On a virtual machine
//! each one traps into the hypervisor, and together they cost more than the rest of a program's start. The static
//! unwinder (`libgcc_eh.a`, part of gcc) has no such constructor. rustc always says `-lgcc_s`; this makes those
//! words mean the static one.
//!
//! `stockade` is linked statically altogether, C library included, where the host has it as `libc.a` (glibc's development
//! package): nothing is looked for, mapped and relocated when it starts, and nobody's `LD_PRELOAD`, `ld.so.preload` or library
//! path has a say in a program that a user starts as root. The launcher and the shims start ahead of their time, and share
//! one C library among as many as there are agents.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// It asks nobody for names, which a static glibc needs its shared self for.
const STATIC: &str = "stockade";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let directory = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    // A linker script under the library's name (ld(1), "Implicit Linker Scripts").
    fs::write(Path::new(&directory).join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")
        .expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={directory}");
    if let Some(libc) = static_libc() {
        println!("cargo:rerun-if-changed={}", libc.display());
        // The same for `-lc`, seen by this program alone.
        let directory = Path::new(&directory).join("static");
        fs::create_dir_all(&directory).expect("OUT_DIR is writable");
        fs::write(directory.join("libc.so"), format!("INPUT({})\n", libc.display()))
            .expect("OUT_DIR is writable");
        println!("cargo:rustc-link-arg-bin={STATIC}=-static-pie");
        // Else a weak symbol that nobody defines is taken for the start of the program instead of for none.
        println!("cargo:rustc-link-arg-bin={STATIC}=-Wl,-z,nodynamic-undefined-weak");
        println!("cargo:rustc-link-arg-bin={STATIC}=-L{}", directory.display());
    } else {
        println!("cargo:warning=no libc.a (glibc's static library): {STATIC} will need a loader");
    }
}

/// glibc as an archive, where the linker's driver has one.
fn static_libc() -> Option<PathBuf> {
    let glibc = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let found = glibc.then(|| Command::new("cc").arg("-print-file-name=libc.a").output().ok()).flatten()?;
    let path = PathBuf::from(String::from_utf8(found.stdout).ok()?.trim());
    // One that is not found is printed as it was asked for.
    path.is_absolute().then_some(path)
}
