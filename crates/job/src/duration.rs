//! Durations as Go writes and reads them.

use std::time::Duration;

/// A duration as Go prints it: `1h0m0s`, `1.5s`, `20ms`, `0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |value: u128, unit: u128| {
        let text = format!(
            "{}.{:0width$}",
            value / unit,
            value % unit,
            width = unit.ilog10() as usize
        );
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => return format!("{}µs", fraction(nanos, 1_000)),
        1_000_000..1_000_000_000 => return format!("{}ms", fraction(nanos, 1_000_000)),
        _ => {}
    }
    let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
    let seconds = fraction(rest, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Go's `time.ParseDuration`: `1h30m`, `90s`, `-1.5ms`. Returns sign (true = negative) and length.
pub(crate) fn parse_go_duration(text: &str) -> Option<(bool, Duration)> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some((negative, Duration::ZERO));
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits = |text: &str| {
            if text.is_empty() {
                Some(0)
            } else {
                text.parse::<u64>().ok()
            }
        };
        let fraction = fraction.get(..fraction.len().min(12))?;
        let part = u128::from(digits(fraction)?) * scale
            / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        nanos = nanos.checked_add(u128::from(digits(whole)?) * scale + part)?;
        rest = tail;
    }
    // Go's durations end at 2^63 nanoseconds.
    let nanos = u64::try_from(nanos)
        .ok()
        .filter(|nanos| i64::try_from(*nanos).is_ok())?;
    Some((negative, Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (20, "20ms"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (3_600_000, "1h0m0s"),
            (7_384_005, "2h3m4.005s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_duration(Duration::from_nanos(1_250)), "1.25µs");
    }

    proptest! {
        #[test]
        fn durations_never_panic(text in "[-+0-9.hmsnuµ é]{0,16}") {
            let _ = parse_go_duration(&text);
        }
    }
}
