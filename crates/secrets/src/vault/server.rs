//! A server: its URL, paths below it, requests, and what its errors mean.

use std::sync::Arc;

use bytes::Bytes;
use courser_net::{Body, Call, CallError};
use courser_protocol::Secret;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use url::Url;

use crate::exchange::{NoAnswer, Repeat, Reply, Why, is_passing, is_passing_error};
use crate::refusal::go_verb;
use crate::session::{Session, VaultAccess};
use crate::{Failure, FailureClass, Step};

pub(crate) const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Vault or OpenBao, as the job names it.
#[derive(Clone)]
pub(crate) struct Server {
    url: String,
    base: Base,
    access: Arc<VaultAccess>,
}

/// What a server sees of the certificate that the runner's environment names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// There is none.
    None,
    /// It is shown when the server asks.
    Shown,
    /// It is for another server than this one.
    Withheld,
}

#[derive(Clone)]
enum Base {
    Http(Url),
    /// A URL that can be told but not asked: what stands before the path, and its scheme.
    Unsupported {
        shown: String,
        scheme: String,
    },
}

impl Server {
    /// A server by its URL. Fails with upstream's words for what Go cannot read as a URL.
    pub(crate) async fn new(session: &Session, url: &str) -> Result<Self, Failure> {
        let base = base(url).map_err(|fault| {
            let shown = without_user(url);
            let failure = Failure::new(FailureClass::System, format!("parse {shown:?}: {fault}"));
            failure.within("creating new Vault client").advise(
                "VAULT_SERVER_URL must be a URL with its scheme, such as https://vault.example.com:8200",
            )
        });
        let asked = match &base {
            Ok(Base::Http(url)) => Some(url),
            Ok(Base::Unsupported { .. }) | Err(_) => None,
        };
        let access = session.vault_exchange(asked).await;
        let access = access.map_err(|failure| failure.within("creating new Vault client"))?;
        Ok(Self {
            url: url.to_owned(),
            base: base?,
            access: Arc::new(access),
        })
    }

    /// Its URL as given: a secret where it names a user with a password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Fails for logins that go by the runner's certificate: a job would be whom the runner's host is.
    pub(crate) fn refuse_certificate_login(&self, path: &str) -> Result<(), Failure> {
        let by_certificate = path.split('/').any(|segment| segment == "cert");
        if self.access.certificate != Certificate::Shown || !by_certificate {
            return Ok(());
        }
        let text = format!(
            "{path:?} logs in by certificate, and the one that VAULT_CLIENT_CERT of the runner names is not the job's"
        );
        Err(Failure::new(FailureClass::Configuration, text)
            .advise("VAULT_AUTH_PATH must be the mount of an auth method for JWTs, such as jwt"))
    }

    /// Fails for a server that jobs may not name. What was obtained from it before is given back all the same.
    pub(crate) fn check_allowed(&self, session: &Session) -> Result<(), Failure> {
        match &self.base {
            Base::Http(url) => session.surroundings.check_server(url),
            // It is not asked anyway.
            Base::Unsupported { .. } => Ok(()),
        }
    }

    /// A parameter that goes with each login where the runner's certificate is shown. Methods for JWTs pass over it; one for
    /// certificates, whatever its mount is called, takes it for the only certificate that it may accept, and there is none.
    pub(crate) fn no_certificate_role(&self) -> Option<(&'static str, &'static str)> {
        (self.access.certificate == Certificate::Shown)
            .then_some(("name", "none: a job logs in with its ID token alone"))
    }

