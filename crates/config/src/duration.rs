//! Durations in Go's form (`runner-config.md` 1.2).

use std::fmt;
use std::time::Duration;

/// A signed number of nanoseconds, as Go's `time.Duration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(i64);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration; write numbers with units and no blanks, as in \"1h30m\"")]
pub struct DurationError(String);

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// Takes nanoseconds.
    pub const fn from_nanoseconds(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds, negative ones too.
    pub const fn nanoseconds(self) -> i64 {
        self.0
    }

    /// The duration where it is above zero.
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.0)
            .ok()
            .filter(|nanoseconds| *nanoseconds > 0)
            .map(Duration::from_nanos)
    }

    /// Reads `1h30m`, `1.5s`, `-2m`, `0`.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let wrong = || DurationError(text.to_owned());
        let (sign, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (-1, &text[1..]),
            Some(b'+') => (1, &text[1..]),
            _ => (1, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let digits = rest
                .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
                .ok_or_else(wrong)?;
            let (number, after) = rest.split_at(digits);
            let end = after
                .find(|letter: char| letter.is_ascii_digit() || letter == '.')
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let (_, scale) = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(wrong)?;
            total += scaled(number, *scale).ok_or_else(wrong)?;
            if total > i128::from(i64::MAX) {
                return Err(wrong());
            }
            rest = after;
        }
        i64::try_from(total * sign).map(Self).map_err(|_| wrong())
    }
}

/// `number` (digits with at most one point) times `scale`, exactly, cut to whole nanoseconds.
fn scaled(number: &str, scale: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let scale = i128::from(scale);
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse::<i64>().ok()?.into()
    };
    // More digits than nanoseconds in an hour have cannot change the result.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<i128>().ok()? * scale / 10_i128.pow(u32::try_from(fraction.len()).ok()?)
    };
    whole.checked_mul(scale)?.checked_add(part)
}

impl fmt::Display for GoDuration {
    /// As Go writes it: `1h0m0s`, `1.5s`, `300ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let nanoseconds = self.0.unsigned_abs();
        if nanoseconds < 1_000_000_000 {
            let (scale, unit) = match nanoseconds {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "µs"),
                _ => (1_000_000, "ms"),
            };
            return write!(f, "{}{unit}", decimal(nanoseconds, scale));
        }
        let minutes = nanoseconds / 60_000_000_000;
        let seconds = decimal(nanoseconds % 60_000_000_000, 1_000_000_000);
        match (minutes / 60, minutes % 60) {
            (0, 0) => write!(f, "{seconds}s"),
            (0, minutes) => write!(f, "{minutes}m{seconds}s"),
            (hours, minutes) => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}

fn decimal(number: u64, scale: u64) -> String {
    let whole = number / scale;
    let rest = number % scale;
    if rest == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes_as_go_does() {
        let cases = [
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("300s", 300_000_000_000, "5m0s"),
            ("15m", 900_000_000_000, "15m0s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5s", 500_000_000, "500ms"),
            ("-2m", -120_000_000_000, "-2m0s"),
            ("0", 0, "0s"),
            ("1us", 1_000, "1µs"),
            ("5ns", 5, "5ns"),
        ];
        for (text, nanoseconds, written) in cases {
            let duration = GoDuration::parse(text).expect(text);
            assert_eq!(duration.nanoseconds(), nanoseconds, "{text}");
            assert_eq!(duration.to_string(), written, "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "3600 s",
            "1h 30m",
            "5",
            "s",
            ".s",
            "1.2.3s",
            "1d",
            "9999999999h",
            "-",
        ] {
            assert!(GoDuration::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanoseconds in i64::MIN + 1..i64::MAX) {
            let duration = GoDuration::from_nanoseconds(nanoseconds);
            prop_assert_eq!(GoDuration::parse(&duration.to_string()), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.hmsµnu ]{0,12}") {
            drop(GoDuration::parse(&text));
        }
    }
}
