//! Every command that the README and the quick start show is run, as written where that can be: what cannot be has a stand-in here, with
//! its reason. A command that is neither is a failure.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is run instead of a line that begins so. `DIR` is where the service of the test lives.
const INSTEAD: &[(&str, &str)] = &[
    // These build and test everything, this test included: that they can be made is what is shown here.
    ("make demo", "make -C \"$REPOSITORY\" -n demo >/dev/null"),
    ("make test", "make -C \"$REPOSITORY\" -n test >/dev/null"),
    ("make dist", "make -C \"$REPOSITORY\" -n dist >/dev/null"),
    // No repository of others is asked for in a test.
    (
        "stockade run --policy shell --allow github.com -- git clone …",
        "stockade run --policy shell --allow github.com -- git --version",
    ),
    // A host that lacks something says so by its exit code.
    ("stockade doctor", "stockade doctor >/dev/null || [ $? = 1 ]"),
    // On a port and in a directory of its own.
    (
        "stockade dev --dir /tmp/stockade-dev &",
        "stockade dev --dir \"$DIR\" --listen 127.0.0.1:0 >dev.out 2>dev.err & dev=$!\n\
         trap 'kill -INT $dev && wait $dev' EXIT\n\
         for i in $(seq 600); do grep -q '^ready https://' dev.out && break; kill -0 $dev; sleep 0.1; done",
    ),
    (
        "export STOCKADE_CLIENT_CONFIG=/tmp/stockade-dev/client.toml",
        "export STOCKADE_CLIENT_CONFIG=$DIR/client.toml",
    ),
    // Nobody sits here to leave.
    ("stockade attach one", "timeout 5 stockade attach one </dev/null >/dev/null || [ $? = 124 ]"),
    ("stockade logs one -f", "grep -q 42 <(timeout 60 stockade logs one -f)"),
];

/// What changes the host: run as written by this script, in a machine of its own (`make test-vm`).
const IN_A_MACHINE: &str = "sandbox-tests/vm/package.sh";
const CHANGES_THE_HOST: &[(&str, &str)] = &[
    ("apt install ./", "apt-get install -y \"${old[0]}\""),
    ("stockade pki init", "when stockade pki init\n"),
    ("systemctl enable --now stockaded", "when systemctl enable --now stockaded\n"),
    ("stockade spawn --type shell --id one", "when stockade spawn --type shell --id one\n"),
    ("stockade attach one", ""),
];

#[test]
fn every_command_of_the_readme_works_as_written() {
    let work = workshop();
    let mut ran = 0;
    for block in blocks("README.md") {
        if block.iter().any(|line| line.starts_with("apt ")) {
            runs_in_a_machine(block.iter().filter(|line| !line.starts_with("make ")));
            continue;
        }
        let script: Vec<String> = block.iter().map(|line| instead(line)).collect();
        ran += script.len();
        work.run(&script.join("\n"));
    }
    assert!(ran > 15, "only {ran} commands found: this test reads nothing");
}

#[test]
fn every_command_of_the_quick_start_is_run_in_a_machine() {
    let page = blocks("docs/operations.md");
    let quick = page.first().expect("a quick start");
    assert_eq!(quick.len(), 5, "{quick:?}: at most five commands, the package alone");
    runs_in_a_machine(quick.iter());
}

#[test]
fn a_block_is_found_without_its_remarks() {
    let text = "a\n```sh\nls -l   # all\necho \"#1\"\n\n# nothing\n```\n```toml\nx = 1\n```\n";
    assert_eq!(blocks_of(text), [["ls -l", "echo \"#1\""]]);
    assert_eq!(instead("stockade ls"), "stockade ls");
    assert!(instead("make demo").contains("-n demo"));
}

fn runs_in_a_machine<'l>(lines: impl Iterator<Item = &'l String>) {
    let script = fs::read_to_string(root().join(IN_A_MACHINE)).expect("the script");
    for line in lines {
        let found = CHANGES_THE_HOST.iter().find(|(command, _)| line.starts_with(command));
        let (_, there) =
            found.unwrap_or_else(|| panic!("nobody runs {line:?}: add it to {IN_A_MACHINE}, and here"));
        assert!(script.contains(there), "{IN_A_MACHINE} does not run {line:?}");
    }
}

fn instead(line: &str) -> String {
    let found = INSTEAD.iter().find(|(command, _)| line == *command);
    found.map_or(line, |(_, instead)| instead).to_owned()
}

fn blocks(page: &str) -> Vec<Vec<String>> {
    blocks_of(&fs::read_to_string(root().join(page)).expect("a page"))
}

/// The commands of each shell block, without remarks.
fn blocks_of(text: &str) -> Vec<Vec<String>> {
    let bodies = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let command = |line: &str| line.split("  #").next().unwrap_or_default().trim().to_owned();
    bodies
        .map(|body| {
            body.lines().map(command).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
        })
        .collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A directory with what the commands name: a project, a script, a policy, an agent.
struct Workshop {
    directory: tempfile::TempDir,
}

fn workshop() -> Workshop {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |path: &str, text: &str, mode: u32| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    at("home/src/project/README", "a project\n", 0o644);
    at("home/.local/bin/claude", "#!/bin/sh\necho an agent\n", 0o755);
    at("here/script", "#!/bin/sh\necho a script\n", 0o755);
    at("here/Makefile", "check:\n\techo checked\n", 0o644);
    at("here/mine.toml", "extends = \"shell\"\ndescription = \"mine\"\n", 0o644);
    Workshop { directory }
}

impl Workshop {
    fn run(&self, script: &str) {
        let path = |path: &str| self.directory.path().join(path);
        let programs = Path::new(env!("CARGO_BIN_EXE_stockade")).parent().expect("a directory");
        let search = format!(
            "{}:{}:{}",
            programs.display(),
            path("home/.local/bin").display(),
            std::env::var("PATH").expect("a PATH")
        );
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(path("here"))
            .env("HOME", path("home"))
            .env("PATH", search)
            .env("DIR", path("service"))
            .env("REPOSITORY", root())
            .stdin(Stdio::null())
            .output()
            .expect("bash starts");
        assert!(
            output.status.success(),
            "{script}\n{:?}\n{}{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            fs::read_to_string(path("here/dev.err")).unwrap_or_default(),
        );
    }
}
