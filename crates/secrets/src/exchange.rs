//! A request to a provider and its answer: repeated where that may help and harms nobody, bounded in time and memory
//! (`secrets.md` 14.4, 14.5).

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use courser_net::{Ambience, Answer, Call, CallError, Client, Redirects, Retry, Timeouts};
use courser_protocol::Secret;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

const ATTEMPTS: u32 = 3;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// What a server may ask for with `Retry-After`; the time for all secrets is shorter or ends it anyway.
const LONGEST_ORDERED: Duration = Duration::from_secs(60);
/// One answer. Vault stores at most 1 MiB a path, which may grow sixfold as JSON.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;
/// All answers of one job.
const JOB_LIMIT: usize = 64 * 1024 * 1024;

/// Requests to the servers of one trust, for one job.
#[derive(Clone)]
pub(crate) struct Exchange {
    client: Client,
    ambience: Ambience,
    bounds: Arc<Bounds>,
    /// No answer has to be given back: a request that is under way may be dropped.
    lends_nothing: bool,
}

/// What the requests of a job share.
#[derive(Default)]
pub(crate) struct Bounds {
    received: AtomicUsize,
    stopped: CancellationToken,
    /// Tokens that are sent.
    sent: Mutex<Vec<Secret>>,
}

impl Bounds {
    /// Once this is dropped, nothing new is asked. What is under way and may bring a token to give back ends by itself.
    pub(crate) fn stopping(&self) -> DropGuard {
        self.stopped.clone().drop_guard()
    }

    /// Waits until nothing new is asked.
    pub(crate) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    fn hide(&self, token: &str) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if !token.is_empty() && !sent.iter().any(|other| other.expose() == token) {
            sent.push(token.into());
        }
    }

    /// A text without the tokens that were sent; nothing where it has none.
    fn without_tokens(&self, text: &[u8]) -> Option<Vec<u8>> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for token in sent.iter() {
            let token = token.expose().as_bytes();
            let text = found.as_deref().unwrap_or(text);
            if memchr::memmem::find(text, token).is_some() {
                found = Some(replaced(text, token));
            }
        }
        found
    }
}

fn replaced(text: &[u8], token: &[u8]) -> Vec<u8> {
    let mut rest = text;
    let mut shown = Vec::with_capacity(text.len());
    while let Some(at) = memchr::memmem::find(rest, token) {
        shown.extend_from_slice(&rest[..at]);
        shown.extend_from_slice(b"[MASKED]");
        rest = &rest[at + token.len()..];
    }
    shown.extend_from_slice(rest);
    shown
}

/// When a request may be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or nothing that matters: after network errors and passing answers.
    Always,
    /// Each one makes something new: only where the server certainly did not act on it.
    WhenNotProcessed,
}

/// An answer with any status.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// May be a secret: zeroized when dropped.
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// A try before the one that was answered so, or this one, may have been processed, and its answer is not this.
    pub(crate) may_be_processed: bool,
    bounds: Arc<Bounds>,
}

/// A request that was not answered.
pub(crate) struct NoAnswer {
    pub(crate) why: Why,
    /// The server may have done what it was asked for, at this or another try.
    pub(crate) may_be_processed: bool,
}

/// Why there is no answer.
pub(crate) enum Why {
    /// The last try failed so.
    Failed(CallError),
    /// Nobody wants it any more.
    GivenUp,
}

impl Reply {
    #[cfg(test)]
    pub(crate) fn of(status: u16, body: Vec<u8>, sent: &[&str]) -> Self {
        let bounds = Arc::new(Bounds::default());
        for token in sent {
            bounds.hide(token);
        }
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Zeroizing::new(body),
            may_be_processed: false,
            bounds,
        }
    }

    /// A text of an answer without the tokens that were sent. The bodies of refusals have none.
    pub(crate) fn without_tokens<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bounds.without_tokens(text.as_bytes()) {
            Some(shown) => Cow::Owned(String::from_utf8_lossy(&shown).into_owned()),
            None => Cow::Borrowed(text),
        }
    }

    /// The type of the body, without its parameters.
    pub(crate) fn content_type(&self) -> &str {
        let value = self.headers.get(header::CONTENT_TYPE);
        let value = value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }
}

