//! The answer: its header at once, its body in bounded pieces.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use courser_trust::VerifiedChains;
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;
use url::Url;

use super::failure::describe_layers;
use super::usage::Occupied;
use super::{CallError, shown_url};

/// Decompressed bytes handed out at once.
const PIECE: usize = 64 * 1024;

/// The answer to a call. The body is read once, bounded.
pub struct Answer {
    /// Status after retries.
    pub status: StatusCode,
    /// Headers; without `Content-Encoding` and `Content-Length` when gzip was undone.
    pub headers: HeaderMap,
    /// `X-Request-Id` of the answer, else the one sent.
    pub correlation_id: String,
    /// Whether any attempt was answered with a status that is retried ("pushed back").
    pub pushed_back: bool,
    /// Every chain with which the server was accepted. `None` without TLS.
    pub verified_chains: Option<Arc<VerifiedChains>>,
    /// Final URL after redirects.
    pub url: Url,
    pub(super) method: Method,
    pub(super) content: Content,
    /// Dropped after the body.
    pub(super) _occupied: Option<Occupied>,
    /// End of the attempt's total timeout.
    pub(super) deadline: Instant,
}

/// The body on the wire, and the decoder it goes through.
pub(super) struct Content {
    wire: Incoming,
    gzip: Option<Box<MultiGzDecoder<Arrived>>>,
}

/// Compressed bytes that have arrived; reads would block until the next ones do.
struct Arrived {
    bytes: Bytes,
    started: bool,
    ended: bool,
}

impl Answer {
    /// PEM of the certificates of every verified chain, leaf first, anchors included, deduplicated
    /// by signature (`runner-tls.md` 3.2). `None` without TLS.
    pub fn verified_chain_pem(&self) -> Option<String> {
        self.verified_chains.as_ref().map(|chains| chains.to_pem())
    }

    /// The whole body, at most `limit` bytes; more is an error.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, CallError> {
        let mut body = Vec::new();
        while let Some(piece) = self.chunk().await? {
            if body.len() + piece.len() > limit {
                return Err(CallError::TooLarge {
                    url: shown_url(&self.url),
                    limit,
                });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.into())
    }

    /// The next piece of the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        let piece = tokio::time::timeout_at(self.deadline, self.content.piece()).await;
        let message = match piece {
            Ok(Ok(piece)) => return Ok(piece),
            Ok(Err(message)) => message,
            Err(_) => "timeout while reading body".to_owned(),
        };
        Err(CallError::Network {
            method: self.method.clone(),
            url: shown_url(&self.url),
            message,
        })
    }
}

impl Content {
    /// The body of an answer. With `gunzip`, a gzip encoding is undone and its headers removed.
    pub(super) fn new(wire: Incoming, headers: &mut HeaderMap, gunzip: bool) -> Self {
        let encoded = headers
            .get(header::CONTENT_ENCODING)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let gzip = (gunzip && encoded).then(|| {
            headers.remove(header::CONTENT_ENCODING);
            headers.remove(header::CONTENT_LENGTH);
            Box::new(MultiGzDecoder::new(Arrived {
                bytes: Bytes::new(),
                started: false,
                ended: false,
            }))
        });
        Self { wire, gzip }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, String> {
        let Some(gzip) = &mut self.gzip else {
            return next_data(&mut self.wire).await;
        };
        let mut piece = vec![0; PIECE];
        loop {
            match gzip.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(length) => {
                    piece.truncate(length);
                    return Ok(Some(piece.into()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let arrived = gzip.get_mut();
                    match next_data(&mut self.wire).await? {
                        Some(bytes) => {
                            arrived.bytes = bytes;
                            arrived.started = true;
                        }
                        // An empty body (of HEAD, of 204) is no gzip stream, and no error.
                        None if !arrived.started => return Ok(None),
                        None => arrived.ended = true,
                    }
                }
                Err(error) => return Err(format!("gzip: {error}")),
            }
        }
    }
}

async fn next_data(wire: &mut Incoming) -> Result<Option<Bytes>, String> {
    while let Some(frame) = wire.frame().await {
        let frame = frame.map_err(|error| describe_layers(&error))?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

impl Read for Arrived {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(target)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Arrived {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.bytes.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&self.bytes)
    }

    fn consume(&mut self, length: usize) {
        self.bytes.advance(length);
    }
}
