//! Reads an address off a screen, however it was broken into rows: by the terminal, by the agent, within a frame.
//!
//! A link's own address (OSC 8) is exact, so it wins where one begins like what is on the screen. Otherwise rows are put
//! together again: the next one continues an address if the terminal itself broke the row, or if the address reaches the
//! edge and the next row holds nothing but one word that could belong to it.

use super::view::{Row, View};

/// Columns that frames and their padding take at the right edge.
const EDGE: usize = 4;
/// Longer than any login's address.
const LONGEST: usize = 4096;

/// The last address that begins with one of `prefixes`, and is complete.
pub fn find(view: &View, prefixes: &[String]) -> Option<String> {
    let rows: Vec<&Row> = view.above.iter().chain(&view.rows).collect();
    for start in (0..rows.len()).rev() {
        for (at, _) in rows[start].text.rmatch_indices("https://") {
            let url = joined(&rows, start, at, view.cols);
            let url = linked(&view.links, &url, first_run(&rows[start].text[at..])).unwrap_or(url);
            if url.len() <= LONGEST && prefixes.iter().any(|prefix| begins(&url, prefix)) {
                return Some(url);
            }
        }
    }
    None
}

/// Whether the address is one of the provider's: a beginning that ends within a host's name would let in other hosts.
pub fn begins(url: &str, prefix: &str) -> bool {
    let host = prefix.strip_prefix("https://").is_some_and(|rest| rest.contains('/'));
    url.strip_prefix(prefix).is_some_and(|rest| host || rest.is_empty() || rest.starts_with('/'))
}

/// The code that follows these words: the first word of capitals, digits and dashes, eight characters or more with a dash.
pub fn code(view: &View, words: &str) -> Option<String> {
    let rows = view.rows.iter().map(|row| super::view::trim(&row.text));
    let all: Vec<&str> = rows.collect();
    // The words may be broken into rows: they end where the rows up to there have them.
    let end = (0..all.len()).rev().find(|end| {
        let from = end.saturating_sub(6);
        squeezed(&all[from..=*end]).contains(&squeezed(&[words]))
            && !squeezed(&all[from..*end]).contains(&squeezed(&[words]))
    })?;
    let is_code = |word: &&str| {
        word.len() >= 7
            && word.contains('-')
            && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-')
            && !word.starts_with('-')
            && !word.ends_with('-')
    };
    all[end..].iter().flat_map(|line| line.split_whitespace()).find(is_code).map(str::to_owned)
}

/// `15minutes…` in seconds.
pub fn lifetime(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        rest if rest.starts_with("second") => 1,
        rest if rest.starts_with("minute") => 60,
        rest if rest.starts_with("hour") => 3600,
        _ => return None,
    };
    count.checked_mul(unit)
}

fn squeezed(lines: &[&str]) -> String {
    lines.iter().flat_map(|line| line.split_whitespace()).collect()
}

/// The address that begins at byte `at` of row `start`.
fn joined(rows: &[&Row], start: usize, at: usize, cols: usize) -> String {
    let mut url = first_run(&rows[start].text[at..]).to_owned();
    let mut ends = at + url.len();
    let mut edge = None;
    for index in start..rows.len().saturating_sub(1) {
        let row = rows[index];
        // What follows the run in its row: nothing, or a frame.
        let reaches = row.text[ends..].trim().is_empty() || is_frame(&row.text[ends..]);
        // Characters of an address are one column wide, so that bytes before its end differ from columns only by frames.
        let column = row.text[..ends].chars().count();
        if !reaches || column + EDGE < cols || edge.is_some_and(|edge| edge != column) {
            break;
        }
        edge.get_or_insert(column);
        let next = rows[index + 1];
        let Some((from, run)) = continuation(&next.text, row.wrapped) else { break };
        url.push_str(run);
        if url.len() > LONGEST {
            break;
        }
        ends = from + run.len();
    }
    url
}

/// The part of an address that a row goes on with, and where it stands.
fn continuation(text: &str, wrapped: bool) -> Option<(usize, &str)> {
    let from =
        if wrapped { 0 } else { text.find(|c: char| is_of_url(c)).filter(|at| is_frame(&text[..*at]))? };
    let run = first_run(&text[from..]);
    let rest = &text[from + run.len()..];
    // A row of more than one word is text of its own, unless the terminal says that it goes on.
    let alone = rest.trim().is_empty() || is_frame(rest);
    (!run.is_empty() && (wrapped || alone)).then_some((from, run))
}

fn is_frame(text: &str) -> bool {
    super::view::trim(text).is_empty()
}

fn first_run(text: &str) -> &str {
    &text[..text.find(|c| !is_of_url(c)).unwrap_or(text.len())]
}

/// RFC 3986: unreserved, reserved, percent.
fn is_of_url(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c)
}

