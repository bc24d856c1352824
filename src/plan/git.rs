//! What git inside is told by the configuration of its system: who commits, what is no file to add, and what of a file
//! says that it has changed.

use std::fmt::Write;

use super::{Mount, Source, cover};
use crate::host::identity::Identity;

/// Where; GIT_CONFIG_SYSTEM says so (git 2.32). The weakest of git's configurations: a repository's own wins.
pub const CONFIG: &str = "/etc/stockade/gitconfig";
const IGNORE: &str = "/etc/stockade/gitignore";

/// The files, given all other mounts.
pub fn files(identity: Option<&Identity>, mounts: &[Mount]) -> Vec<Mount> {
    let file = |target: &str, content| Mount::File { target: target.into(), content };
    let ignored = ignored(mounts);
    let mut config = String::from("[include]\n\tpath = /etc/gitconfig\n");
    // Without an identity git refuses to commit, and aider, which writes one to .git/config, to start.
    let (name, email) = identity.map_or(("agent", "agent@stockade.invalid"), |i| (&i.name, &i.email));
    let _ = write!(config, "[user]\n\tname = {}\n\temail = {}\n", quoted(name), quoted(email));
    // The index remembers each file's owner, and a workspace's owner is another inside (idmapped mount): git would read
    // every file again after each change of sides, to find all of them unchanged. What is left to compare are size and
    // time; a file that is as young as the index is read in any case (racy-git.txt of git).
    config.push_str("[core]\n\tcheckStat = minimal\n");
    if ignored.is_empty() {
        return vec![file(CONFIG, config)];
    }
    let _ = writeln!(config, "\texcludesFile = {IGNORE}");
    vec![file(CONFIG, config), file(IGNORE, ignored)]
}

/// One line for each cover that git would take for a file.
fn ignored(mounts: &[Mount]) -> String {
    let mut lines = String::new();
    for mount in mounts.iter().filter(|mount| mount.needs_cover()) {
        if let Mount::Bind(bind) = mount
            && let Source::Protected { path, .. } = &bind.source
            && cover::name(path.file_name()) != cover::NOTHING
        {
            let _ = writeln!(lines, "/{}", path.display());
        }
    }
    lines
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_say_more_than_a_name() {
        let odd = Identity { name: "a\" # \\".into(), email: "a@b".into() };
        let files = files(Some(&odd), &[]);
        let [Mount::File { content, .. }] = files.as_slice() else { panic!("{files:?}") };
        assert!(content.contains("\tname = \"a\\\" # \\\\\"\n"), "{content}");
    }
}
