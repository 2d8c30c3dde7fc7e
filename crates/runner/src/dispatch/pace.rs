//! How fast a runner may ask for jobs: request slots (`runner-protocol.md` 9.3) and the back-off of
//! an unhealthy runner (6.9). Pure: time comes in as a value.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::jobs::RequestOutcome;
use crate::clock::moment;

/// `FF_USE_ADAPTIVE_REQUEST_CONCURRENCY`: how many requests of one runner may be under way.
#[derive(Debug)]
pub(crate) struct RequestSlots {
    adaptive: bool,
    most: usize,
    level: f64,
}

impl RequestSlots {
    pub(crate) fn new(most: usize, adaptive: bool) -> Self {
        Self {
            adaptive,
            most: most.max(1),
            level: 0.0,
        }
    }

    /// Follows a new configuration; the level that was learned stays.
    pub(crate) fn configure(&mut self, most: usize, adaptive: bool) {
        self.most = most.max(1);
        self.adaptive = adaptive;
    }

    /// Requests that may be under way at once.
    pub(crate) fn allowed(&self) -> usize {
        if !self.adaptive {
            return self.most;
        }
        (1..self.most)
            .find(|slots| self.level <= *slots as f64)
            .unwrap_or(self.most)
    }

    /// Learns from a request.
    pub(crate) fn learn(&mut self, outcome: &RequestOutcome) {
        let factor = match outcome {
            _ if outcome.pushed_back => 0.5,
            RequestOutcome { job: Some(_), .. } => 1.1,
            _ => 0.95,
        };
        self.level = (self.level * factor).clamp(1.0, self.most as f64);
    }
}

/// Counts unhealthy answers in a row.
#[derive(Debug)]
pub(crate) struct Health {
    failures: u32,
    last_good: Instant,
}

/// What [`Health::check`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// Ask.
    Healthy,
    /// Do not ask before then.
    PausedUntil(Instant),
}

impl Health {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            failures: 0,
            last_good: now,
        }
    }

    /// Counts an answer; says whether this one made the runner unhealthy.
    pub(crate) fn record(&mut self, healthy: bool, limit: u32, now: Instant) -> bool {
        if healthy {
            *self = Self::new(now);
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.failures == limit.max(1)
    }

    /// Whether the runner may ask; after `interval` since the last good answer it is counted afresh.
    pub(crate) fn check(&mut self, limit: u32, interval: Duration, now: Instant) -> Checked {
        if self.failures < limit.max(1) {
            return Checked::Healthy;
        }
        let again = moment(self.last_good, interval);
        if now < again {
            return Checked::PausedUntil(again);
        }
        *self = Self::new(now);
        Checked::Healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(pushed_back: bool) -> RequestOutcome {
        RequestOutcome {
            job: None,
            healthy: true,
            pushed_back,
        }
    }

    #[test]
    fn request_slots_start_at_one_and_stay_in_bounds() {
        let mut slots = RequestSlots::new(4, true);
        assert_eq!(slots.allowed(), 1);
        slots.level = 3.2;
        assert_eq!(slots.allowed(), 4);
        slots.learn(&outcome(true));
        assert_eq!((slots.level, slots.allowed()), (1.6, 2));
        for _ in 0..20 {
            slots.learn(&outcome(false));
        }
        assert_eq!((slots.level, slots.allowed()), (1.0, 1));
        slots.configure(4, false);
        assert_eq!(slots.allowed(), 4);
    }

    #[test]
    fn three_unhealthy_answers_pause_the_runner_until_the_interval_has_passed() {
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        let mut health = Health::new(start);
        assert!(!health.record(false, 3, start));
        assert!(!health.record(false, 3, start));
        assert_eq!(health.check(3, hour, start), Checked::Healthy);
        assert!(health.record(false, 3, start));
        assert_eq!(
            health.check(3, hour, start),
            Checked::PausedUntil(start + hour)
        );
        assert_eq!(health.check(3, hour, start + hour), Checked::Healthy);
        assert_eq!(health.check(3, hour, start + hour), Checked::Healthy);
    }

    #[test]
    fn a_healthy_answer_clears_the_count() {
        let start = Instant::now();
        let mut health = Health::new(start);
        for healthy in [false, false, true, false, false] {
            assert!(!health.record(healthy, 3, start));
        }
    }
}
