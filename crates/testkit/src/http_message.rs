//! Just enough HTTP/1.1 to be strict about requests and to send broken answers on purpose.

use std::io;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// More than any request of a test.
const LARGEST_HEAD: usize = 64 * 1024;

/// Read at once.
const BLOCK: usize = 64 * 1024;

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `CONNECT`, …
    pub method: String,
    /// The request target as sent: a path, an absolute URL, or `host:port`.
    pub target: String,
    /// Path without query.
    pub path: String,
    /// What follows the `?`, if there is one.
    pub query: Option<String>,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, dechunked.
    pub body: Vec<u8>,
    /// DER of the client certificate that was presented.
    pub client_certificate: Option<Vec<u8>>,
}

impl Request {
    /// The text of a header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or("(not text)"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none: a client that says JSON has to send it.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// Reads the next request. `None`: the peer is done. An error: it does not speak HTTP/1.1 properly.
pub(crate) async fn read_request<S>(
    io: &mut S,
    waiting: &mut Vec<u8>,
) -> io::Result<Option<Request>>
where
    S: AsyncRead + Unpin,
{
    let Some(head) = read_head(io, waiting).await? else {
        return Ok(None);
    };
    let text = String::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = text.split("\r\n");
    let first: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let &[method, target, "HTTP/1.1"] = first.as_slice() else {
        return Err(io::Error::other("no HTTP/1.1 request line"));
    };
    let mut headers = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| io::Error::other("header without colon"))?;
        headers.append(
            HeaderName::try_from(name).map_err(io::Error::other)?,
            HeaderValue::try_from(value.trim()).map_err(io::Error::other)?,
        );
    }
    if headers.get_all("host").iter().count() != 1 {
        return Err(io::Error::other("not exactly one Host header"));
    }
    let body = read_body(io, waiting, &headers).await?;
    let origin_form = target
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').map(|slash| &rest[slash..]))
        .unwrap_or(target);
    let (path, query) = match origin_form.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (origin_form, None),
    };
    Ok(Some(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        path: path.to_owned(),
        query,
        headers,
        body,
        client_certificate: None,
    }))
}

async fn read_head<S>(io: &mut S, waiting: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(end) = waiting.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = waiting.split_off(end + 4);
            let mut head = std::mem::replace(waiting, rest);
            head.truncate(end);
            return Ok(Some(head));
        }
        // A TLS client on a plain port would wait for ever to be told so.
        if waiting
            .first()
            .is_some_and(|byte| !byte.is_ascii_uppercase())
        {
            return Err(io::Error::other("no method"));
        }
        if waiting.len() > LARGEST_HEAD {
            return Err(io::Error::other("the request head is too large"));
        }
        if more(io, waiting).await? == 0 {
            return match waiting.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
    }
}

async fn read_body<S>(io: &mut S, waiting: &mut Vec<u8>, headers: &HeaderMap) -> io::Result<Vec<u8>>
where
    S: AsyncRead + Unpin,
{
    let length = headers.get("content-length");
    let chunked = headers.get("transfer-encoding");
    match (length, chunked) {
        (None, None) => Ok(Vec::new()),
        (Some(length), None) => {
            let length = length.to_str().map_err(io::Error::other)?;
            let length = length.parse().map_err(io::Error::other)?;
            take(io, waiting, length).await
        }
        (None, Some(coding)) if coding == "chunked" => {
            let mut body = Vec::new();
            loop {
                let size = take_line(io, waiting).await?;
                let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
                body.extend(take(io, waiting, size).await?);
                if !take_line(io, waiting).await?.is_empty() {
                    return Err(io::Error::other("chunk longer than its size"));
                }
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        _ => Err(io::Error::other("two framings of one body")),
    }
}

async fn take_line<S>(io: &mut S, waiting: &mut Vec<u8>) -> io::Result<String>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(end) = waiting.windows(2).position(|two| two == b"\r\n") {
            let rest = waiting.split_off(end + 2);
            let mut line = std::mem::replace(waiting, rest);
            line.truncate(end);
            return String::from_utf8(line).map_err(io::Error::other);
        }
        if more(io, waiting).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn take<S>(io: &mut S, waiting: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>>
where
    S: AsyncRead + Unpin,
{
    waiting.reserve(length.saturating_sub(waiting.len()));
    while waiting.len() < length {
        if more(io, waiting).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let rest = waiting.split_off(length);
    Ok(std::mem::replace(waiting, rest))
}

/// How many bytes came; none at the end.
async fn more<S>(io: &mut S, waiting: &mut Vec<u8>) -> io::Result<usize>
where
    S: AsyncRead + Unpin,
{
    waiting.reserve(BLOCK);
    io.read_buf(waiting).await
}
