//! What a login screen tells: where to go, what to type there, what became of the last attempt.

use std::time::Duration;

use super::kind::{LoginRule, Method};
use super::url;
use super::view::{Row, View, trim};

/// Characters of a refusal that are told.
const REFUSAL: usize = 300;

/// A login, as the terminal shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// At whom.
    pub provider: String,
    /// How it is completed.
    pub method: Method,
    /// Where to go.
    pub url: Option<String>,
    /// What says so.
    pub source: Option<Source>,
    /// What the agent wanted opened in a browser, where that is another address than `url`: its way back is a port.
    pub browser_url: Option<String>,
    /// What to type there.
    pub user_code: Option<String>,
    /// Until when, in the time of the output.
    pub expires: Option<Duration>,
    /// Why the last attempt failed, in the agent's words.
    pub refused: Option<String>,
}

/// Where an address was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// On the screen, or in a link there.
    Screen,
    /// It was to be opened in a browser.
    Browser,
}

impl Source {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Screen => "screen",
            Self::Browser => "browser",
        }
    }
}

/// Reads it off. What was told before on the same page holds as long as that only shows less: agents draw over it.
pub fn read(rule: &LoginRule, view: &View, before: Option<&Login>, at: Duration) -> Login {
    let shown = if rule.url.is_empty() { None } else { url::find(view, &rule.url) };
    let whole = before.filter(|before| before.source == Some(Source::Screen)).and_then(|b| b.url.as_ref());
    // After a resize the rows of an address may no longer reach the edge: its beginning is no news.
    let less = |url: &String| whole.is_some_and(|whole| whole.starts_with(url.as_str()));
    let shown = shown.filter(|url| !less(url)).or_else(|| whole.cloned());
    let opened = opened(rule, view, shown.as_deref());
    let (url, source, browser_url) = match (rule.method, shown, opened) {
        // The browser's address comes back to a port, the one on the page gives a code: it is the one for this field.
        (Method::PasteCode, Some(shown), opened) => (Some(shown), Some(Source::Screen), opened),
        (_, _, Some(opened)) => (Some(opened), Some(Source::Browser), None),
        (_, shown, None) => {
            let source = shown.is_some().then_some(Source::Screen);
            (shown, source, None)
        }
    };
    let code = rule.code_after.as_ref().and_then(|words| url::code(view, words));
    let user_code = code.or_else(|| before?.user_code.clone());
    let expires = rule.expires_after.as_ref().and_then(|words| {
        let seconds = url::lifetime(view.region(None, None).after(words)?)?;
        Some(at + Duration::from_secs(seconds))
    });
    // The same code does not live longer because its screen is drawn again.
    let known = before.filter(|before| before.user_code == user_code && before.url == url);
    let expires = known.and_then(|before| before.expires).or(expires);
    let below = || rule.refused_below.as_ref().and_then(|words| below(view, words));
    let refused = refusal(view, &rule.refused).or_else(below);
    Login {
        provider: rule.provider.clone(),
        method: rule.method,
        url,
        source,
        browser_url,
        user_code,
        expires,
        refused,
    }
}

/// What was to be opened for this login: at one of the provider's own addresses, and not for an attempt before it.
fn opened(rule: &LoginRule, view: &View, shown: Option<&str>) -> Option<String> {
    if !matches!(rule.method, Method::Callback | Method::PasteCode) {
        return None;
    }
    let own = |url: &&String| rule.url.iter().any(|prefix| url::begins(url, prefix));
    let opened = view.opened.iter().rev().find(own)?;
    let other = shown.is_some_and(|shown| contradict(shown, opened));
    (!other).then(|| opened.clone())
}

/// Whether these addresses belong to two attempts: each has a secret of its own.
fn contradict(one: &str, other: &str) -> bool {
    ["state", "code_challenge"].iter().any(|name| match (query(one, name), query(other, name)) {
        // The one on the screen may be cut off.
        (Some(one), Some(other)) => !other.starts_with(&one),
        _ => false,
    })
}

