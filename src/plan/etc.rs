//! The small files of /etc that are made rather than shown: the host's own would tell who else lives here.

use super::{Mount, User};

/// One `Mount::File` for each. `gateway`: somebody answers questions for names.
pub fn files(user: &User, hostname: &str, gateway: bool) -> Vec<Mount> {
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
        file("/etc/resolv.conf", format!("nameserver 127.0.0.1\noptions {}\n", lookup(gateway))),
    ]
}

/// With a gateway, a question may have to wait for a new one where the old one has died. Without one nobody answers: a
/// name that is not in /etc/hosts fails at once instead of timing out.
fn lookup(gateway: bool) -> &'static str {
    if gateway { "attempts:3 timeout:2" } else { "attempts:1 timeout:1" }
}
