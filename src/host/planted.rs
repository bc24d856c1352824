//! Whether a path leads through a directory that agents write to: what lies there may be theirs, links above all.

use std::fs;
use std::path::{Path, PathBuf};

/// Where `path` first comes into one of `places` (canonical directories): the part up to there, resolved, and the rest
/// as written. `None` if it never does, so that nothing on its way is an agent's.
pub fn entrance<'path>(path: &'path Path, places: &[PathBuf]) -> Option<(PathBuf, &'path Path)> {
    let mut prefixes: Vec<&Path> = path.ancestors().collect();
    prefixes.reverse();
    prefixes.into_iter().find_map(|prefix| {
        let found = fs::canonicalize(prefix).ok()?;
        let rest = path.strip_prefix(prefix).ok()?;
        places.iter().any(|place| found.starts_with(place)).then_some((found, rest))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_that_only_passes_through_is_noticed_where_it_enters() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = fs::canonicalize(directory.path()).expect("canonical");
        let (place, other) = (root.join("place"), root.join("other"));
        fs::create_dir_all(&place).expect("a directory");
        fs::create_dir_all(&other).expect("a directory");
        symlink(&other, place.join("out")).expect("a link");
        symlink(&place, root.join("in")).expect("a link");

        let places = [place.clone()];
        let through = root.join("in/out/file");
        assert_eq!(entrance(&through, &places), Some((place.clone(), Path::new("out/file"))));
        assert_eq!(entrance(&place, &places), Some((place.clone(), Path::new(""))));
        assert_eq!(entrance(&other.join("file"), &places), None);
        assert_eq!(entrance(&root.join("placement"), &places), None);
    }
}
