//! How Microsoft's SDK tells of an answer, which is what upstream's users know: several lines, with rules between them.

use courser_net::shown_url;
use http::Method;
use serde_json::Value;
use url::Url;

use crate::Step;
use crate::exchange::Reply;
use crate::refusal::shown;

/// Numbers of Entra's errors that say of an assertion that no federated credential takes it: for issuer, subject,
/// audience, time (`secrets.md` 8).
const OF_CLAIMS: [u64; 5] = [70_021, 700_211, 700_212, 700_213, 700_024];

/// What a login that was answered with an error failed at.
pub(super) fn step_of_login(reply: &Reply) -> Step {
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let codes = body
        .as_ref()
        .and_then(|body| body["error_codes"].as_array());
    let mut codes = codes.into_iter().flatten().filter_map(Value::as_u64);
    match codes.any(|code| OF_CLAIMS.contains(&code)) {
        true => Step::Claims,
        false => Step::LogIn,
    }
}

/// Method and URL, status, code of the error, body.
pub(super) fn response(method: &Method, url: &Url, reply: &Reply) -> String {
    let rule = "-".repeat(80);
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let code = body
        .as_ref()
        .and_then(|body| {
            body["error"]["code"]
                .as_str()
                .or_else(|| body["error"].as_str())
        })
        .filter(|code| !code.is_empty())
        .map_or_else(
            || "ERROR CODE UNAVAILABLE".to_owned(),
            |code| format!("ERROR CODE: {}", shown(code.as_bytes())),
        );
    let body = match &body {
        Some(body) => serde_json::to_vec_pretty(body).unwrap_or_default(),
        None => reply.body.to_vec(),
    };
    let body = match shown(&body) {
        body if body.trim().is_empty() => "Response contained no body".to_owned(),
        body => body,
    };
    format!(
        "{method} {}\n{rule}\nRESPONSE {}: {}\n{code}\n{rule}\n{}\n{rule}",
        shown_url(url),
        reply.status.as_u16(),
        reply.status,
        body.trim_end()
    )
}
