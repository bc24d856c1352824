//! The cgroup hierarchies in `/proc/self/mountinfo` (proc_pid_mountinfo(5)), from text.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Which interface a hierarchy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// cgroup v2.
    Unified,
    /// cgroup v1.
    Legacy,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) version: Version,
    pub(super) path: PathBuf,
    /// Of the filesystem, as `st_dev` shows it; tells a mount from one that hides it.
    pub(super) device: (u32, u32),
    /// Whether this is the whole hierarchy as far as this process may see it, not a part bound elsewhere.
    pub(super) whole: bool,
    pub(super) writable: bool,
    /// The words in the super options; for v1 they include the controllers.
    options: Vec<String>,
}

impl Mounted {
    /// Whether a v1 hierarchy has this controller; a v2 tree says so in its files instead.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.version == Version::Legacy && self.options.iter().any(|option| option == controller)
    }
}

/// Every cgroup mount, in the order in which one should try them: whole and writable first.
pub(super) fn parse(mountinfo: &[u8]) -> Vec<Mounted> {
    let mut found: Vec<Mounted> = mountinfo.split(|c| *c == b'\n').filter_map(parse_line).collect();
    let mut ordered = Vec::with_capacity(found.len());
    for wanted in [(true, true), (true, false), (false, true), (false, false)] {
        ordered.extend(found.extract_if(.., |mount| (mount.writable, mount.whole) == wanted));
    }
    ordered
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|c| *c == b' ');
    let device = parse_device(std::str::from_utf8(fields.nth(2)?).ok()?)?;
    let root = fields.next()?;
    let path = unescape(fields.next()?);
    let mount_options = fields.next()?;
    let version = match fields.by_ref().skip_while(|field| *field != b"-").nth(1)? {
        b"cgroup2" => Version::Unified,
        b"cgroup" => Version::Legacy,
        _ => return None,
    };
    let super_options = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    let options: Vec<String> = super_options.split(',').map(str::to_owned).collect();
    let read_only = |options: &[u8]| options.split(|c| *c == b',').any(|option| option == b"ro");
    Some(Mounted {
        version,
        path,
        device,
        whole: root == b"/",
        writable: !read_only(mount_options) && !read_only(super_options.as_bytes()),
        options,
    })
}

fn parse_device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Undoes the kernel's octal escapes for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = |digit: u8| (b'0'..=b'7').contains(&digit).then(|| u32::from(digit - b'0'));
        let escaped = match (first, tail) {
            (b'\\', [a, b, c, ..]) => {
                octal(*a).zip(octal(*b)).zip(octal(*c)).map(|((a, b), c)| a * 64 + b * 8 + c)
            }
            _ => None,
        };
        match escaped.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "\
22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";
    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const LEGACY: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:15 - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime shared:16 master:3 - cgroup cgroup rw,pids
";
    const CONTAINER: &str = "\
812 811 0:32 /docker/8f1 /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:15 - cgroup cgroup rw,memory
813 811 0:32 /own /srv/cg\\040x/memory rw,relatime - cgroup cgroup rw,memory
814 811 0:26 / /sys/fs/cgroup/unified ro,nosuid - cgroup2 cgroup rw,nsdelegate
";

    #[test]
    fn a_pure_v2_host_has_one_whole_writable_tree() {
        let mounts = parse(UNIFIED.as_bytes());
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].version, Version::Unified);
        assert_eq!(mounts[0].path, PathBuf::from("/sys/fs/cgroup"));
        assert_eq!(mounts[0].device, (0, 26));
        assert!(mounts[0].whole && mounts[0].writable);
        assert!(!mounts[0].has("memory"), "a v2 tree's controllers are in its files, not in its options");
    }

    #[test]
    fn a_hybrid_host_has_controllers_in_v1_and_a_v2_tree_beside_them() {
        let mounts = parse(HYBRID.as_bytes());
        let with = |name| mounts.iter().find(|m| m.has(name)).map(|m| m.path.clone());
        assert_eq!(with("cpu"), Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(with("cpu"), with("cpuacct"));
        assert_eq!(with("memory"), Some(PathBuf::from("/sys/fs/cgroup/memory")));
        assert_eq!(with("pids"), None);
        assert!(mounts.iter().any(|m| m.version == Version::Unified));
    }

    #[test]
    fn a_legacy_host_has_no_v2_tree() {
        let mounts = parse(LEGACY.as_bytes());
        assert_eq!(mounts.len(), 2, "optional fields (shared, master) must not hide a mount");
        assert!(mounts.iter().all(|m| m.version == Version::Legacy));
    }

    #[test]
    fn in_a_container_the_writable_part_comes_before_the_read_only_whole() {
        let mounts = parse(CONTAINER.as_bytes());
        assert_eq!(mounts[0].path, PathBuf::from("/srv/cg x/memory"));
        assert!(!mounts[0].whole && mounts[0].writable);
        assert!(mounts[1..].iter().all(|m| !m.writable));
    }

    #[test]
    fn without_a_cgroup_mount_there_is_nothing() {
        assert_eq!(parse(b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"), []);
        assert_eq!(parse(b""), []);
        assert_eq!(parse(b"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2\nnonsense - cgroup2 x\n"), []);
    }
}
