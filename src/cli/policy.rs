//! `stockade policy …`: which policies there are, what they say, whether a file is one, why it allows what it allows.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::explain::{ExplainError, Question};
use crate::policy::load::Layer;
use crate::policy::origin::{Origin, origins};
use crate::policy::{Library, PolicyError, Reference, hash};

/// What to do with policies.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Every policy, where it lies, and what it is for
    List,
    /// A policy as it is written, or with everything that it extends
    Show {
        /// A name, or a file (with a slash or .toml in it)
        policy: String,
        /// What holds in the end, as a policy file that extends nothing
        #[arg(long)]
        effective: bool,
    },
    /// Whether a file is a policy; if not, where it is wrong and what was probably meant
    Check {
        /// The file; it need not belong to root yet
        file: PathBuf,
    },
    /// What a policy allows, wall by wall, and which file decided it; or what would happen to one path or system call
    Explain {
        /// A name, or a file (with a slash or .toml in it)
        policy: String,
        /// About one thing rather than all
        #[command(flatten)]
        question: Question,
    },
}

/// The exit code of a client command.
const FAILURE: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const DENIED: u8 = 4;

/// Does it, prints the answer, and returns the exit code.
pub fn run(command: &Command, json: bool) -> u8 {
    let library = Library::system();
    let answer = match command {
        Command::List => list(&library),
        Command::Show { policy, effective } => show(&library, policy, *effective),
        Command::Check { file } => return check(&library, file, json),
        Command::Explain { policy, question } => match question.subject() {
            Some(subject) => match question.answer(subject, &library, policy) {
                Ok(answer) => Ok(answer),
                Err(ExplainError::Policy(error)) => Err(error),
                Err(error) => return unanswered(&error, json),
            },
            None => explain(&library, policy),
        },
    };
    match answer {
        Ok(answer) => answer.print(json),
        Err(error) => fail(&error, json),
    }
}

/// One answer, for people and for programs.
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl Answer {
    fn print(&self, json: bool) -> u8 {
        use std::io::Write;
        let text = if json { format!("{}\n", self.json) } else { self.text.clone() };
        // A reader that has seen enough (`| head`) is no failure of ours.
        match std::io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => FAILURE,
            _ => 0,
        }
    }
}

fn fail(error: &PolicyError, json: bool) -> u8 {
    if json {
        println!("{}", problem(error));
    }
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    eprintln!("stockade: {error}{cause}");
    match error {
        PolicyError::Unknown { .. } => NOT_FOUND,
        PolicyError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => NOT_FOUND,
        PolicyError::Name(_) => USAGE,
        PolicyError::Untrusted { .. } => DENIED,
        PolicyError::Read { .. }
        | PolicyError::TooLarge { .. }
        | PolicyError::Invalid(_)
        | PolicyError::Undecided { .. }
        | PolicyError::TooManyPorts { .. }
        | PolicyError::TwoWays { .. }
        | PolicyError::Contradiction { .. } => FAILURE,
    }
}

fn unanswered(error: &ExplainError, json: bool) -> u8 {
    if json {
        println!("{}", json!({ "ok": false, "error": error.to_string() }));
    }
    eprintln!("stockade: {error}");
    match error {
        ExplainError::Subject { .. } => USAGE,
        ExplainError::Policy(_) | ExplainError::Request(_) | ExplainError::Plan(_) => FAILURE,
    }
}

fn problem(error: &PolicyError) -> Value {
    match error {
        PolicyError::Invalid(fault) => json!({
            "ok": false, "error": error.to_string(), "file": fault.file, "line": fault.line,
            "column": fault.column, "message": fault.message, "suggestion": fault.suggestion,
        }),
        PolicyError::Unknown { nearest, .. } => {
            json!({ "ok": false, "error": error.to_string(), "suggestion": nearest })
        }
        _ => json!({ "ok": false, "error": error.to_string() }),
    }
}

fn list(library: &Library) -> Result<Answer, PolicyError> {
    let mut text = String::new();
    let mut entries = Vec::new();
    for (name, source) in library.names() {
        let loaded = library.load(&Reference::Name(name.clone()));
        let summary = match &loaded {
            Ok(policy) => first_sentence(&policy.description),
            Err(error) => format!("cannot be used: {error}"),
        };
        let _ = writeln!(text, "{:<10} {summary}\n{:<10} {source}", name.as_str(), "");
        entries.push(match loaded {
            Ok(policy) => json!({
                "name": name, "source": source.to_string(), "description": policy.description, "hash": hash(&policy),
            }),
            Err(error) => json!({ "name": name, "source": source.to_string(), "error": error.to_string() }),
        });
    }
    Ok(Answer { text, json: entries.into() })
}

fn show(library: &Library, policy: &str, effective: bool) -> Result<Answer, PolicyError> {
    let reference: Reference = policy.parse()?;
    if !effective {
        let (source, text) = library.source(&reference)?;
        let json = json!({ "source": source.to_string(), "toml": text });
        return Ok(Answer { text, json });
    }
    let policy = library.load(&reference)?;
    let json = json!({ "hash": hash(&policy), "policy": policy });
    Ok(Answer { text: policy.to_toml(), json })
}

fn check(library: &Library, file: &std::path::Path, json: bool) -> u8 {
    match library.check(file) {
        Ok(layers) => {
            // Said, not refused: a policy is written and checked by people before root installs it.
            let distrust = match library.load(&Reference::File(file.into())) {
                Err(error @ PolicyError::Untrusted { .. }) => Some(error.to_string()),
                _ => None,
            };
            if let Some(distrust) = &distrust {
                eprintln!("stockade: as it lies there it could not be used: {distrust}");
            }
            let chain = chain(&layers);
            let text = format!("{}: ok ({})\n", file.display(), chain.join(" extends "));
            let json_answer =
                json!({ "ok": true, "extends": chain, "trusted": distrust.is_none(), "distrust": distrust });
            Answer { text, json: json_answer }.print(json)
        }
        Err(error) => {
            fail(&error, json);
            FAILURE
        }
    }
}

