//! The connection to a Docker Engine, made from a trust value (`runner-tls.md` section 6, `executor-docker.md` 2).
//!
//! In: a [`DockerTrust`], that is a host and, with `tls_verify`, three files. Out: HTTP answers of the Engine, whose
//! connections can be taken over (attach, exec). Only `ca.pem` is trusted, the files are read once: an Engine is
//! connected to job by job. Proxies of the environment do not count. What is asked of an Engine is `executor-docker`'s
//! business.

mod address;
mod connector;
mod sent;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courser_trust::{Generation, Reading, Remedy, Store};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use url::Url;

use self::address::Address;
use self::connector::Connector;
use self::sent::{Sent, Writing};
use crate::client::failure::{describe_layers, layers};
use crate::disk::read;
use crate::fault::{Endpoint, Fault};
use crate::legs::{DockerTrust, LookedSource, SourceState};
use crate::tls::{self, ClientTls};
use crate::{SystemRoots, TrustSettings};

/// From the end of a request to the head of its answer, over the network only: on a socket the job's own limits count.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// A connection that was taken over.
pub type TakenOver = TokioIo<hyper::upgrade::Upgraded>;

/// Connections to one Engine. Cheap to clone.
#[derive(Clone)]
pub struct EngineTransport {
    inner: Arc<Inner>,
}

struct Inner {
    host: String,
    address: Address,
    tls: Option<EngineTls>,
    http: Http<Connector, Sent<Body>>,
    writing: Writing,
    answer_timeout: Duration,
}

/// TLS of one Engine, and where it comes from.
#[derive(Clone)]
struct EngineTls {
    client: ClientTls,
    directory: PathBuf,
}

/// Why an Engine cannot even be called.
#[derive(Debug, thiserror::Error)]
pub enum EngineSetupError {
    /// The host is no URL of an Engine.
    #[error("unable to parse docker host `{host}`: {reason}")]
    Host {
        /// As configured, without a user.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A way to an Engine that is not supported.
    #[error("docker host `{host}` is not supported: {instead}")]
    Unsupported {
        /// As configured, without a user.
        host: String,
        /// What to do instead.
        instead: String,
    },
    /// A file of `tls_cert_path`.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `tls_verify` without files.
    #[error("tls_verify is on and tls_cert_path is empty, so that no Engine can be trusted")]
    NoFiles,
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// Why a request got no answer. The texts are Go's, which people search for.
#[derive(Debug, thiserror::Error)]
pub enum EngineCallError {
    /// There is no such socket.
    #[error("dial unix {}: connect: no such file or directory", .0.display())]
    NoSocket(PathBuf),
    /// The socket may not be used by this user.
    #[error("dial unix {}: connect: permission denied", .0.display())]
    PermissionDenied(PathBuf),
    /// Nobody listens.
    #[error("dial {0}: connect: connection refused")]
    Refused(String),
    /// No connection, for another reason.
    #[error("dial {address}: {reason}")]
    Dial {
        /// Network and address: `tcp docker.example.com:2376`.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// No connection in time.
    #[error("dial {0}: i/o timeout")]
    DialTimeout(String),
    /// The handshake took too long.
    #[error("net/http: TLS handshake timeout")]
    HandshakeTimeout,
    /// TLS failed: the Engine's certificate or ours was refused.
    #[error("{0}")]
    Tls(Box<Fault>),
    /// The head of the answer took too long.
    #[error("net/http: timeout awaiting response headers")]
    AnswerTimeout,
    /// An Engine does not redirect.
    #[error("redirects disallowed: the answer is {status} to {location}")]
    Redirect {
        /// The status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// The connection ended early or carried something else than HTTP.
    #[error("{0}")]
    Broken(String),
}

impl EngineTransport {
    /// Reads the files and gets ready; nothing is connected to yet.
    ///
    /// # Errors
    ///
    /// The host is not understood or not supported, or a file of `tls_cert_path` is missing or damaged.
    pub async fn open(trust: DockerTrust) -> Result<Self, EngineSetupError> {
        let address = Address::parse(&trust.host, trust.tls.is_some())?;
        let tls = match trust.tls {
            Some(settings) if address.is_network() => {
                let reading = tokio::task::spawn_blocking(move || EngineTls::read(&settings));
                let tls = reading.await.map_err(|panic| {
                    EngineSetupError::Tls(format!("reading its files: {panic}"))
                })?;
                Some(tls?)
            }
            // What comes from the own kernel needs no proof.
            _ => None,
        };
        let writing = Writing::new();
        let connector = Connector::new(address.clone(), tls.clone(), writing.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                host: trust.host,
                address,
                tls,
                http: client(connector),
                writing,
                answer_timeout: ANSWER_TIMEOUT,
            }),
        })
    }

    /// The host as configured: `unix:///var/run/docker.sock`.
    pub fn host(&self) -> &str {
        &self.inner.host
    }

    /// Sends a request. Only path and query of its URI count; what the host has of a path goes before.
    ///
    /// # Errors
    ///
    /// When no answer came, or a redirect.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, EngineCallError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let Inner {
            address,
            http,
            writing,
            answer_timeout,
            ..
        } = &*self.inner;
        let (mut parts, body) = request.into_parts();
        parts.uri = address.uri(parts.uri.path_and_query())?;
        parts.headers.insert(header::HOST, address.host_header());
        let (body, sent) = Sent::new(body.map_err(Into::into).boxed_unsync());
        let asking = http.request(Request::from_parts(parts, body));
        let answer = if address.is_network() {
            let overdue = async {
                sent.await;
                writing.idle(*answer_timeout).await;
            };
            tokio::select! {
                answer = asking => answer,
                () = overdue => return Err(EngineCallError::AnswerTimeout),
            }
        } else {
            asking.await
        };
        let answer = answer.map_err(|error| self.failure(&error))?;
        match answer.headers().get(header::LOCATION) {
            Some(location) if answer.status().is_redirection() => Err(EngineCallError::Redirect {
                status: answer.status().as_u16(),
                location: String::from_utf8_lossy(location.as_bytes()).into_owned(),
            }),
            _ => Ok(answer),
        }
    }

    /// Sends a request and takes the connection over: from then on it carries bytes both ways. An answer other than that
    /// it may be comes back as it is.
    ///
    /// # Errors
    ///
    /// As [`Self::send`]; the connection is not given away.
    pub async fn take_over<B>(
        &self,
        request: Request<B>,
    ) -> Result<Result<TakenOver, Response<Incoming>>, EngineCallError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let answer = self.send(request).await?;
        // Podman's engine says 200 there.
        if !answer.status().is_success() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Err(answer));
        }
        let upgraded = hyper::upgrade::on(answer).await;
        let upgraded = upgraded.map_err(|error| self.failure(&error))?;
        Ok(Ok(TokioIo::new(upgraded)))
    }

    fn failure(&self, error: &(dyn Error + 'static)) -> EngineCallError {
        let Inner { address, tls, .. } = &*self.inner;
        let mut dialed =
            layers(error).filter_map(|layer| layer.downcast_ref::<connector::NotConnected>());
        if let Some(dialed) = dialed.next() {
            return dialed.take();
        }
        // In TLS 1.3 a server refuses the client's certificate after the handshake.
        let refused = tls
            .as_ref()
            .and_then(|tls| tls.fault(error, &address.endpoint()));
        match refused {
            Some(fault) => EngineCallError::Tls(Box::new(fault)),
            None => EngineCallError::Broken(describe_layers(error)),
        }
    }
}

