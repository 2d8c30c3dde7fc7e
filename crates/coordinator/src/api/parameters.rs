//! What a caller says, wherever it says it: a JSON object, a form, a multipart form, the query.
//!
//! Runners send JSON; GitLab takes all of these, and scripts and other people's runners use them
//! (`curl --form "token=…"`).

use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Refusal;

/// Values of a form are text; these mean something else.
const BOOLEANS: [&str; 3] = ["run_untagged", "locked", "paused"];
const INTEGERS: [&str; 3] = ["maximum_timeout", "exit_code", "bytesize"];
/// Names in the brackets of one key: `info[features][session]` has two.
const DEPTH: usize = 4;

/// The parameters of a call. A value in the body beats one in the query.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let kind = content_type(request.headers());
        let mut all = if kind == "multipart/form-data" {
            of_multipart(request, state).await?
        } else {
            let body = Bytes::from_request(request, state)
                .await
                .map_err(|error| Refusal::new(error.status(), error.body_text()))?;
            if kind == "application/x-www-form-urlencoded" {
                of_pairs(url::form_urlencoded::parse(&body))?
            } else {
                of_json(&body)?
            }
        };
        for (key, value) in of_pairs(url::form_urlencoded::parse(query.as_bytes()))? {
            all.entry(key).or_insert(value);
        }
        if let Some(Value::Array(tags)) = all.get("tag_list") {
            let tags: Vec<_> = tags.iter().filter_map(Value::as_str).collect();
            let tags = tags.join(",");
            all.insert("tag_list".to_owned(), tags.into());
        }
        serde_json::from_value(Value::Object(all))
            .map(Self)
            .map_err(|error| Refusal::bad_request(format!("invalid parameters: {error}")))
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

/// Whatever the content type says. An empty body and `null` are an empty object.
fn of_json(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(Refusal::bad_request("invalid JSON: not an object")),
        Err(error) => Err(Refusal::bad_request(format!("invalid JSON: {error}"))),
    }
}

async fn of_multipart<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Map<String, Value>, Refusal> {
    let mut form = Multipart::from_request(request, state)
        .await
        .map_err(|error| Refusal::bad_request(error.body_text()))?;
    let mut pairs = Vec::new();
    let refused = |error: axum::extract::multipart::MultipartError| {
        Refusal::new(error.status(), error.body_text())
    };
    while let Some(field) = form.next_field().await.map_err(refused)? {
        let name = field.name().unwrap_or_default().to_owned();
        pairs.push((name, field.text().await.map_err(refused)?));
    }
    of_pairs(pairs.into_iter())
}

/// `a=1&b[c]=2&d[]=3` as an object.
fn of_pairs<K: AsRef<str>, V: AsRef<str>>(
    pairs: impl Iterator<Item = (K, V)>,
) -> Result<Map<String, Value>, Refusal> {
    let mut all = Map::new();
    for (key, value) in pairs {
        let (key, value) = (key.as_ref(), value.as_ref());
        let names: Vec<&str> = key
            .split('[')
            .map(|part| part.trim_end_matches(']'))
            .collect();
        if names.len() > DEPTH {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "a parameter's name is nested too deeply",
            ));
        }
        let value = typed(&names, value);
        insert(&mut all, &names, value);
    }
    Ok(all)
}

fn typed(names: &[&str], value: &str) -> Value {
    let last = names.last().copied().unwrap_or_default();
    let boolean = BOOLEANS.contains(&last) || names.starts_with(&["info", "features"]);
    if boolean {
        return Value::Bool(matches!(value, "true" | "1" | "t" | "yes" | "on"));
    }
    if INTEGERS.contains(&last)
        && let Ok(number) = value.parse::<i64>()
    {
        return number.into();
    }
    value.into()
}

fn insert(object: &mut Map<String, Value>, names: &[&str], value: Value) {
    match names {
        [] => {}
        [name] => {
            object.insert((*name).to_owned(), value);
        }
        [name, ""] => {
            let list = object
                .entry(*name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(value);
            }
        }
        [name, rest @ ..] => {
            let inner = object
                .entry(*name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pairs(text: &str) -> Value {
        Value::Object(of_pairs(url::form_urlencoded::parse(text.as_bytes())).unwrap())
    }

    #[test]
    fn forms_mean_what_json_says() {
        let cases = [
            (
                "token=a%20b&state=running",
                json!({"token": "a b", "state": "running"}),
            ),
            (
                "run_untagged=true&paused=0",
                json!({"run_untagged": true, "paused": false}),
            ),
            (
                "token=123&exit_code=7",
                json!({"token": "123", "exit_code": 7}),
            ),
            ("tag_list[]=a&tag_list[]=b", json!({"tag_list": ["a", "b"]})),
            (
                "info[name]=x&info[features][cancel_gracefully]=true",
                json!({"info": {"name": "x", "features": {"cancel_gracefully": true}}}),
            ),
            ("output[bytesize]=9", json!({"output": {"bytesize": 9}})),
            ("", json!({})),
        ];
        for (text, expected) in cases {
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn deep_names_are_refused_and_clashes_are_not_followed() {
        assert!(of_pairs([("a[b][c][d][e]", "x")].into_iter()).is_err());
        assert_eq!(pairs("a=1&a[b]=2"), json!({"a": "1"}));
    }

    proptest! {
        #[test]
        fn any_pairs_are_taken(text in "[a-z\\[\\]=&%0-9]{0,60}") {
            drop(of_pairs(url::form_urlencoded::parse(text.as_bytes())));
        }
    }
}
