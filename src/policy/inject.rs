//! `[[network.inject]]`: a name that is plain HTTP inside and TLS outside, with a secret that the agent never has.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::hostname::{GATEWAY, Hostname};
use super::value::from_text;

/// Headers that say where a request goes or where its body ends: a secret in one would be another request.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// One such name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Inject {
    /// What the agent asks for: `http://raven.internal/`.
    pub name: InjectName,
    /// Where it leads: `https://api.example.org`.
    pub upstream: Upstream,
    /// The header that the secret goes into.
    pub header: Header,
    /// The host's file that holds the secret, read by nobody but the shim.
    pub secret: HostFile,
    /// Methods that may be used; none named: every method.
    #[serde(default)]
    pub methods: BTreeSet<Method>,
    /// Beginnings of the paths that may be asked for; none named: every path.
    #[serde(default)]
    pub paths: BTreeSet<PathPrefix>,
}

impl Inject {
    /// Whether this reaches nothing that `ceiling` does not, with the same secret.
    pub fn is_within(&self, ceiling: &Self) -> bool {
        let Self { name, upstream, header, secret, methods, paths } = self;
        let same = (name, upstream, header, secret)
            == (&ceiling.name, &ceiling.upstream, &ceiling.header, &ceiling.secret);
        let fewer_methods =
            ceiling.methods.is_empty() || (!methods.is_empty() && methods.is_subset(&ceiling.methods));
        let begins = |path: &PathPrefix| ceiling.paths.iter().any(|wider| wider.covers(&path.0));
        same && fewer_methods && (ceiling.paths.is_empty() || (!paths.is_empty() && paths.iter().all(begins)))
    }
}

/// As lists and messages name it.
impl fmt::Display for Inject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |set: Vec<&str>| if set.is_empty() { "any".into() } else { set.join(",") };
        let methods = joined(self.methods.iter().map(|method| method.0.as_str()).collect());
        let paths = joined(self.paths.iter().map(|path| path.0.as_str()).collect());
        write!(f, "{} to {} ({methods} {paths})", self.name, self.upstream)
    }
}

macro_rules! text {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer, str::parse)
            }
        }
    };
}

text!(
    /// A host name; not the gateway's own.
    InjectName
);
text!(
    /// `https://host[:port]`, nothing behind it.
    Upstream
);
text!(
    /// A header's name, in lower case.
    Header
);
text!(
    /// A method in capitals.
    Method
);
text!(
    /// The beginning of a path, in the one spelling that it has.
    PathPrefix
);

impl FromStr for InjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Hostname>() {
            Ok(name) if name.as_str() == GATEWAY => {
                Err(format!("{GATEWAY} is the gateway itself: choose another name"))
            }
            Ok(name) => Ok(Self(name.to_string())),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("{text:?} is not an upstream: write it like https://api.example.org, without a path");
        let authority = text.strip_prefix("https://").ok_or_else(refused)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) =
            authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        let host: Hostname =
            host.parse().map_err(|error: super::hostname::InvalidHostname| error.to_string())?;
        match port {
            None => Ok(Self(format!("https://{host}"))),
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => Ok(Self(format!("https://{host}:{port}"))),
                _ => Err(refused()),
            },
        }
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        {
            return Err(format!("{text:?} is not a header's name: write it like x-api-key"));
        }
        if FRAMING.contains(&name.as_str()) || name.starts_with("proxy-") {
            return Err(format!("a secret cannot go into {name}, which says how a request is read"));
        }
        Ok(Self(name))
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let capitals = text.bytes().all(|c| c.is_ascii_uppercase());
        match text {
            "" => Err("a method has a name, like GET".into()),
            "CONNECT" | "TRACE" => {
                Err(format!("{text} cannot be allowed: it would show or carry what it should not"))
            }
            _ if capitals && text.len() <= 20 => Ok(Self(text.into())),
            _ => Err(format!("{text:?} is not a method: write it in capitals, like GET")),
        }
    }
}

impl Upstream {
    /// Whom it is.
    pub fn host(&self) -> &str {
        let authority = self.0.trim_start_matches("https://");
        authority.split_once(':').map_or(authority, |(host, _)| host)
    }
}

impl PathPrefix {
    /// Whether `path` lies at or below it, a whole number of segments. The gateway and narrowing both ask here: two
    /// answers would be a way around one of them.
    pub fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || self.0.ends_with('/') || rest.starts_with('/'))
    }
}

impl FromStr for PathPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&c);
        let climbs = text.split('/').any(|part| matches!(part, "." | ".."));
        if !text.starts_with('/') || !text.bytes().all(plain) || climbs || text.contains("//") {
            return Err(format!(
                "{text:?} is not the beginning of a path: write it like /v1/, without %, .. or //"
            ));
        }
        Ok(Self(text.into()))
    }
}