impl DockerTrust {
    /// The host as configured, without a user.
    pub fn shown(&self) -> String {
        address::without_user(&self.host)
    }

    /// Where the Engine is, to be shown and looked at: `https://HOST:PORT/` where TLS is spoken, else the host as configured,
    /// without a user.
    pub fn url(&self) -> Option<Url> {
        let address = Address::parse(&self.host, self.tls.is_some()).ok();
        match address {
            Some(Address::Network { authority, .. }) if self.tls.is_some() => {
                Url::parse(&format!("https://{authority}/")).ok()
            }
            _ => Url::parse(&self.shown()).ok(),
        }
    }
}

impl EngineTls {
    fn read(settings: &TrustSettings) -> Result<Self, EngineSetupError> {
        let (Some(ca), Some(certificate), Some(key)) =
            (&settings.ca_file, &settings.cert_file, &settings.key_file)
        else {
            return Err(EngineSetupError::NoFiles);
        };
        debug_assert_eq!(settings.system, SystemRoots::None);
        let damaged = |path: &PathBuf, reason: &str| EngineSetupError::File {
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let mut store = Store::builder();
        for LookedSource { state, .. } in settings.look("").sources {
            match state {
                SourceState::Absent => return Err(damaged(ca, NO_SUCH_FILE)),
                SourceState::Unreadable(error) => return Err(damaged(ca, &error)),
                SourceState::Present(found) if found.certificates().is_empty() => {
                    return Err(damaged(ca, "no certificate in it can be used"));
                }
                SourceState::Present(found) => store = store.include(&found),
            }
        }
        let pair = own_pair(certificate, key)?;
        let store = Arc::new(store.build(Generation(1)));
        let client = ClientTls::new(store, Some(Arc::new(pair)), Timestamp::now)
            .map_err(|error| EngineSetupError::Tls(error.to_string()))?;
        Ok(Self {
            client,
            directory: ca.parent().map(PathBuf::from).unwrap_or_default(),
        })
    }
}

const NO_SUCH_FILE: &str = "no such file or directory";

fn own_pair(certificate: &PathBuf, key: &PathBuf) -> Result<CertifiedKey, EngineSetupError> {
    let content = |path: &PathBuf| {
        let reason = match read(path) {
            Reading::Bytes(bytes) => return Ok(bytes),
            Reading::Absent => NO_SUCH_FILE.to_owned(),
            Reading::Unreadable(error) => error,
        };
        Err(EngineSetupError::File {
            path: path.clone(),
            reason,
        })
    };
    let (chain, secret) = (content(certificate)?, content(key)?);
    tls::certified_key(&chain, &secret).map_err(|error| EngineSetupError::File {
        path: certificate.clone(),
        reason: tls::with_key_file(&error, key),
    })
}

impl EngineTls {
    /// What TLS failed of, with a remedy that speaks of the Engine's keys.
    fn fault(&self, error: &(dyn Error + 'static), endpoint: &Endpoint) -> Option<Fault> {
        let fault = self.client.fault(error, endpoint)?;
        let Self { directory, .. } = self;
        let (host, shown) = (&endpoint.host, directory.display());
        let advice = match fault.help() {
            Some("client-certificate-demanded" | "client-certificate-refused") => format!(
                "{host} refuses the client certificate {shown}/cert.pem: have it issued anew, by the CA that the \
                 Engine was started with (its --tlscacert)"
            ),
            Some("plain-http-on-the-tls-port") => format!(
                "the Engine at {} does not speak TLS: start it with --tlsverify, or name the port where it does",
                endpoint.authority()
            ),
            _ => return Some(fault),
        };
        Some(fault.with_remedy(Remedy::advice(advice)))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is where clients are made from a trust value"
)]
fn client(connector: Connector) -> Http<Connector, Sent<Body>> {
    Http::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(connector)
}

impl Address {
    /// URI of a request. It names the way for the pool of connections; the connector knows it already.
    fn uri(&self, asked: Option<&PathAndQuery>) -> Result<Uri, EngineCallError> {
        let asked = asked.map_or("/", PathAndQuery::as_str);
        let (authority, base) = match self {
            Self::Unix(_) => ("localhost", ""),
            Self::Network {
                authority, base, ..
            } => (authority.as_str(), base.as_str()),
        };
        Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query(format!("{base}{asked}"))
            .build()
            .map_err(|error| EngineCallError::Broken(format!("{base}{asked}: {error}")))
    }

