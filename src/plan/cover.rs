//! What the covers of protected files that do not exist say to those who read them.
//!
//! Most are a device that reads as empty, which git does not count as a file. Where an empty file is a mistake to its
//! reader, the cover is a file that says nothing in the reader's own language, and git is told to overlook it.

use std::ffi::OsStr;

/// File name → content. aider refuses to start with empty settings; Claude Code reports a broken file.
pub const TEXTS: [(&str, &str); 2] = [(".aider.conf.yml", "{}\n"), (".mcp.json", "{\"mcpServers\":{}}\n")];

/// The name of the device that covers all others.
pub const NOTHING: &str = "null";

/// The name of the cover for a file of this name, in the tree of covers.
pub fn name(of: Option<&OsStr>) -> &'static str {
    TEXTS.iter().map(|(name, _)| *name).find(|name| of == Some(OsStr::new(name))).unwrap_or(NOTHING)
}
