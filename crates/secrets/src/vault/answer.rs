//! What a read answers (`secrets.md` 5.3, 5.4).

use std::collections::{BTreeMap, BTreeSet};

use courser_protocol::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::server::api_failure;
use super::{Engine, Path};
use crate::exchange::Reply;
use crate::{Failure, Step};

/// The data of a path.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// By name, as text; null is absent.
    fields: BTreeMap<String, Secret>,
    /// Names of fields that are null.
    nulls: BTreeSet<String>,
    /// Whether there was any data.
    is_there: bool,
    lease: String,
    notes: Vec<String>,
}

/// How many of the texts of one answer are kept, and how long each, in characters.
const NOTES: usize = 20;
const NOTE_LENGTH: usize = 500;
/// How much of a name is shown, in bytes.
const SHOWN_NAME: usize = 100;
/// Fields of one path. Vault's 1 MiB has room for more, nobody has use for them.
const FIELDS: usize = 10_000;

/// Why an answer has no data.
#[derive(Debug)]
pub(crate) enum Fault {
    /// An error of the server.
    Api,
    /// No answer of Vault's.
    NoJson(String),
    /// The data of kv-v2 is no object.
    NoObject,
    /// So many fields.
    TooMany(usize),
}

/// Values by name, as they came.
pub(crate) type Fields = BTreeMap<String, Box<RawValue>>;

impl Fault {
    pub(super) fn of(self, reply: &Reply, path: &Path) -> Failure {
        match self {
            Self::Api => api_failure(reply, path.repeat()),
            Self::NoJson(text) => Failure::system(text),
            Self::NoObject => Failure::system(format!(
                "data for key {} cannot be coerced to 'map[string]any'",
                path.as_str()
            )),
            Self::TooMany(fields) => Failure::system(format!(
                "{} has {fields} fields, more than {FIELDS}",
                path.as_str()
            )),
        }
    }
}

/// Reads JSON; the error has Go's beginning where the body is a page.
pub(super) fn json<T: DeserializeOwned>(reply: &Reply) -> Result<T, String> {
    serde_json::from_slice(&reply.body).map_err(|error: serde_json::Error| {
        let first = reply.body.iter().find(|byte| !byte.is_ascii_whitespace());
        let fault = match first {
            // The error itself may quote what it stumbles over.
            Some(_) if error.is_data() => "the JSON is none that was expected".to_owned(),
            Some(b'{' | b'[' | b'"') => "the JSON is damaged".to_owned(),
            Some(&byte) if byte.is_ascii_graphic() => {
                format!(
                    "invalid character '{}' looking for beginning of value",
                    char::from(byte)
                )
            }
            _ => "no JSON".to_owned(),
        };
        let kind = reply.content_type();
        let kind = if kind.is_empty() {
            "without a type"
        } else {
            kind
        };
        let shown: String = kind.chars().filter(|c| !c.is_control()).take(60).collect();
        format!(
            "{fault} (no answer of Vault: status {}, {shown})",
            reply.status.as_u16()
        )
    })
}

/// The fields of an answer, and what stands beside them; no fields where there is no data.
fn take_apart(reply: &Reply, path: &Path) -> Result<(Option<Fields>, Content), Fault> {
    let status = reply.status.as_u16();
    let is_blank = reply.body.iter().all(u8::is_ascii_whitespace);
    if is_blank && (reply.status.is_success() || status == 404) {
        return Ok((None, Content::default()));
    }
    if !reply.status.is_success() && status != 404 {
        return Err(Fault::Api);
    }
    let body: Fields = json(reply).map_err(Fault::NoJson)?;
    let is_envelope = ENVELOPE
        .iter()
        .any(|key| body.get(*key).is_some_and(|value| value.get() != "null"));
    let mut content = Content {
        lease: parsed(&body, "lease_id").unwrap_or_default(),
        ..Content::default()
    };
    for key in ["warnings", "errors"] {
        let texts: Vec<String> = parsed(&body, key).unwrap_or_default();
        let left = NOTES - content.notes.len();
        let notes = texts.iter().take(left);
        content.notes.extend(notes.map(|text| note(reply, text)));
    }
    let data: Option<Fields> = if is_envelope {
        parsed(&body, "data")
    } else {
        Some(body)
    };
    let data = match (path.engine, data) {
        (Engine::KvV2, Some(outer)) => match outer.get("data").map(|inner| inner.get()) {
            None | Some("null") => None,
            Some(inner) => Some(serde_json::from_str(inner).map_err(|_| Fault::NoObject)?),
        },
        (_, data) => data,
    };
    if let Some(count) = data.as_ref().map(Fields::len)
        && count > FIELDS
    {
        return Err(Fault::TooMany(count));
    }
    Ok((data, content))
}

/// What a server says, on one line, cut, and without the tokens that were sent to it.
fn note(reply: &Reply, text: &str) -> String {
    let text = reply.without_tokens(text);
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        let room = NOTE_LENGTH.saturating_sub(line.chars().count());
        line.extend(word.chars().filter(|c| !c.is_control()).take(room));
        if word.len() >= room {
            break;
        }
    }
    line
}

/// A name for a text.
fn shown(name: &str) -> String {
    let end = name.floor_char_boundary(SHOWN_NAME);
    let more = if end < name.len() { "…" } else { "" };
    format!("{:?}{more}", &name[..end])
}

/// Keys of Vault's own answers; a body with none of them is taken as data.
const ENVELOPE: [&str; 7] = [
    "request_id",
    "lease_id",
    "data",
    "warnings",
    "auth",
    "wrap_info",
    "errors",
];

