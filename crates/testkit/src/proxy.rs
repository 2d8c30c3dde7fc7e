//! Proxies that lead to where the test says: by HTTP's `CONNECT`, and by SOCKS 5.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

/// A running SOCKS 5 proxy (RFC 1928, with RFC 1929's password); it ends when dropped.
pub struct FakeSocks {
    running: Running,
    targets: Arc<Mutex<Vec<String>>>,
}

impl FakeSocks {
    /// Demands user and password, and leads every name to one address.
    pub fn start(user: &str, password: &str, destination: SocketAddr) -> Self {
        let credentials = [user.as_bytes().to_vec(), password.as_bytes().to_vec()];
        let targets = Arc::new(Mutex::new(Vec::new()));
        let records = Arc::clone(&targets);
        let running = Running::start(move |stream| {
            let records = Arc::clone(&records);
            socks(stream, credentials.clone(), destination, records)
        });
        Self { running, targets }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// The `host:port`s it was asked for; names were not looked up before.
    pub fn targets(&self) -> Vec<String> {
        locked(&self.targets).clone()
    }
}

async fn socks(
    mut client: TcpStream,
    credentials: [Vec<u8>; 2],
    destination: SocketAddr,
    records: Arc<Mutex<Vec<String>>>,
) -> io::Result<()> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting).await?;
    let mut methods = vec![0; greeting[1].into()];
    client.read_exact(&mut methods).await?;
    if greeting[0] != 5 || !methods.contains(&2) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, 2]).await?;
    let version = client.read_u8().await?;
    let given = [
        read_short(&mut client).await?,
        read_short(&mut client).await?,
    ];
    if version != 1 || given != credentials {
        return client.write_all(&[1, 1]).await;
    }
    client.write_all(&[1, 0]).await?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    if request != [5, 1, 0, 3] {
        return client.write_all(&[5, 8, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    }
    let name = read_short(&mut client).await?;
    let port = client.read_u16().await?;
    let name = String::from_utf8_lossy(&name).into_owned();
    locked(&records).push(format!("{name}:{port}"));
    let mut server = TcpStream::connect(destination).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A text with its length in one byte before it.
async fn read_short(io: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut text = vec![0; io.read_u8().await?.into()];
    io.read_exact(&mut text).await?;
    Ok(text)
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
