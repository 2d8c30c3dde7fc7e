//! What a log says about an answer (`runner-protocol.md` 1.8).

use http::{StatusCode, header};

use super::{Answer, shown_url};

/// Longest error body that is looked at.
const MESSAGE_LIMIT: usize = 64 * 1024;

impl Answer {
    /// The status line, or for an error whose body is JSON with a message:
    /// `<METHOD> <URL>: <code> <reason> (<message>)`, the URL without user information and query.
    pub async fn describe(self) -> String {
        let status = status_line(self.status);
        if self.status.is_success() || !self.is_json() {
            return status;
        }
        let url = shown_url(&self.url);
        let method = self.method.clone();
        let message = match self.bytes(MESSAGE_LIMIT).await {
            Ok(body) => error_message(&body),
            Err(_) => None,
        };
        match message {
            None => status,
            Some(message) if message == status => format!("{method} {url}: {status}"),
            Some(message) => format!("{method} {url}: {status} ({message})"),
        }
    }

    /// Whether the body says that it is JSON.
    pub fn is_json(&self) -> bool {
        let value = self.headers.get(header::CONTENT_TYPE);
        value
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                let media_type = value.split(';').next().unwrap_or_default();
                media_type.trim().eq_ignore_ascii_case("application/json")
            })
    }
}

/// Code and reason, in the words of Go where they are not those of the newest RFC.
pub fn status_line(status: StatusCode) -> String {
    let reason = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        StatusCode::URI_TOO_LONG => "Request URI Too Long",
        StatusCode::RANGE_NOT_SATISFIABLE => "Requested Range Not Satisfiable",
        other => other.canonical_reason().unwrap_or_default(),
    };
    let line = format!("{} {reason}", status.as_u16());
    line.trim_end().to_owned()
}

/// The server's `message`: a text, or an object of lists of texts by field.
fn error_message(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    match body.get("message")? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Object(fields) => Some(
            fields
                .iter()
                .map(|(field, messages)| format!("{field}: {}", texts(messages).join("; ")))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        _ => None,
    }
}

fn texts(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::Array(values) => {
            values.iter().filter_map(|text| text.as_str()).collect()
        }
        serde_json::Value::String(text) => vec![text],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages_are_texts_or_lists_by_field() {
        for (body, expected) in [
            (r#"{"message":"403 Forbidden"}"#, Some("403 Forbidden")),
            (
                r#"{"message":{"a":["x","y"],"b":["z"]}}"#,
                Some("a: x; y, b: z"),
            ),
            (r#"{"error":"e"}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(error_message(body.as_bytes()).as_deref(), expected);
        }
    }

    #[test]
    fn reasons_are_those_of_go() {
        for (code, expected) in [
            (201, "201 Created"),
            (413, "413 Request Entity Too Large"),
            (599, "599"),
        ] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(status_line(status), expected);
        }
    }
}
