//! Whether something answers on a port.

use std::time::Duration;

use futures_util::future::select_all;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Between two tries of a port, and the limit of one.
const SECOND: Duration = Duration::from_secs(1);

/// Returns when one of the TCP ports of `host` accepts a connection; all are tried at the same time, each once a second.
/// Without a port it never returns.
pub async fn await_port(host: &str, ports: &[u16]) {
    let tries = ports.iter().map(|port| Box::pin(tried(host, *port)));
    let tries: Vec<_> = tries.collect();
    if tries.is_empty() {
        return std::future::pending().await;
    }
    select_all(tries).await;
}

async fn tried(host: &str, port: u16) {
    while !matches!(
        timeout(SECOND, TcpStream::connect((host, port))).await,
        Ok(Ok(_))
    ) {
        sleep(SECOND).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_open_port_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap().port();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let limit = Duration::from_secs(60);
        assert!(
            timeout(limit, await_port("127.0.0.1", &[port, open]))
                .await
                .is_ok()
        );
        assert!(
            timeout(limit, await_port("127.0.0.1", &[port]))
                .await
                .is_err()
        );
        assert!(timeout(limit, await_port("127.0.0.1", &[])).await.is_err());
    }
}
