//! Request bodies that nobody wants any more.
//!
//! A server that answers and closes while the client still writes makes the client see a reset
//! connection in place of the answer. So a refused upload is read to its end and thrown away, as far
//! as that is cheap.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;

/// Bytes of a refused upload that are still read.
pub(super) const READ_ON: u64 = 256 << 20;
/// How long.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Reads what is left of a body, within bounds.
pub(super) async fn discard(body: Body) {
    let mut stream = body.into_data_stream();
    let mut left = READ_ON;
    let read = async {
        while let Some(Ok(chunk)) = stream.next().await {
            let Some(rest) = left.checked_sub(chunk.len() as u64) else {
                return;
            };
            left = rest;
        }
    };
    // Whoever sends slower than that has to live with the reset.
    drop(tokio::time::timeout(PATIENCE, read).await);
}
