//! The text of a turn: what the agent answered, out of the lines that its terminal shows.
//!
//! ```text
//!  ❯ what the user said          after this
//!  ● Here is what I found:       a piece of the answer, its sign taken off
//!    it is 42.
//!  ● Bash(date)                  a tool's: it has a line of its own that says so
//!    ⎿  Thu Nov 26
//!  ✻ Worked for 3s               at the very left, and no text: ends a piece
//!  ──────────────                before this
//! ```

use super::kind::Turn;
use super::marker::matches;
use super::view::squeezed;

/// Characters of what was said by which it is found again; long messages are shown folded.
const SAID: usize = 16;

/// The answer to `said` in these lines, which are a terminal's from before it was said up to the end of the turn.
pub fn text(turn: &Turn, lines: &[String], said: &str) -> String {
    let lines = &lines[..interface(turn, lines)];
    let lines = &lines[echo(turn, lines, said)..];
    let is_end = |line: &String| turn.until.iter().any(|glob| matches(glob, line.trim()));
    let lines = &lines[..lines.iter().rposition(is_end).unwrap_or(lines.len())];
    let kept: Vec<&str> =
        lines.iter().map(|line| line.trim_end()).filter(|line| !is_left_out(turn, line)).collect();
    let pieces = if turn.text.is_empty() { Vec::new() } else { pieces(turn, &kept) };
    if pieces.is_empty() {
        // No sign of an answer: an error, perhaps, which is worth more than nothing.
        let all: Vec<String> = kept.iter().map(|line| (*line).to_owned()).collect();
        return trimmed(&all).trim().to_owned();
    }
    let texts = pieces.iter().map(|piece| trimmed(piece)).filter(|text| !text.is_empty());
    texts.collect::<Vec<_>>().join("\n\n")
}

/// Where the interface below the text begins.
fn interface(turn: &Turn, lines: &[String]) -> usize {
    if turn.below.is_empty() || lines.len() < turn.below.len() {
        return lines.len();
    }
    let is_there =
        |at: &usize| turn.below.iter().zip(&lines[*at..]).all(|(glob, line)| matches(glob, line.trim()));
    (0..=lines.len() - turn.below.len()).rev().find(is_there).unwrap_or(lines.len())
}

/// Behind what the user said, the last time that stands there.
fn echo(turn: &Turn, lines: &[String], said: &str) -> usize {
    let said = squeezed(said);
    let begin: String = said.chars().take(SAID).collect();
    let shown = |line: &String| {
        let own = turn.said.iter().find_map(|sign| line.trim_start().strip_prefix(sign.as_str()))?;
        let own = squeezed(own);
        (own.starts_with(&begin) || begin.starts_with(&own) && !own.is_empty() || own.starts_with('['))
            .then_some(own)
    };
    let Some((at, own)) = lines.iter().enumerate().rev().find_map(|(at, line)| Some((at, shown(line)?)))
    else {
        return end_of_echo(turn, lines, &said);
    };
    let mut left = said.strip_prefix(own.as_str()).unwrap_or_default();
    let mut next = at + 1;
    // The rest of it, on lines of its own.
    while let Some(line) = lines.get(next).filter(|_| !left.is_empty()) {
        let own = |line: &str| left.strip_prefix(squeezed(line).as_str());
        let signs = turn.said.iter().map(|sign| sign.trim_end());
        let bare = signs.filter_map(|sign| line.trim_start().strip_prefix(sign)).find_map(own);
        let Some(later) = bare.or_else(|| own(line)) else { break };
        (left, next) = (later, next + 1);
    }
    next
}

/// Of a message that is longer than the screen only its last lines are shown, if any.
fn end_of_echo(turn: &Turn, lines: &[String], said: &str) -> usize {
    let is_end = |line: &String| {
        let signs = turn.said.iter().map(|sign| sign.trim_end());
        let own = signs.filter_map(|sign| line.trim_start().strip_prefix(sign)).next();
        own.map(squeezed).is_some_and(|own| !own.is_empty() && said.ends_with(&own))
    };
    lines.iter().position(is_end).map_or(0, |at| at + 1)
}

fn is_left_out(turn: &Turn, line: &str) -> bool {
    turn.without.iter().any(|glob| matches(glob, line.trim()))
}