impl Exchange {
    pub(crate) fn new(client: Client, ambience: Ambience, bounds: Arc<Bounds>) -> Self {
        Self {
            client,
            ambience,
            bounds,
            lends_nothing: false,
        }
    }

    /// One whose answers are never given back.
    pub(crate) fn lending_nothing(self) -> Self {
        Self {
            lends_nothing: true,
            ..self
        }
    }

    /// Keeps a token out of what failures tell of answers. Those in headers are known without.
    pub(crate) fn hide(&self, token: &Secret) {
        self.bounds.hide(token.expose());
    }

    /// Sends a call. Redirects are answers; longer timeouts and the retries of the call are replaced by ours.
    pub(crate) async fn send(&self, call: Call, repeat: Repeat) -> Result<Reply, NoAnswer> {
        self.send_judged(call, repeat, |_| false).await
    }

    /// As [`Self::send`], where an answer may also say in its body that it passes.
    pub(crate) async fn send_judged(
        &self,
        call: Call,
        repeat: Repeat,
        passes: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, NoAnswer> {
        let call = Call {
            timeouts: Timeouts {
                response_header: call.timeouts.response_header.min(REQUEST_TIMEOUT),
                total: call.timeouts.total.min(REQUEST_TIMEOUT),
            },
            retry: Retry::Never,
            redirects: Redirects::Return,
            ..call
        };
        let mut attempt = 1;
        // Of all tries: what one of them made is there, whatever comes of the next.
        let mut may_be_processed = false;
        let no_answer = |why, may_be_processed| {
            Err(NoAnswer {
                why,
                may_be_processed,
            })
        };
        loop {
            let stopped = self.bounds.stopped.cancelled();
            if self.bounds.stopped.is_cancelled() {
                return no_answer(Why::GivenUp, may_be_processed);
            }
            let result = tokio::select! {
                result = self.once(call.clone()) => result,
                () = stopped, if self.lends_nothing => return no_answer(Why::GivenUp, true),
            };
            may_be_processed |= match &result {
                Ok(reply) => may_have_acted(reply.status),
                Err(error) => error_may_be_processed(error),
            };
            let again = match &result {
                Ok(reply) => is_passing(reply.status, repeat) || passes(reply),
                Err(error) => is_passing_error(error, repeat),
            };
            if !again || attempt == ATTEMPTS {
                return match result {
                    Ok(reply) => Ok(Reply {
                        may_be_processed,
                        ..reply
                    }),
                    Err(error) => no_answer(Why::Failed(error), may_be_processed),
                };
            }
            let ordered = result
                .as_ref()
                .ok()
                .and_then(|reply| retry_after(&reply.headers));
            let pause = ordered.unwrap_or_else(|| self.pause(attempt));
            tracing::info!(attempt, ?pause, "a request for a secret is repeated");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.bounds.stopped.cancelled() => {
                    return no_answer(Why::GivenUp, may_be_processed);
                }
            }
            attempt += 1;
        }
    }

    async fn once(&self, call: Call) -> Result<Reply, CallError> {
        let shown = courser_net::shown_url(&call.url);
        let is_token = |name: &str| {
            name == "authorization" || name.ends_with("-token") || name.ends_with("-jwt")
        };
        for (name, value) in &call.headers {
            if !is_token(name.as_str()) {
                continue;
            }
            let value = value.to_str().unwrap_or_default();
            self.bounds
                .hide(value.strip_prefix("Bearer ").unwrap_or(value));
        }
        let mut answer: Answer = self.client.send(call).await?;
        let mut body = Zeroizing::new(Vec::new());
        while let Some(piece) = answer.chunk().await? {
            let received = self
                .bounds
                .received
                .fetch_add(piece.len(), Ordering::Relaxed);
            for (have, limit) in [(body.len(), ANSWER_LIMIT), (received, JOB_LIMIT)] {
                if have.saturating_add(piece.len()) > limit {
                    return Err(CallError::TooLarge { url: shown, limit });
                }
            }
            // Growing in place would leave copies behind.
            if body.capacity() - body.len() < piece.len() {
                let mut grown = Zeroizing::new(Vec::with_capacity((body.len() + piece.len()) * 2));
                grown.extend_from_slice(&body);
                body = grown;
            }
            body.extend_from_slice(&piece);
        }
        let mut headers = std::mem::take(&mut answer.headers);
        if !answer.status.is_success() {
            // Whoever repeats what was sent must not have it quoted.
            if let Some(shown) = self.bounds.without_tokens(&body) {
                body = Zeroizing::new(shown);
            }
            for value in headers.values_mut() {
                if self.bounds.without_tokens(value.as_bytes()).is_some() {
                    *value = HeaderValue::from_static("[MASKED]");
                }
            }
        }
        Ok(Reply {
            status: answer.status,
            headers,
            body,
            may_be_processed: false,
            bounds: Arc::clone(&self.bounds),
        })
    }

