//! Takes operating system commands out of a terminal's output before the emulator sees them: titles, reports, links.
//!
//! The emulator would keep an endless one in memory, and hands out neither links nor reports. What is kept here has a
//! limit, and a command may be split anywhere between two reads.
//!
//! An ESC starts a sequence whatever stood before it, so the only state is how far the present sequence has come.

/// Bytes of one command that are kept; a longer one is left out as a whole.
const LONGEST: usize = 8192;
/// Links that are remembered.
const LINKS: usize = 32;
/// Addresses for a browser that are remembered.
const OPENED: usize = 8;
/// Longest address for a browser.
const LONGEST_OPENED: usize = 4096;
/// Characters of a title or a report.
const LABEL: usize = 512;
/// Characters that one read may have repeated with REP, beside those that it has itself: it asks for 65535 in 8 bytes.
const REPEATED: u64 = 1 << 16;
/// Ends a sequence without a trace (ECMA-48, CAN).
const CANCEL: u8 = 0x18;

/// The filter, and what it has heard.
#[derive(Debug, Clone, Default)]
pub struct Strings {
    /// The title that was set last (OSC 0, 2).
    pub title: String,
    /// The last report (OSC 7501), without its number.
    pub report: String,
    /// Addresses of the latest links (OSC 8), the latest last, each once.
    pub links: Vec<String>,
    /// Addresses that were to be opened in a browser (OSC 7502, see `plan::browser`), the latest last, each once.
    pub opened: Vec<String>,
    /// How often the bell rang.
    pub bells: u64,
    at: At,
    command: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC [; so much was asked for by the first number, if there is nothing but one.
    Control { count: u64, plain: bool },
    /// After ESC ].
    Command,
}

impl Strings {
    /// Passes on what is left of `bytes`, in pieces.
    pub fn filter(&mut self, bytes: &[u8], mut pass: impl FnMut(&[u8])) {
        let mut repeats = REPEATED + 4 * bytes.len() as u64;
        let mut from = 0;
        for (index, byte) in bytes.iter().enumerate() {
            let keeps = match (self.at, byte) {
                (At::Command, 0x07) => {
                    self.finish();
                    // The emulator still waits behind the ESC.
                    pass(&[CANCEL]);
                    false
                }
                (At::Command, 0x1b | 0x18 | 0x1a) => {
                    self.finish();
                    self.at = if *byte == 0x1b { At::Escape } else { At::Text };
                    from = index;
                    true
                }
                (At::Command, _) => {
                    if self.command.len() <= LONGEST {
                        self.command.push(*byte);
                    }
                    false
                }
                (At::Escape, b']') => {
                    pass(&bytes[from..index]);
                    self.at = At::Command;
                    false
                }
                _ => {
                    let dropped = self.step(*byte, &mut repeats);
                    if dropped {
                        pass(&bytes[from..index]);
                        pass(&[CANCEL]);
                    }
                    !dropped
                }
            };
            if !keeps {
                from = index + 1;
            }
        }
        if self.at != At::Command && from < bytes.len() {
            pass(&bytes[from..]);
        }
    }

    /// One byte outside of commands. Whether it must not be passed on, because it would repeat too much.
    fn step(&mut self, byte: u8, repeats: &mut u64) -> bool {
        self.bells += u64::from(byte == 0x07);
        self.at = match (self.at, byte) {
            (_, 0x1b) => At::Escape,
            (_, 0x18 | 0x1a) => At::Text,
            // Control characters act within a sequence, and do not end it.
            (at, ..=0x1f) => at,
            (At::Escape, b'[') => At::Control { count: 0, plain: true },
            (At::Escape, _) => At::Text,
            (At::Control { count, plain: true }, b'0'..=b'9') => {
                At::Control { count: (count * 10 + u64::from(byte - b'0')).min(1 << 16), plain: true }
            }
            (At::Control { count, .. }, b'b') => {
                self.at = At::Text;
                let left = repeats.checked_sub(count.max(1));
                *repeats = left.unwrap_or(*repeats);
                return left.is_none();
            }
            (At::Control { .. }, 0x40..=0x7e) => At::Text,
            // With a second number or a mark of privacy the first is still what counts.
            (At::Control { count, .. }, _) => At::Control { count, plain: false },
            (at, _) => at,
        };
        false
    }

    fn finish(&mut self) {
        self.at = At::Text;
        let command = std::mem::take(&mut self.command);
        if command.len() > LONGEST {
            return;
        }
        let command = String::from_utf8_lossy(&command);
        let Some((number, text)) = command.split_once(';') else { return };
        match number {
            "0" | "2" => self.title = label(text),
            "7501" => self.report = label(text),
            "7502" => self.open(text),
            "8" => self.link(text),
            // Anything else, the clipboard (52) among it, concerns no screen.
            _ => {}
        }
    }

