//! The small files of /etc that are made rather than shown: the host's own would tell who else lives here.

use super::{Mount, Network, User};
use crate::policy::Hostname;

/// One `Mount::File` for each. With a network somebody answers questions for names.
pub fn files(user: &User, hostname: &str, network: Option<&Network>) -> Vec<Mount> {
    let User { name, uid, home } = user;
    let home = home.display();
    let file = |target: &str, content: String| Mount::File { target: target.into(), content };
    vec![
        file(
            "/etc/passwd",
            format!(
                "root:x:0:0:root:/:/bin/sh\n{name}:x:{uid}:{uid}:{name}:{home}:/bin/bash\n\
                 nobody:x:65534:65534:nobody:/:/bin/false\n"
            ),
        ),
        file("/etc/group", format!("root:x:0:\ntty:x:5:\n{name}:x:{uid}:\nnogroup:x:65534:\n")),
        file("/etc/hostname", format!("{hostname}\n")),
        file("/etc/hosts", format!("127.0.0.1 localhost {hostname}\n::1 localhost ip6-localhost\n")),
        file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n".into()),
        file("/etc/resolv.conf", format!("nameserver 127.0.0.1\n{}\n", lookup(network))),
    ]
}

/// With a gateway, a question may have to wait for a new one where the old one has died. Without one nobody answers: a
/// name that is not in /etc/hosts fails at once instead of timing out.
fn lookup(network: Option<&Network>) -> String {
    let Some(network) = network else { return "options attempts:1 timeout:1".into() };
    let domains: Vec<&str> = network.search.iter().map(Hostname::as_str).collect();
    let search = if domains.is_empty() { String::new() } else { format!("search {}\n", domains.join(" ")) };
    format!("{search}options attempts:3 timeout:2")
}
