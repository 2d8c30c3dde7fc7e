//! SHA-256 fingerprints as people write and compare them.

use courser_trust::Fingerprint;

/// As OpenSSL and browsers write it.
pub(super) fn colons(fingerprint: Fingerprint) -> String {
    let bytes: Vec<_> = fingerprint
        .0
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    bytes.join(":")
}

/// In any of the ways people have it: with colons or spaces or without, after `SHA256:` or `sha256 Fingerprint=`.
pub(super) fn parse(text: &str) -> Result<Fingerprint, String> {
    let bare = text.rsplit_once('=').map_or(text, |(_, bare)| bare);
    let lower = bare.to_ascii_lowercase();
    let bare = lower.strip_prefix("sha256:").unwrap_or(&lower);
    let digits: String = bare
        .chars()
        .filter(|character| !matches!(character, ':' | ' '))
        .collect();
    let mut fingerprint = [0; 32];
    let is_whole = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_whole {
        return Err(
            "a SHA-256 fingerprint has 64 hexadecimal digits, with or without colons".into(),
        );
    }
    for (number, byte) in fingerprint.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * number..2 * number + 2], 16)
            .map_err(|error| error.to_string())?;
    }
    Ok(Fingerprint(fingerprint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_in_the_forms_people_have() {
        let plain = "9db31ba0250ae7f9b7bea726098d7d060b42243e36ab5f09e95a094a83a31a63";
        let wanted = parse(plain).expect("a fingerprint");
        let with_colons = colons(wanted);
        for text in [
            plain.to_uppercase(),
            with_colons.clone(),
            format!("sha256 Fingerprint={with_colons}"),
            format!("SHA256:{plain}"),
        ] {
            assert_eq!(parse(&text), Ok(wanted), "{text}");
        }
        for text in ["", "9d", &plain[1..], &format!("{plain}00"), "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
