//! What became of all attempts, as a table and one last line.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::attempt::{Attempt, Class};
use crate::runner::start::Outcome;

/// Attempts and their outcomes, in order.
#[derive(Debug, Default)]
pub struct Summary {
    rows: Vec<(String, Class, Outcome)>,
}

impl Summary {
    /// Adds one.
    pub fn add(&mut self, attempt: &Attempt, outcome: Outcome) {
        self.rows.push((attempt.id.clone(), attempt.class, outcome));
    }

    /// Names of the attempts that got through.
    pub fn through(&self) -> Vec<&str> {
        let through = |outcome: &Outcome| matches!(outcome, Outcome::Through(_));
        self.rows.iter().filter(|(_, _, outcome)| through(outcome)).map(|(id, _, _)| id.as_str()).collect()
    }

    /// What those that could not be made said.
    pub fn broken(&self) -> Vec<String> {
        let reason = |(id, _, outcome): &(String, Class, Outcome)| match outcome {
            Outcome::Broken(reason) => Some(format!("{id}: {reason}")),
            Outcome::Through(_) | Outcome::Stopped { .. } => None,
        };
        self.rows.iter().filter_map(reason).collect()
    }

    /// The table: one line per class, one per attempt that got through or could not be made, and the sum.
    pub fn table(&self, title: &str, documented: &[&str]) -> String {
        let mut classes: BTreeMap<Class, [usize; 3]> = BTreeMap::new();
        let mut notable = String::new();
        for (id, class, outcome) in &self.rows {
            let column = match outcome {
                Outcome::Through(detail) => {
                    let _ = writeln!(notable, "  through  {id:<26} {detail}");
                    0
                }
                Outcome::Stopped { .. } => 1,
                Outcome::Broken(reason) => {
                    let _ = writeln!(notable, "  broken   {id:<26} {reason}");
                    2
                }
            };
            classes.entry(*class).or_default()[column] += 1;
        }
        let mut table =
            format!("\n{title}\n  {:<12} {:>7} {:>7} {:>7}\n", "class", "through", "stopped", "broken");
        for (class, [through, stopped, broken]) in classes {
            let _ = writeln!(table, "  {:<12} {through:>7} {stopped:>7} {broken:>7}", class.to_string());
        }
        table + &notable + &self.last_line(documented)
    }

    /// `N attempts: M through (documented), K stopped`.
    fn last_line(&self, documented: &[&str]) -> String {
        let (all, through, broken) = (self.rows.len(), self.through(), self.broken().len());
        let stopped = all - through.len() - broken;
        let known = through.iter().filter(|id| documented.contains(id)).count();
        let how = if known == through.len() { "documented".into() } else { format!("{known} documented") };
        let rest = if broken > 0 { format!(", {broken} could not be made") } else { String::new() };
        format!("{all} attempts: {} through ({how}), {stopped} stopped{rest}\n", through.len())
    }
}
