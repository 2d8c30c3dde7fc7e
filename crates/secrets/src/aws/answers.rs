//! What AWS answers: XML of the security token service, JSON of Secrets Manager, and errors of both.

use std::collections::HashMap;

use courser_protocol::Secret;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Credentials;
use crate::exchange::Reply;
use crate::{Failure, FailureClass};

/// Longest path of elements that is looked into.
const DEEPEST: usize = 16;

/// An error of AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) request_id: String,
}

#[derive(Deserialize)]
struct JsonFault {
    #[serde(rename = "__type", alias = "code", default)]
    code: Option<String>,
    #[serde(alias = "Message", alias = "errorMessage", default)]
    message: Option<String>,
}

/// A version of a secret.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SecretValue {
    secret_string: Option<Secret>,
    /// Base64 already.
    secret_binary: Option<Secret>,
}

impl Fault {
    /// Of Secrets Manager. The code, not the status, says what it is: emulators have other statuses.
    pub(super) fn of_json(reply: &Reply) -> Self {
        let body: Option<JsonFault> = serde_json::from_slice(&reply.body).ok();
        let (code, message) = body.map_or((None, None), |body| (body.code, body.message));
        let of_header = header(reply, "x-amzn-errortype").map(ToOwned::to_owned);
        let code = of_header.or(code).unwrap_or_default();
        // `com.amazon#Code:https://…` in some services.
        let code = code.split(':').next().unwrap_or_default();
        let code = code.rsplit('#').next().unwrap_or_default();
        Self::new(reply, code, message.unwrap_or_default(), String::new())
    }

    /// Of the security token service.
    pub(super) fn of_xml(reply: &Reply) -> Self {
        let mut texts = texts(&reply.body);
        let mut text = |path: &str| texts.remove(path).unwrap_or_default();
        let code = text("ErrorResponse/Error/Code");
        let message = text("ErrorResponse/Error/Message");
        let id = text("ErrorResponse/RequestId");
        Self::new(
            reply,
            code.expose(),
            message.expose().to_owned(),
            id.expose().to_owned(),
        )
    }

    fn new(reply: &Reply, code: &str, message: String, request_id: String) -> Self {
        let request_id = match header(reply, "x-amzn-requestid") {
            Some(id) => id.to_owned(),
            None => request_id,
        };
        match code {
            "" => Self {
                code: "UnknownError".to_owned(),
                message: format!(
                    "the answer is no error of AWS (content type {:?})",
                    reply.content_type()
                ),
                request_id,
            },
            code => Self {
                code: code.to_owned(),
                message,
                request_id,
            },
        }
    }

    /// Whether the same request may be answered otherwise, although the status says that it is wrong.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self.code.as_str(),
            "Throttling"
                | "ThrottlingException"
                | "ThrottledException"
                | "RequestThrottled"
                | "RequestThrottledException"
                | "RequestLimitExceeded"
                | "TooManyRequestsException"
                | "LimitExceededException"
                | "SlowDown"
                | "RequestTimeout"
                | "RequestTimeoutException"
                | "IDPCommunicationError"
                // A provider that was just made, or whose keys were just changed.
                | "InvalidIdentityToken"
        )
    }
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.get(name)?.to_str().ok()
}

/// The credentials in an answer of `AssumeRoleWithWebIdentity`.
pub(super) fn credentials(body: &[u8]) -> Option<Credentials> {
    let mut texts = texts(body);
    let mut text = |name: &str| {
        let path = format!(
            "AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult/Credentials/{name}"
        );
        texts.remove(&path).filter(|text| !text.is_empty())
    };
    Some(Credentials {
        access_key: text("AccessKeyId")?.expose().to_owned(),
        secret_key: text("SecretAccessKey")?,
        session_token: Some(text("SessionToken")?),
    })
}

/// The texts of all elements by their path, as far as the document is well-formed.
fn texts(body: &[u8]) -> HashMap<String, Secret> {
    let mut found = HashMap::new();
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut reader = Reader::from_reader(body);
    let mut buffer = Vec::new();
    while let Ok(event) = reader.read_event_into(&mut buffer) {
        match event {
            Event::Start(element) if path.len() < DEEPEST => {
                path.push(element.local_name().as_ref().to_owned());
                text.clear();
            }
            Event::Text(piece) => text.push_str(&piece),
            Event::CData(piece) => text.push_str(&piece),
            Event::GeneralRef(entity) => {
                let entity = format!("&{};", &*entity);
                match quick_xml::escape::unescape(&entity) {
                    Ok(character) => text.push_str(&character),
                    Err(_) => break,
                }
            }
            Event::End(_) => {
                found.insert(path.join("/"), Secret::new(text.trim()));
                path.pop();
                text.clear();
            }
            Event::Start(_) | Event::Eof => break,
            _ => {}
        }
        buffer.clear();
    }
    found
}

impl SecretValue {
    /// The text; bytes as base64.
    pub(super) fn text(self) -> Result<Secret, Failure> {
        let text = self.secret_string.or(self.secret_binary);
        text.ok_or_else(|| Failure::new(FailureClass::Configuration, "secret contains no value"))
    }
}

