//! Requests to a cloud that brought nothing: whose fault that is, and as much of the answer as may be shown.

use courser_net::CallError;
use http::{Method, StatusCode};

use crate::exchange::{NoAnswer, Repeat, Reply, Why, is_passing, is_passing_error};
use crate::{Failure, FailureClass, Step};

/// Longest part of an answer that is shown, in bytes.
const SHOWN: usize = 2048;

/// A failure with the class that the status of the answer has: what the job or the provider's configuration says, or the
/// provider.
pub(crate) fn refused(status: StatusCode, message: impl Into<String>) -> Failure {
    let class = match status.as_u16() {
        408 | 429 => FailureClass::ExternalDependency,
        400..=499 => FailureClass::Configuration,
        _ => FailureClass::ExternalDependency,
    };
    Failure::new(class, message).transient(is_passing(status, Repeat::Always))
}

/// What a read that was answered so failed at. A page of somebody between says nothing of policies and paths.
pub(crate) fn step_of_read(reply: &Reply) -> Step {
    let is_page = reply.content_type() == "text/html";
    match reply.status {
        StatusCode::FORBIDDEN if !is_page => Step::Policy,
        StatusCode::NOT_FOUND if !is_page => Step::Path,
        _ => Step::Read,
    }
}

/// A request that got no answer, in Go's words: `Post "https://host/path": …`.
pub(crate) fn unanswered(no_answer: &NoAnswer) -> Failure {
    let error = match &no_answer.why {
        Why::Failed(error) => error,
        Why::GivenUp => return Failure::given_up(),
    };
    match error {
        CallError::Network {
            method,
            url,
            message,
        } => {
            let verb = go_verb(method);
            let may_pass = is_passing_error(error, Repeat::Always);
            let class = match may_pass {
                true => FailureClass::ExternalDependency,
                false => FailureClass::Configuration,
            };
            Failure::new(class, format!("{verb} \"{url}\": {message}"))
                .at(Step::Connect)
                .transient(may_pass)
        }
        other => {
            Failure::new(FailureClass::ExternalDependency, other.to_string()).at(Step::Connect)
        }
    }
}

/// As Go writes it in its errors.
pub(crate) fn go_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "Get",
        Method::PUT => "Put",
        _ => "Post",
    }
}

/// An answer of 2xx or 3xx that is not what was asked for.
pub(crate) fn unusable(reply: &Reply, why: &str) -> Failure {
    let status = reply.status.as_u16();
    let message = match reply.headers.get(http::header::LOCATION) {
        Some(location) if reply.status.is_redirection() => {
            // A URL in it may say more than the host, such as a signature.
            let location = location.to_str().unwrap_or_default();
            let target = match location.split(['?', '#']).next() {
                None | Some("") => "itself".to_owned(),
                Some(target) => format!("{target:?}"),
            };
            format!(
                "the answer (status {status}) is a redirect to {target}, which is not followed: credentials stay with the \
                 host that they are for"
            )
        }
        _ => format!(
            "the answer (status {status}, content type {:?}) is not usable: {why}",
            reply.content_type()
        ),
    };
    Failure::new(FailureClass::ExternalDependency, message)
}

/// A body for an error text: cut, and of control characters only with the ends of its lines. Tokens that were sent are out
/// of it already.
pub(crate) fn shown(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(body);
    let is_odd = |c: char| c.is_control() && c != '\n';
    if text.contains(is_odd) {
        text.to_mut().retain(|c| !is_odd(c));
    }
    match text.len() {
        ..=SHOWN => text.into_owned(),
        all => format!(
            "{} [… {all} bytes]",
            &text[..text.floor_char_boundary(SHOWN)]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short() {
        assert_eq!(shown(b"{\"error\":1}"), "{\"error\":1}");
        assert_eq!(shown(b"a\x1b[2J\r\nb\tc\x07"), "a[2J\nbc");
        let long = shown("é".repeat(2000).as_bytes());
        assert!(long.ends_with("é [… 4000 bytes]") && long.len() < 2100);
    }

    #[test]
    fn statuses_have_classes() {
        let table = [
            (400, FailureClass::Configuration, false),
            (401, FailureClass::Configuration, false),
            (404, FailureClass::Configuration, false),
            (429, FailureClass::ExternalDependency, true),
            (500, FailureClass::ExternalDependency, true),
            (501, FailureClass::ExternalDependency, false),
            (302, FailureClass::ExternalDependency, false),
        ];
        for (status, class, is_transient) in table {
            let failure = refused(StatusCode::from_u16(status).unwrap(), "no");
            assert_eq!(
                (failure.class, failure.is_transient),
                (class, is_transient),
                "{status}"
            );
        }
    }
}
