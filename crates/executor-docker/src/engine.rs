//! One Docker Engine (or Podman's socket): connected to, its API's version agreed on.
//!
//! In: a [`DockerTrust`], that is how the Engine is reached. Out: bollard's methods over our own transport, with errors
//! that know their class and what to do. bollard never sends the version that it negotiates (0.21.1; its issue 736), so
//! each request's path gets its `/v<version>` here. Facts: `executor-docker.md` section 2.

mod error;
#[cfg(test)]
mod tests;
mod version;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ImageInspect, IpamConfig, SystemInfo};
use bollard::query_parameters::InspectNetworkOptions;
use bollard::{BollardRequest, Docker};
use bytes::Bytes;
use courser_net::legs::DockerTrust;
use courser_net::{EngineTransport, TakenOver};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use url::form_urlencoded;

pub use error::{EngineError, ErrorClass};
pub use version::ApiVersion;

/// A connection to an Engine. Cheap to clone; connections are opened as they are needed.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    docker: Docker,
    transport: EngineTransport,
    version: ApiVersion,
    is_podman: bool,
    info: OnceCell<SystemInfo>,
    /// Requests that make something, which go on when nobody waits for them any more.
    making: TaskTracker,
}

/// An Engine answers a ping at once, or something is wrong with it.
const PING_TIMEOUT: Duration = Duration::from_secs(60);

/// The transport has limits of its own, and a job has; bollard's would end a `wait` or a pull.
const NO_TIMEOUT_OF_BOLLARD: u64 = u64::MAX;

/// How long something that nobody waits for any more may take to be made.
const SETTLING: Duration = Duration::from_secs(30);

/// Longest answer to a ping that is read.
const PING_LIMIT: usize = 64 * 1024;
/// Longest description of an image.
const IMAGE_LIMIT: usize = 8 * 1024 * 1024;

/// Docker's, Podman's.
const DEFAULT_NETWORKS: [&str; 2] = ["bridge", "podman"];

impl Engine {
    /// Reaches the Engine and agrees on a version of its API: the one of `DOCKER_API_VERSION`, else the newest that both
    /// know, found by an unversioned ping as Docker's own client does.
    ///
    /// # Errors
    ///
    /// The host is not supported, a file of `tls_cert_path` cannot be used, nobody answers, or too old an Engine.
    pub async fn connect(way: &DockerTrust) -> Result<Self, EngineError> {
        let transport = EngineTransport::open(way.clone()).await;
        let transport = transport.inspect_err(|error| {
            tracing::error!("Error configuring Docker client transport: {error}");
        })?;
        let host = transport.host();
        let pinging = tokio::time::timeout(PING_TIMEOUT, ping(&transport));
        let pong = pinging.await.map_err(|_| EngineError::NoAnswer {
            host: host.to_owned(),
            waited: PING_TIMEOUT,
        })??;
        let newest = pong.version.as_deref();
        let version = version::agree(host, way.api_version.as_deref(), newest)?;
        let carrier = transport.clone();
        let making = TaskTracker::new();
        making.close();
        let made = making.clone();
        let carry = move |request: BollardRequest| {
            let transport = carrier.clone();
            let made = made.clone();
            let makes = makes_something(&request);
            let request = versioned(request, version);
            async move {
                let request = request?;
                let sending = async move {
                    let answer = transport.send(request).await;
                    answer.map_err(|error| std::io::Error::other(error).into())
                };
                if !makes {
                    return sending.await;
                }
                let sent = made.spawn(sending).await;
                sent.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
            }
        };
        let docker = Docker::connect_with_custom_transport(
            carry,
            Some("http://docker"),
            NO_TIMEOUT_OF_BOLLARD,
            bollard::API_DEFAULT_VERSION,
        )?;
        Ok(Self {
            inner: Arc::new(Inner {
                docker,
                transport,
                version,
                is_podman: pong.is_podman,
                info: OnceCell::new(),
                making,
            }),
        })
    }

    /// bollard's methods. Their errors become [`EngineError`]s by `From`, that is with `?`.
    pub fn api(&self) -> &Docker {
        &self.inner.docker
    }

    /// The version that requests name.
    pub fn api_version(&self) -> ApiVersion {
        self.inner.version
    }

    /// Whether it is Podman, where an archive that is put at a container's root goes beneath its volumes, into the
    /// container's own layer.
    pub(crate) fn is_podman(&self) -> bool {
        self.inner.is_podman
    }

    /// Waits until everything is there that was asked for, also by those who gave up: only then a list shows what is to
    /// be removed.
    pub(crate) async fn settled(&self) {
        let settling = self.inner.making.wait();
        if tokio::time::timeout(SETTLING, settling).await.is_err() {
            tracing::debug!("{}: something is still being made", self.host());
        }
    }

    /// The host as configured: `unix:///var/run/docker.sock`.
    pub fn host(&self) -> &str {
        self.inner.transport.host()
    }

