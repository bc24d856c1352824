//! Tests of a terminal's output for people.

use super::Size;
use super::history::tests::{Marked, written};
use super::recording::Recording;
use super::screen::Screen;
use super::text::{LONGEST_ANSWER, Spoken, answer, lines};

const SIZE: Size = Size { cols: 40, rows: 6 };

#[test]
fn the_last_lines_are_those_of_the_whole_log() {
    let text: String = (0..20_000).map(|n| format!("line number {n}\r\n")).collect();
    let (_agent, log) = written(&[(0, &text)], &[(0, 5, None)]);
    let end = text.len() as u64;
    let last = lines(&log, end, SIZE, Some(2), None).expect("read");
    assert_eq!(last, [(5, "line number 19998".to_owned()), (5, "line number 19999".to_owned())]);
    assert_eq!(lines(&log, end, SIZE, None, None).expect("read").len(), 20_000);
}

#[test]
fn lines_since_a_time_are_those_begun_then_or_later() {
    let (_agent, log) = written(
        &[(0, "a\r\nb\r\n"), (6, "c\r\nd\r\n")],
        &[(0, 1, None), (3, 2, None), (6, 3, None), (9, 4, None)],
    );
    let since = |at| -> Vec<String> {
        lines(&log, 12, SIZE, None, Some(at)).expect("read").into_iter().map(|(_, line)| line).collect()
    };
    assert_eq!(since(2), ["b", "c", "d"]);
    assert_eq!(since(4), ["d"]);
    assert_eq!(since(5), Vec::<String>::new());
}

/// What is answered where the terminal showed `before`, then put out `after`.
fn answered(before: &str, message: &str, after: &str) -> String {
    let (_agent, log) = written(&[(0, &format!("{before}{after}"))], &[]);
    let mut screen = Screen::new(SIZE, 0);
    screen.feed(before.as_bytes());
    let spoken = Spoken { text: message.into(), before: screen.draw() };
    answer(&log, &spoken, (before.len() + after.len()) as u64, None).expect("read")
}

#[test]
fn an_answer_has_neither_echo_nor_prompt_nor_what_stood_there_before() {
    assert_eq!(answered("$ ", "ls", "ls\r\n\x1b[34mone\x1b[m\r\ntwo\r\n$ "), "one\ntwo");
    assert_eq!(answered("", "ls", "ls\r\none"), "one");
    let many: String = (0..30).map(|n| format!("{n}\r\n")).collect();
    let expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    assert_eq!(answered("a\r\nb\r\nc\r\n$ ", "seq", &format!("seq\r\n{many}$ ")), expected.join("\n"));
}

#[test]
fn the_last_line_of_an_answer_is_no_prompt_where_the_program_has_none() {
    let before = "said a\r\nCONFIDENCE: 0.6\r\n";
    let after = "b\r\nsaid b\r\nCONFIDENCE: 0.6\r\n";
    assert_eq!(answered(before, "b", after), "said b\nCONFIDENCE: 0.6");
    assert_eq!(answered("said a\r\n> ", "b", "b\r\nsaid b\r\n> "), "said b");
}

#[test]
fn of_a_long_answer_the_last_characters_are_told() {
    let many: String = (0..5000).map(|n| format!("äöü {n}\r\n")).collect();
    let told = answered("$ ", "x", &format!("x\r\n{many}$ "));
    assert!(told.chars().count() <= LONGEST_ANSWER && told.ends_with("äöü 4999"), "{}", told.len());
}

#[test]
fn a_recording_breaks_no_character_and_knows_its_sizes() {
    let text = "aä€😀b";
    let bytes = text.len() as u64;
    let marks: Vec<Marked> =
        (0..bytes).map(|n| (n, 1_000_000 + n * 500_000, (n == 0).then_some((40, 6)))).collect();
    let (_agent, log) = written(&[(0, text)], &[marks, vec![(bytes - 1, 9_000_000, Some((50, 7)))]].concat());
    let mut recording = Recording::new(log, bytes, Size { cols: 1, rows: 1 }).expect("read");
    let cast = recording.piece().expect("read").expect("all of it");
    assert_eq!(recording.piece().expect("read"), None);
    let lines: Vec<serde_json::Value> = cast
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    assert_eq!(
        (&lines[0]["version"], &lines[0]["width"], &lines[0]["timestamp"]),
        (&2.into(), &40.into(), &1.into())
    );
    let of = |kind: &str| -> String {
        lines[1..].iter().filter(|l| l[1] == kind).map(|l| l[2].as_str().expect("text")).collect()
    };
    assert_eq!((of("o").as_str(), of("r").as_str()), (text, "50x7"));
    let times: Vec<f64> = lines[1..].iter().map(|l| l[0].as_f64().expect("a time")).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn a_long_recording_comes_in_pieces_with_one_header_and_every_character() {
    let text = "aä€😀".repeat(100_000);
    let size = Size { cols: 40, rows: 6 };
    let (_agent, log) = written(&[(0, &text)], &[(0, 1_000_000, Some((40, 6)))]);
    let mut recording = Recording::new(log, text.len() as u64, size).expect("read");
    let (mut pieces, mut lines) = (0, Vec::new());
    while let Some(piece) = recording.piece().expect("read") {
        pieces += 1;
        let whole =
            piece.strip_suffix(b"\n").expect("whole lines").split(|b| *b == b'\n').map(<[u8]>::to_vec);
        lines.extend(whole.map(|line| serde_json::from_slice::<serde_json::Value>(&line).expect("JSON")));
    }
    assert!(pieces > 2, "{pieces}");
    assert_eq!(lines.iter().filter(|line| line.is_object()).count(), 1);
    assert!(lines[1..].iter().all(|line| line[1] == "o"), "no size is told twice");
    assert_eq!(lines[1..].iter().map(|line| line[2].as_str().expect("text")).collect::<String>(), text);
}

#[test]
fn a_recording_of_nothing_is_its_header() {
    let (_agent, log) = written(&[], &[]);
    let mut recording = Recording::new(log, 0, SIZE).expect("read");
    let header = recording.piece().expect("read").expect("a header");
    assert!(String::from_utf8(header).expect("text").contains("\"width\":40"));
    assert_eq!(recording.piece().expect("read"), None);
}
