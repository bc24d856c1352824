//! Where a login in a browser leads back to: a port of the agent's own loopback, which the browser of whoever logs in cannot
//! reach. What it was sent to can be delivered instead, if it is what the login has announced.

use std::fmt;

use super::login::query;

/// Longest address that is taken.
const LONGEST: usize = 8192;

/// The parameters by which logins say where they lead back to.
const NAMES: [&str; 2] = ["redirect_uri", "callback_url"];

/// What a login has announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// `localhost`, `127.0.0.1` or `[::1]`, as it was announced.
    pub host: String,
    /// On the agent's loopback.
    pub port: u16,
    /// Without its query.
    pub path: String,
    /// What it must bring back.
    state: Option<String>,
}

/// Why an address is not the one that the login waits for. It names no part of the query: that is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error(
        "it is no plain address of at most {LONGEST} printable characters: paste it as the browser shows it"
    )]
    Malformed,
    #[error(
        "it must begin with http://localhost or http://127.0.0.1: that is where this login leads back to"
    )]
    Elsewhere,
    #[error(
        "its port is not {0}, on which this login waits: it may be of another login, or of an earlier attempt"
    )]
    Port(u16),
    #[error("its path is not {0}, at which this login waits")]
    Path(String),
    #[error("it brings nothing back: the part behind the question mark is missing")]
    Empty,
    #[error("it belongs to another login, or to an earlier attempt of this one (its state is another)")]
    State,
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

impl Callback {
    /// As an address of a login announces it, if it leads back to a port here.
    pub fn announced(url: &str) -> Option<Self> {
        let target = NAMES.iter().find_map(|name| query(url, name))?;
        let Parts { host, port, path, .. } = parts(&target).ok()?;
        Some(Self { host: host.into(), port, path: path.into(), state: query(url, "state") })
    }

    /// What to ask for there (path and query), if this is the address that the login waits for.
    pub fn target<'a>(&self, url: &'a str) -> Result<&'a str, Refusal> {
        let Parts { port, path, target, .. } = parts(url)?;
        if port != self.port {
            return Err(Refusal::Port(self.port));
        }
        if path != self.path {
            return Err(Refusal::Path(self.path.clone()));
        }
        if !target[path.len()..].starts_with('?') || target.len() <= path.len() + 1 {
            return Err(Refusal::Empty);
        }
        if self.state.is_some() && query(url, "state") != self.state {
            return Err(Refusal::State);
        }
        Ok(target)
    }

    /// The same for where an answer leads on to: only within the same server.
    pub fn follow<'a>(&self, location: &'a str) -> Option<&'a str> {
        if location.starts_with('/') && !location.starts_with("//") && is_plain(location) {
            return Some(location.split('#').next().unwrap_or_default());
        }
        let parts = parts(location).ok()?;
        (parts.port == self.port).then_some(parts.target)
    }
}

fn is_plain(url: &str) -> bool {
    url.len() <= LONGEST && url.bytes().all(|byte| byte.is_ascii_graphic())
}

struct Parts<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
    /// With its query.
    target: &'a str,
}

fn parts(url: &str) -> Result<Parts<'_>, Refusal> {
    if !is_plain(url) {
        return Err(Refusal::Malformed);
    }
    let rest = url.strip_prefix("http://").ok_or(Refusal::Elsewhere)?;
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = authority.rsplit_once(':').ok_or(Refusal::Elsewhere)?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port > 0);
    let (true, Some(port)) = (["localhost", "127.0.0.1", "[::1]"].contains(&host), port) else {
        return Err(Refusal::Elsewhere);
    };
    if !target.starts_with('/') {
        return Err(Refusal::Malformed);
    }
    Ok(Parts { host, port, path: target.split('?').next().unwrap_or_default(), target })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codex() -> Callback {
        let url = "https://auth.openai.com/oauth/authorize?client_id=x&redirect_uri=http%3A%2F%2F127.0.0.1%3A1455%2Fauth%2F\
                   callback&state=s-1";
        Callback::announced(url).expect("announced")
    }

    #[test]
    fn a_login_announces_where_it_leads_back_to() {
        assert_eq!((codex().port, codex().path.as_str()), (1455, "/auth/callback"));
        let aider =
            "https://openrouter.ai/auth?callback_url=http://localhost:8484/callback/aider&code_challenge=x";
        assert_eq!(
            Callback::announced(aider).expect("announced").to_string(),
            "http://localhost:8484/callback/aider"
        );
        for elsewhere in [
            "https://claude.com/a?redirect_uri=https%3A%2F%2Fplatform.claude.com%2Fcallback",
            "https://a/?redirect_uri=http%3A%2F%2F10.0.0.1%3A80%2Fx",
            "https://a/?redirect_uri=http%3A%2F%2Flocalhost%2Fx",
            "https://a/",
        ] {
            assert_eq!(Callback::announced(elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn only_the_address_that_is_waited_for_is_delivered() {
        let codex = codex();
        assert_eq!(
            codex.target("http://localhost:1455/auth/callback?code=c&state=s-1#x"),
            Ok("/auth/callback?code=c&state=s-1")
        );
        for (url, refusal) in [
            ("https://localhost:1455/auth/callback?code=c&state=s-1", Refusal::Elsewhere),
            ("http://example.org:1455/auth/callback?code=c&state=s-1", Refusal::Elsewhere),
            ("http://localhost.evil:1455/auth/callback?code=c&state=s-1", Refusal::Elsewhere),
            ("http://u@localhost:1455/auth/callback?code=c&state=s-1", Refusal::Elsewhere),
            ("http://localhost:+1455/auth/callback?code=c&state=s-1", Refusal::Elsewhere),
            ("http://localhost/auth/callback?code=c&state=s-1", Refusal::Elsewhere),
            ("http://localhost:22/auth/callback?code=c&state=s-1", Refusal::Port(1455)),
            ("http://localhost:1455/cancel?code=c&state=s-1", Refusal::Path("/auth/callback".into())),
            ("http://localhost:1455/auth/callback", Refusal::Empty),
            ("http://localhost:1455/auth/callback?", Refusal::Empty),
            ("http://localhost:1455/auth/callback?code=c&state=s-2", Refusal::State),
            ("http://localhost:1455/auth/callback?code=c", Refusal::State),
            ("http://localhost:1455/auth/callback?code=c d", Refusal::Malformed),
            ("http://localhost:1455/auth/callback?code=c\r\nx: y", Refusal::Malformed),
            ("http://localhost:1455?code=c&state=s-1", Refusal::Malformed),
        ] {
            assert_eq!(codex.target(url), Err(refusal), "{url}");
        }
    }

    #[test]
    fn an_answer_leads_on_only_within_the_same_server() {
        let codex = codex();
        assert_eq!(codex.follow("/success?x=1"), Some("/success?x=1"));
        assert_eq!(codex.follow("http://localhost:1455/success"), Some("/success"));
        for elsewhere in ["//evil/", "http://localhost:80/", "https://auth.openai.com/", "/a\r\nb", "success"]
        {
            assert_eq!(codex.follow(elsewhere), None, "{elsewhere}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_address_makes_the_reader_panic(url in ".{0,200}", tail in "[?#/:@\\[\\]a-z0-9=&%]{0,60}") {
            for text in [url.clone(), format!("http://localhost:1455{tail}"), format!("https://a/?redirect_uri={tail}")] {
                let _ = (codex().target(&text), codex().follow(&text), Callback::announced(&text));
            }
        }
    }
}
