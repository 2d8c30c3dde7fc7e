//! The HTTP client: retries, redirects, timeouts, trust by generation.
//!
//! [`Client::send`] is the whole of it. Inside: `generation` decides with which trust and over which
//! connections, `connect` opens them, `redirect` and `retry` decide what comes next, `upload` makes
//! the bodies anew for each attempt, and `answer` hands out what comes back.

mod answer;
mod call;
pub(crate) mod connect;
mod description;
pub(crate) mod failure;
mod generation;
mod inspect;
mod redirect;
mod retry;
mod upload;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courser_trust::{PeerName, Store, VerifiedChain, VerifiedChains, VerifyError, verify};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;
use url::Url;

use crate::addresses::Addresses;
use crate::fault::Endpoint;
use crate::proxy::{ProxyRules, basic_authorization};
use crate::tls::VerifiedPeer;
use crate::{ProviderTls, ProxySettings, TrustSettings};

pub use answer::Answer;
pub use call::{Body, Call, CallError, Growth, Redirects, Retry, Timeouts, shown_url};
pub use description::status_line;
pub use generation::Trusted;
pub use inspect::{ClientCertificate, Inspection, Route, Target};
pub use retry::Ambience;

use answer::Content;
use failure::describe;
use generation::{Generation, Generations};
use usage::Usage;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What is read of an answer that is thrown away, so that its connection can be used again.
const DRAINED: usize = 64 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeouts come from files too; one without end must not overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
    inner: Arc<Inner>,
}

struct Inner {
    user_agent: Option<HeaderValue>,
    proxies: Arc<ProxyRules>,
    generations: Arc<Generations>,
    ambience: Ambience,
}

impl Client {
    /// Makes a client. Unreadable trust files are errors in the log, never fatal (`runner-tls.md` 15).
    pub fn new(settings: ClientSettings) -> Self {
        Self::with_ambience(settings, Ambience::default())
    }

    /// [`Self::new`] with a clock and randomness of the caller's.
    pub fn with_ambience(settings: ClientSettings, ambience: Ambience) -> Self {
        Self::build(settings, ambience, Addresses::Any, ProviderTls::default())
    }

    /// A client that connects to these addresses only.
    pub fn restricted_to(settings: ClientSettings, addresses: Addresses) -> Self {
        Self::build(
            settings,
            Ambience::default(),
            addresses,
            ProviderTls::default(),
        )
    }

    /// A client for servers of secrets, at these addresses only.
    pub fn of_provider(
        settings: ClientSettings,
        ambience: Ambience,
        provider: ProviderTls,
        addresses: Addresses,
    ) -> Self {
        Self::build(settings, ambience, addresses, provider)
    }

    fn build(
        settings: ClientSettings,
        ambience: Ambience,
        addresses: Addresses,
        provider: ProviderTls,
    ) -> Self {
        let user_agent = HeaderValue::from_str(&settings.user_agent).ok();
        if user_agent.is_none() {
            tracing::warn!("the User-Agent cannot be sent and is left out");
        }
        let proxies = Arc::new(ProxyRules::new(&settings.proxy));
        Self {
            inner: Arc::new(Inner {
                user_agent,
                proxies: Arc::clone(&proxies),
                generations: Generations::new(
                    settings.trust,
                    settings.connection_max_age,
                    proxies,
                    addresses,
                    ambience.now,
                    provider,
                ),
                ambience,
            }),
        }
    }

    /// Sends the call through the retry layer. Dropping the future cancels it.
    ///
    /// An answer with any status is `Ok`; network errors are not retried.
    pub async fn send(&self, call: Call) -> Result<Answer, CallError> {
        if !matches!(call.url.scheme(), "http" | "https") || !call.url.has_host() {
            return Err(CallError::Client(
                "only http or https scheme supported".to_owned(),
            ));
        }
        let request_id = uuid::Uuid::new_v4().simple().to_string();
        let attempts = match call.retry {
            Retry::Standard => retry::ATTEMPTS,
            Retry::Never => 1,
        };
        retry::run(attempts, self.inner.ambience, || {
            Box::pin(self.attempt(&call, &request_id))
        })
        .await
    }

    /// Bytes of the CA file in use (`tls-ca-file` or the predefined file of `host`), verbatim, if one
    /// could be read: they are the job's CA chain. A file that went bad since leaves its last good bytes,
    /// one that is gone leaves none. `host` is a host name or address, without port.
    pub fn ca_file_bytes(&self, host: &str) -> Option<Bytes> {
        self.inner.generations.ca_file_bytes(host)
    }

