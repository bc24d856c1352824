//! Files in the workspace that the host executes, or obeys, later.

use std::fs;
use std::path::Path;

use crate::attempt::{Attempt, Class, Verdict};
use crate::kernel::{done, failed};

/// A hook as git would run it on the host.
const HOOK: &str = "#!/bin/sh\ntouch /tmp/ran-on-the-host\n";
/// A configuration whose `git status` runs a program.
const FSMONITOR: &str =
    "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = \"touch /tmp/ran-on-the-host; false\"\n";

/// Files that tools of the host obey: name of the attempt, path, why.
const OBEYED: &[(&str, &str, &str)] = &[
    ("envrc", ".envrc", "direnv(1)"),
    ("mcp_json", ".mcp.json", "CVE-2026-25725"),
    ("vscode_tasks", ".vscode/tasks.json", "editor tasks, Pillar series"),
    ("claude_settings", ".claude/settings.json", "CVE-2026-25725"),
    ("claude_settings_local", ".claude/settings.local.json", "CVE-2026-25725"),
    ("codex_config", ".codex/config.toml", "CVE-2025-61260"),
    ("gemini_settings", ".gemini/settings.json", "Pillar series"),
    ("cursor_mcp", ".cursor/mcp.json", "CVE-2025-54135"),
    ("idea_workspace", ".idea/workspace.xml", "editor run configurations"),
];

/// Attempts on protected files. All of them need a writable workspace.
pub fn attempts() -> Vec<Attempt> {
    let new = |id: &str, reference, success: &str, deed: fn() -> Verdict| {
        Attempt::new(id, Class::Protected, reference, success, move |_| deed()).mutating()
    };
    let mut all: Vec<_> = OBEYED
        .iter()
        .map(|&(name, path, reference)| {
            let success = format!("{path} is made where there was none");
            Attempt::new(format!("create_{name}"), Class::Protected, reference, success, move |_| {
                write(path, "{}")
            })
            .mutating()
        })
        .collect();
    all.extend([
        new("git_hook", "CVE-2026-19592 class", "a hook is made", || write(".git/hooks/post-checkout", HOOK)),
        new("git_hook_overwrite", "githooks(5)", "an existing hook is replaced", || {
            fs::write("fresh-hook", HOOK).ok();
            done("rename", fs::rename("fresh-hook", ".git/hooks/pre-commit"))
        }),
        new("git_hooks_move", "pinned ancestors", "the hooks' directory is moved away", || {
            done("rename", fs::rename(".git/hooks", ".git/old-hooks"))
        }),
        new("git_move", "pinned ancestors", "the repository's directory is moved away", || {
            done("rename", fs::rename(".git", "old-git"))
        }),
        new("git_config", "CVE-2026-19592 (core.fsmonitor)", "the configuration is written", || {
            write(".git/config", FSMONITOR)
        }),
        new(
            "git_config_rename",
            "CVE-2026-19592 (core.fsmonitor)",
            "the configuration is replaced by rename",
            || {
                fs::write(".git/config.lock", FSMONITOR).ok();
                done("rename", fs::rename(".git/config.lock", ".git/config"))
            },
        ),
        new("git_config_unlink", "CVE-2026-19592", "the configuration is removed", || {
            done("unlink", fs::remove_file(".git/config"))
        }),
        new(
            "git_config_link",
            "rename(2), Landlock refer",
            "the configuration gets a second, writable name",
            || match fs::hard_link(".git/config", "config-alias") {
                Ok(()) => done("write", fs::write("config-alias", FSMONITOR)),
                Err(error) => failed("link", &error),
            },
        ),
        new(
            "git_hook_rename_out",
            "Landlock refer (ABI 2)",
            "a hook is moved to where it may be written",
            || done("rename", fs::rename(".git/hooks/pre-commit", "pre-commit")),
        ),
        new(
            "git_worktree_config",
            "git-worktree(1)",
            "config.worktree is made, which git obeys like config",
            || write(".git/config.worktree", FSMONITOR),
        ),
        new(
            "git_commondir",
            "gitrepository-layout(5)",
            "commondir points git at another configuration",
            || write(".git/commondir", "../elsewhere"),
        ),
        new("git_modules_config", "CVE-2018-11235 class", "a submodule's configuration is made", || {
            write(".git/modules/evil/config", FSMONITOR)
        }),
        new(
            "git_init",
            "CVE-2026-19592",
            "a repository with a configuration is made where there was none",
            || write(".git/config", FSMONITOR),
        )
        .in_an_empty_workspace(),
        new("git_file", "gitrepository-layout(5)", "a .git file points git elsewhere", || {
            write(".git", "gitdir: elsewhere")
        })
        .in_an_empty_workspace(),
    ]);
    all
}

/// Makes the file and the directories above it.
fn write(path: &str, content: &str) -> Verdict {
    if let Some(parent) = Path::new(path).parent()
        && let Err(error) = fs::create_dir_all(parent)
    {
        return failed("making the directory", &error);
    }
    match fs::write(path, content) {
        // A placeholder may take the bytes and drop them, so that what counts is what can be read again.
        Ok(()) => Verdict::when(
            fs::read_to_string(path).is_ok_and(|now| now == content),
            format!("{path} was written"),
        ),
        Err(error) => failed(path, &error),
    }
}
