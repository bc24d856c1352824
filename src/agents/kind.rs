//! One kind of agent: what a file of `policies/agents` says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::marker::Marker;
use crate::api::agent::State;

/// Everything that is known about one CLI.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kind {
    /// `claude`; the file's name.
    #[serde(skip_deserializing)]
    pub name: String,
    /// For people.
    pub description: String,
    /// The versions on which its screens were seen.
    #[serde(default)]
    pub seen: Vec<String>,
    /// How it is started.
    #[serde(default)]
    pub launch: Launch,
    /// How a message is typed.
    #[serde(default)]
    pub typing: Typing,
    /// How the text of a turn is told from what stands around it.
    #[serde(default)]
    pub turn: Turn,
    /// What it writes down about itself while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// How it is asked to go.
    #[serde(default)]
    pub exit: Exit,
    /// What its screens mean. The first that matches counts.
    #[serde(default, rename = "screen", skip_serializing_if = "Vec::is_empty")]
    pub screens: Vec<Screen>,
}

/// `[launch]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Launch {
    /// Program and arguments; empty: the request or the policy names them.
    pub command: Vec<String>,
    /// Prints its version, and needs no network for that.
    pub version: Vec<String>,
    /// Variables that spare questions; never a secret.
    pub env: BTreeMap<String, String>,
    /// Files that spare questions, written into a home that does not have them.
    #[serde(rename = "file")]
    pub files: Vec<Seed>,
}

/// One file of a fresh home. In its text `{workspace}` stands for the workspace's path, and `{env:NAME}` for a variable of
/// the request's, each as JSON and TOML quote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Seed {
    /// Below the home.
    pub path: String,
    /// Its text.
    pub content: String,
    /// The question that it answers in the user's stead; none: it answers nothing, and is written whatever may be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// It is written only if whoever starts the agent names this answer; none: unless that is forbidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// Variables that the request must have for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

/// `[status]`: a JSON document that says what the agent is doing. It is the agent's word, as its screen is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Status {
    /// Prints it, within the agent's walls and as its user.
    pub command: Vec<String>,
    /// Where in it the words are (RFC 6901); those that are there are joined by blanks.
    pub words: Vec<String>,
}

/// `[typing]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Typing {
    /// Whether it understands a bracketed paste.
    pub paste: bool,
    /// The key that submits.
    pub submit: String,
    /// Milliseconds between a message and that key.
    pub submit_delay: u64,
    /// More of them for each thousand characters.
    pub submit_delay_per_thousand: u64,
    /// At most so many.
    pub submit_delay_most: u64,
    /// Milliseconds between the first sight of readiness and the first key: what is typed before gets lost.
    pub settle: u64,
    /// Where what is typed stands until it is submitted; none: all of the screen.
    pub composer: Composer,
    /// What stands there for a long paste (`[Pasted text #1`).
    pub folded: Vec<String>,
}

/// `composer`: a part of the screen, by the lines around it. Each is the last of its sort.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Composer {
    /// Its first line is like this; for one that has no frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// It begins behind a line like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// It ends before a line like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// `[turn]`: what of a terminal's lines is the agent's answer. Lines are compared without the blanks at their ends; `*`
/// stands for anything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Turn {
    /// The interface below the text begins with lines like these, one right behind the other: the last such place.
    pub below: Vec<String>,
    /// What the user said begins with one of these.
    pub said: Vec<String>,
    /// A piece of the answer begins with this at the very left; empty: all lines are.
    pub text: String,
    /// A piece with a line like this is a tool's.
    pub tool: Vec<String>,
    /// The text ends before the last line like one of these, if there is one.
    pub until: Vec<String>,
    /// Lines that are nobody's text.
    pub without: Vec<String>,
    /// Where the agent writes down what was said, word for word: better than a screen, where it can be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<TurnLog>,
}

/// `[turn.log]`: a JSON document on each line, some of which hold a message `{role, content}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TurnLog {
    /// Prints the end of it, within the agent's walls and as its user.
    pub command: Vec<String>,
    /// Where in a line the message is (RFC 6901).
    pub message: String,
    /// Lines in which this is true are not of the conversation (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<String>,
}

