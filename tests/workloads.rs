//! Ordinary developer work in a sandbox, as a person would do it, for a workspace of root's and for one that lies behind
//! directories which only its owner may enter. The tools themselves are installed by `make test`.

#[path = "common/pty.rs"]
#[allow(dead_code, reason = "each suite uses its part")]
mod pty;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pty::Session;
use tempfile::TempDir;

const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");
const OWNERS: [u32; 2] = [0, 1001];

/// A directory of `owner`'s, below one that only `owner` may enter.
struct Workspace {
    owner: u32,
    private: TempDir,
}

impl Workspace {
    fn of(owner: u32) -> Self {
        let private = tempfile::Builder::new().prefix("stockade-work-").tempdir().expect("a directory");
        let private_path = private.path().to_path_buf();
        let workspace = Self { owner, private };
        fs::create_dir(workspace.path()).expect("made");
        for path in [workspace.path(), private_path] {
            chown(&path, Some(owner), Some(owner)).expect("chown");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("chmod");
        }
        workspace
    }

    fn path(&self) -> PathBuf {
        self.private.path().join("work")
    }

    /// Runs on the host, in the workspace, as its owner.
    fn prepare(&self, script: &str) {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(self.path()).uid(self.owner).gid(self.owner);
        let output = command.env("HOME", self.private.path()).output().expect("sh");
        assert!(output.status.success(), "{script}: {}", words(&output));
    }

    /// Runs in a sandbox; it must succeed, and whatever it leaves must belong to the owner.
    fn run(&self, policy: &str, script: &str) -> String {
        self.run_in(&self.path(), policy, script)
    }

    fn run_in(&self, workspace: &Path, policy: &str, script: &str) -> String {
        let output = stockade(workspace, policy).args(["sh", "-ec", script]).output().expect("stockade");
        assert!(output.status.success(), "uid {}: {script}: {}", self.owner, words(&output));
        for path in below(self.private.path()) {
            let found = fs::symlink_metadata(&path).expect("listed");
            assert_eq!((found.uid(), found.gid()), (self.owner, self.owner), "{}", path.display());
        }
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// `stockade run`, complete but for the command, called by somebody without any configuration.
fn stockade(workspace: &Path, policy: &str) -> Command {
    let mut command = Command::new(STOCKADE);
    command.args(["run", "--policy", policy, "--workspace"]).arg(workspace).arg("--");
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    for variable in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
        command.env_remove(variable);
    }
    command
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if fs::symlink_metadata(&path).expect("listed").is_dir() {
            paths.extend(below(&path));
        }
        paths.push(path);
    }
    paths
}

