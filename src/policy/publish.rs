//! `--publish 127.0.0.1:8080:3000`: the other way in, from the host's own loopback to a server inside.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A port of the host's loopback that leads to a port inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// Where the host listens; a loopback address.
    pub host: SocketAddr,
    /// The port on 127.0.0.1 inside.
    pub inside: u16,
}

/// Why such a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPublished {
    /// Not of this form.
    #[error("{0:?} is not ADDRESS:PORT:PORT INSIDE: write it like 127.0.0.1:8080:3000")]
    Form(String),
    /// Others than this host could connect.
    #[error("{0} is no loopback address: a port is published to this host only, as 127.0.0.1 or [::1]")]
    NotLoopback(IpAddr),
}

impl FromStr for Published {
    type Err = InvalidPublished;

    fn from_str(text: &str) -> Result<Self, InvalidPublished> {
        let form = || InvalidPublished::Form(text.chars().take(80).collect());
        let (host, inside) = text.rsplit_once(':').ok_or_else(form)?;
        let host: SocketAddr = host.parse().map_err(|_| form())?;
        let inside: u16 = inside.parse().map_err(|_| form())?;
        if host.port() == 0 || inside == 0 {
            return Err(form());
        }
        if !host.ip().is_loopback() {
            return Err(InvalidPublished::NotLoopback(host.ip()));
        }
        Ok(Self { host, inside })
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.inside)
    }
}

impl Serialize for Published {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_published_to_the_host_s_own_loopback_only() {
        for text in ["127.0.0.1:8080:3000", "[::1]:8080:3000"] {
            assert_eq!(text.parse::<Published>().map(|port| port.to_string()), Ok(text.into()));
        }
        for text in ["0.0.0.0:8080:3000", "10.0.0.1:80:80", "[::]:80:80"] {
            assert!(matches!(text.parse::<Published>(), Err(InvalidPublished::NotLoopback(_))), "{text}");
        }
        for text in
            ["", "8080", "8080:3000", "127.0.0.1:0:3000", "127.0.0.1:80:0", "localhost:80:80", "::1:80:80"]
        {
            assert!(matches!(text.parse::<Published>(), Err(InvalidPublished::Form(_))), "{text}");
        }
    }
}
