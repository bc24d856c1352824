//! Why Landlock refused an access, and which line of the policy would allow it.

use std::path::Path;

use super::{precious, view};

/// A refusal, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Why it was refused.
    pub cause: &'static str,
    /// What to write into the policy; none: no policy can allow it.
    pub remedy: Option<String>,
}

/// Explains the refusal of `right`, by the name that the kernel's audit gives it (landlock(7) without the prefix), on
/// `path` as it is called inside.
pub fn explain(right: &str, path: Option<&str>) -> Explanation {
    let says = |cause, remedy| Explanation { cause, remedy };
    let path = path.map(Path::new);
    match right {
        "fs.read_file" | "fs.read_dir" => {
            says("no entry of the policy shows this path", path.and_then(|path| show(path, "read-only")))
        }
        "fs.execute" => says("programs may not run from here", path.and_then(execute)),
        "fs.write_file" | "fs.truncate" | "fs.remove_dir" | "fs.remove_file" | "fs.make_dir"
        | "fs.make_reg" | "fs.make_sock" | "fs.make_fifo" | "fs.make_sym" | "fs.refer" => says(
            "no entry of the policy shows this path writable",
            path.and_then(|path| show(path, "read-write")),
        ),
        "fs.make_char" | "fs.make_block" => says("an agent makes no devices", None),
        "fs.ioctl_dev" => says("an agent controls no devices but those of its own /dev", None),
        "fs.change_topology" => {
            says("mounts may not be changed", Some("[syscalls] nested-namespaces = true".to_owned()))
        }
        "net.bind_tcp" | "net.connect_tcp" => {
            let inside = "the policy allows no TCP between the sandbox's own processes";
            says(inside, Some("[network] loopback = true".to_owned()))
        }
        "scope.signal" => says("signals stay inside the sandbox", None),
        "scope.abstract_unix_socket" => says("abstract sockets stay inside the sandbox", None),
        "ptrace" => says("only processes of the sandbox can be traced", None),
        _ => says("a right that no policy grants", None),
    }
}

fn show(path: &Path, list: &str) -> Option<String> {
    let own = ["/home/agent", "/tmp"].iter().any(|own| path.starts_with(own));
    let precious = list == "read-write" && precious::is_system(path);
    if own || precious {
        return None;
    }
    Some(format!("[filesystem] {list} = [{:?}]", view::nameable(path, None).ok()?.to_string()))
}

fn execute(path: &Path) -> Option<String> {
    let key = [("/home/agent", "home-exec"), ("/tmp", "tmp-exec")];
    let own = key.iter().find(|(directory, _)| path.starts_with(directory));
    own.map(|(_, key)| format!("[filesystem] {key} = true")).or_else(|| show(path, "read-only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_explained_with_the_line_that_would_lift_it() {
        let remedy = |right, path| explain(right, path).remedy.unwrap_or_default();
        assert_eq!(remedy("fs.read_file", Some("/srv/data")), r#"[filesystem] read-only = ["/srv/data"]"#);
        assert_eq!(remedy("fs.make_reg", Some("/srv/data")), r#"[filesystem] read-write = ["/srv/data"]"#);
        assert_eq!(remedy("fs.execute", Some("/tmp/a.out")), "[filesystem] tmp-exec = true");
        assert_eq!(remedy("net.connect_tcp", None), "[network] loopback = true");
        assert_eq!(remedy("fs.change_topology", Some("/")), "[syscalls] nested-namespaces = true");
    }

    #[test]
    fn no_line_is_proposed_that_a_policy_could_not_hold() {
        for (right, path) in [
            ("fs.read_file", "/"),
            ("fs.write_file", "/proc/sys/kernel/hostname"),
            ("fs.write_file", "/usr"),
            ("fs.make_char", "/tmp/sda"),
            ("fs.write_file", "/home/agent/x"),
            ("scope.signal", "/x"),
            ("fs.something_new", "/x"),
        ] {
            assert_eq!(explain(right, Some(path)).remedy, None, "{right} {path}");
        }
    }
}
