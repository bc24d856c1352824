//! Every verdict, on a host and a policy that exist only here.

use super::*;
use crate::host::Host;
use crate::host::survey::{Found, Kind, Survey};
use crate::id::PolicyName;
use crate::plan::request::Caller;
use crate::plan::{Given, Owner, resolve};
use crate::policy::{Bytes, WorkspacePath};

const LINKS: [(&str, &str); 2] = [("/usr/bin/sh", "dash"), ("/usr/lib/cc", "../../opt/cc")];

fn host_path(text: &str) -> HostPath {
    text.parse().expect("a host path")
}

fn policy() -> Policy {
    let mut policy = Policy::nothing("site".parse::<PolicyName>().expect("a name"));
    let files = &mut policy.filesystem;
    files.system = ["/usr", "/bin", "/gone"].map(host_path).into();
    files.read_only = ["/srv/data", "~/.cache/x"].map(host_path).into();
    files.read_write = [host_path("/srv/cache")].into();
    files.workspace = Access::ReadWrite;
    let protected = |text: &str| text.parse::<WorkspacePath>().expect("a workspace path");
    files.protected = [".git/hooks/", ".envrc"].map(protected).into();
    files.protected_if_present = [protected("lefthook.yml")].into();
    files.tmp_size = "64MiB".parse::<Bytes>().expect("a size");
    policy
}

fn survey() -> Survey {
    let mut survey = Survey::default();
    let mut insert = |path: &str, kind| {
        survey.insert(path, Found { kind, canonical: path.into(), uid: 0, gid: 0 });
    };
    for directory in ["/usr", "/srv/data", "/home/me/.cache/x", "/srv/cache", "/work/.git"] {
        insert(directory, Kind::Directory);
    }
    insert("/work/lefthook.yml", Kind::File);
    insert("/bin", Kind::Symlink("usr/bin".into()));
    survey
}

/// What is found at `path` by an agent that works in /work, unless `workspace` is false.
fn look_with(policy: &Policy, workspace: bool, path: &str) -> Outlook {
    let owner = Owner { uid: 1, gid: 1 };
    let request = Request {
        workspace: workspace.then(|| Place { path: "/work".into(), owner, noexec: false }),
        caller: Caller { home: "/home/me".into(), directory: "/work".into(), ..Caller::default() },
        ..Request::default()
    };
    let host = Host::probe();
    let survey = survey();
    let given = Given { policy, host: &host, limits_missing: Default::default(), survey: &survey };
    let (user, mounts) = resolve::scenery(&given, &request).expect("this policy fits this host");
    let read_link = |path: &Path| {
        LINKS.iter().find(|(link, _)| path == Path::new(link)).map(|(_, says)| PathBuf::from(says))
    };
    let exists = |path: &Path| !path.ends_with("missing");
    let scene = Scene {
        policy,
        request: &request,
        mounts: &mounts,
        home: &user.home,
        read_link: &read_link,
        exists: &exists,
    };
    scene.look(Path::new(path))
}

fn look(path: &str) -> Outlook {
    look_with(&policy(), true, path)
}

fn decided(outlook: &Outlook) -> Option<(&str, &str)> {
    outlook.decided_by.as_ref().map(|entry| (entry.key, entry.value.as_str()))
}

