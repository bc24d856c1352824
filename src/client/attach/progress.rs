//! How far this viewer has seen the output, so that a new connection goes on exactly there.

use bytes::Bytes;

/// What one viewer has been shown.
#[derive(Debug, Default)]
pub struct Progress {
    /// The offset of the next byte of output.
    offset: Option<u64>,
    /// So many bytes of drawing are still to come.
    drawing: u64,
    /// So many bytes of output have been seen before.
    again: u64,
    /// So many bytes of output will never be seen.
    pub missed: u64,
}

/// A binary frame, told apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Pieces {
    /// Draws the screen anew.
    pub drawing: Bytes,
    /// Output that has not been seen yet.
    pub output: Bytes,
}

impl Progress {
    /// Nothing seen yet; what is wanted begins at `offset`.
    pub fn from(offset: Option<u64>) -> Self {
        Self { offset, ..Self::default() }
    }

    /// What to ask for. A screen that was drawn by half is of no use to `is_terminal`.
    pub fn since(&self, is_terminal: bool) -> Option<u64> {
        if self.drawing > 0 && is_terminal { None } else { self.offset }
    }

    /// A new connection: output goes on at `offset`; we had asked for `since`.
    pub fn attached(&mut self, since: Option<u64>, offset: u64) {
        (self.drawing, self.again) = (0, 0);
        match since {
            Some(own) if offset < own => self.again = own - offset,
            Some(own) => self.missed += offset - own,
            None => {}
        }
        self.offset = Some(since.map_or(offset, |own| own.max(offset)));
    }

    /// A drawing follows, of the screen at `offset`.
    pub fn screen(&mut self, offset: u64, bytes: u64) {
        (self.offset, self.drawing, self.again) = (Some(offset), bytes, 0);
    }

    /// Bytes are lost.
    pub fn gap(&mut self, from: u64, to: u64) {
        // What was not kept when the connection was made has been counted there.
        self.missed += to.saturating_sub(from.max(self.offset.unwrap_or(from)));
        self.offset = Some(to);
    }

    /// A binary frame.
    pub fn take(&mut self, mut bytes: Bytes) -> Pieces {
        let of = |count: u64, bytes: &Bytes| usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
        let drawing = bytes.split_to(of(self.drawing, &bytes));
        self.drawing -= drawing.len() as u64;
        let again = bytes.split_to(of(self.again, &bytes));
        self.again -= again.len() as u64;
        self.offset = self.offset.map(|offset| offset + bytes.len() as u64);
        Pieces { drawing, output: bytes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(progress: &mut Progress, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let pieces = progress.take(Bytes::copy_from_slice(bytes));
        (pieces.drawing.to_vec(), pieces.output.to_vec())
    }

    #[test]
    fn a_drawing_does_not_count_as_output() {
        let mut progress = Progress::default();
        progress.attached(None, 100);
        progress.screen(100, 4);
        assert_eq!(pieces(&mut progress, b"dra"), (b"dra".into(), vec![]));
        assert_eq!((progress.since(true), progress.since(false)), (None, Some(100)), "drawn by half");
        assert_eq!(pieces(&mut progress, b"wout"), (b"w".into(), b"out".into()));
        assert_eq!(progress.since(true), Some(103));
    }

    #[test]
    fn what_is_lost_is_counted_once_and_gone_over() {
        let mut progress = Progress::from(Some(10));
        progress.attached(Some(10), 10);
        progress.gap(10, 30);
        progress.screen(35, 0);
        assert_eq!((progress.missed, progress.since(true)), (20, Some(35)));
        progress.attached(Some(35), 40);
        progress.gap(35, 45);
        progress.screen(45, 0);
        assert_eq!((progress.missed, progress.since(true)), (30, Some(45)));
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_doubled_wherever_connections_break(
            output in prop::collection::vec(any::<u8>(), 0..400),
            breaks in prop::collection::vec((0usize..60, 0u64..20, 1usize..30), 0..20),
        ) {
            let (mut progress, mut seen) = (Progress::from(Some(0)), Vec::new());
            for (length, early, cut) in breaks.into_iter().chain([(usize::MAX, 3, 7)]) {
                let since = progress.since(false).expect("known from the start");
                // A service may begin earlier than it was asked to.
                let offset = since.saturating_sub(early);
                progress.attached(Some(since), offset);
                let rest = &output[offset as usize..];
                for piece in rest[..length.min(rest.len())].chunks(cut) {
                    seen.extend(pieces(&mut progress, piece).1);
                }
            }
            prop_assert_eq!(seen, output);
        }
    }
}
