//! Takes secrets out of what an upstream echoes, wherever the chunks happen to be cut.
//!
//! The agent sees where an answer is cut, and it can have its guesses echoed. So how much is held back must not depend on
//! what the text has in common with a secret: it depends on the text's last line, and on the longest secret's length.

use std::rc::Rc;

use super::spelling::{Escapes, Needle, Unit};

/// Replaces every occurrence of some texts by as many stars.
#[derive(Debug, Clone)]
pub struct Mask {
    sought: Rc<Sought>,
    /// The end of what has come, if a secret could begin there.
    held: Vec<u8>,
    /// Which bytes of `held` are to become stars in any case.
    covered: Vec<bool>,
    /// How many bytes of `held` belong to an escape that has begun before it, for each kind of escapes.
    begun: [usize; Escapes::ALL.len()],
}

#[derive(Debug)]
struct Sought {
    needles: Vec<Needle>,
    longest: usize,
}

impl Mask {
    /// Hides headers' values, and the part of each behind the scheme (`Bearer …`).
    pub fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        Self::made(values, false)
    }

    /// The same, in what has been put in lower case: the name of a header.
    pub fn folded<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        Self::made(values, true)
    }

    fn made<'a>(values: impl IntoIterator<Item = &'a str>, is_folded: bool) -> Self {
        let texts = values.into_iter().flat_map(|value| {
            let token = value.rsplit(' ').next().filter(|token| *token != value);
            [Some(value), token].into_iter().flatten()
        });
        let needles: Vec<_> = texts.flat_map(|text| Needle::all(text.as_bytes(), is_folded)).collect();
        let longest = needles.iter().map(Needle::longest).max().unwrap_or(0);
        let sought = Rc::new(Sought { needles, longest });
        Self { sought, held: Vec::new(), covered: Vec::new(), begun: Default::default() }
    }

    /// Takes the next bytes, and gives back those that can be shown.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(bytes);
        let mut covered = std::mem::take(&mut self.covered);
        covered.resize(text.len(), false);
        // No secret and no spelling of one has a control character or a byte beyond ASCII.
        let last_line = text.iter().rev().take_while(|byte| (b' '..=b'~').contains(*byte)).count();
        let shown = text.len() - last_line.min(self.sought.longest);
        for (escapes, begun) in Escapes::ALL.into_iter().zip(&mut self.begun) {
            if *begun == 0 && escapes.are_absent(&text) {
                continue;
            }
            let units = escapes.read(&text, *begun);
            self.sought.cover(&units, &mut covered);
            let next = units.partition_point(|unit| unit.start < shown);
            *begun = units.get(next).map_or(text.len(), |unit| unit.start) - shown;
        }
        self.held = text.split_off(shown);
        self.covered = covered.split_off(shown);
        stars(&mut text, &covered);
        text
    }

    /// The rest, once nothing more comes.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.held);
        stars(&mut text, &std::mem::take(&mut self.covered));
        text
    }

    /// Masks a text that is there as a whole; `None` if there was nothing to mask.
    pub fn whole(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut covered = vec![false; bytes.len()];
        for escapes in Escapes::ALL.into_iter().filter(|escapes| !escapes.are_absent(bytes)) {
            self.sought.cover(&escapes.read(bytes, 0), &mut covered);
        }
        let mut text = bytes.to_vec();
        stars(&mut text, &covered);
        covered.contains(&true).then_some(text)
    }
}

impl Sought {
    fn cover(&self, units: &[Unit], covered: &mut [bool]) {
        for needle in &self.needles {
            needle.find(units, covered.len(), |place| covered[place].fill(true));
        }
    }
}

fn stars(text: &mut [u8], covered: &[bool]) {
    for (byte, covered) in text.iter_mut().zip(covered) {
        if *covered {
            *byte = b'*';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(mask: &Mask, chunks: &[&[u8]]) -> Vec<u8> {
        let mut mask = mask.clone();
        let mut out: Vec<u8> = chunks.iter().flat_map(|chunk| mask.feed(chunk)).collect();
        out.extend(mask.finish());
        out
    }

    #[test]
    fn a_secret_is_masked_whole_or_cut_and_its_length_stays() {
        let mask = Mask::of(["Bearer sk-12345"]);
        assert_eq!(masked(&mask, &[b"x Bearer sk-12345 y"]), b"x *************** y");
        assert_eq!(masked(&mask, &[b"key=sk-12345;"]), b"key=********;");
        assert_eq!(masked(&mask, &[b"sk-", b"123", b"45"]), b"********");
        assert_eq!(masked(&mask, &[b"sk-", b"123", b"46"]), b"sk-12346");
        assert_eq!(mask.whole(b"nothing"), None);
    }

    #[test]
    fn a_line_that_has_ended_is_shown_at_once() {
        let mut mask = Mask::of(["sk-12345"]);
        assert_eq!(mask.feed(b"data: hello\n\n"), b"data: hello\n\n");
        assert_eq!(mask.feed(b"data: s"), b"");
        assert_eq!(mask.feed(b"o\n"), b"data: so\n");
    }

    #[test]
    fn every_spelling_of_a_secret_is_masked() {
        let mask = Mask::of(["Bearer sk-a/b+c\"d&e"]);
        for spelling in [
            r#"sk-a\/b+c\"d&e"#,
            r"sk-a\u002Fb\u002bc\u0022d\u0026e",
            "sk-a%2Fb%2Bc%22d%26e",
            "sk-a/b+c%22d%26e",
            "%73%6b%2d%61%2f%62%2b%63%22%64%26%65",
            "sk-a/b+c&quot;d&amp;e",
            "sk-a&#x2F;b+c&#34;d&#038;e",
            "c2stYS9iK2MiZCZl",
            "QmVhcmVyIHNrLWEvYitjImQmZQ==",
            "eHNrLWEvYitjImQmZXk",
            "eHhzay1hL2IrYyJkJmV5",
        ] {
            let shown = masked(&mask, &[b"<", spelling.as_bytes(), b">"]);
            let shown = String::from_utf8(shown).expect("text");
            let stars = shown.matches('*').count();
            assert!(stars >= 12 && stars + 4 >= spelling.len(), "{spelling}: {shown}");
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_no_secret_comes_out_and_nothing_else_changes(
            text in "(ab|abab|aba|x|abaaba|ab\\\\u0061aba|aba%61ba|%4|\\\\){0,30}", cuts in proptest::collection::vec(0_usize..100, 0..8)
        ) {
            let mask = Mask::of(["abaaba"]);
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let out = masked(&mask, &chunks);
            prop_assert_eq!(out.len(), bytes.len());
            prop_assert!(!out.windows(6).any(|part| part == b"abaaba"));
            prop_assert_eq!(&out, &masked(&mask, &[bytes]));
            for (shown, given) in out.iter().zip(bytes) {
                prop_assert!(shown == given || *shown == b'*');
            }
        }

        #[test]
        fn how_much_is_shown_does_not_depend_on_the_secret(
            chunks in proptest::collection::vec("[ab\n]{0,6}|abaababb|aba", 0..12)
        ) {
            // One secret that the text is full of, and one of the same length that it cannot have.
            let (mut near, mut far) = (Mask::of(["abaababb"]), Mask::of(["01234567"]));
            for chunk in &chunks {
                prop_assert_eq!(near.feed(chunk.as_bytes()).len(), far.feed(chunk.as_bytes()).len());
            }
        }
    }
}
