//! An HTTP proxy that tunnels by `CONNECT` to where the test says a name leads.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::http_message::{Request, read_request};
use crate::server::{Running, locked};

/// A running proxy; it ends when dropped.
pub struct FakeProxy {
    running: Running,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeProxy {
    /// Tunnels to the named `host:port`s only; others are refused with 502. With `authorization`, a
    /// request whose `Proxy-Authorization` differs is refused with 407.
    pub fn start(routes: &[(&str, SocketAddr)], authorization: Option<&str>) -> Self {
        let routes: HashMap<_, _> = routes
            .iter()
            .map(|(name, address)| ((*name).to_owned(), *address))
            .collect();
        let routes = Arc::new(routes);
        let authorization = authorization.map(ToOwned::to_owned);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let records = Arc::clone(&requests);
        let running = Running::start(move |stream| {
            tunnel(
                stream,
                Arc::clone(&routes),
                authorization.clone(),
                Arc::clone(&records),
            )
        });
        Self { running, requests }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// What it was asked for.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.requests).clone()
    }
}

async fn tunnel(
    mut client: TcpStream,
    routes: Arc<HashMap<String, SocketAddr>>,
    authorization: Option<String>,
    records: Arc<Mutex<Vec<Request>>>,
) -> io::Result<()> {
    let mut waiting = Vec::new();
    let Some(request) = read_request(&mut client, &mut waiting).await? else {
        return Ok(());
    };
    locked(&records).push(request.clone());
    let authorized =
        authorization.is_none_or(|wanted| request.header("proxy-authorization") == wanted);
    let route = routes
        .get(&request.target)
        .filter(|_| request.method == "CONNECT");
    let (true, Some(route)) = (authorized, route) else {
        let status = if authorized {
            "502 Bad Gateway"
        } else {
            "407 Proxy Authentication Required"
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        return client.write_all(answer.as_bytes()).await;
    };
    let mut server = TcpStream::connect(route).await?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    server.write_all(&waiting).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