#[test]
fn what_no_entry_names_does_not_exist_and_the_entry_that_would_show_it_is_told() {
    let found = look("/etc/shadow");
    assert_eq!((found.verdict, decided(&found)), (Verdict::Absent, None));
    assert_eq!(found.remedy.as_deref(), Some(r#"[filesystem] read-only = ["/etc/shadow"]"#));
    let found = look("/home/me/.ssh/id");
    assert_eq!(found.remedy.as_deref(), Some(r#"[filesystem] read-only = ["~/.ssh/id"]"#));
}

#[test]
fn what_no_policy_may_show_has_no_remedy() {
    for path in ["/etc/stockade/policies", "/dev/sda", "/run/stockade/x"] {
        let found = look(path);
        assert_eq!((found.verdict, found.remedy), (Verdict::Absent, None), "{path}");
    }
}

#[test]
fn what_an_entry_shows_names_that_entry() {
    let found = look("/usr/bin/git");
    assert_eq!((found.verdict, decided(&found)), (Verdict::ReadOnly, Some(("filesystem.system", "/usr"))));
    assert_eq!(found.remedy.as_deref(), Some(r#"[filesystem] read-write = ["/usr/bin/git"]"#));
    let found = look("/home/me/.cache/x/y");
    assert_eq!(decided(&found), Some(("filesystem.read-only", "~/.cache/x")));
    let found = look("/srv/data");
    assert_eq!(
        found.remedy.as_deref(),
        Some(r#"move "/srv/data" from [filesystem] read-only to read-write"#)
    );
    let found = look("/srv/cache/missing");
    assert_eq!(
        (found.verdict, decided(&found)),
        (Verdict::Writable, Some(("filesystem.read-write", "/srv/cache")))
    );
    assert!(found.cause.ends_with("this host has nothing there"), "{}", found.cause);
    assert_eq!(look("/usr").remedy, None, "a system directory can never be made writable");
}

#[test]
fn an_entry_that_this_host_lacks_is_named() {
    let found = look("/gone/x");
    assert_eq!((found.verdict, decided(&found)), (Verdict::Absent, Some(("filesystem.system", "/gone"))));
}

#[test]
fn links_are_followed_as_they_are_inside() {
    assert_eq!(look("/bin/sh").path, Path::new("/usr/bin/dash"));
    assert_eq!(look("/var/tmp/../tmp").path, Path::new("/tmp"));
    let found = look("/usr/lib/cc/bin");
    assert_eq!((found.path.as_path(), found.verdict), (Path::new("/opt/cc/bin"), Verdict::Absent));
}

#[test]
fn a_workspace_is_writable_but_for_what_is_protected() {
    let found = look("/work/src/main.rs");
    assert_eq!(
        (found.verdict, decided(&found)),
        (Verdict::Writable, Some(("filesystem.workspace", "read-write")))
    );
    for (path, list, value) in [
        ("/work/.git/hooks/pre-commit", "protected", ".git/hooks/"),
        ("/work/.envrc", "protected", ".envrc"),
        ("/work/lefthook.yml", "protected-if-present", "lefthook.yml"),
    ] {
        let found = look(path);
        let key = format!("filesystem.{list}");
        assert_eq!(
            (found.verdict, decided(&found)),
            (Verdict::Protected, Some((key.as_str(), value))),
            "{path}"
        );
        assert_eq!(found.remedy, Some(format!("[remove.filesystem] {list} = [{value:?}]")));
    }
    assert_eq!(look("/work/.git/HEAD").verdict, Verdict::Writable, "only the fence below it is read-only");
}

#[test]
fn a_read_only_workspace_names_the_key_that_makes_it_so() {
    let mut policy = policy();
    policy.filesystem.workspace = Access::ReadOnly;
    let found = look_with(&policy, true, "/work/x");
    assert_eq!(
        (found.verdict, decided(&found)),
        (Verdict::ReadOnly, Some(("filesystem.workspace", "read-only")))
    );
    assert_eq!(found.remedy.as_deref(), Some(r#"[filesystem] workspace = "read-write""#));
}

#[test]
fn without_a_workspace_the_flag_that_gives_one_is_told() {
    let found = look_with(&policy(), false, "/work/x");
    assert_eq!(found.verdict, Verdict::Absent);
    assert!(
        found.remedy.as_deref().is_some_and(|r| r.starts_with("start with --workspace /work, or ")),
        "{found:?}"
    );
}

#[test]
fn what_every_sandbox_has_of_its_own_is_not_taken_for_the_hosts() {
    assert_eq!(look("/etc/passwd").verdict, Verdict::Generated);
    for (path, verdict) in [
        ("/proc/kcore", Verdict::Masked),
        ("/proc/sys/kernel/hostname", Verdict::ReadOnly),
        ("/proc/self/status", Verdict::Private),
        ("/dev/null", Verdict::Private),
        ("/dev/shm/x", Verdict::Private),
        ("/home", Verdict::Directory),
        ("/", Verdict::Directory),
    ] {
        assert_eq!(look(path).verdict, verdict, "{path}");
    }
    let found = look("/tmp/missing");
    assert_eq!((found.verdict, decided(&found)), (Verdict::Private, Some(("filesystem.tmp-size", "64MiB"))));
    assert_eq!(found.remedy.as_deref(), Some("to run programs from it: [filesystem] tmp-exec = true"));
    let found = look("/tmp/of-the-host");
    assert_eq!(
        found.remedy.as_deref(),
        Some(r#"to see the host's: [filesystem] read-only = ["/tmp/of-the-host"]"#)
    );
}

#[test]
fn a_policy_that_lets_sandboxes_be_made_inside_covers_nothing_of_proc() {
    let mut nested = policy();
    nested.syscalls.nested_namespaces = true;
    for (path, otherwise) in [("/proc/kcore", Verdict::Masked), ("/proc/sys/vm", Verdict::ReadOnly)] {
        assert_eq!(look(path).verdict, otherwise);
        assert_eq!(look_with(&nested, true, path).verdict, Verdict::Private);
    }
}