/// The pieces that are text.
fn pieces(turn: &Turn, lines: &[&str]) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = Vec::new();
    let mut within = false;
    let indent = turn.text.chars().count();
    for line in lines {
        if let Some(first) = line.strip_prefix(turn.text.as_str()) {
            all.push(vec![first.to_owned()]);
            within = true;
        } else if line.is_empty() || line.starts_with(' ') {
            let blanks = line.bytes().take(indent).take_while(|byte| *byte == b' ').count();
            let own = line[blanks..].to_owned();
            if within && let Some(piece) = all.last_mut() {
                piece.push(own);
            }
        } else {
            within = false;
        }
    }
    let is_tool = |piece: &Vec<String>| {
        piece.iter().any(|line| turn.tool.iter().any(|glob| matches(glob, line.trim())))
    };
    all.retain(|piece| !is_tool(piece));
    all
}

/// Without blank lines at either end, and with no more than one in a row.
fn trimmed(lines: &[String]) -> String {
    let mut text = String::new();
    let mut blank = 0;
    for line in lines {
        if line.trim().is_empty() {
            blank += 1;
            continue;
        }
        if !text.is_empty() {
            text.push_str(if blank > 0 { "\n\n" } else { "\n" });
        }
        blank = 0;
        text.push_str(line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::library::Library;
    use super::*;

    fn told(kind: &str, said: &str, lines: &str) -> String {
        let kind = Library::of([], 0).load(kind).expect("a kind");
        let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        text(&kind.turn, &lines, said)
    }

    const RULE: &str = "────────────────────────────────────────";

    #[test]
    fn of_claude_its_words_are_left_and_neither_tools_nor_spinners_nor_the_composer() {
        let lines = format!(
            "❯ before\n\n● Something else.\n\n✻ Cogitated for 9s\n\n❯ use the tool\n\n● I look at the date.\n\n\
             ● Bash(date)\n  ⎿  Thu Nov 26\n     2026\n\n● It is late:\n\n  - really\n    late\n\n✻ Worked for 0s\n\n\
             {RULE}\n❯ \n{RULE}\n  ? for shortcuts"
        );
        assert_eq!(
            told("claude", "use the tool", &lines),
            "I look at the date.\n\nIt is late:\n\n- really\n  late"
        );
    }

    #[test]
    fn a_long_message_is_found_by_what_is_shown_for_it_and_its_further_lines_are_no_answer() {
        let lines = format!("❯ [Pasted text #1 +99 lines]\n\n● Read.\n\n{RULE}\n❯ \n{RULE}\n");
        assert_eq!(told("claude", &"word ".repeat(500), &lines), "Read.");
        let lines = "› first line\n  second line\n\n• Both.\n\n  Worked for 1s • 16:28\n\n› Ask Codex\n";
        assert_eq!(told("codex", "first line\nsecond line", lines), "Both.");
    }

    #[test]
    fn an_error_is_worth_more_than_nothing() {
        let lines = format!("❯ hello\n  ⎿  Invalid API key · Fix external API key\n\n{RULE}\n❯ \n{RULE}\n");
        assert_eq!(told("claude", "hello", &lines), "⎿  Invalid API key · Fix external API key");
    }

    #[test]
    fn of_codex_gemini_and_aider_too() {
        let codex = "› use the tool\n\n\n✔ You approved codex to run touch x this time\n\n• Ran touch x\n  └ (no output)\n\n\
                     • All is well.\n  └ Tip: Use /title\n\n  Worked for 3s • 16:28\n\n\n› Ask Codex to do anything\n\n  GPT · /work\n";
        assert_eq!(told("codex", "use the tool", codex), "All is well.");
        let gemini = format!(
            " > use the tool\n\n╭────╮\n│ ✓  Shell touch x │\n╰────╯\n\n✦ All is well,\n  and ends.\n\n\
                                          ? for shortcuts\n{RULE}\n Shift+Tab to accept edits\n\n >   Type your message\n"
        );
        assert_eq!(told("gemini", "use the tool", &gemini), "All is well,\nand ends.");
        let aider = format!(
            "{RULE}\n> be slow please\n\nEverything is as it should be.\n\n\nTokens: 2.4k sent, 7 received. Cost: $0.0061\n{RULE}\n>"
        );
        assert_eq!(told("aider", "be slow please", &aider), "Everything is as it should be.");
        let aider = format!("{RULE}\n> one\n>   two\n>\n> three\n\nHeard.\n\nTokens: 1 sent\n{RULE}\n>");
        assert_eq!(told("aider", "one\n  two\n\nthree", &aider), "Heard.");
        let aider = format!("> line 8\n> line 9\n> the end\n\nHeard.\n\nTokens: 1 sent\n{RULE}\n>");
        assert_eq!(
            told("aider", &format!("{}line 8\nline 9\nthe end", "more\n".repeat(99)), &aider),
            "Heard."
        );
    }
}
