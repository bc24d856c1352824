//! Why a call was refused, and which line of the policy would allow it.

use std::fmt;

use super::groups::Class;
use super::table::{self, Verdict};
use crate::policy::{Policy, Syscalls};

/// A refused call, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Its name, or `#471` if it has none that we know.
    pub call: String,
    /// Why it was refused.
    pub cause: Cause,
    /// What to write into the policy; none: no policy can allow it.
    pub remedy: Option<String>,
}

/// Why the filter refuses a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The filter allows it: something else refused it.
    NotTheFilter,
    /// The policy denies it.
    Denied,
    /// Not on the allow-list, for this reason.
    NotAllowed(&'static str),
    /// The agent's processes may not reach each other.
    NoLoopback,
    /// Allowed with other arguments: these.
    Arguments(&'static str),
    /// No system call that we know.
    Unknown,
}

/// Explains what the filter for `policy` says to call `number`, whichever part of the policy decides.
pub fn explain_under(policy: &Policy, number: u32) -> Explanation {
    let own = explain(number, &policy.syscalls);
    if own.call == super::LISTEN && super::refuses_listening(policy) && own.cause == Cause::NotTheFilter {
        let remedy = Some("[network] loopback = true".to_owned());
        return Explanation { cause: Cause::NoLoopback, remedy, ..own };
    }
    own
}

/// What call `number` of the machine's own architecture is called; `#471` if it has no name that we know.
pub fn name_of(number: u32) -> String {
    let name = table::calls().into_iter().find(|(known, _)| *known == number).map(|(_, name)| name);
    name.map_or_else(|| format!("#{number}"), |name| name.to_owned())
}

/// Explains what the filter for `syscalls` says to call `number` of the machine's own architecture.
pub fn explain(number: u32, syscalls: &Syscalls) -> Explanation {
    let Some((_, name)) = table::calls().into_iter().find(|(known, _)| *known == number) else {
        return Explanation { call: format!("#{number}"), cause: Cause::Unknown, remedy: None };
    };
    let cause = cause(name, syscalls);
    Explanation { call: name.to_owned(), remedy: remedy(name, cause, syscalls), cause }
}

fn cause(name: &str, syscalls: &Syscalls) -> Cause {
    match table::verdict(name, syscalls) {
        Verdict::Allow => Cause::NotTheFilter,
        _ if syscalls.deny.contains(name) => Cause::Denied,
        Verdict::Check(rule) => Cause::Arguments(rule.says),
        Verdict::Answer(_) | Verdict::Refuse => match table::group(name) {
            Some(group) => Cause::NotAllowed(group.because),
            None => Cause::NotAllowed("newer than the allow-list"),
        },
    }
}

fn remedy(name: &str, cause: Cause, syscalls: &Syscalls) -> Option<String> {
    let class = table::group(name).map(|group| group.class);
    let nested_allows = matches!(class, Some(Class::Nested | Class::NestedElseAbsent))
        || super::arguments::rule(name).is_some_and(|rule| rule.nested_lifts);
    match cause {
        Cause::NotTheFilter | Cause::NoLoopback | Cause::Unknown => None,
        Cause::Denied => Some(format!("remove {name:?} from [syscalls] deny")),
        Cause::NotAllowed(_) | Cause::Arguments(_) if nested_allows && !syscalls.nested_namespaces => {
            Some("[syscalls] nested-namespaces = true".to_owned())
        }
        Cause::NotAllowed(_) | Cause::Arguments(_) => Some(format!("[syscalls] allow = [{name:?}]")),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTheFilter => write!(f, "allowed by the filter"),
            Self::Denied => write!(f, "denied by the policy"),
            Self::NoLoopback => write!(f, "the policy lets the sandbox's own processes not reach each other"),
            Self::NotAllowed(because) => write!(f, "not on the allow-list ({because})"),
            Self::Arguments(says) => write!(f, "allowed only if {says}"),
            Self::Unknown => write!(f, "unknown"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system call {}: {}", self.call, self.cause)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; to allow it: {remedy}"),
            None => Ok(()),
        }
    }
}
