//! Plain scalars: what Psych's scanner makes of them (`gitlab-ci-yaml.md` 2).

use super::node::Kind;

/// A type that safe loading refuses, by Ruby's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

/// The value of an untagged plain scalar.
pub(crate) fn resolve(text: &str) -> Result<Kind, Refused> {
    let Some(&first) = text.as_bytes().first() else {
        return Ok(Kind::Null);
    };
    match text.to_ascii_lowercase().as_str() {
        "~" | "null" => return Ok(Kind::Null),
        "yes" | "true" | "on" => return Ok(Kind::Bool(true)),
        "no" | "false" | "off" => return Ok(Kind::Bool(false)),
        ".inf" | "+.inf" => return Ok(Kind::Float(f64::INFINITY)),
        "-.inf" => return Ok(Kind::Float(f64::NEG_INFINITY)),
        ".nan" => return Ok(Kind::Float(f64::NAN)),
        _ => {}
    }
    if first == b':' && text.len() > 1 && !text[1..].starts_with(char::is_whitespace) {
        return Err(Refused("Symbol"));
    }
    if matches!(first, b'0'..=b'9' | b'+' | b'-' | b'.') {
        if is_date(text) {
            return Err(Refused("Date"));
        }
        if is_time(text) {
            return Err(Refused("Time"));
        }
        if let Some(kind) = integer(text)
            .or_else(|| base_60(text))
            .or_else(|| float(text))
        {
            return Ok(kind);
        }
    }
    Ok(Kind::Text(text.into()))
}

/// As [`resolve`], for a value that does not stand in a file; nothing for a type that is refused.
pub(crate) fn plain(text: &str) -> Option<Kind> {
    resolve(text).ok()
}

/// Whether a text can stand unquoted in block style and reads back as itself.
pub(crate) fn is_plain_text(text: &str) -> bool {
    let first_fits =
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '$'));
    let all_fit = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || r"_-./$+=@,()*~^;<>\ ".contains(c));
    first_fits
        && all_fit
        && !text.ends_with(' ')
        && !text.starts_with("...")
        && matches!(resolve(text), Ok(Kind::Text(_)))
}

fn sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

fn integer(text: &str) -> Option<Kind> {
    let (negative, digits) = sign(text);
    let (radix, body) = if let Some(body) = digits.strip_prefix("0b") {
        (2, body)
    } else if let Some(body) = digits.strip_prefix("0x") {
        (16, body)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    let is_digit = |c: char| c.is_digit(radix);
    let separated = |c: char| is_digit(c) || c == '_' || c == ',';
    if body.is_empty() || !body.chars().all(separated) || !body.chars().any(is_digit) {
        return None;
    }
    if radix == 10 {
        // One separator between digits, none at the end; a zero stands alone.
        let bytes = body.as_bytes();
        if !bytes[0].is_ascii_digit() || (bytes[0] == b'0' && bytes.len() > 1) {
            return None;
        }
        let underscore_before_separator = bytes
            .windows(2)
            .any(|pair| pair[0] == b'_' && !pair[1].is_ascii_digit());
        if underscore_before_separator || bytes.ends_with(b"_") {
            return None;
        }
    }
    let plain: String = body.chars().filter(|c| is_digit(*c)).collect();
    match i128::from_str_radix(&plain, radix) {
        Ok(value) => Some(Kind::Int(if negative { -value } else { value })),
        // Ruby's integers have no end; nothing in a pipeline counts that far, so the digits stay text.
        Err(_) => Some(Kind::Text(text.into())),
    }
}

/// `12:30:45`. Psych counts the first part as hours even when there are only two parts.
fn base_60(text: &str) -> Option<Kind> {
    let (negative, body) = sign(text);
    let (whole, fraction) = match body.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (body, None),
    };
    let parts: Vec<&str> = whole.split(':').collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    let (head, tail) = parts.split_first()?;
    let head_fits = head.starts_with(|c: char| c.is_ascii_digit())
        && head.chars().all(|c| c.is_ascii_digit() || c == '_');
    let tail_fits = tail.iter().all(|part| {
        (1..=2).contains(&part.len())
            && part.bytes().all(|c| c.is_ascii_digit())
            && (part.len() == 1 || part.as_bytes()[0] < b'6')
    });
    if !head_fits || !tail_fits {
        return None;
    }
    let mut total: i128 = 0;
    for (part, factor) in parts.iter().zip([3600, 60, 1]) {
        let value: i128 = part.replace('_', "").parse().ok()?;
        total = total.checked_add(value.checked_mul(factor)?)?;
    }
    let total = if negative { -total } else { total };
    match fraction {
        None => Some(Kind::Int(total)),
        Some(digits) if digits.chars().all(|c| c.is_ascii_digit() || c == '_') => {
            let part: f64 = format!("0.{}0", digits.replace('_', "")).parse().ok()?;
            #[expect(clippy::cast_precision_loss, reason = "a float is what was written")]
            Some(Kind::Float(
                total as f64 + if negative { -part } else { part },
            ))
        }
        Some(_) => None,
    }
}

