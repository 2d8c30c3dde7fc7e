//! A strict HTTP or HTTPS server on loopback that answers by script and can misbehave.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use crate::http_message::Request;
use crate::http_message::read_request;
use crate::pki::Issued;

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A proper answer; `Content-Length` is added. The connection stays open.
    Answer {
        /// Status code.
        status: u16,
        /// Headers.
        headers: Vec<(String, String)>,
        /// Body.
        body: Vec<u8>,
    },
    /// A proper head that promises more than the body that follows; then the connection is cut.
    CutShort {
        /// Status code.
        status: u16,
        /// `Content-Length` told.
        promised: usize,
        /// Body sent.
        body: Vec<u8>,
    },
    /// The connection is closed without an answer.
    Close,
    /// Nothing is ever answered.
    Stall,
    /// These bytes as they are, then the connection is closed.
    Raw(Vec<u8>),
    /// A server that is slow, or never done: `head` as it is, then `piece` after each `pause`, `times` times or until the
    /// client goes away; then the connection is closed.
    Drip {
        /// Status line, headers, and what else comes at once.
        head: Vec<u8>,
        /// Sent again and again.
        piece: Vec<u8>,
        /// Before each piece.
        pause: Duration,
        /// How many pieces.
        times: usize,
    },
}

/// A running server; it ends when dropped.
pub struct FakeServer {
    running: Running,
    secure: bool,
    requests: Arc<Mutex<Vec<Request>>>,
    open: Arc<()>,
    certificate: Option<Arc<Presented>>,
}

/// A listener with a thread of its own, independent of the test's runtime and its clock.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

impl Reply {
    /// Plain text.
    pub fn text(status: u16, text: &str) -> Self {
        Self::with("text/plain", status, text)
    }

    /// JSON.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::with("application/json", status, value.to_string())
    }

    /// No body.
    pub fn status(status: u16) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A redirect.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::status(status).header("Location", location)
    }

    /// With one more header. Only proper answers have them.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match &mut self {
            Self::Answer { headers, .. } => headers.push((name.to_owned(), value.to_owned())),
            other => panic!("{other:?} has no headers"),
        }
        self
    }

    /// A body of some type.
    pub fn with(content_type: &str, status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer {
            status,
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: body.into(),
        }
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl FakeServer {
    /// HTTPS with a certificate, which is sent with its intermediates.
    pub fn https(
        leaf: &Issued,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some((Presented::new(leaf), None)), Arc::new(handler))
    }

    /// HTTPS at another address of this machine than loopback, such as one that containers reach.
    pub fn https_at(
        address: IpAddr,
        leaf: &Issued,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let tls = Some((Presented::new(leaf), None));
        Self::serving(address, tls, Arc::new(handler), true)
    }

    /// HTTPS that keeps nothing of what it received: [`Self::requests`] stays empty, and memory small.
    pub fn https_unrecorded(
        leaf: &Issued,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::https_unrecorded_at(LOOPBACK, leaf, handler)
    }

    /// The same at another address.
    pub fn https_unrecorded_at(
        address: IpAddr,
        leaf: &Issued,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let tls = Some((Presented::new(leaf), None));
        Self::serving(address, tls, Arc::new(handler), false)
    }

    /// HTTPS that sends the leaf alone: a common mistake of servers.
    pub fn https_leaf_only(
        leaf: &Issued,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let presented = Presented::new(leaf);
        presented.present(vec![leaf.der().clone()], leaf);
        Self::start(Some((presented, None)), Arc::new(handler))
    }

    /// HTTPS that sends these certificates, whatever they are, and has the leaf's key.
    pub fn https_chain(
        chain: Vec<rustls_pki_types::CertificateDer<'static>>,
        leaf: &Issued,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let presented = Presented::new(leaf);
        presented.present(chain, leaf);
        Self::start(Some((presented, None)), Arc::new(handler))
    }

    /// HTTPS that demands client certificates issued by `clients`.
    pub fn mutual_tls(
        leaf: &Issued,
        clients: &Issued,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start(
            Some((Presented::new(leaf), Some(clients))),
            Arc::new(handler),
        )
    }

    /// Plain HTTP: object stores behind a proxy, or the wrong port.
    pub fn http(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(handler))
    }

    /// Presents another certificate from the next connection on.
    ///
    /// # Panics
    ///
    /// For a server without TLS.
    pub fn present(&self, leaf: &Issued) {
        self.present_chain(leaf.chain(), leaf);
    }

    /// The same with other certificates than those above the leaf; the leaf is the first.
    ///
    /// # Panics
    ///
    /// For a server without TLS.
    pub fn present_chain(
        &self,
        chain: Vec<rustls_pki_types::CertificateDer<'static>>,
        leaf: &Issued,
    ) {
        let presented = self.certificate.as_ref();
        let presented = presented.expect("the server speaks TLS");
        presented.present(chain, leaf);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// A URL of it, by address.
    pub fn url(&self, path: &str) -> String {
        self.url_by_name("127.0.0.1", path)
    }

    /// A URL of it, by a name that leads here.
    pub fn url_by_name(&self, host: &str, path: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{host}:{}{path}", self.address().port())
    }

    /// How many connections are open now, handshakes included.
    pub fn open_connections(&self) -> usize {
        // Each has a share of it, and the accept loop one to give.
        Arc::strong_count(&self.open) - 2
    }

    /// What has been received so far.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.requests).clone()
    }

    fn start(tls: Option<(Arc<Presented>, Option<&Issued>)>, handler: Arc<Handler>) -> Self {
        Self::serving(LOOPBACK, tls, handler, true)
    }

    fn serving(
        address: IpAddr,
        tls: Option<(Arc<Presented>, Option<&Issued>)>,
        handler: Arc<Handler>,
        record: bool,
    ) -> Self {
        let secure = tls.is_some();
        let certificate = tls.as_ref().map(|(presented, _)| Arc::clone(presented));
        let acceptor = tls.map(|(presented, clients)| acceptor(presented, clients));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let records = Arc::clone(&requests);
        let open = Arc::new(());
        let counted = Arc::clone(&open);
        let running = Running::start_at(address, move |stream| {
            let serving = serve(
                stream,
                acceptor.clone(),
                Arc::clone(&handler),
                record.then(|| Arc::clone(&records)),
            );
            let open = Arc::clone(&counted);
            async move {
                let end = serving.await;
                drop(open);
                end
            }
        });
        Self {
            running,
            secure,
            requests,
            open,
            certificate,
        }
    }
}

