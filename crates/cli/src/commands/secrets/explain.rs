//! `courser secrets explain`: what an ID token says.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use courser_secrets::IdToken;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::jwt;
use crate::failure::{Code, Failure};
use crate::stdout::{print_json, print_text};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Explain {
    /// A file with the token; - is standard input. A token as an argument would be seen by every user of the machine
    #[arg(value_name = "JWT-FILE", default_value = "-")]
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Shows header and claims with their types, which count for bound claims, and what a provider would stumble
over. The signature is neither verified nor shown.

  courser secrets explain id-token.txt
  printf %s \"$VAULT_ID_TOKEN\" | courser secrets explain

Exit codes: 0 it is a token, 1 it is none.";

/// Seconds of skew that Vault forgives (`secrets.md` 5.8).
const SKEW: i64 = 60;

/// The object of `--json`.
#[derive(serde::Serialize)]
struct Explanation {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    remarks: Vec<String>,
}

/// Runs it.
pub(super) fn run(explain: &Explain) -> Result<ExitCode, Failure> {
    let token = jwt::read(&explain.file)?;
    let IdToken { header, claims } = IdToken::read(&token).map_err(|why| {
        Failure::new(Code::Failed, format!("this is no ID token: {why}"))
            .hint("in `secrets:` a token is named with a dollar sign: token: $VAULT_ID_TOKEN")
    })?;
    let explanation = Explanation {
        remarks: remarks(&header, &claims, Timestamp::now().as_second()),
        header,
        claims,
    };
    if explain.json {
        print_json(&explanation)?;
    } else {
        print_text(&explanation.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Explanation {
    fn text(&self) -> String {
        let mut text = String::new();
        let width = self.claims.keys().map(String::len).max().unwrap_or(0);
        for (part, values) in [("header", &self.header), ("claims", &self.claims)] {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{part}");
            for (name, value) in values {
                let _ = writeln!(text, "  {name:width$}  {}", shown(name, value));
            }
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "note: {remark}");
        }
        text
    }
}

/// A value with its type where that is easily taken for another, times as people read them.
fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::Number(number) if ["exp", "nbf", "iat"].contains(&name) => {
            let time = number
                .as_i64()
                .and_then(|at| Timestamp::from_second(at).ok());
            match time {
                Some(time) => format!("{number}  ({time})"),
                None => number.to_string(),
            }
        }
        Value::String(text) if text.parse::<i64>().is_ok() || text == "true" || text == "false" => {
            format!("{value}  (a string)")
        }
        Value::Number(_) | Value::Bool(_) => {
            format!("{value}  (no string: a glob never matches it)")
        }
        _ => value.to_string(),
    }
}

/// What a provider would stumble over.
fn remarks(header: &Map<String, Value>, claims: &Map<String, Value>, now: i64) -> Vec<String> {
    let mut remarks = Vec::new();
    // A fraction of a second is nobody's concern here; what is no time at all is far away.
    let time = |name: &str| claims.get(name).and_then(Value::as_f64).map(|at| at as i64);
    match time("exp") {
        Some(end) if end.saturating_add(SKEW) < now => remarks.push(format!(
            "it expired {} s ago: ID tokens are signed when a job is handed out and live as long as its timeout",
            now.saturating_sub(end)
        )),
        Some(_) => {}
        None => remarks.push("it has no exp: Vault wants one of exp, nbf, iat".to_owned()),
    }
    if let Some(begin) = time("nbf")
        && begin > now + SKEW
    {
        remarks.push(format!(
            "it counts in {} s only (nbf): is this machine's clock right?",
            begin.saturating_sub(now)
        ));
    }
    let text = |values: &Map<String, Value>, name: &str| {
        values.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    match text(claims, "iss") {
        Some(issuer) if !issuer.contains("://") => remarks.push(format!(
            "iss is {issuer:?}, without a scheme: bound_issuer has to be the same"
        )),
        Some(_) => {}
        None => remarks.push("it has no iss: no provider knows whose keys to take".to_owned()),
    }
    if claims.get("aud").is_none() {
        remarks.push("it has no aud: a role with bound_audiences refuses it".to_owned());
    }
    match text(header, "alg").as_deref() {
        Some("none") | None => remarks.push("it is not signed: nobody accepts it".to_owned()),
        Some(_) if text(header, "kid").is_none() => {
            remarks.push("it names no key (kid): every key of the issuer is tried".to_owned());
        }
        Some(_) => {}
    }
    remarks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_a_provider_stumbles_over_is_told() {
        let header = object(json!({"alg": "RS256", "kid": "k"}));
        let good = json!({"iss": "https://gitlab.example", "aud": "v", "exp": 2_000, "nbf": 900});
        assert_eq!(
            remarks(&header, &object(good.clone()), 1_000),
            Vec::<String>::new()
        );
        let with = |name: &str, value: Value| {
            let mut claims = object(good.clone());
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.to_owned(), value),
            };
            remarks(&header, &claims, 1_000).join("; ")
        };
        assert!(with("exp", json!(900)).contains("expired 100 s ago"));
        assert_eq!(with("exp", json!(950)), "");
        assert!(with("exp", Value::Null).contains("no exp"));
        assert_eq!(with("exp", json!(1e9)), "");
        assert_eq!(with("exp", json!(i64::MAX)), "");
        assert!(with("exp", json!(i64::MIN)).contains("expired"));
        assert!(with("nbf", json!(1_200)).contains("counts in 200 s"));
        assert!(with("iss", json!("gitlab.example")).contains("without a scheme"));
        assert!(with("aud", Value::Null).contains("bound_audiences"));
        let unsigned = remarks(
            &object(json!({"alg": "none"})),
            &object(good.clone()),
            1_000,
        );
        assert!(unsigned.join("; ").contains("not signed"));
    }

    #[test]
    fn types_that_look_alike_are_told_apart() {
        assert_eq!(shown("project_id", &json!("42")), "\"42\"  (a string)");
        assert!(shown("runner_id", &json!(42)).starts_with("42  (no string"));
        assert_eq!(shown("iat", &json!(0)), "0  (1970-01-01T00:00:00Z)");
        assert_eq!(shown("ref", &json!("main")), "\"main\"");
    }
}
