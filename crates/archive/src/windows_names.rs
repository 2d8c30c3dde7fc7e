//! Which names of an archive are names of files on Windows, where some are devices, streams or other files' names.

/// What separates the components of a name in an archive: a backslash too, or it would climb unseen.
pub(crate) fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// Why a component, which holds no separator, cannot be a name.
pub(crate) fn unusable(component: &[u8]) -> Option<&'static str> {
    let Ok(text) = std::str::from_utf8(component) else {
        return Some("its name is not UTF-8");
    };
    // A colon names a drive or a stream of another file.
    if text.contains(|character: char| character < ' ' || "<>:\"|?*".contains(character)) {
        return Some("its name holds what no name on Windows may");
    }
    if text.ends_with(['.', ' ']) {
        // It would be the name without them.
        return Some("its name ends in a dot or a blank");
    }
    if is_device(text) {
        return Some("its name is a device's");
    }
    None
}

/// Devices are in every directory, whatever extension is added.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let stem = stem.to_uppercase();
    if matches!(
        stem.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
    ) {
        return true;
    }
    ["COM", "LPT"].iter().any(|device| {
        stem.strip_prefix(device).is_some_and(|number| {
            let mut digits = number.chars();
            let digit = digits.next();
            // Superscripts count.
            digits.next().is_none() && digit.is_some_and(|digit| "0123456789¹²³".contains(digit))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for name in [
            "c:",
            "file:stream",
            "a?",
            "a*",
            "a|b",
            "tab\t",
            "dot.",
            "blank ",
            "con",
            "NUL.txt",
            "Com1",
            "lpt9.tar.gz",
            "COM²",
            "aux .c",
            "CONOUT$",
        ] {
            assert!(unusable(name.as_bytes()).is_some(), "{name:?}");
        }
        assert!(unusable(b"latin \xe4").is_some());
        for name in [
            "a", ".hidden", "console", "com", "com10", "größe", "nul-1", "a.b",
        ] {
            assert_eq!(unusable(name.as_bytes()), None, "{name:?}");
        }
        assert!(is_separator(b'\\') && is_separator(b'/') && !is_separator(b':'));
    }
}
