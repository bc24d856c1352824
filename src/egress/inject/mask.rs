//! Takes a secret out of what an upstream echoes, wherever the chunks happen to be cut.

use memchr::memmem;

/// Shorter texts are found everywhere by chance.
const SHORTEST: usize = 6;

/// Replaces every occurrence of some texts by as many stars.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    needles: Vec<Vec<u8>>,
    /// The end of what has come, if it could be the beginning of a needle.
    held: Vec<u8>,
    /// Which bytes of `held` are to become stars in any case.
    covered: Vec<bool>,
}

impl Mask {
    /// Hides a header's value, and the part of it behind the scheme (`Bearer …`).
    pub fn of(value: &str) -> Self {
        let token = value.rsplit(' ').next().unwrap_or_default();
        let mut needles: Vec<Vec<u8>> = vec![value.into(), token.into()];
        needles.retain(|needle| needle.len() >= SHORTEST);
        needles.dedup();
        Self { needles, ..Self::default() }
    }

    /// Takes the next bytes, and gives back those that can be shown.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(bytes);
        let mut covered = std::mem::take(&mut self.covered);
        covered.resize(text.len(), false);
        for needle in &self.needles {
            for start in overlapping(&text, needle) {
                covered[start..start + needle.len()].fill(true);
            }
        }
        let keep = self.needles.iter().map(|needle| beginning_at_end(&text, needle)).max().unwrap_or(0);
        let shown = text.len() - keep;
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
        let mut mask = Self { needles: self.needles.clone(), ..Self::default() };
        let mut text = mask.feed(bytes);
        text.extend(mask.finish());
        (text != bytes).then_some(text)
    }
}

fn overlapping<'a>(text: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let found = from + memmem::find(text.get(from..)?, needle)?;
        from = found + 1;
        Some(found)
    })
}

/// Length of the longest end of `text` with which `needle` begins, without being all of it.
fn beginning_at_end(text: &[u8], needle: &[u8]) -> usize {
    let most = text.len().min(needle.len() - 1);
    (1..=most).rev().find(|length| text.ends_with(&needle[..*length])).unwrap_or(0)
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
        let mask = Mask::of("Bearer sk-12345");
        assert_eq!(masked(&mask, &[b"x Bearer sk-12345 y"]), b"x *************** y");
        assert_eq!(masked(&mask, &[b"key=sk-12345;"]), b"key=********;");
        assert_eq!(masked(&mask, &[b"sk-", b"123", b"45"]), b"********");
        assert_eq!(masked(&mask, &[b"sk-", b"123", b"46"]), b"sk-12346");
        assert_eq!(mask.whole(b"nothing"), None);
    }

    #[test]
    fn nothing_is_held_back_that_cannot_be_a_secret() {
        let mut mask = Mask::of("sk-12345");
        assert_eq!(mask.feed(b"data: hello\n\n"), b"data: hello\n\n");
        assert_eq!(mask.feed(b"data: s"), b"data: ");
        assert_eq!(mask.feed(b"o\n"), b"so\n");
    }

    proptest! {
        #[test]
        fn however_it_is_cut_no_secret_comes_out_and_nothing_else_changes(
            text in "(ab|abab|aba|x|abaaba){0,30}", cuts in proptest::collection::vec(0_usize..100, 0..8)
        ) {
            let mask = Mask::of("abaaba");
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let out = masked(&mask, &chunks);
            prop_assert_eq!(out.len(), bytes.len());
            prop_assert!(memmem::find(&out, b"abaaba").is_none());
            prop_assert_eq!(&out, &masked(&mask, &[bytes]));
            for (shown, given) in out.iter().zip(bytes) {
                prop_assert!(shown == given || *shown == b'*');
            }
        }
    }
}