    /// What is trusted towards `host` now; `None` where the files cannot be loaded.
    pub fn trusted(&self, host: &str) -> Option<Trusted> {
        self.inner.generations.trusted(host)
    }

    /// The chains of a connection to `host`, judged by what is trusted now: an answer that was waited for may come over
    /// a connection that is older than the last change of a trust file.
    ///
    /// # Errors
    ///
    /// When that server is not trusted any more.
    pub fn chains_now(
        &self,
        host: &str,
        chains: Arc<VerifiedChains>,
    ) -> Result<Arc<VerifiedChains>, VerifyError> {
        let Some(store) = self.inner.generations.store(host) else {
            return Ok(chains);
        };
        if chains.generation() == store.generation() {
            return Ok(chains);
        }
        let all = chains.chains().iter().flat_map(VerifiedChain::certificates);
        let others: Vec<_> = all.skip(1).map(|other| other.der().clone()).collect();
        verify(
            chains.leaf().der(),
            &others,
            &store,
            Some(&PeerName::from_host(host)),
            (self.inner.ambience.now)(),
            courser_trust::Usage::ServerAuth,
        )
        .map(Arc::new)
    }

    /// Whether the machine's own roots are left out ([`SystemRoots::None`](crate::SystemRoots::None)).
    pub fn is_without_system_roots(&self) -> bool {
        self.inner.generations.is_without_system_roots()
    }

    /// Contents of the client certificate and key files, only when both could be read: those of the pair in use, also
    /// while new files are half written or wrong. Files that never were a pair are handed over as they are.
    pub fn client_pair(&self, host: &str) -> Option<(Bytes, Bytes)> {
        self.inner.generations.client_pair(host)
    }

    /// The machine's own roots, and the time.
    pub(crate) async fn system_store(&self) -> (Arc<Store>, jiff::Timestamp) {
        let generations = Arc::clone(&self.inner.generations);
        let loading = tokio::task::spawn_blocking(move || generations.system_store());
        let store = loading.await.unwrap_or_else(|error| {
            tracing::error!("loading the system's certificates: {error}");
            Arc::default()
        });
        (store, (self.inner.ambience.now)())
    }

    /// One attempt with its redirects.
    async fn attempt(&self, call: &Call, request_id: &str) -> Result<Answer, CallError> {
        let deadline = Instant::now() + call.timeouts.total.min(LONGEST_TIMEOUT);
        let host = host_of(&call.url);
        let mut url = call.url.clone();
        let mut method = call.method.clone();
        let mut body = &call.body;
        let mut headers = call.headers.clone();
        self.add_common_headers(&mut headers, call, request_id);
        let mut hops = 0;
        loop {
            // Also a redirect is followed with the trust of the moment, by the files of the first host.
            let generation = Generations::current(&self.inner.generations, host.clone())
                .await
                .map_err(CallError::Client)?;
            let exchange = Exchange {
                client: self,
                generation: &generation,
                method: &method,
                url: &url,
                headers: &headers,
                deadline,
                response_header: call.timeouts.response_header,
            };
            let (parts, wire) = exchange.run(body).await?.into_parts();
            let occupied = parts.extensions.get::<Usage>().map(Usage::occupied);
            let next = match call.redirects {
                Redirects::Follow | Redirects::FollowSameScheme => {
                    redirect::next(parts.status, &parts.headers, &method, &url)
                        .map_err(|message| network(&method, &url, message))?
                }
                Redirects::Return => None,
            };
            if let Some(next) = next {
                if hops == redirect::LIMIT {
                    let message = format!("stopped after {} redirects", redirect::LIMIT);
                    return Err(network(&method, &url, message));
                }
                if call.redirects == Redirects::FollowSameScheme
                    && next.url.scheme() != url.scheme()
                {
                    let message = format!(
                        "refused to follow a redirect to {}, which changes the scheme",
                        shown_url(&next.url)
                    );
                    return Err(network(&method, &url, message));
                }
                if next.keeps_body
                    && !matches!(body, Body::Empty)
                    && redirect::is_downgrade(&url, &next.url)
                {
                    let message = format!(
                        "refused to follow a redirect to {}, which would send the body of this request unencrypted; \
                         have the server or the proxy in front of it redirect to https",
                        shown_url(&next.url)
                    );
                    return Err(network(&method, &url, message));
                }
                redirect::strip(&mut headers, &url, &next.url, next.keeps_body);
                if !next.keeps_body {
                    body = &Body::Empty;
                }
                (url, method) = (next.url, next.method);
                hops += 1;
                continue;
            }
            let mut headers = parts.headers;
            let correlation_id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
            let correlation_id = correlation_id.unwrap_or(request_id).to_owned();
            let peer = parts.extensions.get::<VerifiedPeer>();
            return Ok(Answer {
                _occupied: occupied,
                status: parts.status,
                correlation_id,
                pushed_back: false,
                verified_chains: peer.map(|peer| Arc::clone(&peer.chains)),
                content: Content::new(wire, &mut headers, call.accept_gzip),
                headers,
                url,
                method,
                deadline,
            });
        }
    }

