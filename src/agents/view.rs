//! What can be seen at one moment: the screen's lines, the cursor, the title, and what the agent reports of itself.

use super::kind::Composer;
use super::marker;

/// A moment. Made by the emulator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Every row of the screen, without the blanks at its end.
    pub rows: Vec<Row>,
    /// Rows that have left the screen at its top, the latest last; only for what was cut off there.
    pub above: Vec<Row>,
    /// Row and column, from 0.
    pub cursor: (usize, usize),
    /// The screen's width.
    pub cols: usize,
    /// The title that was set last.
    pub title: String,
    /// The last report (OSC 7501) in full.
    pub report: String,
    /// What it has written down about itself, as far as it was asked for.
    pub status: String,
    /// Whether the alternate screen is on.
    pub alternate: bool,
    /// Whether pastes are framed: programs that read lines ask for that while they read one, and only then.
    pub paste: bool,
    /// Addresses of the latest links, the latest last.
    pub links: Vec<String>,
    /// Addresses that were to be opened in a browser, the latest last.
    pub opened: Vec<String>,
    trimmed: Vec<String>,
    /// All text without blanks, and where each row's begins.
    squeezed: String,
    begins: Vec<usize>,
    end: usize,
}

/// One row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Its text; wide characters fill one place here and two on the screen.
    pub text: String,
    /// Columns up to the end of the text.
    pub width: usize,
    /// Whether the terminal itself broke the line here.
    pub wrapped: bool,
}

/// What frames are drawn with, and the blanks beside them.
const FRAME: &[char] = &['│', '┃', '║', '▌', '▐', '╭', '╮', '╰', '╯', '┌', '┐', '└', '┘', ' ', '\u{a0}'];

/// A line's own text.
pub fn trim(line: &str) -> &str {
    line.trim_matches(FRAME)
}

impl View {
    /// Finishes a view whose rows are filled in.
    pub fn new(rows: Vec<Row>, cols: usize, cursor: (usize, usize)) -> Self {
        let trimmed: Vec<String> = rows.iter().map(|row| trim(&row.text).to_owned()).collect();
        let end = rows.iter().rposition(|row| !row.text.trim().is_empty()).map_or(0, |last| last + 1);
        let (mut squeezed, mut begins) = (String::new(), vec![0]);
        for line in &trimmed {
            squeezed.extend(line.split_whitespace());
            begins.push(squeezed.len());
        }
        Self { rows, cols, cursor, trimmed, squeezed, begins, end, ..Self::default() }
    }

    /// Whether nothing was drawn.
    pub fn is_blank(&self) -> bool {
        self.end == 0
    }

    /// Part of the screen.
    pub fn region(&self, first: Option<usize>, last: Option<usize>) -> Region<'_> {
        let from = last.map_or(0, |last| self.end.saturating_sub(last));
        let to = first.map_or(self.end, |first| first.min(self.end));
        let from = from.min(to);
        let begin = |row: usize| self.begins.get(row).copied().unwrap_or(0);
        let squeezed = self.squeezed.get(begin(from)..begin(to)).unwrap_or_default();
        Region { lines: self.trimmed.get(from..to).unwrap_or_default(), squeezed }
    }

    /// Where what is typed stands until it is submitted. Without the lines that mark it: all of the screen.
    pub fn composer(&self, composer: &Composer) -> Region<'_> {
        let (from, to) = self.composer_rows(composer);
        let from = from.unwrap_or(0);
        let squeezed = self.squeezed.get(self.begins[from]..self.begins[to]).unwrap_or_default();
        Region { lines: self.trimmed.get(from..to).unwrap_or_default(), squeezed }
    }

    /// Its first line, if its marks are there: within the last lines of the screen, where so many are named.
    pub fn composer_line(&self, composer: &Composer, last: Option<usize>) -> Option<&str> {
        let (from, to) = self.composer_rows(composer);
        let from = from.filter(|from| *from < to && last.is_none_or(|last| from + last >= self.end))?;
        Some(&self.trimmed[from])
    }

    /// A mark stands at the very left, where neither what is typed nor a frame's edge is.
    fn composer_rows(&self, composer: &Composer) -> (Option<usize>, usize) {
        let mark = |glob: &Option<String>, below: usize| {
            let glob = glob.as_ref()?;
            let rows = &self.rows[..below];
            rows.iter().rposition(|row| marker::matches(glob, row.text.trim_end()))
        };
        let to = mark(&composer.before, self.end);
        // Without its end it is not there.
        let missing = composer.before.is_some() && to.is_none();
        let to = to.unwrap_or(self.end);
        let from = match &composer.from {
            Some(glob) => self.trimmed[..to].iter().rposition(|line| marker::matches(glob, line)),
            None => mark(&composer.after, to).map(|row| row + 1),
        };
        (from.filter(|_| !missing), to)
    }

    /// The line that the cursor is on, up to the cursor's line's end.
    pub fn cursor_line(&self) -> &str {
        self.trimmed.get(self.cursor.0).map_or("", String::as_str)
    }

    /// All of the screen, for people.
    pub fn text(&self) -> String {
        self.rows[..self.end].iter().map(|row| format!("{}\n", row.text)).collect()
    }
}

/// Lines of a screen, trimmed.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    lines: &'a [String],
    squeezed: &'a str,
}

impl<'a> Region<'a> {
    /// One after the other.
    pub fn lines(self) -> impl Iterator<Item = &'a str> {
        self.lines.iter().map(String::as_str)
    }

    /// All of its text, without blanks.
    pub fn squeezed(self) -> &'a str {
        self.squeezed
    }

    /// Whether it has these words, wherever lines are broken.
    pub fn has(self, words: &str) -> bool {
        self.squeezed.contains(&squeezed(words))
    }

    /// Whether it ends with these words.
    pub fn ends_with(self, words: &str) -> bool {
        self.squeezed.ends_with(&squeezed(words))
    }

    /// What follows these words, without blanks; the last time they stand there.
    pub fn after(self, words: &str) -> Option<&'a str> {
        let words = squeezed(words);
        self.squeezed.rfind(&words).map(|at| &self.squeezed[at + words.len()..])
    }
}

/// Without blanks.
pub fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}
