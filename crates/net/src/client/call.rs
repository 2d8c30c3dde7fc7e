//! What is asked: method, URL, headers, body, and how patient the caller is.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::sync::watch;
use url::Url;

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the response header is there, from the moment the request is sent. Upstream: 10 min.
    pub response_header: Duration,
    /// One attempt with its redirects and the body of the answer. Upstream: 60 min.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            response_header: Duration::from_secs(10 * 60),
            total: Duration::from_secs(60 * 60),
        }
    }
}

/// Whether the retry layer of `runner-protocol.md` 1.7 is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Up to five attempts on 408, 429, 500, 502, 503, 504 and ≥ 512; never on network errors.
    Standard,
    /// One attempt.
    Never,
}

/// What happens to a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    /// Up to ten; headers that carry tokens are dropped when the origin changes, and a body does not
    /// follow from https to http: that is an error.
    Follow,
    /// As [`Self::Follow`], but one that changes the scheme is an error.
    FollowSameScheme,
    /// The 3xx answer is returned.
    Return,
}

/// Body of a call. Streams are made anew for every attempt.
#[derive(Clone)]
pub enum Body {
    /// None.
    Empty,
    /// In memory, with its content type.
    Bytes(Bytes, &'static str),
    /// One part `file` of a multipart form, read from a file at each attempt.
    MultipartFile {
        /// File name told to the server.
        file_name: String,
        /// Content.
        path: PathBuf,
        /// Of a file that is still being written: how far. Until it is complete it is sent as it grows, in chunks.
        growth: Option<watch::Receiver<Growth>>,
    },
    /// A file with a known length (object storage `PUT`).
    File {
        /// Content.
        path: PathBuf,
        /// Content type.
        content_type: &'static str,
    },
}

/// How far the writer of a file is. One that goes away before the file is complete breaks the upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growth {
    /// Bytes that are in the file.
    pub written: u64,
    /// No more will come.
    pub complete: bool,
}

/// One call.
#[derive(Clone)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// URL; user information in it becomes Basic authorization and is never shown.
    pub url: Url,
    /// Headers beside `User-Agent`, `X-Request-Id` and `Content-Type`; tokens are marked sensitive.
    pub headers: HeaderMap,
    /// Body.
    pub body: Body,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Retries.
    pub retry: Retry,
    /// Redirects.
    pub redirects: Redirects,
    /// Whether the server may compress its answer with gzip, which is then undone here. Off for
    /// artifacts, whose bytes must arrive as stored; calls with a `Range` never ask for it.
    pub accept_gzip: bool,
}

impl Call {
    /// A call with upstream's timeouts, retries and redirects, without body.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::Empty,
            timeouts: Timeouts::default(),
            retry: Retry::Standard,
            redirects: Redirects::Follow,
            accept_gzip: true,
        }
    }

    /// Adds a header whose value is never shown. A value that cannot be a header (a line break in a
    /// token) is left out, with a warning: the server then refuses the call.
    pub fn secret_header(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(name, value);
            }
            Err(_) => tracing::warn!("the value for header {name} is not sendable and left out"),
        }
        self
    }
}

/// A call that got no usable answer. `Display` is the text users search for:
/// `couldn't execute POST against https://host/path: …: x509: certificate signed by unknown authority`
/// followed by the explanation, without user information or query values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// URL, scheme, file or settings that no request can be made of.
    #[error("client error: {0}")]
    Client(String),
    /// Connection, TLS, timeout, or a broken body.
    #[error("couldn't execute {method} against {url}: {message}")]
    Network {
        /// Method.
        method: Method,
        /// URL without secrets.
        url: String,
        /// Cause, with the TLS explanation where that was it.
        message: String,
    },
    /// The body is longer than the caller allows.
    #[error("answer of {url} is larger than {limit} bytes")]
    TooLarge {
        /// URL without secrets.
        url: String,
        /// The bound.
        limit: usize,
    },
}

/// `url` without user information, query and fragment: what may be shown.
pub fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Fails only for URLs that cannot have user information.
    let _: Result<(), ()> = shown
        .set_username("")
        .and_then(|()| shown.set_password(None));
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_urls_have_no_secrets() {
        let url = Url::parse("https://me:pw@h.example:8/p/a?X-Amz-Signature=s&b#frag").unwrap();
        assert_eq!(shown_url(&url), "https://h.example:8/p/a");
    }

    #[test]
    fn tokens_are_not_shown_by_debug() {
        let url = Url::parse("https://h.example").unwrap();
        let call = Call::new(Method::GET, url).secret_header("job-token".parse().unwrap(), "s3cr");
        assert!(!format!("{:?}", call.headers).contains("s3cr"));
        assert_eq!(call.headers["job-token"], "s3cr");
        let bad = call.secret_header("job-token".parse().unwrap(), "a\nb");
        assert_eq!(bad.headers["job-token"], "s3cr");
    }
}
