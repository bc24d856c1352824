//! Quantities as people write them: `512MiB`, `512M`, `1.5`. Overflow and nonsense are refused, never rounded to "no limit".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// The largest quantity accepted: 1 PiB. Above it a number is a mistake or an attack (2^54, -1 as unsigned).
const MOST_BYTES: u64 = 1 << 50;

/// Why a quantity was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    /// Not a number with a known unit.
    #[error(
        "{0:?} is not a size: write a whole number with K, M, G or T (or KiB, MiB, GiB, TiB), like 512MiB"
    )]
    Bytes(String),
    /// Zero, or above 1 PiB.
    #[error("the size {0:?} is out of range: it must lie between 1 byte and 1024TiB")]
    Range(String),
    /// Not a number of CPUs between 0.01 and 4096.
    #[error("{0:?} is not a number of CPUs: write 0.01 to 4096, like 1.5")]
    Cpus(String),
}

/// A number of bytes, 1 to 2^50. All units are powers of 1024, as in systemd (`512M` = `512MiB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(u64);

impl Bytes {
    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// `n` mebibytes; for constants and tests.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl FromStr for Bytes {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit {
            "" | "B" => 0,
            "K" | "k" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            "T" | "TiB" => 40,
            _ => return Err(InvalidSize::Bytes(text.into())),
        };
        if number.is_empty() {
            return Err(InvalidSize::Bytes(text.into()));
        }
        let out_of_range = || InvalidSize::Range(text.into());
        let number: u64 = number.parse().map_err(|_| out_of_range())?;
        let bytes = number.checked_mul(1 << shift).ok_or_else(out_of_range)?;
        if (1..=MOST_BYTES).contains(&bytes) { Ok(Self(bytes)) } else { Err(out_of_range()) }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A share of CPU time in thousandths of one CPU: 1500 is one and a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cpus(u32);

impl Cpus {
    /// Thousandths of one CPU.
    pub const fn millis(self) -> u32 {
        self.0
    }
}

impl FromStr for Cpus {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let refused = || InvalidSize::Cpus(text.into());
        let plain = text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
        let cpus: f64 = if plain { text.parse().map_err(|_| refused())? } else { return Err(refused()) };
        if (0.01..=4096.0).contains(&cpus) {
            Ok(Self((cpus * 1000.0).round() as u32))
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer)?.to_string().parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_would_mean_unlimited_is_refused() {
        for text in [
            "18014398509481984",
            "16777216G",
            "-1",
            "0",
            "99999999999999999999",
            "",
            "M",
            "1.5G",
            "max",
            "18446744073709551615",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!("512M".parse::<Bytes>(), "512MiB".parse::<Bytes>());
        assert_eq!("512MiB".parse::<Bytes>().expect("a size").get(), 512 << 20);
        assert_eq!(Bytes::mib(2048).to_string(), "2GiB");
    }

    #[test]
    fn cpus_are_fractions_within_reason() {
        assert_eq!("1.5".parse::<Cpus>().expect("a share").millis(), 1500);
        for text in ["0", "-1", "NaN", "inf", "1e9", "5000", "", "0.001"] {
            assert!(text.parse::<Cpus>().is_err(), "{text:?} was accepted");
        }
    }
}
