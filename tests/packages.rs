//! The `.deb` on a copy of this host: installed, upgraded, removed, purged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tree of the programs that cargo has built for tests, without what is only for debuggers.
fn tree(directory: &Path) -> PathBuf {
    let (binaries, tree) = (directory.join("bin"), directory.join("tree"));
    fs::create_dir(&binaries).expect("made");
    for program in
        ["stockade", "stockade-client", "stockade-egress", "stockade-launcher", "stockade-shim", "stockaded"]
    {
        let built = Path::new(env!("CARGO_BIN_EXE_stockade")).with_file_name(program);
        run(Command::new("strip").arg("-o").args([&binaries.join(program), &built]));
    }
    run(Command::new(root().join("packaging/stage.sh")).args([&binaries, &tree]));
    tree
}

#[test]
fn a_package_keeps_what_is_an_administrators_until_it_is_purged_and_leaves_nothing_then() {
    let directory = tempfile::tempdir().expect("a directory");
    let tree = tree(directory.path());
    let package = |version: &str| {
        let out = directory.path().join(version);
        run(Command::new(root().join("packaging/deb.sh"))
            .args([&tree, &out])
            .env("STOCKADE_VERSION", version)
            .env("COMPRESSION", "0"));
        out.join(format!("stockade_{version}_amd64.deb"))
    };
    let (old, new) = (package("1.0"), package("1.1"));
    let host = directory.path().join("host");
    fs::create_dir(&host).expect("made");
    run(Command::new("unshare")
        .args(["--mount", "--"])
        .arg(root().join("tests/packages/install.sh"))
        .args([&old, &new, &host]));
    assert_eq!(fs::read_dir(&host).expect("listed").count(), 0, "the copy has gone with its namespace");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) {
    let output = command.current_dir(root()).output().expect("a program that can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {}{said}", String::from_utf8_lossy(&output.stderr));
}
