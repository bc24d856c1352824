//! What was made of texts that were read before: whoever starts many agents reads the same ones again and again. They are
//! read, and it is looked at who wrote them, each time; only what is made of them is remembered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// So many; a node has about as many policies in use.
const MOST: usize = 16;

/// Of one kind of text. What was asked for last is kept.
pub struct Memo<Text, Made>(Mutex<VecDeque<Arc<(Text, Made)>>>);

impl<Text, Made: Clone> Memo<Text, Made> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// What was made of the first of these texts that is the one that is meant.
    pub fn of(&self, mut is_meant: impl FnMut(&Text) -> bool) -> Option<Made> {
        let entries = self.entries().clone();
        let found = entries.into_iter().find(|entry| is_meant(&entry.0))?;
        Some(found.1.clone())
    }

    /// Remembers this.
    pub fn keep(&self, text: Text, made: Made) {
        let mut entries = self.entries();
        entries.truncate(MOST - 1);
        entries.push_front(Arc::new((text, made)));
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<(Text, Made)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Text, Made: Clone> Default for Memo<Text, Made> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_of_a_text_is_remembered_until_others_have_taken_its_place() {
        let memo: Memo<usize, usize> = Memo::new();
        (0..MOST).for_each(|text| memo.keep(text, text * 2));
        assert_eq!(memo.of(|text| *text == 3), Some(6));
        assert_eq!(memo.of(|text| *text == MOST), None);
        memo.keep(MOST, 1);
        assert_eq!((memo.of(|text| *text == 0), memo.of(|text| *text == MOST)), (None, Some(1)));
    }
}
