//! Lines of one kind in the log: a handful within some time, and then how many were left out. Whoever can make a line appear
//! by knocking must not be able to fill a disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many are said.
const MOST: u64 = 20;

/// Within so long.
const SPELL: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<Option<Spell>>);

#[derive(Debug)]
struct Spell {
    begun: Instant,
    count: u64,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// This is said.
    It,
    /// It is not; and it is the first that is not: how many there were is to be asked for after this time.
    Later(Duration),
    /// It is not.
    Nothing,
}

impl Quiet {
    /// One more.
    pub(super) fn one_more(&self, now: Instant) -> Say {
        let mut spell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spell = match &mut *spell {
            // One that is over and has left something out is told of by whoever asks for it.
            Some(spell) if now.duration_since(spell.begun) < SPELL || spell.count > MOST => spell,
            over => over.insert(Spell { begun: now, count: 0 }),
        };
        spell.count += 1;
        match spell.count {
            ..=MOST => Say::It,
            count if count == MOST + 1 => Say::Later(SPELL.saturating_sub(now.duration_since(spell.begun))),
            _ => Say::Nothing,
        }
    }

    /// How many were left out; the next one is said again.
    pub(super) fn left_out(&self) -> u64 {
        let mut spell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spell.take().map_or(0, |spell| spell.count.saturating_sub(MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_a_handful_is_said_and_the_rest_is_counted_and_none_is_missing() {
        let (quiet, begun) = (Quiet::default(), Instant::now());
        let mut said = 0;
        let mut asked = None;
        for number in 0..5000_u64 {
            match quiet.one_more(begun + Duration::from_millis(number)) {
                Say::It => said += 1,
                Say::Later(after) => assert_eq!(asked.replace(after), None, "somebody asks once"),
                Say::Nothing => {}
            }
        }
        assert!(asked.is_some_and(|after| after <= SPELL && after > SPELL / 2), "{asked:?}");
        // Also what comes after the time is over and before somebody has asked.
        assert_eq!(quiet.one_more(begun + 2 * SPELL), Say::Nothing);
        assert_eq!((said, quiet.left_out()), (MOST, 5001 - MOST));
        assert_eq!(quiet.one_more(begun + 3 * SPELL), Say::It);
    }

    #[test]
    fn a_few_now_and_then_are_all_said() {
        let (quiet, begun) = (Quiet::default(), Instant::now());
        for number in 0..100 {
            assert_eq!(quiet.one_more(begun + number * Duration::from_secs(1)), Say::It);
        }
    }
}
