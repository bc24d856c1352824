//! `stockade doctor`: what this host can enforce, how to mend what it cannot, and which policies can start.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;

use crate::host::Host;
use crate::host::examine::{Status, examine, with_causes};
use crate::host::report::{FeatureReport, PolicyReport, Report};
use crate::policy::{Library, Reference};
use crate::shim::egress;

/// `stockade doctor`
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Doctor {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Looks at this host; `quiet` leaves out what is in order. The exit code is 0 when `base` can be enforced in full: it can start and no protection is
/// `missing` (one that `base` tolerates the lack of is `degraded`). Else it is 1.
pub fn run(json: bool, quiet: bool) -> u8 {
    let report = look();
    let text = if json {
        let document = serde_json::to_string_pretty(&report).expect("a report is plain data");
        format!("{document}\n")
    } else {
        Table { report: &report, colours: wants_colours(), quiet }.to_string()
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => u8::from(!report.is_base_enforced()),
        Err(error) => {
            eprintln!("stockade: cannot write the report: {error}");
            1
        }
    }
}

fn look() -> Report {
    let host = Host::probe();
    let findings = examine(&host, &homes());
    let library = Library::system();
    let gateway = egress::check().map_err(|error| with_causes(&error));
    let policies = library.names().into_keys().map(|name| {
        let policy = library.load(&Reference::Name(name.clone())).map_err(|error| with_causes(&error));
        let startable = policy.and_then(|policy| match &gateway {
            Err(reason) if policy.network.has_destinations() => Err(reason.clone()),
            _ => Ok(policy),
        });
        (name, startable)
    });
    Report::new(&host, &findings, policies.collect())
}

/// Where workspaces and homes lie: here, in the homes, where the service keeps them.
fn homes() -> Vec<PathBuf> {
    let here = std::env::current_dir().ok();
    let mut homes: Vec<PathBuf> = here.into_iter().chain(["/home".into(), "/var/lib".into()]).collect();
    homes.retain(|home| home.is_dir());
    homes.dedup();
    homes
}

fn wants_colours() -> bool {
    // An empty NO_COLOR counts as unset (<https://no-color.org>).
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Table<'r> {
    report: &'r Report,
    colours: bool,
    /// Only what is not in order.
    quiet: bool,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Linux {}\n", self.report.kernel)?;
        let worth = |feature: &&FeatureReport| !self.quiet || feature.status != Status::Ok;
        for feature in self.report.features.iter().filter(worth) {
            self.feature(f, feature)?;
        }
        f.write_str("\nPolicies\n")?;
        let worth = |policy: &&PolicyReport| !self.quiet || !policy.can_start;
        for policy in self.report.policies.iter().filter(worth) {
            let status = match (policy.can_start, policy.shortfalls.is_empty()) {
                (true, true) => Status::Ok,
                (true, false) => Status::Degraded,
                (false, _) => Status::Missing,
            };
            let mut verdict = match &policy.reason {
                None => "can start".to_owned(),
                Some(reason) => format!("cannot start: {reason}"),
            };
            if policy.can_start && !policy.shortfalls.is_empty() {
                let names: Vec<&str> = policy.shortfalls.iter().map(|shortfall| shortfall.name()).collect();
                write!(verdict, ", without {} (tolerated)", names.join(", "))?;
            }
            let word = if policy.can_start { "yes" } else { "no" };
            writeln!(f, "{} {:<19} {verdict}", self.coloured(word, status), policy.name.as_str())?;
        }
        f.write_str(match self.report.is_base_enforced() {
            true => "\nThis host can enforce the base policy in full.\n",
            false => "\nThis host cannot enforce the base policy in full.\n",
        })
    }
}

impl Table<'_> {
    fn feature(&self, f: &mut fmt::Formatter<'_>, feature: &FeatureReport) -> fmt::Result {
        let word = match feature.status {
            Status::Ok => "ok",
            Status::Degraded => "degraded",
            Status::Missing => "missing",
        };
        let word = self.coloured(word, feature.status);
        writeln!(f, "{word} {:<19} {} ({})", feature.name.name(), feature.name.purpose(), feature.detail)?;
        match feature.remedy {
            Some(remedy) => writeln!(f, "{:<9}{:<19} fix: {remedy}", "", ""),
            None => Ok(()),
        }
    }

    /// Padded before it is coloured: the escape sequences take no room on the screen.
    fn coloured(&self, word: &str, status: Status) -> String {
        let code = match status {
            Status::Ok => 32,
            Status::Degraded => 33,
            Status::Missing => 31,
        };
        match self.colours {
            true => format!("\x1b[{code}m{word:<8}\x1b[0m"),
            false => format!("{word:<8}"),
        }
    }
}