    /// A call of a path below `/v1/`.
    pub(crate) fn call(
        &self,
        method: Method,
        path: &str,
        namespace: &str,
    ) -> Result<Call, Failure> {
        let mut url = match &self.base {
            Base::Http(url) => url.clone(),
            Base::Unsupported { shown, scheme } => {
                let verb = go_verb(&method);
                let text =
                    format!("{verb} \"{shown}/v1/{path}\": unsupported protocol scheme {scheme:?}");
                return Err(Failure::system(text).advise(
                    "VAULT_SERVER_URL must begin with https:// (or http://, which encrypts nothing)",
                ));
            }
        };
        let below = || ["v1"].into_iter().chain(path.split('/'));
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(below());
        }
        if !ends_with(&url, below()) {
            let text = format!("the path {path:?} cannot be sent as it is");
            return Err(Failure::new(FailureClass::Configuration, text));
        }
        let mut call = Call::new(method, url);
        call.headers
            .insert(REQUEST, HeaderValue::from_static("true"));
        call.headers
            .insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if !namespace.is_empty() {
            let value = HeaderValue::from_str(namespace).map_err(|_| {
                Failure::system(format!("the namespace {namespace:?} cannot be sent"))
            })?;
            call.headers.insert(NAMESPACE, value);
        }
        Ok(call)
    }

    /// Keeps a token that goes along in a body or encoded out of what failures tell.
    pub(crate) fn hide(&self, token: &Secret) {
        self.access.exchange.hide(token);
    }

    /// The call with a JSON body.
    pub(crate) fn with_json(call: Call, body: Vec<u8>) -> Call {
        Call {
            body: Body::Bytes(Bytes::from(body), "application/json"),
            ..call
        }
    }

    /// Sends a call. A redirect is followed once, and only within the server: nobody else is shown a token.
    pub(crate) async fn send(&self, call: Call, repeat: Repeat) -> Result<Reply, Failure> {
        let verb = go_verb(&call.method);
        let shown = courser_net::shown_url(&call.url);
        let told = |no_answer: &NoAnswer| {
            let error = match &no_answer.why {
                Why::Failed(error) => error,
                Why::GivenUp => {
                    return Failure::given_up().processed(no_answer.may_be_processed);
                }
            };
            let failure = told(verb, &shown, error, repeat).processed(no_answer.may_be_processed);
            let text = error.to_string();
            if text.contains("remote error: tls:")
                && self.access.certificate == Certificate::Withheld
            {
                return failure.advise(
                    "VAULT_CLIENT_CERT of the runner is shown only to the server that VAULT_ADDR of the runner names, \
                     which is another one or not set",
                );
            }
            let hints = self.access.hints_on_trust.iter();
            hints
                .filter(|_| text.contains("x509:"))
                .fold(failure, Failure::advise)
        };
        let first = self.access.exchange.send(call.clone(), repeat).await;
        let first = first.map_err(|no_answer| told(&no_answer))?;
        let may_be_processed = first.may_be_processed;
        if !matches!(first.status.as_u16(), 301 | 302 | 307 | 308) {
            return Ok(first);
        }
        let location = first.headers.get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        let target = location.and_then(|location| call.url.join(location).ok());
        let refused = |why: &str| {
            Failure::system(format!("{verb} \"{shown}\": {why}"))
                .at(Step::Connect)
                .processed(may_be_processed)
                .advise("set VAULT_SERVER_URL to the URL that answers itself")
        };
        let Some(target) = target else {
            return Err(refused("redirected to no URL"));
        };
        if target.scheme() != call.url.scheme() && target.scheme() == "http" {
            return Err(refused("redirect would cause protocol downgrade"));
        }
        if target.origin() != call.url.origin() {
            return Err(refused(&format!(
                "redirected to {}, another server, which is not shown the token",
                courser_net::shown_url(&target)
            )));
        }
        let second = self
            .access
            .exchange
            .send(
                Call {
                    url: target,
                    ..call
                },
                repeat,
            )
            .await;
        let mut second = second.map_err(|mut no_answer| {
            no_answer.may_be_processed |= may_be_processed;
            told(&no_answer)
        })?;
        second.may_be_processed |= may_be_processed;
        if second.status.is_redirection() {
            return Err(refused("redirected a second time").processed(second.may_be_processed));
        }
        Ok(second)
    }
}