/// `[-+]? digits? . digits* ([eE][-+]digits)?`: without the dot it is text.
fn float(text: &str) -> Option<Kind> {
    let (_, body) = sign(text);
    let (whole, rest) = body.split_once('.')?;
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let whole_fits = whole.is_empty()
        || (whole.starts_with(|c: char| c.is_ascii_digit())
            && whole
                .chars()
                .all(|c| c.is_ascii_digit() || c == '_' || c == ','));
    let fraction_fits = fraction.bytes().all(|c| c.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        exponent
            .strip_prefix(['-', '+'])
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()))
    });
    if !whole_fits || !fraction_fits || !exponent_fits || (whole.is_empty() && fraction.is_empty())
    {
        return None;
    }
    text.replace(['_', ','], "").parse().ok().map(Kind::Float)
}

fn number_in(text: &str, least: u32, most: u32) -> bool {
    (1..=2).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_digit())
        && text
            .parse()
            .is_ok_and(|value: u32| (least..=most).contains(&value))
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else {
        return false;
    };
    year.len() == 4
        && year.bytes().all(|c| c.is_ascii_digit())
        && number_in(month, 1, 12)
        && number_in(day, 1, 31)
}

fn is_time(text: &str) -> bool {
    let body = text.strip_prefix('-').unwrap_or(text);
    let Some(at) = body.find(['T', 't', ' ', '\t']) else {
        return false;
    };
    let (date, time) = (&body[..at], body[at + 1..].trim_start());
    if !is_date(date) {
        return false;
    }
    let clock: Vec<&str> = time.splitn(3, ':').collect();
    let [hour, minute, rest] = clock[..] else {
        return false;
    };
    number_in(hour, 0, 99)
        && minute.len() == 2
        && number_in(minute, 0, 99)
        && rest.len() >= 2
        && rest.bytes().take(2).all(|c| c.is_ascii_digit())
        && rest
            .chars()
            .skip(2)
            .all(|c| c.is_ascii_digit() || ".:+-Zz \t".contains(c))
}

/// Ruby's `Float#to_s`.
pub(crate) fn ruby_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = if mantissa.contains('.') {
            mantissa.to_owned()
        } else {
            format!("{mantissa}.0")
        };
        let (minus, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("+", exponent),
        };
        return format!("{mantissa}e{minus}{digits:0>2}");
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let actual = match resolve(text) {
            Ok(Kind::Null) => "null".to_owned(),
            Ok(Kind::Bool(value)) => format!("bool {value}"),
            Ok(Kind::Int(value)) => format!("int {value}"),
            Ok(Kind::Float(value)) => format!("float {}", ruby_float(value)),
            Ok(Kind::Text(text)) => format!("text {text}"),
            Ok(_) => "collection".to_owned(),
            Err(Refused(class)) => format!("refused {class}"),
        };
        assert_eq!(actual, expected, "{text:?}");
    }

    #[test]
    fn plain_scalars_resolve_as_in_psych() {
        for (text, expected) in [
            ("", "null"),
            ("~", "null"),
            ("NULL", "null"),
            ("Yes", "bool true"),
            ("off", "bool false"),
            ("y", "text y"),
            ("n", "text n"),
            ("010", "int 8"),
            ("0x1F", "int 31"),
            ("0b11", "int 3"),
            ("1_000", "int 1000"),
            ("1,000", "int 1000"),
            ("-12", "int -12"),
            ("12:30:45", "int 45045"),
            ("1:30", "int 5400"),
            ("8080:80", "text 8080:80"),
            ("1.10", "float 1.1"),
            (".5", "float 0.5"),
            ("1.", "float 1.0"),
            ("1.5e+3", "float 1500.0"),
            ("1e3", "text 1e3"),
            ("0o17", "text 0o17"),
            ("08", "text 08"),
            ("09", "text 09"),
            ("0", "int 0"),
            ("1__0", "text 1__0"),
            ("1.2.3", "text 1.2.3"),
            (".", "text ."),
            ("-", "text -"),
            ("2024-01-01", "refused Date"),
            ("2024-13-01", "text 2024-13-01"),
            ("2024-01-01 10:00:00", "refused Time"),
            ("2024-01-01T10:00:00Z", "refused Time"),
            (":sym", "refused Symbol"),
            ("trueish", "text trueish"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn floats_print_as_ruby_prints_them() {
        for (value, expected) in [
            (1.0, "1.0"),
            (1.1, "1.1"),
            (1e15, "1000000000000000.0"),
            (1e20, "1.0e+20"),
            (1.5e-5, "1.5e-05"),
            (0.0, "0.0"),
            (0.001, "0.001"),
        ] {
            assert_eq!(ruby_float(value), expected);
        }
    }
}
