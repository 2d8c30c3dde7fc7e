//! Reading JSON as upstream does: `null` is the zero value, unknown keys are ignored.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// A body that is not what the protocol promises.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct DecodeError {
    /// Dotted path of the value at fault, `.` for the whole document.
    pub path: String,
    /// What was wrong there.
    #[source]
    pub source: serde_json::Error,
}

/// Decodes the first JSON value of `body`; later bytes are ignored, as upstream does
/// (`runner-protocol.md` 1.8).
pub(crate) fn first_value<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| DecodeError {
        path: error.path().to_string(),
        source: error.into_inner(),
    })
}

/// `null` and an absent key give the default.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
