//! Times as certificates write them: whole seconds, any year from 0 to 9999.

use std::fmt;

use crate::der::{Element, GENERALIZED_TIME, Malformed, UTC_TIME};

/// Seconds since 1970-01-01T00:00:00Z; negative before it. Prints as RFC 3339 in UTC.
///
/// [`jiff::Timestamp`] ends a day before `99991231235959Z`, which RFC 5280 4.1.2.5 gives to certificates without an
/// end, hence a type of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// From seconds since the epoch.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    pub const fn unix_seconds(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339: any offset, fractions of a second (not counted), letters in either case, years before 1970, and
    /// a blank instead of the `T`. A leap second counts as the second after it.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (year, rest) = number(text.as_bytes(), 4)?;
        let (month, rest) = number(rest.strip_prefix(b"-")?, 2)?;
        let (day, rest) = number(rest.strip_prefix(b"-")?, 2)?;
        let ([b'T' | b't' | b' '], rest) = rest.split_at_checked(1)? else {
            return None;
        };
        let (hour, rest) = number(rest, 2)?;
        let (minute, rest) = number(rest.strip_prefix(b":")?, 2)?;
        let (second, mut rest) = number(rest.strip_prefix(b":")?, 2)?;
        if let Some(fraction) = rest.strip_prefix(b".") {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit());
            let digits = digits.count();
            if digits == 0 {
                return None;
            }
            rest = &fraction[digits..];
        }
        let offset = match rest {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), rest @ ..] => {
                let (hours, rest) = number(rest, 2)?;
                let (minutes, rest) = number(rest.strip_prefix(b":")?, 2)?;
                if !rest.is_empty() || hours > 23 || minutes > 59 {
                    return None;
                }
                let offset = hours * 3600 + minutes * 60;
                if *sign == b'-' { -offset } else { offset }
            }
            _ => return None,
        };
        let date = jiff::civil::Date::new(
            i16::try_from(year).ok()?,
            i8::try_from(month).ok()?,
            i8::try_from(day).ok()?,
        );
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let days = i64::from((date.ok()? - EPOCH).get_days());
        Some(Self(
            days * 86_400 + hour * 3600 + minute * 60 + second - offset,
        ))
    }

    /// Reads UTCTime or GeneralizedTime in the forms that Go takes: with seconds or (UTCTime) without, `Z` or an offset.
    pub(crate) fn parse(element: &Element<'_>) -> Result<Self, Malformed> {
        let malformed = Malformed("validity");
        let text = element.content();
        let (year, rest) = match element.tag {
            UTC_TIME => {
                let (year, rest) = number(text, 2).ok_or(malformed)?;
                (if year >= 50 { 1900 + year } else { 2000 + year }, rest)
            }
            GENERALIZED_TIME => number(text, 4).ok_or(malformed)?,
            _ => return Err(malformed),
        };
        let (month, rest) = number(rest, 2).ok_or(malformed)?;
        let (day, rest) = number(rest, 2).ok_or(malformed)?;
        let (hour, rest) = number(rest, 2).ok_or(malformed)?;
        let (minute, rest) = number(rest, 2).ok_or(malformed)?;
        let (second, rest) = match number(rest, 2) {
            Some(found) => found,
            None if element.tag == UTC_TIME => (0, rest),
            None => return Err(malformed),
        };
        let offset = match rest {
            b"Z" => 0,
            [sign @ (b'+' | b'-'), digits @ ..] => {
                let (hours, digits) = number(digits, 2).ok_or(malformed)?;
                let (minutes, digits) = number(digits, 2).ok_or(malformed)?;
                let offset = hours * 3600 + minutes * 60;
                if !digits.is_empty() || hours > 23 || minutes > 59 || offset == 0 {
                    return Err(malformed);
                }
                if *sign == b'-' { -offset } else { offset }
            }
            _ => return Err(malformed),
        };
        let date = jiff::civil::Date::new(narrow(year)?, narrow(month)?, narrow(day)?)
            .map_err(|_| malformed)?;
        if hour > 23 || minute > 59 || second > 59 {
            return Err(malformed);
        }
        let days = i64::from((date - EPOCH).get_days());
        Ok(Self(
            days * 86_400 + hour * 3600 + minute * 60 + second - offset,
        ))
    }
}

const EPOCH: jiff::civil::Date = jiff::civil::date(1970, 1, 1);

