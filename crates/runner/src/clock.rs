//! Points in time. Durations come from servers and files: one that is too long must not overflow.

use std::time::Duration;

use tokio::time::Instant;

/// Nothing waits longer.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The moment `wait` after `start`.
pub(crate) fn moment(start: Instant, wait: Duration) -> Instant {
    start + wait.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_too_long() {
        let now = Instant::now();
        assert_eq!(moment(now, Duration::MAX), now + LONGEST);
        let second = Duration::from_secs(1);
        assert_eq!(moment(now, second), now + second);
    }
}
