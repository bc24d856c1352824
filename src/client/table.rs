//! Tables for people: aligned columns, states in colour.

use std::time::Duration;

use crate::api::State;

/// Rows below a head.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Only the head so far.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// One more row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Aligned. `paint` is asked for each cell below the head (column, text) and may put colours around it.
    pub fn draw(&self, paint: impl Fn(usize, &str) -> Option<&'static str>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let width = |column| cells(column).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                let colour = if number == 0 { None } else { paint(column, cell) };
                match colour {
                    Some(colour) => text.push_str(&format!("{colour}{cell}\x1b[0m")),
                    None => text.push_str(cell),
                }
                if column + 1 < row.len() {
                    text.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count() + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Green works or waits for work, yellow waits for somebody, red failed, grey is over.
pub fn colour(state: State) -> &'static str {
    match state {
        State::Ready | State::Busy => "\x1b[32m",
        State::Starting | State::LoginRequired | State::Blocked | State::Stopping => "\x1b[33m",
        State::Failed => "\x1b[31m",
        State::Exited | State::Unknown => "\x1b[2m",
    }
}

/// `3d4h`, `5m`, `12s`: two units at most.
pub fn age(since: Duration) -> String {
    let seconds = since.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(length, _)| seconds >= *length).unwrap_or(3);
    let (length, unit) = units[first];
    let mut text = format!("{}{unit}", seconds / length);
    // Seconds beside minutes change faster than anybody reads.
    if let Some((length, unit)) = units.get(first + 1).filter(|_| first < 2) {
        let rest = seconds % units[first].0 / length;
        if rest > 0 {
            text.push_str(&format!("{rest}{unit}"));
        }
    }
    text
}

/// `1.5GiB`
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count}B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_no_line_ends_in_blanks() {
        let mut table = Table::new(&["ID", "STATE"]);
        table.row(vec!["a-long-id".into(), "ready".into()]);
        table.row(vec!["b".into(), "exited".into()]);
        assert_eq!(table.draw(|_, _| None), "ID         STATE\na-long-id  ready\nb          exited\n");
        let painted =
            table.draw(|column, cell| (column == 1 && cell == "ready").then(|| colour(State::Ready)));
        assert!(painted.contains("a-long-id  \x1b[32mready\x1b[0m\n"), "{painted:?}");
    }

    #[test]
    fn ages_and_sizes_are_short() {
        let of = |seconds| age(Duration::from_secs(seconds));
        assert_eq!([0, 59, 60, 3_600, 5_460, 90_000].map(of), ["0s", "59s", "1m", "1h", "1h31m", "1d1h"]);
        assert_eq!([0, 1023, 1536, 5 << 30].map(bytes), ["0B", "1023B", "1.5KiB", "5.0GiB"]);
    }
}
