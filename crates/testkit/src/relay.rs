//! Carries one request to another server over TLS, whole or in part: for a test that stands between two programs
//! and lets go of one of them at a moment of its choice.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;

use crate::http_message::Request;
use crate::pki::Issued;
use crate::server::Reply;

/// Where requests are carried to, and whom to trust there.
#[derive(Clone)]
pub struct Relay {
    to: SocketAddr,
    config: Arc<ClientConfig>,
}

/// A request that was sent and not answered yet.
pub struct Sent {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Relay {
    /// To a server whose certificate `root` has issued for its address.
    ///
    /// # Panics
    ///
    /// When `root` is no authority.
    pub fn new(to: SocketAddr, root: &Issued) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            to,
            config: Arc::new(config),
        }
    }

    /// Sends the request; of its body no more than `bytes`, though the head promises it whole.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn send(&self, request: &Request, bytes: usize) -> io::Result<Sent> {
        let name = ServerName::from(self.to.ip());
        let tls = ClientConnection::new(Arc::clone(&self.config), name);
        let stream = TcpStream::connect(self.to)?;
        stream.set_nodelay(true)?;
        let mut stream = StreamOwned::new(tls.map_err(io::Error::other)?, stream);
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target).into_bytes();
        for (name, value) in &request.headers {
            if !["connection", "content-length", "transfer-encoding", "host"]
                .contains(&name.as_str())
            {
                head.extend(format!("{name}: ").as_bytes());
                head.extend(value.as_bytes());
                head.extend(b"\r\n");
            }
        }
        let length = request.body.len();
        write!(
            head,
            "host: {}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n",
            self.to
        )?;
        stream.write_all(&head)?;
        stream.write_all(&request.body[..bytes.min(length)])?;
        stream.flush()?;
        Ok(Sent { stream })
    }
}

impl Sent {
    /// The connection, to be shut from elsewhere.
    ///
    /// # Errors
    ///
    /// No more file descriptors.
    pub fn connection(&self) -> io::Result<TcpStream> {
        self.stream.get_ref().try_clone()
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// It did not come whole.
    pub fn answer(mut self) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            // Its length is known; many servers close without a word.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let body = bytes.split_off(end.ok_or(io::ErrorKind::UnexpectedEof)? + 4);
        let head = String::from_utf8(bytes).map_err(io::Error::other)?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no status line"))?;
        let (mut headers, mut length) = (Vec::new(), None);
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok(),
                "transfer-encoding" => return Err(io::Error::other("an answer in chunks")),
                "connection" => {}
                _ => headers.push((name.to_owned(), value.to_owned())),
            }
        }
        if length.is_some_and(|length: usize| length != body.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Reply::Answer {
            status,
            headers,
            body,
        })
    }
}
