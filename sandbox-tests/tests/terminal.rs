//! The caller's terminal: nothing inside types on it.

use std::process::Command;

use sandbox_tests::attempt::Workspace;
use sandbox_tests::runner::start::{self, Surroundings, binary};
use sandbox_tests::runner::{belt, leak, plant, terminal, workspace};

fn shown_by(surroundings: &Surroundings) -> String {
    let planted = plant::all(&binary("probe")).expect("decoys can be planted");
    let laid = workspace::lay(Workspace::Repository, &binary("probe")).expect("a workspace");
    let mut command: Command = start::command(surroundings, &laid.path, &planted);
    command.args(["./probe", "run", "tiocsti_stdin"]);
    leak::none_after(|| terminal::show(&command).expect("a terminal"))
}

#[test]
fn without_a_sandbox_a_program_types_on_its_callers_terminal() {
    belt::inside("without_a_sandbox_a_program_types_on_its_callers_terminal", || {
        let shown = shown_by(&Surroundings::Bare);
        assert!(shown.contains(r#""through":true"#), "{shown}");
        assert!(shown.contains("WAITING[echo typed-by-the-agent"), "{shown}");
    });
}

#[test]
fn an_agent_does_not_type_on_its_callers_terminal() {
    belt::inside("an_agent_does_not_type_on_its_callers_terminal", || {
        let shown = shown_by(&Surroundings::Stockade { policy: "shell".into() });
        assert!(shown.contains(r#""through":false"#), "{shown}");
        assert!(shown.contains("WAITING[]"), "{shown}");
    });
}