/// Exactly `digits` decimal digits, and what follows.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_at_checked(digits)?;
    let mut value = 0;
    for byte in head {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some((value, rest))
}

fn narrow<T: TryFrom<i64>>(value: i64) -> Result<T, Malformed> {
    T::try_from(value).map_err(|_| Malformed("validity"))
}

impl From<jiff::Timestamp> for Moment {
    fn from(time: jiff::Timestamp) -> Self {
        Self(time.as_second())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = i32::try_from(self.0.div_euclid(86_400)).unwrap_or(i32::MAX);
        let second = self.0.rem_euclid(86_400);
        match EPOCH.checked_add(jiff::Span::new().try_days(days).unwrap_or_default()) {
            Ok(date) => write!(
                f,
                "{date}T{:02}:{:02}:{:02}Z",
                second / 3600,
                second / 60 % 60,
                second % 60
            ),
            Err(_) => write!(f, "{} s since 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::Reader;

    fn parse(tag: u8, text: &str) -> Option<String> {
        let mut der = vec![tag, u8::try_from(text.len()).expect("short")];
        der.extend_from_slice(text.as_bytes());
        let element = Reader::new(&der).any("time").expect("an element");
        Moment::parse(&element).ok().map(|time| time.to_string())
    }

    #[test]
    fn both_time_forms_are_read_as_go_reads_them() {
        let cases = [
            (UTC_TIME, "260102030405Z", Some("2026-01-02T03:04:05Z")),
            (UTC_TIME, "2601020304Z", Some("2026-01-02T03:04:00Z")),
            (UTC_TIME, "500101000000Z", Some("1950-01-01T00:00:00Z")),
            (UTC_TIME, "491231235959Z", Some("2049-12-31T23:59:59Z")),
            (UTC_TIME, "260102030405+0100", Some("2026-01-02T02:04:05Z")),
            (UTC_TIME, "260102030405+0000", None),
            (UTC_TIME, "260230030405Z", None),
            (UTC_TIME, "260102030405", None),
            (UTC_TIME, "260102240000Z", None),
            (
                GENERALIZED_TIME,
                "99991231235959Z",
                Some("9999-12-31T23:59:59Z"),
            ),
            (
                GENERALIZED_TIME,
                "19000101000000Z",
                Some("1900-01-01T00:00:00Z"),
            ),
            (GENERALIZED_TIME, "20260102030405.5Z", None),
            (GENERALIZED_TIME, "202601020304Z", None),
            (BOOLEAN_TAG, "20260102030405Z", None),
        ];
        for (tag, text, expected) in cases {
            assert_eq!(parse(tag, text).as_deref(), expected, "{text}");
        }
    }

    const BOOLEAN_TAG: u8 = 1;

    #[test]
    fn rfc_3339_is_read_with_offsets_fractions_and_any_year() {
        let cases = [
            ("2026-01-02T03:04:05Z", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02t03:04:05z", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02 03:04:05Z", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04:05+02:00", Some("2026-01-02T01:04:05Z")),
            ("2026-01-01T23:30:00-01:30", Some("2026-01-02T01:00:00Z")),
            (
                "2026-01-02T03:04:05.999999999999Z",
                Some("2026-01-02T03:04:05Z"),
            ),
            ("1969-12-31T23:59:59.5Z", Some("1969-12-31T23:59:59Z")),
            ("1900-01-01T00:00:00Z", Some("1900-01-01T00:00:00Z")),
            ("0000-01-01T00:00:00Z", Some("0000-01-01T00:00:00Z")),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59Z")),
            ("2016-12-31T23:59:60Z", Some("2017-01-01T00:00:00Z")),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-02T24:00:00Z", None),
            ("2026-01-02T03:04:61Z", None),
            ("2026-01-02T03:04Z", None),
            ("2026-01-02T03:04:05", None),
            ("2026-01-02T03:04:05.Z", None),
            ("2026-01-02T03:04:05+0200", None),
            ("2026-01-02T03:04:05+24:00", None),
            ("2026-01-02T03:04:05Zx", None),
            ("2026-01-02", None),
            ("26-01-02T03:04:05Z", None),
            ("now", None),
            ("", None),
            ("２026-01-02T03:04:05Z", None),
        ];
        for (text, expected) in cases {
            let read = Moment::parse_rfc3339(text).map(|moment| moment.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
