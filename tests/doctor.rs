//! `stockade doctor` as its users meet it: the real program, on this host.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use stockade::host::feature::Feature;

#[test]
fn the_document_has_every_feature_and_policy_in_the_promised_shape() {
    let document = document(&doctor(&["--json"]));
    assert_eq!(keys(&document), ["features", "kernel", "policies"]);

    let features = document["features"].as_array().expect("a list");
    let names: Vec<&str> = features.iter().map(|feature| text(&feature["name"])).collect();
    let all: Vec<&str> = Feature::ALL.iter().map(|feature| feature.name()).collect();
    assert_eq!(names, all);
    for feature in features {
        assert_eq!(keys(feature), ["detail", "name", "remedy", "status"]);
        let is_ok = match text(&feature["status"]) {
            "ok" => true,
            "degraded" | "missing" => false,
            other => panic!("{other} is no status"),
        };
        assert_eq!(feature["remedy"].is_null(), is_ok, "a remedy comes with what is not ok: {feature}");
        assert_ne!(text(&feature["detail"]), "");
    }

    let policies = document["policies"].as_array().expect("a list");
    for shipped in ["base", "offline", "shell", "claude", "codex", "gemini", "aider"] {
        assert!(policies.iter().any(|policy| text(&policy["name"]) == shipped), "{shipped} is not judged");
    }
    for policy in policies {
        assert_eq!(keys(policy), ["canStart", "name", "reason", "shortfalls"]);
        assert_eq!(policy["reason"].is_null(), policy["canStart"] == true, "{policy}");
    }
}

#[test]
fn the_exit_code_says_whether_base_is_enforced_in_full() {
    let output = doctor(&["--json"]);
    let document = document(&output);
    let base =
        document["policies"].as_array().expect("a list").iter().find(|policy| policy["name"] == "base");
    let starts = base.expect("base is judged")["canStart"] == true;
    let missing =
        document["features"].as_array().expect("a list").iter().any(|found| found["status"] == "missing");
    let expected = if starts && !missing { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{document:#}");
}

#[test]
fn a_host_without_landlock_is_told_so_and_base_is_refused() {
    let output = doctor_without(&[libc::SYS_landlock_create_ruleset]);
    let document = document(&output);
    assert_eq!(status(&document, "landlock"), "missing");
    let base = &document["policies"].as_array().expect("a list")[1];
    assert_eq!((text(&base["name"]), &base["canStart"]), ("base", &Value::Bool(false)));
    assert!(text(&base["reason"]).contains("landlock"), "{base}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn each_system_call_that_is_taken_away_is_missed_under_its_own_name() {
    let cases = [
        (libc::SYS_openat2, "openat2"),
        (libc::SYS_close_range, "close-range"),
        (libc::SYS_mount_setattr, "mount-api"),
        (libc::SYS_open_tree, "idmapped-mount"),
        (libc::SYS_fsopen, "devpts"),
        (libc::SYS_clone3, "user-namespace"),
        (libc::SYS_seccomp, "seccomp-filter"),
    ];
    for (number, feature) in cases {
        let output = doctor_without(&[number]);
        assert_eq!(status(&document(&output), feature), "missing", "without system call {number}");
        assert_eq!(output.status.code(), Some(1), "without system call {number}");
    }
}

#[test]
fn the_doctor_leaves_nothing_behind() {
    let seen = std::thread::spawn(|| {
        // Mounts of its own: what others on this machine mount meanwhile does not show.
        // SAFETY: this thread shares no descriptor table that is unshared here; only its mounts become its own.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.expect("run as root");
        let private =
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).expect("private mounts");

        let mounts = || fs::read_to_string("/proc/thread-self/mountinfo").expect("procfs is mounted");
        let before = mounts();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        // Its children are in its process group, whoever becomes their parent.
        let child = command.args(["doctor", "--json"]).stdout(Stdio::piped()).process_group(0).spawn();
        let child = child.expect("the program starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("the program ends");
        assert!(document(&output)["features"].is_array(), "it looked at something");
        assert_eq!(mounts(), before);
        pid
    });
    let pid = seen.join().expect("nothing was mounted");
    assert_eq!(processes_of_group(pid), Vec::<String>::new());
    let left: Vec<PathBuf> = cgroups().into_iter().filter(|path| has_number(path, pid)).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn nothing_is_coloured_off_a_terminal() {
    let output = doctor(&[]);
    let table = String::from_utf8(output.stdout).expect("text");
    assert!(!table.contains('\x1b'), "{table}");
    for feature in Feature::ALL {
        assert!(table.contains(feature.name()), "{feature} is not shown");
    }
}

#[test]
fn the_documented_requirements_are_those_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/host-requirements.md");
    let page = fs::read_to_string(&path).expect("docs/host-requirements.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let row = |feature: &Feature| {
        let (name, since, purpose) = (feature.name(), feature.since(), feature.purpose());
        format!("| `{name}` | {since} | {purpose} | {} | {} |", feature.without(), feature.remedy())
    };
    let expected: Vec<String> = Feature::ALL.iter().map(row).collect();
    assert_eq!(rows, expected, "the table should be:\n{}", expected.join("\n"));
}

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stockade"))
        .arg("doctor")
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// The program on a kernel that lacks these system calls: a filter answers ENOSYS for it and its children.
fn doctor_without(calls: &[libc::c_long]) -> Output {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    let rules = calls.iter().map(|number| (*number, vec![])).collect();
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, absent, architecture).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
    command.args(["doctor", "--json"]);
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            seccompiler::apply_filter(&program).map_err(|_| std::io::ErrorKind::Other.into())
        })
    };
    command.output().expect("the program starts")
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

fn status<'d>(document: &'d Value, feature: &str) -> &'d str {
    let features = document["features"].as_array().expect("a list");
    text(&features.iter().find(|found| found["name"] == feature).expect("every feature is there")["status"])
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// stat's fifth field is the process group; the second, the name, is in parentheses and may hold anything.
fn processes_of_group(group: u32) -> Vec<String> {
    let stats = fs::read_dir("/proc").expect("procfs is mounted").flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let of_group = |stat: &String| {
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        rest.split_whitespace().nth(2) == Some(group.to_string().as_str())
    };
    stats.filter(of_group).collect()
}

fn cgroups() -> BTreeSet<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs is mounted");
    let mut found = BTreeSet::new();
    for root in
        mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4))
    {
        directories(Path::new(root), &mut found);
    }
    found
}

fn directories(below: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            directories(&entry.path(), found);
            found.insert(entry.path());
        }
    }
}

/// Whether the last component has this number in it.
fn has_number(path: &Path, number: u32) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(|c: char| !c.is_ascii_digit()).any(|digits| digits == number.to_string())
}
