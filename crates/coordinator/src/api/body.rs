//! Request bodies that nobody wants any more.
//!
//! A server that answers and closes while the client still writes makes the client see a reset
//! connection in place of the answer. So a refused upload is read to its end and thrown away, as far
//! as that is cheap.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};

/// Bytes of a refused upload that are still read.
pub(super) const READ_ON: u64 = 256 << 20;
/// How long.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Reads what is left of a body, within bounds.
pub(super) async fn discard(mut body: Body) {
    let mut left = READ_ON;
    let read = async {
        while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
        {
            let length = frame.data_ref().map_or(0, axum::body::Bytes::len);
            let Some(rest) = left.checked_sub(length as u64) else {
                return;
            };
            left = rest;
        }
    };
    // Whoever sends slower than that has to live with the reset.
    drop(tokio::time::timeout(PATIENCE, read).await);
}
