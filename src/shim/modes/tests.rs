//! What is switched on is switched off, wherever a read happens to cut the sequences.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Output of programs, and what undoes it.
const CASES: &[(&str, &str)] = &[
    ("plain text\r\n\x1b]0;a title\x07", ""),
    ("\x1b[?1049h", "\x1b[?1049l"),
    ("\x1b[?1049h\x1b[?1049l", ""),
    ("\x1b[?47h", "\x1b[?47l"),
    ("\x1b[?1047h\x1b[?1049l", ""),
    ("\x1b[?9h\x1b[?1000h\x1b[?1002h\x1b[?1003h", "\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l"),
    ("\x1b[?1000;1002;1006h", "\x1b[?1000l\x1b[?1002l\x1b[?1006l"),
    ("\x1b[?1000;1002;1006h\x1b[?1002;1000l", "\x1b[?1006l"),
    ("\x1b[?1005;1015;1016h", "\x1b[?1005l\x1b[?1015l\x1b[?1016l"),
    ("\x1b[?1004h\x1b[?2004h\x1b[?2031h", "\x1b[?1004l\x1b[?2004l\x1b[?2031l"),
    ("\x1b[?2026h", "\x1b[?2026l"),
    ("\x1b[?25l", "\x1b[?25h"),
    ("\x1b[?25l\x1b[?25h", ""),
    ("\x1b[?7l", "\x1b[?7h"),
    ("\x1b[?1h\x1b=", "\x1b[?1l\x1b>"),
    ("\x1b[?1h\x1b=\x1b[?1l\x1b>", ""),
    // kitty's keyboard protocol: the stack of each screen
    ("\x1b[>1u", "\x1b[<1u"),
    ("\x1b[>7u\x1b[>5u", "\x1b[<2u"),
    ("\x1b[>7u\x1b[<u", ""),
    ("\x1b[>7u\x1b[<9u", ""),
    ("\x1b[=5u", "\x1b[=0u"),
    ("\x1b[=5u\x1b[=0u", ""),
    ("\x1b[>1u\x1b[?1049h\x1b[>3u", "\x1b[<1u\x1b[?1049l\x1b[<1u"),
    ("\x1b[?u", ""),
    ("\x1b[>4;2m", "\x1b[>4m"),
    ("\x1b[>4;2m\x1b[>4;0m", ""),
    ("\x1b[>4;2m\x1b[>4m", ""),
    // styles, the last values of which may be a colour rather than a reset
    ("\x1b[1;31mred", "\x1b[m"),
    ("\x1b[1;31mred\x1b[0m", ""),
    ("\x1b[1;31mred\x1b[m", ""),
    ("\x1b[0;1m", "\x1b[m"),
    ("\x1b[1;0m", ""),
    ("\x1b[38;5;0m", "\x1b[m"),
    ("\x1b[48;2;10;20;0m", "\x1b[m"),
    ("\x1b[38;2;0;0;0;0m", ""),
    ("\x1b[38:2::1:2:0m", "\x1b[m"),
    ("\x1b[5;20r", "\x1b7\x1b[r\x1b8"),
    ("\x1b[5;20r\x1b[r", ""),
    ("\x1b[?1000r", ""),
    ("\x1b[4h\x1b[20h", "\x1b[4l\x1b[20l"),
    ("\x1b[6 q", "\x1b[0 q"),
    ("\x1b[6 q\x1b[ q", ""),
    ("\x1b(0lqqk", "\x0f\x1b(B\x1b)B"),
    ("\x1b(0lqqk\x1b(B", ""),
    // resets
    ("\x1b[?1049h\x1b[?1000h\x1b[>1u\x1b[1m\x1bc", ""),
    ("\x1b[?25l\x1b[?1h\x1b[?1000h\x1b[1m\x1b[!p", "\x1b[?1000l"),
    // cut short
    ("\x1b]0;a title without an end", "\x1b\\"),
    ("\x1b]0;a title\x1b\\", ""),
    ("\x1bP+q544e", "\x1b\\"),
    ("\x1b[?1049", "\x1b\\"),
    ("\x1b", "\x1b\\"),
    // control characters act within a sequence; CAN and SUB end it; ESC begins the next
    ("\x1b[?10\r\n49h", "\x1b[?1049l"),
    ("\x1b[?1049\x18h", ""),
    ("\x1b[?1049\x1ah", ""),
    ("\x1b[?1049\x1b[?1000h", "\x1b[?1000l"),
    ("\x1b]0;never ended\x1b[?1000h", "\x1b[?1000l"),
    // not ours to undo
    ("\x1b[?12h\x1b[?1034h\x1b[?99999999h\x1b[?h\x1b[1049h", ""),
    ("\x1b[2J\x1b[H\x1b[6n\x1b[c\x1b[>c\x1b[>q\x1b7\x1b8\x1bM\x1b#8\x1b%G", ""),
];

