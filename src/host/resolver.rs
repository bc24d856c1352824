//! What the host's resolver adds to a short name (resolv.conf(5)).

use std::fs::File;
use std::io::Read;

use crate::policy::Hostname;

const FILE: &str = "/etc/resolv.conf";
/// Longest part of the file that is read; hosts have a few lines.
const LONGEST: u64 = 64 << 10;

/// The domains in which the host looks for a short name, in its order. None if it cannot be read.
pub fn search_domains() -> Vec<Hostname> {
    let mut text = Vec::new();
    let read = File::open(FILE).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    read.map(|_| parse(&String::from_utf8_lossy(&text))).unwrap_or_default()
}

/// The last of these lines counts; what is no name of a host is left out, "." among it.
fn parse(text: &str) -> Vec<Hostname> {
    let list = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        matches!(words.next().as_deref(), Some("search" | "domain")).then(|| words.collect::<Vec<_>>())
    };
    let words = text.lines().rev().find_map(list).unwrap_or_default();
    words.iter().filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_list_counts_and_only_what_is_a_name() {
        let text = "# search a.example\nnameserver 127.0.0.1\ndomain b.example\nsearch c.example . D.example. x..y\n";
        assert_eq!(parse(text).iter().map(Hostname::as_str).collect::<Vec<_>>(), ["c.example", "d.example"]);
        assert_eq!(parse("nameserver 127.0.0.1\n"), []);
    }
}
