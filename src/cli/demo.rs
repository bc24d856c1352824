//! `stockade demo`: the whole product in a minute, each claim followed by its evidence. The script is part of this program, so
//! that an installed Stockade shows what one built from source shows.

use std::os::unix::process::CommandExt;
use std::process::Command;

const SCRIPT: &str = include_str!("../../packaging/demo.sh");

/// What the script calls beside what every host has, and the Debian packages that bring it.
const NEEDED: [(&str, &str); 6] = [
    ("bash", "bash"),
    ("unshare", "util-linux"),
    ("git", "git"),
    ("python3", "python3"),
    ("pgrep", "procps"),
    ("curl", "curl"),
];

/// Becomes it. Returns only if it cannot be shown: the exit code.
pub fn run() -> u8 {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        eprintln!("stockade: the demo also needs: apt-get install {}", missing.join(" "));
        return 1;
    }
    let error = match std::env::current_exe() {
        Ok(own) => Command::new("bash").args(["-c", SCRIPT, "stockade-demo"]).arg(own).exec(),
        Err(error) => error,
    };
    eprintln!("stockade: cannot show the demo: {error}");
    1
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_seen_and_what_is_there_is_found() {
        assert!(is_there("sh"));
        assert!(!is_there("stockade-no-such-program"));
    }
}