    /// The Engine does not look at it, what stands before one may.
    fn host_header(&self) -> HeaderValue {
        match self {
            Self::Unix(_) => HeaderValue::from_static("api.moby.localhost"),
            Self::Network { authority, .. } => HeaderValue::from_str(authority)
                .unwrap_or_else(|_| HeaderValue::from_static("localhost")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use http_body_util::Full;

    use super::*;

    /// A transport to a server of one connection, with a short patience.
    async fn to(serve: impl FnOnce(TcpStream) + Send + 'static) -> EngineTransport {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let trust = DockerTrust {
            host: format!("tcp://{}", listener.local_addr().unwrap()),
            from_environment: false,
            tls: None,
            api_version: None,
        };
        std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let mut transport = EngineTransport::open(trust).await.unwrap();
        let inner = Arc::get_mut(&mut transport.inner).unwrap();
        inner.answer_timeout = Duration::from_millis(700);
        transport
    }

    /// More than the buffers between two sockets.
    const LENGTH: usize = 32 * 1024 * 1024;

    fn upload() -> Request<Full<Bytes>> {
        Request::put("/archive")
            .body(Full::from(vec![0; LENGTH]))
            .unwrap()
    }

    fn read_all(stream: &mut TcpStream) {
        let mut left = LENGTH;
        let mut buffer = vec![0; 1024 * 1024];
        while left > 0 {
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0);
            left = left.saturating_sub(read);
        }
    }

    #[tokio::test]
    async fn a_long_upload_is_waited_for_and_a_missing_answer_is_not() {
        let slow = to(|mut stream| {
            // Longer than an answer may take, which has not begun yet.
            std::thread::sleep(Duration::from_millis(1500));
            read_all(&mut stream);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
        });
        let answer = slow.await.send(upload()).await.unwrap();
        assert_eq!(answer.status(), 200);

        let silent = to(|mut stream| {
            read_all(&mut stream);
            // Until the client has given up.
            drop(stream.read(&mut [0]));
            while stream.read(&mut [0]).is_ok_and(|read| read > 0) {}
        });
        let error = silent.await.send(upload()).await.unwrap_err();
        assert!(matches!(error, EngineCallError::AnswerTimeout), "{error}");
    }
}