/// The value of a parameter of an address.
pub fn query(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

/// The last line that begins with one of these words, with the rows that it goes on in.
fn refusal(view: &View, words: &[String]) -> Option<String> {
    let says = |row: &Row| words.iter().any(|words| trim(&row.text).starts_with(words.as_str()));
    let first = view.rows.iter().rposition(says)?;
    let mut text = String::new();
    for (index, row) in view.rows.iter().enumerate().skip(first) {
        text.push_str(trim(&row.text));
        let next = view.rows.get(index + 1).map_or("", |row| trim(&row.text));
        // A word that had room in this row would have stood there.
        let word = next.split(' ').next().unwrap_or_default().chars().count();
        let broken = word > 0 && row.text.trim_end().chars().count() + 1 + word > view.cols;
        if !row.wrapped && !broken {
            break;
        }
        if !row.wrapped {
            text.push(' ');
        }
    }
    Some(shortened(&text))
}

/// What stands below the last line with these words.
fn below(view: &View, words: &str) -> Option<String> {
    let at = view.rows.iter().rposition(|row| trim(&row.text).starts_with(words))?;
    let lines: Vec<&str> =
        view.rows[at + 1..].iter().map(|row| trim(&row.text)).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| shortened(&lines.join(" ")))
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(REFUSAL).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::emulator::Emulator;
    use crate::api::agent::Size;

    fn rule(method: Method) -> LoginRule {
        LoginRule {
            provider: "openai".into(),
            method,
            url: vec!["https://auth.openai.com/".into()],
            refused: vec!["OAuth error:".into()],
            ..LoginRule::default()
        }
    }

    fn seen(method: Method, output: &str) -> Login {
        let mut emulator = Emulator::new(Size { cols: 60, rows: 24 });
        emulator.feed(output.as_bytes());
        read(&rule(method), &emulator.view(), None, Duration::ZERO)
    }

    const WHOLE: &str = "https://auth.openai.com/a?state=s1&redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fcb";

    #[test]
    fn what_was_to_be_opened_is_better_than_a_screen_that_cuts_it() {
        let login =
            seen(Method::Callback, &format!("\x1b]7502;open={WHOLE}\x07https://auth.openai.com/a?sta…\r\n"));
        assert_eq!((login.url.as_deref(), login.source), (Some(WHOLE), Some(Source::Browser)));
        // Where the page has a field for a code, its own address is the one that gives it.
        let page = "https://auth.openai.com/p?state=s1";
        let login = seen(Method::PasteCode, &format!("\x1b]7502;open={WHOLE}\x07{page}\r\n"));
        assert_eq!((login.url.as_deref(), login.browser_url.as_deref()), (Some(page), Some(WHOLE)));
    }

    #[test]
    fn what_was_to_be_opened_elsewhere_or_for_another_attempt_is_not_offered() {
        let page = "https://auth.openai.com/a?state=s1";
        for other in [
            "https://evil.example/a?state=s1",
            "https://auth.openai.com.evil.example/a?state=s1",
            "http://auth.openai.com/a?state=s1",
            "https://auth.openai.com/a?state=s2",
        ] {
            let login = seen(Method::Callback, &format!("\x1b]7502;open={other}\x07{page}\r\n"));
            assert_eq!((login.url.as_deref(), login.source), (Some(page), Some(Source::Screen)), "{other}");
        }
        // A page with a code to type there has nothing to do with a browser here.
        let login = seen(Method::DeviceCode, &format!("\x1b]7502;open={WHOLE}\x07{page}\r\n"));
        assert_eq!(login.url.as_deref(), Some(page));
    }

    #[test]
    fn a_refusal_is_told_in_the_agents_words_and_no_more_of_them_than_a_line() {
        let login =
            seen(Method::PasteCode, " OAuth error: Invalid code. Please make sure\r\n\r\n Press Enter\r\n");
        assert_eq!(login.refused.as_deref(), Some("OAuth error: Invalid code. Please make sure"));
        let long = format!(" OAuth error: {}", "x".repeat(1000));
        assert_eq!(seen(Method::PasteCode, &long).refused.map(|text| text.len()), Some(REFUSAL));
        assert_eq!(seen(Method::PasteCode, "an OAuth error:").refused, None);
    }
}