    fn add_common_headers(&self, headers: &mut HeaderMap, call: &Call, request_id: &str) {
        if let (Some(user_agent), false) = (
            &self.inner.user_agent,
            headers.contains_key(header::USER_AGENT),
        ) {
            headers.insert(header::USER_AGENT, user_agent.clone());
        }
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if call.accept_gzip && !headers.contains_key(header::RANGE) {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
}

/// One request and the header of its answer.
struct Exchange<'a> {
    client: &'a Client,
    generation: &'a Generation,
    method: &'a Method,
    url: &'a Url,
    headers: &'a HeaderMap,
    deadline: Instant,
    response_header: Duration,
}

impl Exchange<'_> {
    async fn run(&self, body: &Body) -> Result<http::Response<Incoming>, CallError> {
        let prepared = body.prepare().await?;
        let is_empty = prepared.upload.is_end_stream();
        let mut request = Request::new(prepared.upload);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri_of(self.url)?;
        *request.headers_mut() = self.headers.clone();
        self.add_hop_headers(request.headers_mut(), prepared.content_type, is_empty);
        let responding = self.generation.request(request);
        let header_overdue = async {
            // An error means the body was dropped: it will not be sent any further.
            let _: Result<(), _> = prepared.sent.await;
            tokio::time::sleep(self.response_header).await;
        };
        let message = tokio::select! {
            biased;
            response = responding => match response {
                Ok(response) => return Ok(response),
                Err(error) => self.describe(&error),
            },
            () = header_overdue => "net/http: timeout awaiting response headers".to_owned(),
            () = tokio::time::sleep_until(self.deadline) =>
                "context deadline exceeded (timeout while awaiting headers)".to_owned(),
        };
        Err(network(self.method, self.url, message))
    }

    /// What went wrong, with the names of this hop: a redirect may have led to another host.
    fn describe(&self, error: &(dyn std::error::Error + 'static)) -> String {
        let proxy = self.client.inner.proxies.proxy_for(self.url);
        let endpoint = Endpoint {
            host: host_of(self.url),
            port: self.url.port_or_known_default().unwrap_or(443),
            proxy: proxy.map(ToString::to_string),
        };
        describe(error, self.generation.connector().tls(), &endpoint)
    }

    /// Headers that depend on this request's URL and body alone.
    fn add_hop_headers(
        &self,
        headers: &mut HeaderMap,
        content_type: Option<String>,
        is_empty: bool,
    ) {
        if let Some(value) = content_type.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(header::CONTENT_TYPE, value);
        }
        // hyper says nothing of an empty body; Go does, and some servers insist (411).
        if is_empty && matches!(*self.method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        }
        if !headers.contains_key(header::AUTHORIZATION)
            && let Some(value) = url_authorization(self.url)
        {
            headers.insert(header::AUTHORIZATION, value);
        }
        if self.url.scheme() == "http"
            && let Some(proxy) = self.client.inner.proxies.proxy_for(self.url)
            && matches!(proxy.scheme(), "http" | "https")
            && let Some(value) = proxy.authorization()
        {
            headers.insert(header::PROXY_AUTHORIZATION, value);
        }
    }
}

fn network(method: &Method, url: &Url, message: String) -> CallError {
    CallError::Network {
        method: method.clone(),
        url: shown_url(url),
        message,
    }
}

/// The URL as it goes over the wire: no user information, no fragment.
fn uri_of(url: &Url) -> Result<Uri, CallError> {
    let mut bare = url.clone();
    let _: Result<(), ()> = bare.set_username("").and_then(|()| bare.set_password(None));
    bare.set_fragment(None);
    Uri::try_from(bare.as_str())
        .map_err(|error| CallError::Client(format!("{}: {error}", shown_url(url))))
}

fn url_authorization(url: &Url) -> Option<HeaderValue> {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    (!url.username().is_empty() || url.password().is_some())
        .then(|| {
            basic_authorization(
                &decode(url.username()),
                &decode(url.password().unwrap_or_default()),
            )
        })
        .flatten()
}

/// The host as files are named after it.
fn host_of(url: &Url) -> String {
    without_brackets(url.host_str().unwrap_or_default()).to_owned()
}

/// A host as it stands in a URL, an IPv6 literal without its brackets.
pub fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}