/// A file of the host, by its whole path. Nothing of it is shown inside, so it may be one of Stockade's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct HostFile(PathBuf);

impl HostFile {
    /// As a path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for HostFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl FromStr for HostFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        let climbs = path.components().any(|part| matches!(part, std::path::Component::ParentDir));
        if path.is_absolute() && !climbs && !text.contains('\0') {
            return Ok(Self(path.into()));
        }
        Err(format!(
            "{text:?} is not a file of the host: write its whole path, like /etc/stockade/secrets/key"
        ))
    }
}

impl<'de> Deserialize<'de> for HostFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inject(methods: &[&str], paths: &[&str]) -> Inject {
        Inject {
            name: "raven.internal".parse().expect("a name"),
            upstream: "https://api.example.org".parse().expect("an upstream"),
            header: "X-Api-Key".parse().expect("a header"),
            secret: "/etc/stockade/secrets/key".parse().expect("a path"),
            methods: methods.iter().map(|text| text.parse().expect("a method")).collect(),
            paths: paths.iter().map(|text| text.parse().expect("a path")).collect(),
        }
    }

    #[test]
    fn fewer_methods_and_longer_paths_are_within_and_nothing_else_is() {
        let ceiling = inject(&["GET", "POST"], &["/v1/"]);
        assert!(ceiling.is_within(&ceiling));
        assert!(inject(&["GET"], &["/v1/messages"]).is_within(&ceiling));
        for wider in [
            inject(&[], &["/v1/"]),
            inject(&["PUT"], &["/v1/"]),
            inject(&["GET"], &[]),
            inject(&["GET"], &["/"]),
        ] {
            assert!(!wider.is_within(&ceiling), "{wider}");
        }
        let mut elsewhere = ceiling.clone();
        elsewhere.upstream = "https://evil.example.net".parse().expect("an upstream");
        assert!(!elsewhere.is_within(&ceiling));
        assert!(ceiling.is_within(&inject(&[], &[])));
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let covers = |prefix: &str, path: &str| prefix.parse::<PathPrefix>().expect("a prefix").covers(path);
        assert!(covers("/v1/", "/v1/messages") && covers("/v1", "/v1/messages") && covers("/v1", "/v1"));
        assert!(!covers("/v1", "/v1beta/messages") && !covers("/v1/", "/v1"));
        assert!(covers("/", "/v1"));
    }

    #[test]
    fn a_longer_path_is_within_only_at_a_whole_segment() {
        let within = |wanted: &str, ceiling: &str| inject(&[], &[wanted]).is_within(&inject(&[], &[ceiling]));
        assert!(within("/v1/messages", "/v1") && within("/v1/", "/v1") && within("/v1", "/v1"));
        assert!(!within("/v1beta/admin", "/v1"));
        assert!(!within("/v1", "/v1/"), "the ceiling does not have /v1 itself");
    }

    proptest::proptest! {
        #[test]
        fn a_path_that_a_narrower_rule_covers_is_covered_by_the_wider_one(
            wider in "(/[ab]{1,2}){0,2}/?", narrower in "(/[ab]{1,2}){0,3}/?", path in "(/[ab]{1,2}){0,4}/?"
        ) {
            let rule = |path: &str| inject(&[], &[if path.is_empty() { "/" } else { path }]);
            let covers = |rule: &Inject| rule.paths.iter().any(|prefix| prefix.covers(&path));
            let (wider, narrower) = (rule(&wider), rule(&narrower));
            if narrower.is_within(&wider) && covers(&narrower) {
                proptest::prop_assert!(covers(&wider));
            }
        }
    }

    #[test]
    fn what_would_make_another_request_of_it_is_refused() {
        for header in ["", "Host", "transfer-encoding", "proxy-authorization", "a b", "x\r\ny"] {
            assert!(header.parse::<Header>().is_err(), "{header:?}");
        }
        for upstream in
            ["http://a.org", "https://a.org/v1", "https://", "https://a.org:0", "https://u@a.org", "a.org"]
        {
            assert!(upstream.parse::<Upstream>().is_err(), "{upstream:?}");
        }
        for path in ["", "v1", "/v1/../x", "/%2e", "//", "/a;b", "/a b", "/a?b"] {
            assert!(path.parse::<PathPrefix>().is_err(), "{path:?}");
        }
        for method in ["", "get", "CONNECT", "TRACE", "GET /"] {
            assert!(method.parse::<Method>().is_err(), "{method:?}");
        }
        assert!("secrets/key".parse::<HostFile>().is_err() && "/etc/../key".parse::<HostFile>().is_err());
    }
}