    /// What the Engine says of itself, asked once.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn info(&self) -> Result<&SystemInfo, EngineError> {
        let asking = || async { Ok(self.api().info().await?) };
        self.inner.info.get_or_try_init(asking).await
    }

    /// The Engine's machine as containers of its default network see it; `None` where there is no such network.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn gateway(&self) -> Result<Option<IpAddr>, EngineError> {
        for network in DEFAULT_NETWORKS {
            let asking = self
                .api()
                .inspect_network(network, None::<InspectNetworkOptions>);
            let found = match asking.await.map_err(EngineError::from) {
                Ok(found) => found,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let ranges = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
            if let Some(gateway) = ranges.iter().find_map(gateway_of) {
                return Ok(Some(gateway));
            }
        }
        Ok(None)
    }

    /// Starts a program in a container that was made ready with a terminal: its bytes, both ways.
    pub(crate) async fn start_exec_on_terminal(&self, id: &str) -> Result<TakenOver, EngineError> {
        let Inner {
            transport, version, ..
        } = &*self.inner;
        let body = Full::from(r#"{"Detach":false,"Tty":true}"#);
        let request = Request::post(format!("/v{version}/exec/{id}/start"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "tcp")
            .body(body)
            .map_err(|error| EngineError::Garbled(format!("{id:?}: {error}")))?;
        match transport.take_over(request).await? {
            Ok(taken) => Ok(taken),
            Err(answer) => {
                let status = answer.status().as_u16();
                Err(EngineError::answer(status, text(answer, PING_LIMIT).await))
            }
        }
    }

    /// The image of one platform (API 1.49), which bollard cannot ask for (0.21.1). `name` must be a valid one, `platform`
    /// is the OCI object in JSON.
    pub(crate) async fn inspect_image_for(
        &self,
        name: &str,
        platform: &str,
    ) -> Result<ImageInspect, EngineError> {
        let Inner {
            transport, version, ..
        } = &*self.inner;
        let platform: String = form_urlencoded::byte_serialize(platform.as_bytes()).collect();
        let path = format!("/v{version}/images/{name}/json?platform={platform}");
        let path = path
            .parse()
            .map_err(|error| EngineError::Garbled(format!("{name:?}: {error}")))?;
        let answer = transport.send(plain_request(path)).await?;
        let status = answer.status();
        let text = text(answer, IMAGE_LIMIT).await;
        if !status.is_success() {
            return Err(EngineError::answer(status.as_u16(), text));
        }
        serde_json::from_str(&text).map_err(|error| EngineError::Garbled(error.to_string()))
    }
}

/// Engines that were started anew on a network of before name none: it is the first address then.
fn gateway_of(range: &IpamConfig) -> Option<IpAddr> {
    if let Some(gateway) = &range.gateway {
        return gateway.parse().ok();
    }
    let (network, _) = range.subnet.as_ref()?.split_once('/')?;
    let network: Ipv4Addr = network.parse().ok()?;
    Some(Ipv4Addr::from(u32::from(network).checked_add(1)?).into())
}

/// A request without a body.
fn plain_request(path: Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = path;
    request
}

/// What an Engine says to a ping.
struct Pong {
    /// The newest version that it knows, if it says so.
    version: Option<String>,
    is_podman: bool,
}

async fn ping(transport: &EngineTransport) -> Result<Pong, EngineError> {
    let ping = plain_request(Uri::from_static("/_ping"));
    let answer = transport.send(ping).await?;
    let (status, headers) = (answer.status(), answer.headers());
    let pong = Pong {
        version: api_version(headers),
        is_podman: headers.contains_key("libpod-api-version"),
    };
    let message = text(answer, PING_LIMIT).await;
    if status.is_success() {
        Ok(pong)
    } else {
        Err(EngineError::answer(status.as_u16(), message))
    }
}

fn api_version(headers: &HeaderMap) -> Option<String> {
    let version = headers.get("api-version")?.to_str().ok()?;
    Some(version.to_owned())
}

async fn text(answer: Response<Incoming>, limit: usize) -> String {
    let read = Limited::new(answer.into_body(), limit).collect().await;
    read.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
        .unwrap_or_default()
}

/// Containers, volumes, networks.
fn makes_something(request: &BollardRequest) -> bool {
    request.method() == Method::POST && request.uri().path().ends_with("/create")
}

/// Puts the version before the path.
fn versioned(mut request: BollardRequest, version: ApiVersion) -> Result<BollardRequest, Error> {
    let asked = request.uri().path_and_query();
    let path = format!("/v{version}{}", asked.map_or("/", PathAndQuery::as_str));
    *request.uri_mut() = path.parse()?;
    url_safe_credentials(request.headers_mut());
    Ok(request)
}

/// bollard writes credentials in the alphabet of base64 that an Engine does not read (0.21.1).
fn url_safe_credentials(headers: &mut HeaderMap) {
    let Some(value) = headers.get_mut("x-registry-auth") else {
        return;
    };
    let safe: Vec<u8> = value
        .as_bytes()
        .iter()
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    if let Ok(mut safe) = HeaderValue::from_bytes(&safe) {
        safe.set_sensitive(true);
        *value = safe;
    }
}
