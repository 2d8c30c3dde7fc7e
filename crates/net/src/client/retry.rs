//! When a call is repeated, and how long to wait before (`runner-protocol.md` 1.7).

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::{Answer, CallError};

/// Attempts of one call, the first included.
pub(super) const ATTEMPTS: u32 = 5;

const BASE: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(60);
/// A server may send us away for an hour, but not for ever.
const LONGEST_ORDERED: Duration = Duration::from_secs(60 * 60);

/// Clock and randomness of a client, so that tests can fix both.
#[derive(Debug, Clone, Copy)]
pub struct Ambience {
    /// The time of day, against which `RateLimit-ResetTime` is held.
    pub now: fn() -> Timestamp,
    /// A number in `0.0..1.0`, new at each call: jitter of the waits.
    pub fraction: fn() -> f64,
}

impl Default for Ambience {
    fn default() -> Self {
        Self {
            now: Timestamp::now,
            fraction: || {
                // The low 53 bits of a random UUID are all random.
                let bits = uuid::Uuid::new_v4().as_u128() as u64 & ((1 << 53) - 1);
                bits as f64 / (1_u64 << 53) as f64
            },
        }
    }
}

/// What the retry layer has to know of an answer.
pub(super) trait Retried {
    fn status(&self) -> StatusCode;
    fn headers(&self) -> &HeaderMap;
    /// The answer is not used: reads what is left, if little, so that the connection can be.
    fn discard(self) -> impl Future<Output = ()> + Send;
    /// The answer is used; an earlier or this one told us to come back later.
    fn mark_pushed_back(&mut self);
}

/// Calls `attempt` until it gives an answer that stands, at most `attempts` times.
pub(super) async fn run<A, F>(
    attempts: u32,
    ambience: Ambience,
    mut attempt: impl FnMut() -> F,
) -> Result<A, CallError>
where
    A: Retried,
    F: Future<Output = Result<A, CallError>>,
{
    let mut pushed_back = false;
    let mut count = 1;
    loop {
        let mut answer = attempt().await?;
        let retried = is_retried(answer.status());
        pushed_back |= retried;
        if !retried || count >= attempts {
            if pushed_back {
                answer.mark_pushed_back();
            }
            return Ok(answer);
        }
        let wait = wait_after(count, answer.headers(), ambience);
        tracing::info!(duration = ?wait, status = answer.status().as_u16(),
            "Waiting before making the next call");
        answer.discard().await;
        tokio::time::sleep(wait).await;
        count += 1;
    }
}

impl Retried for Answer {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    async fn discard(mut self) {
        let draining = async {
            let mut read = 0;
            while let Ok(Some(piece)) = self.chunk().await {
                read += piece.len();
                if read > super::DRAINED {
                    return;
                }
            }
        };
        let _: Result<(), _> = tokio::time::timeout(super::DRAIN_TIMEOUT, draining).await;
    }

    fn mark_pushed_back(&mut self) {
        self.pushed_back = true;
    }
}

/// Whether an answer with this status is asked for again.
pub(super) fn is_retried(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504 | 512..)
}

/// How long to wait after the `attempt`-th answer (counted from 1).
pub(super) fn wait_after(attempt: u32, headers: &HeaderMap, ambience: Ambience) -> Duration {
    rate_limit_reset(headers, ambience)
        .or_else(|| retry_after(headers))
        .map(|ordered| ordered.min(LONGEST_ORDERED))
        .unwrap_or_else(|| {
            let factor = 1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX);
            let longest = BASE.saturating_mul(factor).min(CAP);
            BASE + longest.saturating_sub(BASE).mul_f64((ambience.fraction)())
        })
}

/// `RateLimit-ResetTime`, an HTTP date, if it lies in the future.
fn rate_limit_reset(headers: &HeaderMap, ambience: Ambience) -> Option<Duration> {
    let value = headers.get("ratelimit-resettime")?.to_str().ok()?;
    let Ok(reset) = rfc2822::DateTimeParser::new().parse_timestamp(value) else {
        tracing::warn!("Failed to parse RateLimit-ResetTime: {value:?} is no HTTP date");
        return None;
    };
    Duration::try_from(reset.duration_since((ambience.now)()))
        .ok()
        .filter(|wait| !wait.is_zero())
}

