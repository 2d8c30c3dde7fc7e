//! Versions of the Engine's API: which ones we speak, and which one both sides speak.

use std::fmt;
use std::str::FromStr;

use super::EngineError;

/// `1.41`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Before the dot.
    pub major: u16,
    /// After it.
    pub minor: u16,
}

/// Docker 19.03.
const OLDEST: ApiVersion = ApiVersion::new(1, 40);
/// Docker 29.
const NEWEST: ApiVersion = ApiVersion::new(1, 52);

impl ApiVersion {
    /// Of two numbers.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim().trim_start_matches('v');
        let (major, minor) = text.split_once('.').ok_or(())?;
        let number = |text: &str| text.parse().map_err(|_| ());
        Ok(Self::new(number(major)?, number(minor)?))
    }
}

/// The version to speak with `host`. `ordered` is `DOCKER_API_VERSION`, `offered` the Engine's newest.
pub(super) fn agree(
    host: &str,
    ordered: Option<&str>,
    offered: Option<&str>,
) -> Result<ApiVersion, EngineError> {
    if let Some(ordered) = ordered.filter(|text| !text.is_empty()) {
        return ordered
            .parse()
            .map_err(|()| EngineError::BadVersion(ordered.to_owned()));
    }
    let offered: ApiVersion = offered
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| EngineError::NoEngine(host.to_owned()))?;
    if offered < OLDEST {
        return Err(EngineError::TooOld {
            host: host.to_owned(),
            offered,
            oldest: OLDEST,
        });
    }
    Ok(offered.min(NEWEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(ordered: Option<&str>, offered: Option<&str>) -> Result<String, String> {
        let agreed = agree("unix:///d.sock", ordered, offered);
        agreed
            .map(|version| version.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_newest_that_both_know_is_spoken() {
        for (offered, expected) in [
            ("1.40", "1.40"),
            ("1.41", "1.41"),
            ("1.52", "1.52"),
            ("1.60", "1.52"),
            ("2.0", "1.52"),
        ] {
            assert_eq!(agreed(None, Some(offered)).as_deref(), Ok(expected));
            assert_eq!(agreed(Some(""), Some(offered)).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_ordered_is_spoken_whatever_the_engine_says() {
        assert_eq!(agreed(Some("1.30"), Some("1.52")).as_deref(), Ok("1.30"));
        assert_eq!(agreed(Some("1.99"), None).as_deref(), Ok("1.99"));
        let error = agreed(Some("latest"), Some("1.52")).unwrap_err();
        assert!(error.contains("DOCKER_API_VERSION"), "{error}");
    }

    #[test]
    fn an_old_engine_and_something_else_are_told_apart() {
        let old = agreed(None, Some("1.39")).unwrap_err();
        assert!(old.contains("1.39") && old.contains("1.40"), "{old}");
        for offered in [None, Some("new")] {
            let error = agreed(None, offered).unwrap_err();
            assert!(error.contains("no Docker Engine"), "{error}");
        }
    }
}
