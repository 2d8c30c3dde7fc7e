//! Pages over HTTP without TLS and without authorization, for whoever scrapes metrics (`runner-cli.md` 10).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A scraper has one connection, a curious human another.
const CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How old a connection gets, and how long its last page may then take: a client that does not read its pages keeps no
/// place from others.
const AGE: Duration = Duration::from_secs(5 * 60);
const LAST_PAGE: Duration = Duration::from_secs(30);
/// After an accept that failed for lack of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A page.
pub struct Page {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Its text.
    pub text: String,
}

/// A bound address where pages are served.
pub struct PageListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl PageListener {
    /// Binds `host:port`, `:port` (every address of the machine), `[::1]:port`, or a host alone with
    /// `default_port`. A port may be a number or the name of a service.
    pub async fn bind(address: &str, default_port: u16) -> std::io::Result<Self> {
        let (host, port) = parts(address, default_port)?;
        let candidates: Vec<SocketAddr> = if host.is_empty() {
            // The first takes IPv4 as well, where there is IPv6.
            vec![
                (Ipv6Addr::UNSPECIFIED, port).into(),
                (Ipv4Addr::UNSPECIFIED, port).into(),
            ]
        } else {
            tokio::net::lookup_host((host, port)).await?.collect()
        };
        let listener = TcpListener::bind(&*candidates).await?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
        })
    }

    /// The address really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the page of a path to GET and HEAD until dropped; other methods are refused with 405, paths without
    /// a page with 404. Pages are made on threads that may block.
    pub async fn serve(self, page: impl Fn(&str) -> Option<Page> + Send + Sync + 'static) {
        let page = Arc::new(page);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                Some(_) = connections.join_next() => continue,
                accepted = async {
                    let place = Arc::clone(&places).acquire_owned().await;
                    (place, self.listener.accept().await)
                } => accepted,
            };
            let (Ok(place), Ok((stream, _))) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let page = Arc::clone(&page);
            connections.spawn(async move {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let page = Arc::clone(&page);
                    tokio::task::spawn_blocking(move || answer(&request, &*page))
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = pin!(connection);
                let ended = tokio::select! {
                    ended = connection.as_mut() => Ok(ended),
                    () = tokio::time::sleep(AGE) => {
                        connection.as_mut().graceful_shutdown();
                        tokio::time::timeout(LAST_PAGE, connection).await
                    }
                };
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!("connection for pages: {error}"),
                    Err(_) => tracing::debug!("a client does not read its page; it is cut off"),
                }
                drop(place);
            });
        }
    }
}

fn answer<B>(
    request: &Request<B>,
    page: &(impl Fn(&str) -> Option<Page> + ?Sized),
) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    match page(request.uri().path()) {
        None => *answer.status_mut() = StatusCode::NOT_FOUND,
        Some(_) if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let allowed = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(header::ALLOW, allowed);
        }
        Some(Page { content_type, text }) => {
            let content_type = HeaderValue::from_static(content_type);
            answer
                .headers_mut()
                .insert(header::CONTENT_TYPE, content_type);
            *answer.body_mut() = Full::from(text);
        }
    }
    answer
}

/// Host and port of an address.
fn parts(address: &str, default_port: u16) -> std::io::Result<(&str, u16)> {
    let after_brackets = address.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match address[after_brackets..].rfind(':') {
        Some(colon) => {
            let (host, port) = address.split_at(after_brackets + colon);
            (host, &port[1..])
        }
        None => (address, ""),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port = match port {
        "" => default_port,
        port => match port.parse() {
            Ok(port) => port,
            Err(_) => service(port)?,
        },
    };
    Ok((host, port))
}

/// The port of a service by its name.
fn service(name: &str) -> std::io::Result<u16> {
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    let found = services.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let first = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?;
        let is_it = first == name || words.any(|alias| alias == name);
        is_it.then(|| port.parse().ok()).flatten()
    });
    found.ok_or_else(|| {
        let error =
            format!("unknown port {name:?}: neither a number nor a service of /etc/services");
        std::io::Error::new(std::io::ErrorKind::InvalidInput, error)
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn addresses_are_those_of_the_fact_sheet() {
        for (address, expected) in [
            ("localhost:9000", ("localhost", 9000)),
            ("localhost", ("localhost", 9252)),
            (":9252", ("", 9252)),
            ("[::1]:80", ("::1", 80)),
            ("[::1]", ("::1", 9252)),
            ("192.0.2.1:", ("192.0.2.1", 9252)),
        ] {
            assert_eq!(parts(address, 9252).unwrap(), expected, "{address}");
        }
        let error = parts("h:no-such-service", 1).unwrap_err().to_string();
        assert!(error.contains("no-such-service"), "{error}");
        assert!(parts("h:65536", 1).is_err());
    }

    #[test]
    fn only_get_and_head_are_answered() {
        let page = |path: &str| {
            (path == "/metrics").then(|| Page {
                content_type: "text/plain",
                text: "up 1\n".to_owned(),
            })
        };
        let status = |method: Method, path: &str| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() = path.parse().unwrap();
            answer(&request, &page).status().as_u16()
        };
        assert_eq!(status(Method::GET, "/metrics"), 200);
        assert_eq!(status(Method::HEAD, "/metrics?x=1"), 200);
        assert_eq!(status(Method::POST, "/metrics"), 405);
        assert_eq!(status(Method::GET, "/debug/pprof/"), 404);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off() {
        const LENGTH: usize = 64 * 1024 * 1024;
        let listener = PageListener::bind("127.0.0.1:0", 0).await.unwrap();
        let address = listener.address();
        let serving = listener.serve(|_| {
            Some(Page {
                content_type: "text/plain",
                text: "x".repeat(LENGTH),
            })
        });
        let client = async {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                .await
                .unwrap();
            // The clock runs ahead while nobody does anything.
            tokio::time::sleep(2 * (AGE + LAST_PAGE)).await;
            let mut received = Vec::new();
            let ended = stream.read_to_end(&mut received).await;
            assert!(received.len() < LENGTH, "{ended:?}");
        };
        tokio::select! {
            () = client => {}
            () = serving => unreachable!("it serves until dropped"),
        }
    }
}