    /// `PARAMETERS;ADDRESS`, the address empty at a link's end.
    fn link(&mut self, text: &str) {
        let Some((_, address)) = text.split_once(';') else { return };
        if address.is_empty() || address.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return;
        }
        remember(&mut self.links, address, LINKS);
    }

    /// `open=ADDRESS`. Any program inside can say so: what is no plain address is left out, and what is one is only the
    /// agent's word.
    fn open(&mut self, text: &str) {
        let Some(address) = text.strip_prefix("open=") else { return };
        let plain = address.bytes().all(|byte| byte.is_ascii_graphic());
        let web = address.starts_with("https://") || address.starts_with("http://");
        if plain && web && address.len() <= LONGEST_OPENED {
            remember(&mut self.opened, address, OPENED);
        }
    }
}

fn remember(list: &mut Vec<String>, address: &str, most: usize) {
    list.retain(|known| known != address);
    if list.len() == most {
        list.remove(0);
    }
    list.push(address.to_owned());
}

/// One line of so many characters at most, without control characters.
pub fn label(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LABEL).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard(pieces: &[&[u8]]) -> (Strings, Vec<u8>) {
        let mut strings = Strings::default();
        let mut left = Vec::new();
        for piece in pieces {
            strings.filter(piece, |bytes| left.extend_from_slice(bytes));
        }
        (strings, left)
    }

    const ALL: &[u8] = b"a\x1b]0;Title\x07b\x1b]7501;state=idle:app=codex\x1b\\c\x1b[1m\
                         \x1b]8;id=1;https://e.org/?a=1;b=2\x07link\x1b]8;;\x07d\x1b]52;c;aGVsbG8=\x07e";

    #[test]
    fn titles_reports_and_links_are_heard_however_they_are_split() {
        let (whole, left) = heard(&[ALL]);
        assert_eq!(whole.title, "Title");
        assert_eq!(whole.report, "state=idle:app=codex");
        assert_eq!(whole.links, ["https://e.org/?a=1;b=2"]);
        for at in 0..ALL.len() {
            let (split, rest) = heard(&[&ALL[..at], &ALL[at..]]);
            assert_eq!((split.title, split.report, split.links), {
                let (w, _) = heard(&[ALL]);
                (w.title, w.report, w.links)
            });
            assert_eq!(rest, left, "split at {at}");
        }
    }

    #[test]
    fn an_address_for_a_browser_is_heard_and_nothing_that_is_none() {
        let long = format!("https://a/{}", "x".repeat(LONGEST_OPENED));
        let mut all = String::from("\x1b]7502;open=https://a/?b=c;d\x1b\\");
        for hostile in [long.as_str(), "file:///etc", "https://a b", "https://\u{e4}/", "javascript:x", ""] {
            all.push_str(&format!("\x1b]7502;open={hostile}\x07\x1b]7502;{hostile}\x07"));
        }
        assert_eq!(heard(&[all.as_bytes()]).0.opened, ["https://a/?b=c;d"]);
        let flood: String = (0..100).map(|n| format!("\x1b]7502;open=https://a/{n}\x07")).collect();
        let opened = heard(&[flood.as_bytes()]).0.opened;
        assert_eq!((opened.len(), opened[OPENED - 1].as_str()), (OPENED, "https://a/99"));
    }

    #[test]
    fn an_endless_command_is_not_kept() {
        let mut strings = Strings::default();
        strings.filter(b"\x1b]0;", |_| {});
        for _ in 0..1000 {
            strings.filter(&[b'x'; 4096], |_| panic!("part of a command was passed on"));
        }
        assert!(strings.command.capacity() < 4 * LONGEST);
        strings.filter(b"\x07ok", |_| {});
        assert_eq!(strings.title, "");
    }

    #[test]
    fn a_repetition_cannot_ask_for_more_work_than_was_sent() {
        let storm = b"x\x1b[65535b".repeat(1000);
        let mut left = Vec::new();
        Strings::default().filter(&storm, |bytes| left.extend_from_slice(bytes));
        let kept = left.split(|byte| *byte == 0x1b).filter(|part| part.ends_with(b"b")).count();
        assert!(kept <= 3, "{kept}");
    }

    proptest! {
        #[test]
        fn what_is_no_command_is_passed_on_as_it_is(bytes in "[a-z\\x1b\\[0-9;m\\r\\n]{0,200}") {
            prop_assume!(!bytes.contains("\x1b]"));
            let (_, left) = heard(&[bytes.as_bytes()]);
            prop_assert_eq!(left, bytes.as_bytes());
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            heard(&[&bytes]);
        }
    }
}
