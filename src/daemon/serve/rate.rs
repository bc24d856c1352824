//! How many requests an identity may make: a bucket of tokens for each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Above so many, those that are full again are forgotten.
const MOST_KEPT: usize = 4096;

/// One bucket per identity.
pub struct Rates {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rates {
    /// `per_second` in the long run, `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second.into(), burst: burst.into(), buckets: Mutex::default() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// When there is none: in how long there will be.
    pub fn take(&self, identity: &str, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(identity) {
            if buckets.len() >= MOST_KEPT {
                buckets.retain(|_, bucket| self.filled(bucket, now) < self.burst);
            }
            buckets.insert(identity.into(), Bucket { tokens: self.burst, at: now });
        }
        let bucket = buckets.get_mut(identity).expect("it is there, or was just put there");
        bucket.tokens = self.filled(bucket, now);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second))
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + since * self.per_second).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_cannot_use_up_what_another_one_has() {
        let (rates, start) = (Rates::new(10, 3), Instant::now());
        for _ in 0..3 {
            assert_eq!(rates.take("a", start), Ok(()));
        }
        let wait = rates.take("a", start).expect_err("no token");
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert_eq!(rates.take("b", start), Ok(()));
        assert_eq!(rates.take("a", start + wait + Duration::from_millis(1)), Ok(()));
    }

    #[test]
    fn identities_that_ask_no_more_are_forgotten() {
        let (rates, start) = (Rates::new(10, 3), Instant::now());
        for number in 0..MOST_KEPT {
            let _ = rates.take(&number.to_string(), start);
        }
        let _ = rates.take("late", start + Duration::from_secs(60));
        assert_eq!(rates.buckets.lock().expect("a lock").len(), 1);
    }
}
