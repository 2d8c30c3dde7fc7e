//! Reading JSON as upstream does: `null` is the zero value, unknown keys are ignored.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::error::Category;

/// Structures of the payload: what is absent or null is the default, unknown keys are ignored.
macro_rules! payload {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(deserialize_with = "crate::decode::null_as_default")]
                pub $field: $type,
            )*
        }
    };
}
pub(crate) use payload;

/// A body that is not what the protocol promises. It names the place and what belongs there, never
/// the value that stands there: that may be a token in the wrong field.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault} at line {line} column {column}")]
pub struct DecodeError {
    /// Dotted path of the value at fault, `.` for the whole document.
    pub path: String,
    /// What was wrong there, for example `expected a string`.
    pub fault: String,
    /// Line of the body, from 1.
    pub line: usize,
    /// Column of that line, from 1.
    pub column: usize,
}

/// Decodes the first JSON value of `body`; later bytes are ignored, as upstream does
/// (`runner-protocol.md` 1.8).
pub(crate) fn first_value<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        DecodeError {
            path,
            fault: fault_of(&error),
            line: error.line(),
            column: error.column(),
        }
    })
}

/// Serde's words without the value they quote, `invalid type: string "…", expected i64`, and without
/// the position, which is told apart.
fn fault_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&position).unwrap_or(&text);
    match (error.classify(), text.rsplit_once(", expected ")) {
        (Category::Data, Some((_, expected))) => format!("expected {expected}"),
        _ => text.to_owned(),
    }
}

/// `null` and an absent key give the default.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_place_and_not_the_value() {
        let told = |body: &str| {
            first_value::<crate::JobResponse>(body.as_bytes())
                .expect_err("refused")
                .to_string()
        };
        let text = told(r#"{"id":1,"job_info":{"project_id":"glrt-s3cr3t, expected or not"}}"#);
        assert_eq!(
            text,
            "job_info.project_id: expected i64 at line 1 column 63"
        );
        assert!(told("{\"id\": 1").contains("EOF while parsing"));
    }
}