fn words(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

const REPOSITORY: &str = "git init -q -b main . && echo one >file && git add file \
    && git -c user.name=a -c user.email=a@b commit -qm one";

#[test]
fn a_repository_is_cloned_committed_to_and_pushed() {
    for owner in OWNERS {
        let workspace = Workspace::of(owner);
        workspace.prepare(&format!("{REPOSITORY} && git clone -q --bare . origin.git"));
        workspace.run(
            "shell",
            "git clone -q ./origin.git clone && cd clone && echo two >>file && git commit -qam two && git push -q",
        );
        workspace.run("shell", "echo two >>file && git commit -qam two && git status --short && git gc -q");
        let log = workspace.run("shell", "git -C origin.git log --format=%s && git log --format=%s");
        assert_eq!(log, "two\none\ntwo\none\n");
    }
}

#[test]
fn a_fresh_workspace_becomes_a_repository() {
    for owner in OWNERS {
        let workspace = Workspace::of(owner);
        let log = workspace
            .run("shell", "git init -q && echo 1 >a && git add a && git commit -qm 1 && git log --format=%s");
        assert_eq!(log, "1\n");
    }
}

#[test]
fn a_linked_worktree_commits_to_its_repository() {
    for owner in OWNERS {
        let workspace = Workspace::of(owner);
        let linked = workspace.private.path().join("linked");
        workspace.prepare(&format!("{REPOSITORY} && git worktree add -q -b linked ../linked"));
        for policy in ["shell", "offline"] {
            let script =
                format!("echo {policy} >>file && git commit -qam {policy} && git log --format=%s -1");
            assert_eq!(workspace.run_in(&linked, policy, &script), format!("{policy}\n"));
        }
        let refused = stockade(&linked, "offline").args(["git", "config", "core.fsmonitor", "/x"]).status();
        assert!(!refused.expect("stockade").success(), "the repository's configuration was written");
    }
}

#[test]
fn what_holds_the_place_of_a_missing_file_is_nothing_to_git() {
    let workspace = Workspace::of(1001);
    workspace.prepare(REPOSITORY);
    // It is there for those who look, and git would add a file of which nobody told it.
    let shown =
        workspace.run("claude", "cat .mcp.json; cat .aider.conf.yml .envrc; echo >other; git status --short");
    assert_eq!(shown, "{\"mcpServers\":{}}\n{}\n?? other\n");
    workspace.run("claude", "git add -A && git commit -qm all");
    assert_eq!(workspace.run("claude", "git ls-files"), "file\nother\n");
    assert_eq!(below(&workspace.path()).iter().filter(|path| path.ends_with(".mcp.json")).count(), 0);
}

#[test]
fn an_agent_commits_in_the_callers_name_unless_the_repository_has_another() {
    let workspace = Workspace::of(1001);
    workspace.prepare(REPOSITORY);
    let author = |home: &Path| {
        let ask = ["git", "var", "GIT_AUTHOR_IDENT"];
        let output =
            stockade(&workspace.path(), "aider").args(ask).env("HOME", home).output().expect("stockade");
        assert!(output.status.success(), "{}", words(&output));
        String::from_utf8_lossy(&output.stdout).split('>').next().expect("a line").to_owned() + ">"
    };
    let home = TempDir::new().expect("a directory");
    assert_eq!(author(home.path()), "agent <agent@stockade.invalid>");
    fs::write(home.path().join(".gitconfig"), "[user]\n\tname = Ada L\n\temail = ada@example.org\n")
        .expect("written");
    assert_eq!(author(home.path()), "Ada L <ada@example.org>");
    workspace.prepare("git config user.name Grace");
    assert_eq!(author(home.path()), "Grace <ada@example.org>");
}

#[test]
fn git_takes_no_file_for_changed_because_the_sandbox_shows_another_owner() {
    for owner in OWNERS {
        let workspace = Workspace::of(owner);
        // Older than the index, or git reads them in any case.
        let old = "seq 9 >file; touch -d '1 hour ago' file; git init -q; git add file; git status";
        workspace.prepare(old);
        let index = || fs::read(workspace.path().join(".git/index")).expect("an index");
        let before = index();
        // What git has found unchanged by reading it, it writes down in the index.
        workspace.run("shell", "git -c core.checkStat=default status");
        assert_ne!(index(), before, "git knows the owner, and would have read the file");

        workspace.prepare("git status");
        let before = index();
        assert_eq!(workspace.run("shell", "git status --porcelain"), "A  file\n");
        assert_eq!(index(), before);
        assert_eq!(workspace.run("shell", "seq 8 >>file; git status --porcelain"), "AM file\n");
    }
}

#[test]
fn python_runs_and_makes_a_virtual_environment_that_runs() {
    for owner in OWNERS {
        let workspace = Workspace::of(owner);
        let pool = "import multiprocessing as m, sqlite3, ssl; print(m.Pool(2).map(abs, [-1, 2]))";
        assert_eq!(workspace.run("shell", &format!("python3 -c '{pool}'")), "[1, 2]\n");
        let script = "python3 -m venv --without-pip v && v/bin/python -c 'import sys; print(sys.prefix)'";
        assert_eq!(workspace.run("shell", script), format!("{}/v\n", workspace.path().display()));
    }
}

#[test]
fn npm_installs_a_local_package_and_node_runs_it() {
    for owner in OWNERS {
        let workspace = Workspace::of(owner);
        let script = "mkdir dep app && cd dep && npm init -y && echo 'module.exports = 42' >index.js && npm pack \
            && cd ../app && npm init -y && npm install --no-audit --no-fund ../dep/dep-1.0.0.tgz";
        workspace.run("shell", script);
        let work = "const {Worker} = require('worker_threads'); \
            new Worker('require(\"worker_threads\").parentPort.postMessage(require(\"dep\"))', {eval: true}) \
            .on('message', console.log)";
        assert_eq!(
            workspace.run("shell", &format!("cd app && node -e \"{}\"", work.replace('"', "\\\""))),
            "42\n"
        );
    }
}

#[test]
fn cargo_builds_and_tests_a_crate() {
    for owner in OWNERS {
        let workspace = Workspace::of(owner);
        let shown = workspace.run(
            "shell",
            "cargo new -q --lib krate && cd krate && cargo build -q --offline && cargo test --offline",
        );
        assert!(shown.contains("test result: ok. 1 passed"), "{shown}");
    }
}

#[test]
fn make_and_a_c_compiler_build_a_program() {
    for owner in OWNERS {
        let workspace = Workspace::of(owner);
        let source = "#include <stdio.h>\nint main(void) { return puts(\"built\") < 0; }\n";
        workspace.prepare(&format!("printf '%s' '{source}' >built.c"));
        assert_eq!(workspace.run("shell", "make -s built && ./built"), "built\n");
    }
}

#[test]
fn full_screen_programs_draw_and_leave() {
    let workspace = Workspace::of(1001);
    workspace.prepare("seq 1 500 >numbers");
    let run = format!("{STOCKADE} run --policy shell --workspace {} --", workspace.path().display());
    let mut session = Session::bash(100, 30);
    let before = session.run("stty -a");
    for (command, shows, keys) in [
        ("top -d 60", "COMMAND", "q"),
        ("less numbers", "numbers", "q"),
        ("vi -u NONE numbers", "500", ":x\r"),
    ] {
        session.send(&format!("{run} {command}; echo rc=$?\n"));
        session.expect("rc=$?\r\n");
        session.expect(shows);
        session.send(keys);
        session.expect("rc=0");
        session.expect("$ ");
        assert_eq!(session.run("stty -a"), before, "after {command}");
    }
}

/// A policy like `shell`, in which sandboxes may be made.
fn nested_policy(directory: &Path) -> String {
    let file = directory.join("nested.toml");
    fs::write(&file, "extends = \"shell\"\n[syscalls]\nnested-namespaces = true\n").expect("written");
    file.to_str().expect("UTF-8").to_owned()
}

const NESTED: &str =
    "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev sh -c 'ls /proc | grep -cx 1'";

#[test]
fn bubblewrap_makes_a_sandbox_inside_where_the_policy_lets_it() {
    let policies = TempDir::new().expect("a directory");
    let workspace = Workspace::of(1001);
    assert_eq!(workspace.run(&nested_policy(policies.path()), NESTED), "1\n");
    let refused =
        stockade(&workspace.path(), "shell").args(["sh", "-ec", NESTED]).output().expect("stockade");
    assert!(!refused.status.success(), "{}", words(&refused));
}

#[test]
fn a_sandbox_inside_reaches_nothing_of_the_kernel_through_its_own_proc() {
    let policies = TempDir::new().expect("a directory");
    let attempt = "for file in sysrq-trigger sys/kernel/core_pattern sys/vm/drop_caches; do \
        if (echo >>/proc/$file) 2>/dev/null; then echo open: $file; fi; done; \
        for file in kcore kpagecount timer_list; do \
        if head -c 1 /proc/$file >/dev/null 2>&1; then echo readable: $file; fi; done";
    let inside = format!("{attempt}; unshare -Urpf --mount-proc sh -c '{attempt}; echo tried'");
    assert_eq!(Workspace::of(1001).run(&nested_policy(policies.path()), &inside), "tried\n");
}
