//! The HTTP client: retries, redirects, timeouts, trust by generation.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::Url;

use crate::{ProxySettings, TrustSettings};

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Trust and client certificate.
    pub trust: TrustSettings,
    /// Proxies.
    pub proxy: ProxySettings,
    /// `User-Agent` of every call.
    pub user_agent: String,
    /// `connection_max_age`; zero = never close idle connections for their age.
    pub connection_max_age: Duration,
}

/// A client for one trust setting. Cheap to clone; connections are shared.
#[derive(Clone)]
pub struct Client {
    inner: Arc<ClientSettings>,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the response header is there. Upstream: 10 min.
    pub response_header: Duration,
    /// Whole call. Upstream: 60 min.
    pub total: Duration,
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
    /// Up to ten; headers that carry tokens are dropped when the origin changes.
    Follow,
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
    },
    /// A file with a known length (object storage `PUT`).
    File {
        /// Content.
        path: PathBuf,
        /// Content type.
        content_type: &'static str,
    },
}

/// One call.
pub struct Call {
    /// Method.
    pub method: Method,
    /// URL; user information in it is never shown.
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
}

impl Call {
    /// A call with upstream's timeouts, retries and redirects, without body.
    pub fn new(method: Method, url: Url) -> Self {
        let _ = (method, url);
        todo!()
    }

    /// Adds a header whose value is never shown.
    pub fn secret_header(self, name: HeaderName, value: &str) -> Self {
        let _ = (name, value, HeaderValue::from_static(""));
        todo!()
    }
}

/// The answer to a call. The body is read once, bounded.
pub struct Answer {
    /// Status after retries.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// `X-Request-Id` of the answer, else the one sent.
    pub correlation_id: String,
    /// Whether any attempt was answered with a status that is retried ("pushed back").
    pub pushed_back: bool,
    /// PEM of the certificates of every verified chain, leaf first, anchors included, deduplicated
    /// by signature (`runner-tls.md` 3.2). `None` without TLS.
    pub verified_chain_pem: Option<String>,
    /// Final URL after redirects.
    pub url: Url,
}

impl Answer {
    /// The whole body, at most `limit` bytes; more is an error.
    pub async fn bytes(self, limit: usize) -> Result<Bytes, CallError> {
        let _ = limit;
        todo!()
    }

    /// The next piece of the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        todo!()
    }
}

/// A call that got no usable answer. `Display` is the text users search for:
/// `couldn't execute POST against https://host/path: …: x509: certificate signed by unknown authority`
/// followed by the explanation, without user information or query values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// URL, scheme or settings that no request can be made of.
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

impl Client {
    /// Makes a client. Unreadable trust files are warnings, never fatal (`runner-tls.md` 15).
    pub fn new(settings: ClientSettings) -> Self {
        Self {
            inner: Arc::new(settings),
        }
    }

    /// Sends the call through the retry layer. Dropping the future cancels it.
    pub async fn send(&self, call: Call) -> Result<Answer, CallError> {
        let _ = (call, &self.inner);
        todo!()
    }

    /// Bytes of the CA file in use (`tls-ca-file` or the predefined file of `host`), verbatim, if one
    /// could be read: they are the job's CA chain.
    pub fn ca_file_bytes(&self, host: &str) -> Option<Bytes> {
        let _ = host;
        todo!()
    }

    /// Client certificate and key files' contents, only when both could be read.
    pub fn client_pair(&self, host: &str) -> Option<(Bytes, Bytes)> {
        let _ = host;
        todo!()
    }
}