/// `Retry-After` in whole seconds; dates are not understood, as upstream.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    match value.trim().parse::<i64>() {
        Ok(seconds) => u64::try_from(seconds)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        Err(_) => {
            tracing::warn!("Failed to parse Retry-After: {value:?} is no number of seconds");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_noon(fraction: fn() -> f64) -> Ambience {
        Ambience {
            now: || "2015-10-21T12:00:00Z".parse().unwrap(),
            fraction,
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<Vec<(http::HeaderName, http::HeaderValue)>>()
            .into_iter()
            .collect()
    }

    struct Fake {
        status: u16,
        headers: HeaderMap,
        pushed_back: bool,
    }

    impl Retried for Fake {
        fn status(&self) -> StatusCode {
            StatusCode::from_u16(self.status).unwrap()
        }

        fn headers(&self) -> &HeaderMap {
            &self.headers
        }

        async fn discard(self) {}

        fn mark_pushed_back(&mut self) {
            self.pushed_back = true;
        }
    }

    /// Statuses answered one after the other; (attempts made, last status, pushed back, time waited).
    async fn run_against(statuses: &[u16], attempts: u32) -> (usize, u16, bool, Duration) {
        let start = tokio::time::Instant::now();
        let mut made = 0;
        let answer = run(attempts, at_noon(|| 1.0), || {
            let status = statuses[made];
            made += 1;
            std::future::ready(Ok(Fake {
                status,
                headers: headers(&[("retry-after", "30")]),
                pushed_back: false,
            }))
        })
        .await
        .unwrap();
        (made, answer.status, answer.pushed_back, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn five_attempts_then_the_last_answer_stands() {
        let seconds = Duration::from_secs;
        let table: [(&[u16], u32, _); 5] = [
            (&[200], 5, (1, 200, false, seconds(0))),
            (&[503, 429, 201], 5, (3, 201, true, seconds(60))),
            (&[503; 9], 5, (5, 503, true, seconds(120))),
            (&[501; 9], 5, (1, 501, false, seconds(0))),
            (&[503; 9], 1, (1, 503, true, seconds(0))),
        ];
        for (statuses, attempts, (made, status, pushed_back, waited)) in table {
            let found = run_against(statuses, attempts).await;
            assert_eq!((found.0, found.1, found.2), (made, status, pushed_back));
            // tokio's timer is exact to the millisecond
            assert!(
                found.3.abs_diff(waited) < seconds(1),
                "{statuses:?}: {found:?}"
            );
        }
    }

    #[tokio::test]
    async fn errors_are_not_retried() {
        let mut made = 0;
        let answer: Result<Fake, _> = run(5, at_noon(|| 0.0), || {
            made += 1;
            std::future::ready(Err(CallError::Client("gone".to_owned())))
        })
        .await;
        assert!(answer.is_err());
        assert_eq!(made, 1);
    }

    #[test]
    fn statuses_of_the_fact_sheet_are_retried() {
        for code in [408, 429, 500, 502, 503, 504, 512, 599, 999] {
            assert!(is_retried(StatusCode::from_u16(code).unwrap()), "{code}");
        }
        for code in [
            200, 201, 204, 301, 400, 401, 403, 404, 409, 412, 501, 505, 511,
        ] {
            assert!(!is_retried(StatusCode::from_u16(code).unwrap()), "{code}");
        }
    }

    #[test]
    fn the_rate_limit_wins_then_retry_after_then_the_jitter() {
        let reset = ("ratelimit-resettime", "Wed, 21 Oct 2015 12:00:07 GMT");
        let passed = ("ratelimit-resettime", "Wed, 21 Oct 2015 11:59:59 GMT");
        let table: [(&[(&str, &str)], u64); 9] = [
            (&[("retry-after", "999999999999")], 3_600_000),
            (&[reset, ("retry-after", "3")], 7000),
            (&[passed, ("retry-after", "3")], 3000),
            (
                &[("ratelimit-resettime", "soon"), ("retry-after", "3")],
                3000,
            ),
            (&[("retry-after", "2")], 2000),
            (&[("retry-after", "0")], 100),
            (&[("retry-after", "-5")], 100),
            (&[("retry-after", "Wed, 21 Oct 2015 12:00:07 GMT")], 100),
            (&[], 100),
        ];
        for (pairs, milliseconds) in table {
            let pairs: Vec<_> = pairs.to_vec();
            let map = pairs
                .iter()
                .map(|(name, value)| {
                    (
                        name.parse::<http::HeaderName>().unwrap(),
                        value.parse::<http::HeaderValue>().unwrap(),
                    )
                })
                .collect();
            assert_eq!(
                wait_after(3, &map, at_noon(|| 0.0)),
                Duration::from_millis(milliseconds),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn jitter_lies_between_the_base_and_the_doubled_wait() {
        let none = headers(&[]);
        let waits = |fraction: fn() -> f64| {
            [1, 2, 3, 4].map(|attempt| wait_after(attempt, &none, at_noon(fraction)).as_millis())
        };
        assert_eq!(waits(|| 0.0), [100, 100, 100, 100]);
        assert_eq!(waits(|| 1.0), [100, 200, 400, 800]);
        assert_eq!(wait_after(40, &none, at_noon(|| 1.0)), CAP);
    }

    #[test]
    fn the_random_fraction_stays_in_its_range() {
        let fraction = Ambience::default().fraction;
        assert!((0..1000).all(|_| (0.0..1.0).contains(&fraction())));
    }
}