    /// Full jitter.
    fn pause(&self, attempt: u32) -> Duration {
        let longest = FIRST_PAUSE
            .saturating_mul(1 << attempt.min(16))
            .min(LONGEST_PAUSE);
        longest.mul_f64((self.ambience.fraction)())
    }
}

/// Whether a status is one that passes.
pub(crate) fn is_passing(status: StatusCode, repeat: Repeat) -> bool {
    match repeat {
        Repeat::Always => matches!(status.as_u16(), 408 | 412 | 429 | 500 | 502..=504),
        Repeat::WhenNotProcessed => matches!(status.as_u16(), 412 | 429 | 503),
    }
}

/// Whether an error may pass: not one of trust, of settings, of size, or of an address that jobs may not name.
pub(crate) fn is_passing_error(error: &CallError, repeat: Repeat) -> bool {
    let CallError::Network { message, .. } = error else {
        return false;
    };
    let of_trust = ["x509:", "tls:", "certificate"]
        .iter()
        .any(|word| message.contains(word));
    let before_sending = message.starts_with("dial ") || message.starts_with("proxy ");
    let of_address = message.contains(courser_net::METADATA);
    !of_trust && !of_address && (repeat == Repeat::Always || before_sending)
}

/// Whether a server behind the one that answers so, or before it failed, may have done what it was asked for.
fn may_have_acted(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 500 | 502 | 504..)
}

/// Whether the server may have done what it was asked for, although no answer of it can be used.
fn error_may_be_processed(error: &CallError) -> bool {
    let was_sent = is_passing_error(error, Repeat::Always)
        && !is_passing_error(error, Repeat::WhenNotProcessed);
    was_sent || matches!(error, CallError::TooLarge { .. })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_ORDERED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_repeated() {
        let passes = |code: u16, repeat| is_passing(StatusCode::from_u16(code).unwrap(), repeat);
        for code in [408, 412, 429, 500, 502, 503, 504] {
            assert!(passes(code, Repeat::Always), "{code}");
        }
        for code in [200, 307, 400, 401, 403, 404, 501] {
            assert!(!passes(code, Repeat::Always), "{code}");
        }
        assert!(passes(503, Repeat::WhenNotProcessed) && !passes(500, Repeat::WhenNotProcessed));
        let error = |message: &str| CallError::Network {
            method: http::Method::GET,
            url: String::new(),
            message: message.to_owned(),
        };
        let refused = error("dial tcp 127.0.0.1:1: connection refused");
        assert!(is_passing_error(&refused, Repeat::WhenNotProcessed));
        let cut = error("connection reset by peer");
        assert!(is_passing_error(&cut, Repeat::Always));
        assert!(!is_passing_error(&cut, Repeat::WhenNotProcessed));
        assert!(error_may_be_processed(&cut) && !error_may_be_processed(&refused));
        let acted = |code: u16| may_have_acted(StatusCode::from_u16(code).unwrap());
        assert!([408, 500, 502, 504, 524].into_iter().all(acted));
        assert!(![200, 400, 403, 429, 501, 503].into_iter().any(acted));
        let untrusted = error(
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        );
        assert!(!is_passing_error(&untrusted, Repeat::Always));
    }
}