impl Running {
    /// Serves each connection with a task.
    pub(crate) fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::start_at(LOOPBACK, serve)
    }

    fn start_at<F>(address: IpAddr, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind((address, 0)).expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("sockets can be non-blocking");
        let address = listener.local_addr().expect("the socket is bound");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be built");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("the socket is a listener");
                let accepting = async {
                    let mut connections = JoinSet::new();
                    loop {
                        if let Ok((stream, _)) = listener.accept().await {
                            // As servers do: a small answer must not wait for an acknowledgement.
                            stream.set_nodelay(true).ok();
                            connections.spawn(serve(stream));
                        }
                        while connections.try_join_next().is_some() {}
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
            // A handler that still blocks must not keep the test from ending.
            runtime.shutdown_background();
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A handler's panic has closed its connection, which the test has seen.
            drop(thread.join());
        }
    }
}

/// The certificate shown at the next handshake.
#[derive(Debug)]
struct Presented(Mutex<Arc<CertifiedKey>>);

impl Presented {
    fn new(leaf: &Issued) -> Arc<Self> {
        let key = certified(leaf.chain(), leaf);
        Arc::new(Self(Mutex::new(key)))
    }

    fn present(&self, chain: Vec<rustls_pki_types::CertificateDer<'static>>, leaf: &Issued) {
        *locked(&self.0) = certified(chain, leaf);
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&locked(&self.0)))
    }
}

fn certified(
    chain: Vec<rustls_pki_types::CertificateDer<'static>>,
    leaf: &Issued,
) -> Arc<CertifiedKey> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(leaf.key());
    Arc::new(CertifiedKey::new(chain, key.expect("the key is one")))
}

fn acceptor(presented: Arc<Presented>, clients: Option<&Issued>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS");
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots
                .add(authority.der().clone())
                .expect("the authority is a root");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.expect("there is a root"))
        }
    };
    let mut config = config.with_cert_resolver(presented);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    handler: Arc<Handler>,
    records: Option<Arc<Mutex<Vec<Request>>>>,
) -> io::Result<()> {
    let records = records.as_deref();
    match acceptor {
        None => answer(stream, None, &handler, records).await,
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            let certificates = stream.get_ref().1.peer_certificates();
            let client = certificates.and_then(|chain| Some(chain.first()?.to_vec()));
            answer(stream, client, &handler, records).await
        }
    }
}

async fn answer<S>(
    mut io: S,
    client: Option<Vec<u8>>,
    handler: &Arc<Handler>,
    records: Option<&Mutex<Vec<Request>>>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut waiting = Vec::new();
    loop {
        let mut request = match read_request(&mut io, &mut waiting).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => {
                let text = format!("HTTP/1.1 400 {error}\r\nContent-Length: 0\r\n\r\n");
                return io.write_all(text.as_bytes()).await;
            }
        };
        request.client_certificate.clone_from(&client);
        if let Some(records) = records {
            locked(records).push(request.clone());
        }
        let handler = Arc::clone(handler);
        let head_only = request.method == "HEAD";
        // Handlers of tests may block; other connections must not wait for them.
        let reply = tokio::task::spawn_blocking(move || handler(&request)).await;
        let reply = reply.map_err(io::Error::other)?;
        match reply {
            Reply::Answer {
                status,
                headers,
                body,
            } => {
                let length = (status != 204 && status >= 200)
                    .then(|| ("Content-Length".to_owned(), body.len().to_string()));
                let fields: String = headers
                    .iter()
                    .chain(&length)
                    .map(|(name, value)| format!("{name}: {value}\r\n"))
                    .collect();
                let mut bytes = format!("HTTP/1.1 {status} Scripted\r\n{fields}\r\n").into_bytes();
                if !head_only {
                    bytes.extend(body);
                }
                io.write_all(&bytes).await?;
                io.flush().await?;
            }
            Reply::CutShort {
                status,
                promised,
                body,
            } => {
                let text =
                    format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {promised}\r\n\r\n");
                io.write_all(text.as_bytes()).await?;
                io.write_all(&body).await?;
                return io.flush().await;
            }
            Reply::Close => return Ok(()),
            Reply::Stall => std::future::pending().await,
            Reply::Raw(bytes) => {
                io.write_all(&bytes).await?;
                return io.shutdown().await;
            }
            Reply::Drip {
                head,
                piece,
                pause,
                times,
            } => {
                io.write_all(&head).await?;
                for _ in 0..times {
                    io.flush().await?;
                    tokio::time::sleep(pause).await;
                    io.write_all(&piece).await?;
                }
                return io.shutdown().await;
            }
        }
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