/// A server's URL for texts: without user and password, query and fragment, also where it is no URL.
pub(crate) fn without_user(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let start = url.find("//").map_or(0, |at| at + 2);
    let (before, rest) = url.split_at(start);
    let end = rest.find('/').unwrap_or(rest.len());
    let from = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{before}{}", &rest[from..])
}

/// Whether the path of `url`, with its escapes undone, ends with these segments.
fn ends_with<'a>(url: &Url, segments: impl DoubleEndedIterator<Item = &'a str>) -> bool {
    let mut written = url.path().rsplit('/');
    segments.rev().all(|segment| {
        let written = written.next().unwrap_or_default();
        percent_encoding::percent_decode_str(written).eq(segment.bytes())
    })
}

fn told(verb: &str, shown: &str, error: &CallError, repeat: Repeat) -> Failure {
    let message = match error {
        CallError::Network { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let class = match message.contains(courser_net::METADATA) {
        true => FailureClass::Configuration,
        false => FailureClass::System,
    };
    Failure::new(class, format!("{verb} \"{shown}\": {message}"))
        .at(Step::Connect)
        .transient(is_passing_error(error, repeat))
}

/// Go's reading of a server's URL.
fn base(url: &str) -> Result<Base, String> {
    if let Some(bad) = url
        .chars()
        .find(|character| character.is_ascii_control() || *character == ' ')
    {
        return Err(if bad == ' ' && url.contains("://") {
            "invalid character \" \" in host name".to_owned()
        } else {
            "net/url: invalid control character in URL".to_owned()
        });
    }
    let (scheme, rest) = match url.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        Some(("", _)) => return Err("missing protocol scheme".to_owned()),
        Some((first, _)) if !first.contains('/') => {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
        _ => {
            let shown = without_user(url.trim_end_matches('/'));
            return Ok(Base::Unsupported {
                shown,
                scheme: String::new(),
            });
        }
    };
    if matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        let mut url = Url::parse(url).map_err(|error| error.to_string())?;
        url.set_query(None);
        url.set_fragment(None);
        return Ok(Base::Http(url));
    }
    let host = rest.strip_prefix("//").unwrap_or_default();
    Ok(Base::Unsupported {
        shown: without_user(&format!("{scheme}://{}", host.trim_end_matches('/'))),
        scheme: scheme.to_owned(),
    })
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// One path out of parts: without empty segments and `.`. `..` is refused: it would lead out of the mount that the
/// job names, upstream follows it. Control characters are refused: URLs drop some of them, and what is left of
/// `.<tab>.` is `..`.
pub(crate) fn clean(parts: &[&str]) -> Result<String, Failure> {
    let segments: Vec<_> = parts
        .iter()
        .flat_map(|part| part.split('/'))
        .filter(|segment| !segment.is_empty() && *segment != ".")
        .collect();
    if segments.contains(&"..") {
        let text = format!(
            "the path {:?} has \"..\", which would lead out of its mount",
            parts.join("/")
        );
        return Err(Failure::new(FailureClass::Configuration, text));
    }
    if let Some(segment) = segments
        .iter()
        .find(|segment| segment.contains(char::is_control))
    {
        let text = format!("the path has a control character in {segment:?}");
        return Err(Failure::new(FailureClass::Configuration, text));
    }
    Ok(segments.join("/"))
}

/// An answer that is an error (`secrets.md` 5.5): `api error: status code CODE: E1, E2`. It passes where what was asked
/// for may be repeated.
pub(crate) fn api_failure(reply: &Reply, repeat: Repeat) -> Failure {
    let status = reply.status;
    let class = match status.as_u16() {
        400 | 401 | 403 | 404 => FailureClass::Configuration,
        500.. => FailureClass::ExternalDependency,
        _ => FailureClass::System,
    };
    let text = format!(
        "api error: status code {}: {}",
        status.as_u16(),
        errors(reply)
    );
    let failure = Failure::new(class, text).transient(is_passing(status, repeat));
    if status == StatusCode::SERVICE_UNAVAILABLE && errors(reply).contains("sealed") {
        return failure.advise("the server is sealed: its operators have to unseal it");
    }
    failure
}

/// The texts of an error as Vault writes them; nothing where somebody else answers.
pub(crate) fn error_list(reply: &Reply) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let Errors { errors } = serde_json::from_slice(&reply.body).ok()?;
    Some(errors)
}

/// The texts of an error, each on one line.
pub(crate) fn errors(reply: &Reply) -> String {
    const SHOWN: usize = 2000;
    let texts = match error_list(reply) {
        Some(errors) => errors.join(", "),
        None => String::from_utf8_lossy(&reply.body[..reply.body.len().min(SHOWN)]).into_owned(),
    };
    let words: Vec<_> = texts.split_whitespace().collect();
    let mut line = words.join(" ");
    line.retain(|character| !character.is_control());
    line.truncate(line.floor_char_boundary(SHOWN));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_go_reads_them() {
        for (url, expected) in [
            (
                "bao.example.test:8200",
                "Put \"bao.example.test:///v1/x\": unsupported protocol scheme \"bao.example.test\"",
            ),
            ("", "Put \"/v1/x\": unsupported protocol scheme \"\""),
            (
                "ftp://h/",
                "Put \"ftp://h/v1/x\": unsupported protocol scheme \"ftp\"",
            ),
        ] {
            let Ok(Base::Unsupported { shown, scheme }) = base(url) else {
                panic!("{url}");
            };
            assert_eq!(
                format!("Put \"{shown}/v1/x\": unsupported protocol scheme {scheme:?}"),
                expected
            );
        }
        let fault = |url: &str| base(url).err().unwrap();
        assert_eq!(
            fault("https://bao example test"),
            "invalid character \" \" in host name"
        );
        assert_eq!(
            fault("127.0.0.1:8200"),
            "first path segment in URL cannot contain colon"
        );
        assert!(base("https://h.example/prefix").is_ok());
    }

    #[test]
    fn paths_are_cleaned_and_stay_in_their_mount() {
        assert_eq!(
            clean(&["/ops/", "data", "//a/./b/"]).unwrap(),
            "ops/data/a/b"
        );
        assert_eq!(
            clean(&["ops", "", "a?version=3"]).unwrap(),
            "ops/a?version=3"
        );
        for path in ["../sys/x", ".\t./sys", "a/.\r./x", ".\n.", "a\u{85}b", "\0"] {
            assert!(clean(&["ops", "data", path]).is_err(), "{path:?}");
        }
    }

    #[test]
    fn what_a_url_makes_of_a_path_is_the_path() {
        let is_kept = |path: &str| {
            let mut url = Url::parse("https://h.example/prefix/").unwrap();
            url.path_segments_mut()
                .unwrap()
                .pop_if_empty()
                .extend(path.split('/'));
            ends_with(&url, path.split('/'))
        };
        for path in ["v1/ops/data/a", "v1/a b/ü?%2e#\\x", "v1/%2e%2e/x"] {
            assert!(is_kept(path), "{path:?}");
        }
        for path in ["v1/a/../b", "v1/.\t./b", "v1/a\nb"] {
            assert!(!is_kept(path), "{path:?}");
        }
    }

    #[test]
    fn users_of_a_url_are_shown_nowhere() {
        for (url, shown) in [
            (
                "https://me:pw@h.example:8200/p@q",
                "https://h.example:8200/p@q",
            ),
            ("https://me:p@w@h x/", "https://h x/"),
            ("me:pw@h.example", "h.example"),
            ("https://h.example", "https://h.example"),
            ("https://me:pw@h.example?token=a@b", "https://h.example"),
            ("https://h.example/p#?a", "https://h.example/p"),
            ("h.example?token=a", "h.example"),
            ("?a//me@h#", ""),
        ] {
            assert_eq!(without_user(url), shown);
        }
        for url in ["ftp://me:hunter2@h/", "//me:hunter2@h"] {
            let Ok(Base::Unsupported { shown, .. }) = base(url) else {
                panic!("{url}");
            };
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
