//! `docs/syscalls.md` says what the code does, because the code writes it.
//!
//! `STOCKADE_WRITE_DOCUMENTS=1 cargo test --test seccomp document` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use stockade::plan::seccomp::arguments::RULES;
use stockade::plan::seccomp::groups::{Class, GROUPS, Group};
use stockade::plan::seccomp::table;

const INTRODUCTION: &str = "\
# System calls

What an agent may ask the kernel for. This page is written by the code (`tests/seccomp/document.rs`); why the filter is built as it
is stands in [record 0002](adr/0002-seccomp-filter.md).

The filter is an allow-list, installed last before the agent is started, and inherited by all that it starts.

- Calls through another architecture's table (32-bit `int 0x80`, x32) **end the process** with SIGSYS. No policy changes this.
- What is *allowed* reaches the kernel, where mounts, Landlock, namespaces, limits and the lack of capabilities still decide.
- What is *refused* fails with EPERM, and is reported to whoever started the sandbox, with the line of the policy that would allow it.
- What is *absent* fails with ENOSYS and is not reported: programs probe for it, and have another way.
- Numbers that this version does not know are absent, so that a newer libc falls back.

A policy changes the list by name:

```toml
[syscalls]
allow = [\"ptrace\"]          # whatever its arguments; a rule below is lifted
deny = [\"vmsplice\"]         # the last word, even over allow
nested-namespaces = true    # everything marked so below: for programs that bring bubblewrap along
```

To deny a call never allows another, and `execve`, `exit`, `exit_group` and `rt_sigreturn` cannot be denied.
";

#[test]
fn the_page_about_system_calls_says_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/syscalls.md");
    let wanted = page();
    if std::env::var_os("STOCKADE_WRITE_DOCUMENTS").is_some() {
        std::fs::write(&path, &wanted).expect("docs/ can be written");
    }

    let found = std::fs::read_to_string(&path).unwrap_or_default();

    let first = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        found == wanted,
        "docs/syscalls.md is out of date, first at {first:?}: write it anew (see this file's first lines)"
    );
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    rules(&mut page);
    for (heading, classes) in [
        ("Allowed", &[Class::Allowed, Class::Unnested][..]),
        ("Allowed with `nested-namespaces` only", &[Class::Nested, Class::NestedElseAbsent]),
        ("Absent", &[Class::Absent]),
        ("Refused", &[Class::Refused]),
    ] {
        write!(page, "\n## {heading}\n\n| What | Calls | Why |\n| --- | --- | --- |\n")
            .expect("a String takes it");
        GROUPS.iter().filter(|group| classes.contains(&group.class)).for_each(|group| row(&mut page, group));
    }
    write!(page, "\n{} system calls are known; the last is number {}.\n", table::calls().len(), last())
        .expect("a String takes it");
    page
}

fn rules(page: &mut String) {
    page.push_str("\n## Allowed with some arguments\n\n| Call | Allowed if | Why not otherwise |\n| --- | --- | --- |\n");
    for rule in RULES {
        let lifted = if rule.nested_lifts { "; lifted by `nested-namespaces`" } else { "" };
        writeln!(page, "| `{}` | {}{lifted} | {} |", rule.call, rule.says, rule.because)
            .expect("a String takes it");
    }
    page.push_str(
        "\nEach of these arguments is 32 bits wide or less in the kernel. The filter reads the same 32 bits, so that nothing set above \
         them changes a verdict.\n",
    );
}

fn row(page: &mut String, group: &Group) {
    let note = match group.class {
        Class::Unnested => "; EOPNOTSUPP with `nested-namespaces`",
        Class::NestedElseAbsent => "; absent without",
        Class::Allowed | Class::Checked | Class::Absent | Class::Refused | Class::Nested => "",
    };
    let calls: Vec<String> = group.calls().map(|call| format!("`{call}`")).collect();
    writeln!(page, "| {}{note} | {} | {} |", group.title, calls.join(" "), group.because)
        .expect("a String takes it");
}

fn last() -> u32 {
    table::calls().last().expect("a table with entries").0
}
