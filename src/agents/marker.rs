//! One thing that must be seen, and where: rules are made of these.

use serde::{Deserialize, Serialize};

use super::kind::Composer;
use super::view::View;

/// Where it is looked for, and what. Without a place: the whole screen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Marker {
    /// Only in so many lines at the end of what is on the screen; blank lines count, those below everything do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<usize>,
    /// Only in so many lines from the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<usize>,
    /// These words, wherever the terminal or the agent breaks them into lines: blanks do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// With these words the place ends; blanks do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// A line like this, without the blanks and frames at its ends; `*` stands for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// Lines like these, in this order; there may be others between them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// The place where a message is typed (`typing.composer`) begins with a line like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub composer: Option<String>,
    /// The line that the cursor is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The window's title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What the agent reports of itself (OSC 7501).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
    /// What it has written down about itself (`[status]`): known only where the screen says `ready`, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Whether the alternate screen is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternate: Option<bool>,
    /// Whether pastes are framed: programs that read lines ask for that while they read one, and only then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paste: Option<bool>,
}

impl Marker {
    /// Whether it is there, where a message is typed in this place.
    pub fn is_in(&self, view: &View, composer: &Composer) -> bool {
        let region = view.region(self.first, self.last);
        self.text.as_ref().is_none_or(|text| region.has(text))
            && self.ends.as_ref().is_none_or(|text| region.ends_with(text))
            && self.line.as_ref().is_none_or(|glob| region.lines().any(|line| matches(glob, line)))
            && in_order(&self.lines, region.lines())
            && self.composer.as_ref().is_none_or(|glob| {
                let line = view.composer_line(composer, self.last);
                line.is_some_and(|line| matches(glob, line))
            })
            && self.cursor.as_ref().is_none_or(|glob| matches(glob, view.cursor_line()))
            && self.title.as_ref().is_none_or(|glob| matches(glob, &view.title))
            && self.report.as_ref().is_none_or(|glob| matches(glob, &view.report))
            && self.status.as_ref().is_none_or(|glob| matches(glob, &view.status))
            && self.alternate.is_none_or(|alternate| alternate == view.alternate)
            && self.paste.is_none_or(|paste| paste == view.paste)
    }

    /// Whether the agent says it outside its text, where nothing that it quotes can be.
    pub fn is_structured(&self) -> bool {
        self.title.is_some() || self.report.is_some() || self.status.is_some() || self.paste.is_some()
    }

    /// How many things it looks for.
    pub fn weight(&self) -> usize {
        let heard = [&self.title, &self.report, &self.status];
        let single = [&self.text, &self.ends, &self.line, &self.cursor].into_iter().chain(heard);
        // Three lines of their own, one right behind the other.
        let composer = 3 * usize::from(self.composer.is_some());
        let modes = [self.alternate, self.paste];
        single.flatten().count() + composer + self.lines.len() + modes.into_iter().flatten().count()
    }
}

fn in_order<'a>(globs: &[String], lines: impl Iterator<Item = &'a str>) -> bool {
    let mut wanted = globs.iter().peekable();
    for line in lines {
        if wanted.peek().is_some_and(|glob| matches(glob, line)) {
            wanted.next();
        }
    }
    wanted.peek().is_none()
}

/// Whether all of `text` is like `glob`, in which `*` stands for anything. Linear in the text for each `*`.
pub fn matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let head = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(tail) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        assert!(matches("> *", "> hello"));
        assert!(matches("*", ""));
        assert!(matches("a*b*c", "a b b c"));
        assert!(matches("exact", "exact"));
        assert!(!matches("exact", "exact."));
        assert!(!matches("> *", ">"));
        assert!(!matches("a*b*c", "a c b"));
        assert!(!matches("ab*b", "ab"));
    }

    #[test]
    fn lines_count_only_in_their_order() {
        let lines = ["one", "two", "three"];
        let globs = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert!(in_order(&globs(&["one", "th*"]), lines.into_iter()));
        assert!(!in_order(&globs(&["three", "one"]), lines.into_iter()));
    }
}
