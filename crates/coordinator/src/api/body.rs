//! Request bodies that nobody wants any more.
//!
//! A server that answers and closes while the client still writes makes the client see a reset
//! connection in place of the answer. So a refused upload is read to its end and thrown away, as far
//! as that is cheap.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Multipart;
use tokio::time::timeout;

/// Bytes of a refused upload that are still read.
const READ_ON: usize = 256 << 20;
/// How long in all, and how long for the next bytes: a sender who has stopped is waiting for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_millis(300);

/// Reads what is left of a body, within bounds.
pub(super) async fn discard(mut body: Body) {
    let next = async move |body: &mut Body| {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        Some(frame.ok()?.data_ref().map_or(0, Bytes::len))
    };
    let read = async {
        let mut left = READ_ON;
        while let Ok(Some(length)) = timeout(IDLE, next(&mut body)).await {
            let Some(rest) = left.checked_sub(length) else {
                return;
            };
            left = rest;
        }
    };
    // Whoever sends slower than that has to live with the reset.
    drop(timeout(PATIENCE, read).await);
}

/// Reads on to a form's end, within the same bounds.
pub(super) async fn discard_form(form: &mut Multipart) {
    let read = async {
        let mut left = READ_ON;
        while let Ok(Ok(Some(mut field))) = timeout(IDLE, form.next_field()).await {
            while let Ok(Ok(Some(chunk))) = timeout(IDLE, field.chunk()).await {
                let Some(rest) = left.checked_sub(chunk.len()) else {
                    return;
                };
                left = rest;
            }
        }
    };
    drop(timeout(PATIENCE, read).await);
}