/// The names in a chain, the policy itself first.
fn chain(layers: &[Layer]) -> Vec<String> {
    layers.iter().rev().map(|layer| layer.policy.name.to_string()).collect()
}

fn explain(library: &Library, policy: &str) -> Result<Answer, PolicyError> {
    let layers = library.layers(&policy.parse()?)?;
    let policy = &layers.last().expect("a policy has at least its own layer").policy;
    let all = origins(&layers);
    let mut text = format!("{} — {}\n\n", policy.name, policy.description.trim());
    for layer in layers.iter().rev() {
        let _ = writeln!(text, "  {:<10} {}", layer.policy.name.as_str(), layer.source);
    }
    for wall in &WALLS {
        let _ = writeln!(text, "\n{}", wall.says);
        wall.write(&mut text, &all, &layers);
    }
    let values = all.iter().map(|origin| {
        let layer = origin.layer.map(|index| layers[index].policy.name.as_str());
        json!({ "key": origin.key, "value": origin.value, "policy": layer })
    });
    let json = json!({
        "name": policy.name, "description": policy.description, "hash": hash(policy),
        "extends": chain(&layers), "values": values.collect::<Vec<_>>(),
    });
    Ok(Answer { text, json })
}

/// One wall, in plain words, and the keys that open something in it.
struct Wall {
    says: &'static str,
    keys: &'static [(&'static str, &'static str)],
}

const WALLS: [Wall; 8] = [
    Wall { says: "Started, when the request names no command:", keys: &[("agent.command", "")] },
    Wall {
        says: "Files: what is not named here does not exist inside.",
        keys: &[
            ("filesystem.system", "shown read-only where the host has it"),
            ("filesystem.read-only", "shown read-only, required"),
            ("filesystem.read-write", "shown writable, required"),
            ("filesystem.workspace", "what --workspace gives"),
            ("filesystem.protected", "read-only in the workspace, even while missing"),
            ("filesystem.protected-if-present", "read-only in the workspace if there at the start"),
            ("filesystem.git-worktree", "a linked worktree brings its repository"),
            ("filesystem.expose-command", "the command's own installation is shown"),
            ("filesystem.home-size", "size of the home"),
            ("filesystem.home-exec", "programs run from the home"),
            ("filesystem.tmp-size", "size of /tmp"),
            ("filesystem.tmp-exec", "programs run from /tmp"),
            ("filesystem.shm-size", "size of /dev/shm"),
        ],
    },
    Wall {
        says: "Network: one of its own; no way out of it but to these destinations, through the gateway.",
        keys: &[
            ("network.loopback", "its own processes reach each other over TCP"),
            ("network.allow", "may be reached"),
            ("network.inject", "reached over the gateway, which adds a secret"),
            ("network.resolve", "not looked up, but decided"),
            ("network.ca-bundle", "certificates that the gateway believes"),
        ],
    },
    Wall {
        says: "Limits: the cgroup's, and where it has no say, rlimits.",
        keys: &[
            ("limits.memory", "memory and swap together"),
            ("limits.cpus", "CPUs"),
            ("limits.processes", "processes and threads"),
            ("limits.open-files", "open files per process"),
            ("limits.file-size", "largest file"),
            ("limits.io.read", "read per second"),
            ("limits.io.write", "written per second"),
        ],
    },
    Wall {
        says: "System calls: an allow-list; changed in it:",
        keys: &[
            ("syscalls.allow", "allowed whatever the arguments"),
            ("syscalls.deny", "refused always"),
            ("syscalls.nested-namespaces", "namespaces and mounts of its own"),
        ],
    },
    Wall {
        says: "Capabilities: none in any set, except:",
        keys: &[("capabilities.keep", "kept inside its own user namespace")],
    },
    Wall {
        says: "Environment: these variables, and those that every sandbox has.",
        keys: &[
            ("environment.pass", "taken over from the caller"),
            ("environment.set", "set"),
            ("environment.paths", "set where the path is shown"),
            ("terminal.allocate", "gets a terminal"),
            ("terminal.report-urls", "addresses for a browser are said on it"),
        ],
    },
    Wall {
        says: "Tolerated: the start is not refused when the host cannot give",
        keys: &[("tolerate.shortfalls", "another wall stops the same")],
    },
];

impl Wall {
    fn write(&self, text: &mut String, all: &[Origin], layers: &[Layer]) {
        let before = text.len();
        for (key, meaning) in self.keys {
            let below = format!("{key}.");
            for index in std::iter::once(None).chain((0..layers.len()).map(Some)) {
                let of_layer = all.iter().filter(|origin| origin.layer == index);
                let values: Vec<String> = of_layer
                    .filter_map(|origin| match origin.key.strip_prefix(&below) {
                        Some(name) => Some(format!("{name}={}", origin.value)),
                        None => (origin.key == *key).then(|| origin.value.clone()),
                    })
                    .collect();
                if values.is_empty() {
                    continue;
                }
                let by = index.map_or("the default", |index| layers[index].policy.name.as_str());
                let meaning = if meaning.is_empty() { String::new() } else { format!(" ({meaning})") };
                let _ = writeln!(text, "  {key}{meaning}, by {by}:\n      {}", values.join(" "));
            }
        }
        if text.len() == before {
            text.push_str("  nothing\n");
        }
    }
}

fn first_sentence(description: &str) -> String {
    let text = description.trim();
    text.split_inclusive(". ").next().unwrap_or(text).trim().to_owned()
}