fn after(parts: &[&[u8]]) -> Modes {
    let mut modes = Modes::default();
    parts.iter().for_each(|part| modes.observe(part));
    modes
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("only ASCII is emitted")
}

#[test]
fn exactly_what_is_left_on_is_switched_off_wherever_the_output_is_cut() {
    for (output, undo) in CASES {
        let bytes = output.as_bytes();
        for cut in 0..=bytes.len() {
            let modes = after(&[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(text(modes.undo()), *undo, "{output:?} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(text(after(&single).undo()), *undo, "{output:?} byte by byte");
    }
}

#[test]
fn what_the_undoing_does_to_a_terminal_leaves_nothing_on() {
    for (output, _) in CASES {
        let mut modes = after(&[output.as_bytes()]);
        let undo = modes.undo();
        modes.observe(&undo);
        assert_eq!(text(modes.undo()), "", "{output:?} was not undone by {:?}", text(undo));
    }
}

#[test]
fn what_is_brought_back_after_a_stop_is_what_was_on() {
    let output =
        "\x1b[>1u\x1b[?1049h\x1b[>3u\x1b[>3u\x1b[?1000;1006;2004h\x1b[?25l\x1b[?7l\x1b=\x1b[>4;1m\x1b[?1h";
    let before = after(&[output.as_bytes()]);
    let again = after(&[&before.redo()]);
    assert_eq!(text(again.undo()), text(before.undo()));
    assert_eq!(text(again.redo()), text(before.redo()));
    assert_eq!(text(Modes::default().redo()), "");
}

#[test]
fn every_watched_mode_has_its_own_bit() {
    let numbers: BTreeSet<u16> = PRIVATE.iter().map(|&(number, _)| number).collect();
    assert_eq!(numbers.len(), PRIVATE.len());
    assert!(PRIVATE.len() <= u32::BITS as usize);
}

#[test]
fn endless_sequences_take_no_memory_and_do_no_harm() {
    let long = format!("\x1b[?{}1000h", "1;".repeat(100_000));
    assert_eq!(text(after(&[long.as_bytes()]).undo()), "\x1b[?1l", "parameters beyond the 32nd are dropped");
    let pushes = "\x1b[>1u".repeat(1000);
    assert_eq!(text(after(&[pushes.as_bytes()]).undo()), "\x1b[<255u");
}

/// Bytes that make sequences likely.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => Just(ESC),
        4 => Just(b'['),
        2 => Just(b'?'),
        2 => Just(b'>'),
        6 => proptest::sample::select(b"0123456789;:".to_vec()),
        6 => proptest::sample::select(b"hlmuqrp !()=cPX]\\".to_vec()),
        2 => any::<u8>(),
    ];
    let known =
        proptest::sample::select(CASES.iter().map(|(o, _)| o.as_bytes().to_vec()).collect::<Vec<_>>());
    let part = prop_oneof![proptest::collection::vec(byte, 1..40), known];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn cuts_change_nothing(output in output(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8)) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(output.len() + 1)).collect();
        at.extend([0, output.len()]);
        at.sort_unstable();
        let parts: Vec<&[u8]> = at.windows(2).map(|pair| &output[pair[0]..pair[1]]).collect();
        prop_assert_eq!(text(after(&parts).undo()), text(after(&[&output]).undo()));
    }

    #[test]
    fn undoing_always_leaves_nothing_on(output in output()) {
        let mut modes = after(&[&output]);
        let undo = modes.undo();
        modes.observe(&undo);
        prop_assert_eq!(text(modes.undo()), "");
    }
}
