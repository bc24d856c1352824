//! A machine of its own for one test, in which it can count what Stockade leaves behind.

use std::process::{Command, Stdio};

const INSIDE: &str = "STOCKADE_TEST_MACHINE";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/machine.sh");

/// Runs `body`, the body of the test named `test`, in its own PID, mount and cgroup namespaces: this program is
/// started again there for the one test.
pub fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        return body();
    }
    let this = std::env::current_exe().expect("the test program");
    let output = Command::new("bash")
        .args([SCRIPT, "outside"])
        .arg(this)
        .args(["--exact", test, "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(INSIDE, test)
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let told = String::from_utf8_lossy(&output.stdout);
    print!("{told}");
    let passed = output.status.success() && told.contains("1 passed");
    assert!(passed, "in its machine: {}\n{told}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}
