//! A browser's stand-in: there is none inside, so it says on the agent's terminal which address was to be opened. Whoever
//! reads the terminal gets that whole and exact, where a screen breaks it into rows.
//!
//! The terminal is the channel because it is there, is bounded and read as hostile already, keeps the order of things, lies in
//! the log for a daemon that comes later, and in recordings. Anything in the sandbox can say the same: what is said there
//! is the agent's word, like its screen.

use std::ffi::OsString;

use super::Mount;
use crate::policy::Policy;

/// Where it is; first in `PATH`, and in `BROWSER`.
pub const PROGRAM: &str = "/run/stockade/bin/xdg-open";
const DIRECTORY: &str = "/run/stockade/bin";

/// `OSC 7502 ; open=ADDRESS ST`. By the terminal's name, which is the first of the sandbox's own instance: programs start
/// browsers in sessions without a terminal. Printable ASCII only, so that an address cannot end the command and go on.
const SCRIPT: &str = r#"#!/bin/sh
# Stands in for a browser, of which there is none here: says on the agent's terminal which address was to be opened.
LC_ALL=C
for address; do :; done
case "$address" in
*[!!-~]* | '') exit 3 ;;
http://* | https://*) ;;
*) exit 3 ;;
esac
[ "${#address}" -le 4096 ] || exit 3
printf '\033]7502;open=%s\033\\' "$address" 2>/dev/null >/dev/pts/0
"#;

/// What is inside where the policy says so.
pub fn files(policy: &Policy) -> Option<Mount> {
    policy.terminal.report_urls.then(|| Mount::Script { target: PROGRAM.into(), content: SCRIPT.into() })
}

/// The search path with it in front.
pub fn before(policy: &Policy, path: OsString) -> OsString {
    if !policy.terminal.report_urls {
        return path;
    }
    let mut first = OsString::from(DIRECTORY);
    first.push(":");
    first.push(path);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The script, with a file in the terminal's place.
    fn says(address: &str) -> (bool, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let said = directory.path().join("said");
        let script = SCRIPT.replace("/dev/pts/0", said.to_str().expect("UTF-8"));
        let status = Command::new("sh").args(["-c", &script, "xdg-open", address]).status().expect("sh");
        (status.success(), std::fs::read_to_string(said).unwrap_or_default())
    }

    #[test]
    fn an_address_is_said_whole_and_nothing_else_is_said() {
        let address = format!("https://auth.example/a?b=c&d=%20{}'$(id)\\x", "x".repeat(3000));
        assert_eq!(says(&address), (true, format!("\x1b]7502;open={address}\x1b\\")));
        for hostile in
            ["https://a/\x1b]0;title\x07", "https://a/\n", "https://a b", "file:///etc", "", "https://ä"]
        {
            assert_eq!(says(hostile), (false, String::new()), "{hostile:?}");
        }
        assert_eq!(says(&format!("https://a/{}", "x".repeat(4096))), (false, String::new()));
    }
}