impl Default for Typing {
    fn default() -> Self {
        Self {
            paste: true,
            submit: "enter".into(),
            submit_delay: 50,
            submit_delay_per_thousand: 25,
            submit_delay_most: 400,
            settle: 200,
            composer: Composer::default(),
            folded: Vec::new(),
        }
    }
}

/// `[exit]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Exit {
    /// Keys, pressed one after the other.
    pub keys: Vec<String>,
    /// Milliseconds between them.
    pub delay: u64,
}

/// One `[[screen]]`: what must be seen where, and what it means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Screen {
    /// For evidence and tests.
    pub name: String,
    /// What the agent is doing.
    pub state: State,
    /// In words.
    pub evidence: String,
    /// Every one of them must be there: two at least, for one alone could be anybody's text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<Marker>,
    /// One of them must be there, if any is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<Marker>,
    /// None of them may be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub none: Vec<Marker>,
    /// Milliseconds for which it must be so; none: what is usual for the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<u64>,
    /// Whether it can no longer be once one of these states was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<State>,
    /// Whether it can only be once one of these states was seen; what is not there then counts as a marker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<State>,
    /// Whether typing answers no question; none: only while it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe_to_type: Option<bool>,
    /// The login that it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginRule>,
    /// The keys that answer it; none: nobody but a person answers it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answer: Vec<String>,
    /// Whether it only says that a login worked: then it is answered, once a login was seen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_login: bool,
    /// When they are pressed.
    #[serde(default)]
    pub answered: Answered,
}

/// When a question is answered in the user's stead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answered {
    /// Only if whoever started the agent named it.
    #[default]
    Named,
    /// Unless whoever started the agent forbade it: it decides nothing (colours, notes).
    Always,
    /// The same, but only where the agent was given a workspace, and the screen names just that one.
    Workspace,
}

/// `login`: what a login screen tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LoginRule {
    /// At whom.
    pub provider: String,
    /// `device-code`, `paste-code`, `callback`, `api-key`, `unknown`.
    pub method: Method,
    /// How the address begins; the last on the screen is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub url: Vec<String>,
    /// The words before the code that the user types at the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_after: Option<String>,
    /// The words before how long it holds (`15 minutes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<String>,
    /// How a line begins that says why the last attempt failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// The words below which it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_below: Option<String>,
    /// The keys that begin another attempt; pressed after one that was made over the API was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry: Vec<String>,
}

/// How a login is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The user types a code at the address.
    DeviceCode,
    /// The address gives the user a code, which is typed here.
    PasteCode,
    /// The browser is sent to a port of the agent's.
    Callback,
    /// A key is typed here.
    ApiKey,
    /// Not yet chosen.
    #[default]
    Unknown,
}

impl Method {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeviceCode => "device-code",
            Self::PasteCode => "paste-code",
            Self::Callback => "callback",
            Self::ApiKey => "api-key",
            Self::Unknown => "unknown",
        }
    }
}

impl Kind {
    /// How it is started.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }
}

impl Seed {
    /// Its text with these variables; none: one is missing. Where the workspace is, only who builds the sandbox knows.
    pub fn text(&self, variables: &BTreeMap<String, String>) -> Option<String> {
        self.needs.iter().try_fold(self.content.clone(), |text, name| {
            let value = variables.get(name).filter(|value| !value.is_empty())?;
            let quoted = serde_json::Value::from(value.as_str()).to_string();
            Some(text.replace(&format!("{{env:{name}}}"), &quoted))
        })
    }
}

impl Status {
    /// Its words, out of what was printed; empty: it says nothing.
    pub fn words(&self, printed: &str) -> String {
        let Ok(document) = serde_json::from_str::<serde_json::Value>(printed) else { return String::new() };
        let words: Vec<&str> = self.words.iter().filter_map(|at| document.pointer(at)?.as_str()).collect();
        super::strings::label(&words.join(" "))
    }
}

impl Screen {
    /// Whether something may be typed on it.
    pub fn is_safe_to_type(&self) -> bool {
        self.safe_to_type.unwrap_or(self.state == State::Ready)
    }
}
