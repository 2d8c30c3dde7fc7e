//! What a role of Vault binds, compared with what a token says: the server names one claim that does not fit, and not
//! what it should be.

use courser_protocol::secrets::VaultSecret;
use courser_secrets::IdToken;
use serde_json::{Map, Value};
use url::Url;

use crate::session::Session;
use crate::vault_server::VaultServer;

/// What does not fit, a line each; what to do to know it, where the role cannot be read.
///
/// Only the server that `VAULT_ADDR` names is asked: a pipeline's file may name any, and the token is a person's.
pub(super) async fn compared(vault: &VaultSecret, session: &Session) -> Vec<String> {
    let data = &vault.server.auth.data;
    let mount = vault.server.auth.path.trim_matches('/');
    let Some(Ok(token)) = data.get("jwt").map(IdToken::read) else {
        return Vec::new();
    };
    let origin = Url::parse(&vault.server.url).map(|url| url.origin());
    let server = VaultServer::of(session, "this").ok();
    let server = server.filter(|server| Ok(server.address.origin()) == origin);
    let Some(server) = server else {
        return vec![
            "what the role binds is compared with the token where VAULT_ADDR is this server and VAULT_TOKEN may read the role"
                .to_owned(),
        ];
    };
    let server = server.in_namespace(&vault.server.namespace);
    let read = async |path: String| match server.read(&path).await {
        Ok(found) => Ok(found.map(|found| found["data"].clone()).unwrap_or_default()),
        Err(failure) => Err(format!(
            "what the role binds is not known: {}",
            failure.message()
        )),
    };
    let configuration = match read(format!("auth/{mount}/config")).await {
        Ok(configuration) => configuration,
        Err(unknown) => return vec![unknown],
    };
    let role = match data.get("role") {
        Some(role) => role.expose(),
        None => configuration["default_role"].as_str().unwrap_or_default(),
    };
    match read(format!("auth/{mount}/role/{role}")).await {
        Ok(found) => differences(role, &found, &configuration, &token.claims),
        Err(unknown) => vec![unknown],
    }
}

/// What role and method demand and the claims do not have.
fn differences(
    name: &str,
    role: &Value,
    configuration: &Value,
    claims: &Map<String, Value>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fitting = Vec::new();
    let mut compare = |what: &str, bound: &Value, claim: &str, fits: bool| {
        if fits {
            return fitting.push(claim.to_owned());
        }
        let said = match value_of(claims, claim) {
            Some(value) => format!("has {value}"),
            None => "has none".to_owned(),
        };
        lines.push(format!(
            "{what} wants {claim} to be {}, the token {said}",
            wanted(bound)
        ));
    };
    let issuer = &configuration["bound_issuer"];
    if issuer.as_str().is_some_and(|issuer| !issuer.is_empty()) {
        let fits = claims.get("iss") == Some(issuer);
        compare("bound_issuer of the method", issuer, "iss", fits);
    }
    let audiences = &role["bound_audiences"];
    let fits = any_of(audiences, claims.get("aud"), |bound, said| bound == said);
    compare(
        &format!("bound_audiences of {name}"),
        audiences,
        "aud",
        fits,
    );
    let subject = &role["bound_subject"];
    if subject.as_str().is_some_and(|subject| !subject.is_empty()) {
        let fits = claims.get("sub") == Some(subject);
        compare(&format!("bound_subject of {name}"), subject, "sub", fits);
    }
    let is_glob = role["bound_claims_type"] == "glob";
    for (claim, bound) in role["bound_claims"].as_object().into_iter().flatten() {
        let fits = any_of(
            bound,
            value_of(claims, claim),
            |bound, said| match is_glob {
                true => match (bound.as_str(), said.as_str()) {
                    (Some(pattern), Some(text)) => matches_glob(pattern, text),
                    _ => false,
                },
                false => bound == said,
            },
        );
        compare(&format!("bound_claims of {name}"), bound, claim, fits);
    }
    if !fitting.is_empty() && !lines.is_empty() {
        lines.push(format!("what fits: {}", fitting.join(", ")));
    }
    lines
}

/// A claim by its name, or by its place where it begins with a slash.
fn value_of<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(place) = name.strip_prefix('/') else {
        return claims.get(name);
    };
    let (first, rest) = match place.split_once('/') {
        Some((first, rest)) => (first, format!("/{rest}")),
        None => (place, String::new()),
    };
    claims.get(first)?.pointer(&rest)
}

/// Whether one of what is bound is one of what is said; both may be one value or a list.
fn any_of(bound: &Value, said: Option<&Value>, fits: impl Fn(&Value, &Value) -> bool) -> bool {
    let said = said.map(listed).unwrap_or_default();
    let bound = listed(bound);
    bound
        .iter()
        .any(|bound| said.iter().any(|said| fits(bound, said)))
}

fn listed(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// As people read it; types show.
fn wanted(bound: &Value) -> String {
    let bound: Vec<_> = listed(bound).iter().map(Value::to_string).collect();
    match bound.is_empty() {
        true => "one of none".to_owned(),
        false => bound.join(" or "),
    }
}

/// `*` stands for any text, `/` included.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(role: Value, configuration: Value) -> Vec<String> {
        let claims = json!({
            "iss": "https://ci.example", "aud": "https://vault", "sub": "s", "ref": "feature/x", "project_id": "42",
            "runner_id": 7, "groups": ["a", "b"], "user": {"name": "ada"},
        });
        let claims = claims.as_object().cloned().unwrap_or_default();
        differences("app", &role, &configuration, &claims)
    }

    #[test]
    fn all_that_does_not_fit_is_told_with_both_sides() {
        let role = json!({"bound_audiences": ["https://other"], "bound_subject": "x", "bound_claims": {
            "ref": "main", "project_id": 42, "runner_id": ["8", 7], "groups": ["b", "c"], "/user/name": "ada",
            "environment": ["prod", "stage"],
        }});
        assert_eq!(
            told(role, json!({"bound_issuer": "ci.example"})),
            [
                "bound_issuer of the method wants iss to be \"ci.example\", the token has \"https://ci.example\"",
                "bound_audiences of app wants aud to be \"https://other\", the token has \"https://vault\"",
                "bound_subject of app wants sub to be \"x\", the token has \"s\"",
                "bound_claims of app wants environment to be \"prod\" or \"stage\", the token has none",
                "bound_claims of app wants project_id to be 42, the token has \"42\"",
                "bound_claims of app wants ref to be \"main\", the token has \"feature/x\"",
                "what fits: /user/name, groups, runner_id",
            ]
        );
    }

    #[test]
    fn globs_match_texts() {
        let role = |pattern: &str, claim: &str| json!({"bound_audiences": "https://vault", "bound_claims_type": "glob", "bound_claims": {claim: pattern}});
        for pattern in ["*", "feature/*", "*/x", "f*/*x", "feature/x", "f*t*e*"] {
            assert_eq!(told(role(pattern, "ref"), json!({})), [""; 0], "{pattern}");
        }
        for pattern in ["feature", "*/y", "x*", "f*zz*", "feature/x*x"] {
            assert_eq!(told(role(pattern, "ref"), json!({})).len(), 2, "{pattern}");
        }
        // A number is no text.
        assert_eq!(told(role("*", "runner_id"), json!({})).len(), 2);
    }
}