/// A field of a secret that is a JSON object. Numbers stay as they are written (upstream makes `1e+06` of 1000000).
pub(super) fn field(text: &Secret, key: &str, id: &str) -> Result<Secret, Failure> {
    let refused = |text: String| Failure::new(FailureClass::Configuration, text);
    let object: HashMap<String, &RawValue> =
        serde_json::from_str(text.expose()).map_err(|error| {
            // Its own words would quote the secret.
            let what = match error.classify() {
                serde_json::error::Category::Data => "it is no object",
                _ => "it is not JSON",
            };
            refused(format!(
                "failed to parse JSON for secret '{id}': {what} (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
    let Some(value) = object.get(key) else {
        return Err(refused(format!(
            "key '{key}' not found in AWS Secrets Manager response for secret '{id}'"
        )));
    };
    let raw = value.get();
    match raw.bytes().next() {
        Some(b'"') => serde_json::from_str(raw).map_err(|_| {
            refused(format!(
                "key '{key}' in aws secrets manager response for secret '{id}' is not valid text"
            ))
        }),
        Some(b't' | b'f' | b'-' | b'0'..=b'9') => Ok(Secret::new(raw)),
        _ => Err(refused(format!(
            "key '{key}' in aws secrets manager response for secret '{id}' is not a string, number or boolean"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn reply(body: &str, headers: &[(&'static str, &str)]) -> Reply {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let mut reply = Reply::of(400, body.as_bytes().to_vec(), &[]);
        reply.headers = map;
        reply
    }

    fn fault(code: &str, message: &str, request_id: &str) -> Fault {
        Fault {
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: request_id.to_owned(),
        }
    }

    #[test]
    fn faults_of_secrets_manager() {
        let id = ("x-amzn-requestid", "R");
        let table = [
            (
                r#"{"__type":"ResourceNotFoundException","Message":"can't"}"#,
                vec![id],
                fault("ResourceNotFoundException", "can't", "R"),
            ),
            (
                r#"{"__type":"com.amazonaws#AccessDeniedException","message":"no"}"#,
                vec![],
                fault("AccessDeniedException", "no", ""),
            ),
            (
                r#"{"message":"no"}"#,
                vec![("x-amzn-errortype", "Bad:http://x/")],
                fault("Bad", "no", ""),
            ),
            (
                "<html>",
                vec![id, ("content-type", "text/html; charset=utf-8")],
                fault(
                    "UnknownError",
                    "the answer is no error of AWS (content type \"text/html\")",
                    "R",
                ),
            ),
        ];
        for (body, headers, expected) in table {
            assert_eq!(Fault::of_json(&reply(body, &headers)), expected);
        }
    }

    #[test]
    fn answers_of_the_token_service() {
        let xml = "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
             <Type>Sender</Type><Code>AccessDenied</Code><Message> it&apos;s &lt;no&gt; &#33;</Message></Error>\
             <RequestId>R2</RequestId></ErrorResponse>";
        assert_eq!(
            Fault::of_xml(&reply(xml, &[])),
            fault("AccessDenied", "it's <no> !", "R2")
        );
        for broken in [
            "",
            "<ErrorResponse><Error>",
            "&a;&a;",
            &"<a>".repeat(100_000),
        ] {
            assert_eq!(Fault::of_xml(&reply(broken, &[])).code, "UnknownError");
            assert!(credentials(broken.as_bytes()).is_none());
        }
        let xml = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T==</SessionToken>\
             <Expiration>2044-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>";
        let found = credentials(xml.as_bytes()).unwrap();
        assert_eq!(found.access_key, "A");
        assert_eq!(found.secret_key.expose(), "S");
        assert_eq!(found.session_token.unwrap().expose(), "T==");
    }

    #[test]
    fn fields_of_objects() {
        let text: Secret = r#"{"s":"a\"é","t":true,"n":1000000,"e":1.50e+6,"m":-3,"z":null,"l":[1],"o":{},"s2":"x","s2":"y"}"#.into();
        let found = |key: &str| match field(&text, key, "app/db") {
            Ok(value) => value.expose().to_owned(),
            Err(failure) => failure.to_string(),
        };
        let table = [
            ("s", "a\"é"),
            ("t", "true"),
            ("n", "1000000"),
            ("e", "1.50e+6"),
            ("m", "-3"),
            ("s2", "y"),
            (
                "q",
                "key 'q' not found in AWS Secrets Manager response for secret 'app/db'",
            ),
        ];
        for (key, expected) in table {
            assert_eq!(found(key), expected, "{key}");
        }
        for key in ["z", "l", "o"] {
            let expected = format!(
                "key '{key}' in aws secrets manager response for secret 'app/db' is not a string, number or boolean"
            );
            assert_eq!(found(key), expected);
        }
        let not_json = |text: &str| field(&text.into(), "k", "i").unwrap_err().to_string();
        assert_eq!(
            not_json("hunter2"),
            "failed to parse JSON for secret 'i': it is not JSON (line 1, column 1)"
        );
        assert_eq!(
            not_json("\"hunter2\""),
            "failed to parse JSON for secret 'i': it is no object (line 1, column 9)"
        );
        assert_eq!(
            not_json("{\"a\":"),
            "failed to parse JSON for secret 'i': it is not JSON (line 1, column 5)"
        );
    }
}
