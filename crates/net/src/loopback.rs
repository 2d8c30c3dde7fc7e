//! Plain connections on this machine's loopback: the two ends of what is carried into a container over its agent's stream
//! (`executor::agent`). What goes over them has TLS of its own.

use std::io;
use std::net::Ipv4Addr;

use tokio::net::{TcpListener, TcpStream};

/// Connects to a port.
///
/// # Errors
///
/// When nobody listens there.
pub async fn connect_loopback(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A port that programs on this machine, or in this container, connect to.
#[derive(Debug)]
pub struct LoopbackListener(TcpListener);

impl LoopbackListener {
    /// Listens.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn bind(port: u16) -> io::Result<Self> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map(Self)
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// When the system has none to give.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
