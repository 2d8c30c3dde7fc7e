//! Durations such as `1h 30m` or `2 weeks` (`gitlab-ci-yaml.md` 16).

/// Seconds, `None` when the text is no duration. Plain digits are seconds; a month has 30 days, a year
/// 365.25.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    if text.contains(':') {
        return clock(&text);
    }
    let mut total = 0.0_f64;
    let mut any = false;
    let mut rest = text.as_str();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        for joint in ["and ", "with ", "plus "] {
            rest = rest.strip_prefix(joint).unwrap_or(rest);
        }
        rest = rest.trim_start();
        if rest.is_empty() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative, and the cast saturates"
            )]
            return any.then_some(total.round() as u64);
        }
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        total += number * unit(&rest[..letters])?;
        rest = &rest[letters..];
        any = true;
    }
}

fn unit(word: &str) -> Option<f64> {
    Some(match word {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "dy" | "day" | "days" => 86_400.0,
        "w" | "wk" | "wks" | "week" | "weeks" => 604_800.0,
        "mo" | "mos" | "month" | "months" => 2_592_000.0,
        "y" | "yr" | "yrs" | "year" | "years" => 31_557_600.0,
        _ => return None,
    })
}

/// `hh:mm:ss` or `mm:ss`.
fn clock(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    if parts.len() > 3 {
        return None;
    }
    parts.iter().try_fold(0u64, |total, part| {
        total.checked_mul(60)?.checked_add(*part)
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_read_as_in_gitlab() {
        for (text, expected) in [
            ("30 minutes", Some(1800)),
            ("1h 30m", Some(5400)),
            ("2h30m", Some(9000)),
            ("1 week 2 days", Some(777_600)),
            ("90s", Some(90)),
            ("3600", Some(3600)),
            ("1 month", Some(2_592_000)),
            ("1 yr", Some(31_557_600)),
            ("1.5 hours", Some(5400)),
            ("3 mins 4 sec", Some(184)),
            ("01:30:00", Some(5400)),
            ("soon", None),
            ("10 parsecs", None),
            ("", None),
            ("-5m", None),
            ("5 m foo", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
