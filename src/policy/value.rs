//! Small values of a policy file that have rules of their own: counts, names of system calls and of variables.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::net::IpAddr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use syscalls::Sysno;

/// Reads a text through `parse` while the reader still knows where the text stands: an entry that is refused
/// afterwards is reported at the beginning of its list.
pub fn from_text<'de, D: Deserializer<'de>, T, E: Display>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    struct Parse<T, E, F>(F, PhantomData<(T, E)>);
    impl<T, E: Display, F: FnOnce(&str) -> Result<T, E>> Visitor<'_> for Parse<T, E, F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<F2: Error>(self, text: &str) -> Result<T, F2> {
            (self.0)(text).map_err(F2::custom)
        }
    }
    deserializer.deserialize_str(Parse(parse, PhantomData))
}

/// A number of things, from 1 to 4,194,304 (the kernel's largest `pid_max`); zero and "unlimited" cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u32);

const MOST: i64 = 4_194_304;

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = i64::deserialize(deserializer)?;
        match u32::try_from(given) {
            Ok(count) if (1..=MOST).contains(&given) => Ok(Self(count)),
            _ => Err(serde::de::Error::custom(format!(
                "{given} is out of range: write a whole number from 1 to {MOST}"
            ))),
        }
    }
}

/// The name of a system call of this architecture.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SyscallName(pub String);

impl<'de> Deserialize<'de> for SyscallName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, |name| {
            if name.parse::<Sysno>().is_ok() {
                return Ok(Self(name.to_owned()));
            }
            let nearest = super::error::nearest(name, Sysno::iter().map(|known| known.name()));
            let suggestion = nearest.map(|known| format!("; did you mean {known:?}?")).unwrap_or_default();
            Err(format!("no system call is named {name:?}{suggestion}"))
        })
    }
}

/// Set by the plan for every agent; a policy that set them would be ignored, so it may not.
const DECIDED: [&str; 5] = ["HOME", "USER", "LOGNAME", "SHELL", "TMPDIR"];

/// The name of an environment variable that a policy may set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableName(pub String);

impl<'de> Deserialize<'de> for VariableName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |name: &str| if is_variable(name) { Ok(Self(name.into())) } else { Err(refusal(name)) };
        from_text(deserializer, parse)
    }
}

/// The name of an environment variable that may be taken over, or the beginning of some, with a `*` at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariablePattern(pub String);

impl<'de> Deserialize<'de> for VariablePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, |pattern| {
            // A bare `*` has no beginning: it would hand over every secret that the caller has.
            let beginning = pattern.strip_suffix('*').unwrap_or(pattern);
            if is_variable(beginning) { Ok(Self(pattern.into())) } else { Err(refusal(pattern)) }
        })
    }
}

/// Text that can become an argument or a variable's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument(pub String);

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, |text| {
            if text.contains('\0') {
                Err(format!("{text:?} has a NUL byte in it"))
            } else {
                Ok(Self(text.into()))
            }
        })
    }
}

/// The addresses of a name in `[network.resolve]`: at least one, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(pub Vec<IpAddr>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Address(IpAddr);
        impl<'de> Deserialize<'de> for Address {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer, |text| {
                    text.parse()
                        .map(Self)
                        .map_err(|_| format!("{text:?} is not an address, like \"10.2.0.9\""))
                })
            }
        }
        let mut addresses: Vec<IpAddr> =
            Vec::<Address>::deserialize(deserializer)?.into_iter().map(|a| a.0).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(D::Error::custom("no address: leave the name out to have it looked up"));
        }
        Ok(Self(addresses))
    }
}

fn is_variable(name: &str) -> bool {
    let starts_well = name.bytes().next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
    starts_well
        && name.len() <= 255
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        && !DECIDED.contains(&name)
}

fn refusal(name: &str) -> String {
    if DECIDED.contains(&name) {
        format!("{name} is decided by stockade for every agent: leave it out")
    } else {
        format!(
            "{name:?} is not a variable's name: use letters, digits and '_' (in `pass`, a '*' may follow)"
        )
    }
}