/// The latest link whose address begins with what is on the row, and goes on as the rows do.
fn linked(links: &[String], joined: &str, run: &str) -> Option<String> {
    let like = |link: &&String| {
        link.starts_with(run) && (link.starts_with(joined) || joined.starts_with(link.as_str()))
    };
    let exact = links.iter().rev().find(like);
    exact.or_else(|| links.iter().rev().find(|link| run.len() > 24 && link.starts_with(run))).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::emulator::Emulator;
    use crate::api::agent::Size;

    const URL: &str = "https://claude.com/cai/oauth/authorize?code=true&client_id=9d1c250a-e61b-44d9-88ed-5944d1962f5e\
                       &response_type=code&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback&\
                       scope=org%3Acreate_api_key+user%3Aprofile&code_challenge=KK24XCf5AtHQOK7pLVuYoy1Zhd1oydgnzrEvVRF\
                       &code_challenge_method=S256&state=uJSc3ZCwD7CHUp8rBG7YjFl3BGUqbDbw8rzetzGXwF8";

    fn read(size: (u16, u16), output: &str) -> Option<String> {
        let mut emulator = Emulator::new(Size { cols: size.0, rows: size.1 });
        emulator.feed(output.as_bytes());
        find(&emulator.view(), &["https://claude.com/".into()])
    }

    fn broken(url: &str, every: usize, before: &str, after: &str) -> String {
        let rows: Vec<&str> =
            url.as_bytes().chunks(every).map(|row| std::str::from_utf8(row).expect("ASCII")).collect();
        rows.iter().map(|row| format!("{before}{row:every$}{after}\r\n")).collect()
    }

    #[test]
    fn a_prefix_is_a_whole_host() {
        assert!(begins("https://openrouter.ai/auth?x", "https://openrouter.ai/auth"));
        assert!(begins("https://a.example/x", "https://a.example"));
        assert!(!begins("https://a.example.evil/x", "https://a.example"));
        assert!(!begins("https://a.example@evil/x", "https://a.example"));
    }

    #[test]
    fn a_screen_offers_no_address_of_another_host_whose_name_begins_like_the_providers() {
        for other in ["https://a.example@evil/x", "https://a.example.evil/x", "https://a.example:1@evil/x"] {
            let mut emulator = Emulator::new(Size { cols: 80, rows: 24 });
            emulator.feed(format!("{other}\r\n").as_bytes());
            assert_eq!(find(&emulator.view(), &["https://a.example".into()]), None, "{other}");
        }
    }

    #[test]
    fn an_address_is_whole_whatever_broke_it() {
        for cols in [20_u16, 61, 80, 97, 120, 200, 500] {
            let wide = usize::from(cols);
            let below = "\r\n Paste code here if prompted >";
            let by_terminal = format!("Use the url below\r\n\r\n{URL}\r\n{below}");
            assert_eq!(read((cols, 60), &by_terminal).as_deref(), Some(URL), "terminal, {cols}");
            let by_agent = format!("{}{below}", broken(URL, wide, "", "").replace('\n', "\n\x1b[0m"));
            assert_eq!(read((cols, 60), &by_agent).as_deref(), Some(URL), "agent, {cols}");
            let indented = format!("{}{below}", broken(URL, wide - 3, "  ", ""));
            assert_eq!(read((cols, 60), &indented).as_deref(), Some(URL), "indented, {cols}");
            let framed = format!("{}{below}", broken(URL, wide - 4, "│ ", " │"));
            assert_eq!(read((cols, 60), &framed).as_deref(), Some(URL), "framed, {cols}");
        }
    }

    #[test]
    fn an_address_of_exactly_full_rows_does_not_swallow_what_follows() {
        for length in [160, 161, 159] {
            let url = &URL[..length];
            let output = format!("{url}\r\n\r\nPaste code here\r\n");
            assert_eq!(read((80, 24), &output).as_deref(), Some(url));
            let tight = format!("{}Paste code here\r\n", broken(url, 80, "", ""));
            assert_eq!(read((80, 24), &tight).as_deref(), Some(url), "{length}");
        }
    }

    #[test]
    fn the_last_address_counts_and_foreign_ones_do_not() {
        let output =
            "https://claude.com/first\r\nhttps://claude.com/second\r\nhttps://evil.example/claude.com/\r\n";
        assert_eq!(read((80, 24), output).as_deref(), Some("https://claude.com/second"));
    }

    #[test]
    fn a_links_own_address_is_taken_where_it_is_the_same_address() {
        let shown = "https://claude.com/cai/oauth/authorize?co…";
        let output = format!("\x1b]8;;{URL}\x1b\\{shown}\x1b]8;;\x1b\\\r\n");
        assert_eq!(read((80, 24), &output).as_deref(), Some(URL));
        let other = "\x1b]8;;https://evil.example/\x1b\\https://claude.com/here\x1b]8;;\x1b\\\r\n";
        assert_eq!(read((80, 24), other).as_deref(), Some("https://claude.com/here"));
    }

    #[test]
    fn a_code_is_found_below_its_words_even_if_they_are_broken() {
        let mut emulator = Emulator::new(Size { cols: 30, rows: 12 });
        emulator.feed(b"2. Enter this one-time code\r\nafter you are signed in\r\n(expires in 15 minutes)\r\n\r\n LAB1-CODE2\r\n");
        let view = emulator.view();
        assert_eq!(code(&view, "one-time code after you are signed in").as_deref(), Some("LAB1-CODE2"));
        assert_eq!(lifetime("15minutes)"), Some(900));
        assert_eq!(lifetime("soon"), None);
    }
}
