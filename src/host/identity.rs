//! Who commits: the name and the address that the caller's git has, read from its configuration without running git.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// `user.name` and `user.email` of git-config(1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `user.name`
    pub name: String,
    /// `user.email`
    pub email: String,
}

/// The caller's, if its own configuration names both. Files that it includes are not followed.
pub fn of(environment: &BTreeMap<String, OsString>, home: &Path) -> Option<Identity> {
    let xdg = environment.get("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let xdg = xdg.unwrap_or_else(|| home.join(".config")).join("git/config");
    let mut user = BTreeMap::new();
    // As git reads them: what comes later wins.
    for file in [xdg, home.join(".gitconfig")] {
        if let Ok(text) = fs::read_to_string(file) {
            user.extend(section_user(&text));
        }
    }
    Some(Identity { name: user.remove("name")?, email: user.remove("email")? })
}

/// The `[user]` section of a git configuration: keys in lower case.
fn section_user(text: &str) -> BTreeMap<String, String> {
    let mut user = BTreeMap::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.split(']').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("user"));
        } else if inside
            && let Some((key, value)) = line.split_once('=')
            && let Some(value) = plain(value.trim())
        {
            user.insert(key.trim().to_ascii_lowercase(), value);
        }
    }
    user
}

/// A value without its quotes and comment; none if it is empty or holds what no name holds.
fn plain(value: &str) -> Option<String> {
    let mut plain = String::new();
    let mut quoted = false;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => break,
            '\\' => plain.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            other => plain.push(other),
        }
    }
    let plain = plain.trim();
    (!plain.is_empty() && !plain.contains(char::is_control)).then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_git_reads_it() {
        let home = tempfile::tempdir().expect("a directory");
        let text = "[core]\n\tname = no\n[User] # who\n  Name = \"Ada \\\"L\\\"\" ; why\n\temail=ada@example.org # x\n[a]\nname=b\n";
        fs::write(home.path().join(".gitconfig"), text).expect("written");

        let found = of(&BTreeMap::new(), home.path()).expect("an identity");

        assert_eq!(found, Identity { name: "Ada \"L\"".into(), email: "ada@example.org".into() });
    }

    #[test]
    fn half_an_identity_is_none() {
        let home = tempfile::tempdir().expect("a directory");
        assert_eq!(of(&BTreeMap::new(), home.path()), None);
        fs::write(home.path().join(".gitconfig"), "[user]\nname = Ada\nemail = \n").expect("written");
        assert_eq!(of(&BTreeMap::new(), home.path()), None);
    }

    #[test]
    fn the_file_in_the_home_wins_over_that_in_its_config_directory() {
        let home = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(home.path().join(".config/git")).expect("made");
        fs::write(home.path().join(".config/git/config"), "[user]\nname = A\nemail = a@b\n")
            .expect("written");
        fs::write(home.path().join(".gitconfig"), "[user]\nname = B\n").expect("written");

        let found = of(&BTreeMap::new(), home.path());

        assert_eq!(found, Some(Identity { name: "B".into(), email: "a@b".into() }));
    }
}