/// The fields of an answer as they came; nothing where there is no data.
pub(super) fn fields(reply: &Reply, path: &Path) -> Result<Option<Fields>, Fault> {
    take_apart(reply, path).map(|(fields, _)| fields)
}

impl Content {
    pub(super) fn read(reply: &Reply, path: &Path) -> Result<Self, Fault> {
        let (fields, mut content) = take_apart(reply, path)?;
        content.is_there = fields.is_some();
        for (name, raw) in fields.into_iter().flatten() {
            match text_of(&raw) {
                Some(text) => {
                    content.fields.insert(name, text);
                }
                None => {
                    content.nulls.insert(name);
                }
            }
        }
        Ok(content)
    }

    /// The text of a field.
    pub(super) fn field(&self, name: &str) -> Option<Secret> {
        self.fields.get(name).cloned()
    }

    /// The lease that was made by reading.
    pub(super) fn lease(&self) -> Option<&str> {
        (!self.lease.is_empty()).then_some(self.lease.as_str())
    }

    /// What is missing where a field is not there.
    pub(super) fn lacking(&self) -> Step {
        match self.is_there {
            true => Step::Field,
            false => Step::Path,
        }
    }

    /// What the server says about a path whose field is not there.
    pub(super) fn notes_on(&self, path: &str, field: &str) -> Vec<String> {
        let mut notes = vec![if self.is_there {
            let names: Vec<_> = self
                .fields
                .keys()
                .take(20)
                .map(|name| shown(name))
                .collect();
            let (shown, is_null) = (shown(field), self.nulls.contains(field));
            match (is_null, names.join(", ")) {
                (true, _) => format!("the field {shown} of {path} is null"),
                (false, names) if names.is_empty() => format!("{path} has no fields"),
                (false, names) => format!("{path} has no field {shown}; it has {names}"),
            }
        } else {
            format!("there is nothing at {path}")
        }];
        let said = self.notes.iter();
        notes.extend(said.map(|note| format!("the server says: {note}")));
        notes
    }
}

fn parsed<T: DeserializeOwned>(body: &Fields, key: &str) -> Option<T> {
    serde_json::from_str::<Option<T>>(body.get(key)?.get()).ok()?
}

/// The text of a JSON value: numbers as the server wrote them, objects and arrays as compact JSON, null as nothing.
pub(crate) fn text_of(raw: &RawValue) -> Option<Secret> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'n') => None,
        Some(b'"') => {
            #[derive(Deserialize)]
            #[serde(transparent)]
            struct Text(Secret);
            serde_json::from_str(text).ok().map(|Text(secret)| secret)
        }
        Some(b'{' | b'[') => Some(Secret::new(compact(text))),
        _ => Some(Secret::new(text)),
    }
}

/// Without blanks between tokens.
fn compact(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let kept = json.chars().filter(|&character| {
        if inside {
            (inside, escaped) = (escaped || character != '"', !escaped && character == '\\');
            return true;
        }
        inside = character == '"';
        !character.is_ascii_whitespace()
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &serde_json::Value) -> Reply {
        Reply::of(200, body.to_string().into_bytes(), &["s.token"])
    }

    #[test]
    fn what_a_server_says_is_short_and_has_no_tokens() {
        let engine = courser_protocol::secrets::VaultEngine {
            name: "kv-v1".to_owned(),
            path: "ops".to_owned(),
        };
        let path = Path::of(&engine, "db", "").unwrap();
        let long = format!(
            "s.token \u{1b}[2J\t{} {}",
            "a ".repeat(2000),
            "ü".repeat(5000)
        );
        let name = "n".repeat(100_000);
        let body = serde_json::json!({
            "data": {name: 1},
            "warnings": vec![long.as_str(); 5000],
            "errors": [long.as_str()],
        });
        let content = Content::read(&reply(&body), &path).unwrap();
        let notes = content.notes_on(path.as_str(), &"f".repeat(10_000));
        assert_eq!(notes.len(), 1 + NOTES);
        assert!(notes[0].len() < 300, "{}", notes[0]);
        for note in &notes[1..] {
            assert!(
                note.starts_with("the server says: [MASKED] [2J a a"),
                "{note}"
            );
            assert!(note.chars().count() <= 17 + NOTE_LENGTH);
        }
        let fields: serde_json::Map<_, _> = (0..=FIELDS)
            .map(|number| (number.to_string(), 1.into()))
            .collect();
        let body = serde_json::json!({"data": fields});
        let fault = Content::read(&reply(&body), &path).unwrap_err();
        let told = fault.of(&reply(&body), &path).to_string();
        assert_eq!(told, "ops/db has 10001 fields, more than 10000");
    }

    #[test]
    fn values_become_text_without_losing_digits() {
        let text = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            text_of(&raw).map(|secret| secret.expose().to_owned())
        };
        for (json, expected) in [
            (r#""abc""#, "abc"),
            (r#""a\nb\u00e9""#, "a\nbé"),
            ("8080", "8080"),
            ("1.50", "1.50"),
            ("12345678901234567890", "12345678901234567890"),
            ("true", "true"),
            (
                r#"{ "b": 1, "a" : "x \" y", "c": [ 1, null ] }"#,
                r#"{"b":1,"a":"x \" y","c":[1,null]}"#,
            ),
            (r#"["1", "two", null]"#, r#"["1","two",null]"#),
            (r#""""#, ""),
        ] {
            assert_eq!(text(json).as_deref(), Some(expected), "{json}");
        }
        assert_eq!(text("null"), None);
    }
}
