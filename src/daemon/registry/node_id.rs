//! Which node this is, whatever it is called: made once, kept with the daemon's records.

use std::io::{self, Write};
use std::path::Path;

/// The file in the daemon's records.
const FILE: &str = "node-id";

/// Reads it, or makes it.
///
/// # Errors
/// When the file can neither be read nor made, or does not hold an identity. A copy of a node brings its identity along:
/// remove the file there.
pub fn node_id(records: &Path) -> io::Result<String> {
    let path = records.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(text.trim()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(records),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> io::Result<String> {
    match uuid::Uuid::parse_str(text) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{FILE} does not hold this node's identity: remove it, and another one is made"),
        )),
    }
}

/// Written aside and renamed: a crash leaves all of it or nothing.
fn make(records: &Path) -> io::Result<String> {
    let id = uuid::Uuid::now_v7().to_string();
    let aside = records.join(format!("{FILE}.new"));
    let mut file = std::fs::File::create(&aside)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    std::fs::rename(&aside, records.join(FILE))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_the_same_after_every_restart_and_never_half_of_itself() {
        let records = tempfile::tempdir().expect("a directory");
        let first = node_id(records.path()).expect("made");
        assert_eq!(node_id(records.path()).expect("read"), first);
        std::fs::write(records.path().join(FILE), &first[..7]).expect("cut short");
        assert!(node_id(records.path()).expect_err("refused").to_string().contains("remove it"));
    }
}
