//! Request bodies: made anew for each attempt, with a known length unless they still grow, and a signal once sent.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{oneshot, watch};
use tokio_util::io::ReaderStream;

use super::{Body, CallError, Growth};

/// Bytes read from a file at once.
const BLOCK: usize = 256 * 1024;

/// A body on its way. Dropping it, sent or not, fires the receiver made with it: the response
/// header's timeout counts from there, as in Go, so that a large upload may take its time.
pub(super) struct Upload {
    content: BoxBody<Bytes, io::Error>,
    /// Unknown while it grows.
    length: Option<u64>,
    sent: Option<oneshot::Sender<()>>,
}

/// An upload with what has to be told about it.
pub(super) struct Prepared {
    pub(super) upload: Upload,
    pub(super) content_type: Option<String>,
    pub(super) sent: oneshot::Receiver<()>,
}

impl Body {
    pub(super) async fn prepare(&self) -> Result<Prepared, CallError> {
        let (content, length, content_type) = match self {
            Self::Empty => (in_memory(Bytes::new()), Some(0), None),
            Self::Bytes(bytes, content_type) => (
                in_memory(bytes.clone()),
                Some(bytes.len() as u64),
                Some((*content_type).to_owned()),
            ),
            Self::File { path, content_type } => {
                let (content, length) = file(path, Bytes::new(), Bytes::new()).await?;
                (content, Some(length), Some((*content_type).to_owned()))
            }
            Self::MultipartFile {
                file_name,
                path,
                growth,
            } => {
                let boundary = uuid::Uuid::new_v4().simple().to_string();
                let (before, after) = multipart_frame(&boundary, file_name);
                let (before, after) = (before.into(), after.into());
                let growing = growth.as_ref().filter(|growth| !growth.borrow().complete);
                let (content, length) = match growing {
                    Some(growth) => (
                        growing_file(path, growth.clone(), before, after).await?,
                        None,
                    ),
                    None => {
                        let (content, length) = file(path, before, after).await?;
                        (content, Some(length))
                    }
                };
                let content_type = format!("multipart/form-data; boundary={boundary}");
                (content, length, Some(content_type))
            }
        };
        let (sender, sent) = oneshot::channel();
        Ok(Prepared {
            upload: Upload {
                content,
                length,
                sent: Some(sender),
            },
            content_type,
            sent,
        })
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = ready!(Pin::new(&mut self.content).poll_frame(context));
        if frame.is_none() {
            self.sent = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

fn in_memory(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// A file between two pieces of text. The length is what the file had when it was opened: bytes
/// that appear later are not sent, bytes that are gone break the upload.
async fn file(
    path: &Path,
    before: Bytes,
    after: Bytes,
) -> Result<(BoxBody<Bytes, io::Error>, u64), CallError> {
    let (file, length) = open(path).await?;
    let total = before.len() as u64 + length + after.len() as u64;
    let content = ReaderStream::with_capacity(file.take(length), BLOCK);
    Ok((between(before, content, after), total))
}

/// The same of a file that is still being written, to its end.
async fn growing_file(
    path: &Path,
    growth: watch::Receiver<Growth>,
    before: Bytes,
    after: Bytes,
) -> Result<BoxBody<Bytes, io::Error>, CallError> {
    let (file, _) = open(path).await?;
    let start = (file, growth, 0);
    let content = stream::try_unfold(start, |(mut file, mut growth, sent)| async move {
        let now = growth.wait_for(|now| now.written > sent || now.complete);
        let gone = |_| io::Error::other("what writes the file has given up");
        let Growth { written, .. } = *now.await.map_err(gone)?;
        if written <= sent {
            return Ok(None);
        }
        let length = (written - sent).min(BLOCK as u64);
        let mut block = BytesMut::with_capacity(BLOCK);
        let count = (&mut file).take(length).read_buf(&mut block).await? as u64;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((block.freeze(), (file, growth, sent + count))))
    });
    Ok(between(before, content, after))
}

/// Opens a regular file and tells its length.
async fn open(path: &Path) -> Result<(File, u64), CallError> {
    let unreadable =
        |error: io::Error| CallError::Client(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    Ok((file, metadata.len()))
}

fn between(
    before: Bytes,
    content: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
    after: Bytes,
) -> BoxBody<Bytes, io::Error> {
    let start = stream::iter([Ok(before)]);
    let end = stream::iter([Ok(after)]);
    let frames = start.chain(content).chain(end).map_ok(Frame::data);
    BodyExt::boxed(StreamBody::new(frames))
}

/// Text before and after the content of the part `file`.
fn multipart_frame(boundary: &str, file_name: &str) -> (String, String) {
    let name = file_name
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace(['\r', '\n'], "_");
    (
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        ),
        format!("\r\n--{boundary}--\r\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collected(body: Body) -> (Vec<u8>, SizeHint, Option<String>) {
        let prepared = body.prepare().await.unwrap();
        let hint = HttpBody::size_hint(&prepared.upload);
        let bytes = prepared.upload.collect().await.unwrap().to_bytes();
        assert!(prepared.sent.await.is_err(), "the end must be signalled");
        (bytes.to_vec(), hint, prepared.content_type)
    }

    #[tokio::test]
    async fn lengths_told_are_lengths_sent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.zip");
        std::fs::write(&path, vec![7; 3 * BLOCK + 5]).unwrap();
        let bodies = [
            Body::Empty,
            Body::Bytes(Bytes::from_static(b"{}"), "application/json"),
            Body::File {
                path: path.clone(),
                content_type: "application/octet-stream",
            },
            Body::MultipartFile {
                file_name: "a\"\r\n.zip".to_owned(),
                path,
                growth: None,
            },
        ];
        for body in bodies {
            let (bytes, hint, content_type) = collected(body).await;
            assert_eq!(hint.exact(), Some(bytes.len() as u64), "{content_type:?}");
        }
    }

    #[tokio::test]
    async fn a_growing_file_is_sent_to_its_end_or_broken_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.zip");
        let mut file = std::fs::File::create(&path).unwrap();
        let (told, growth) = watch::channel(Growth::default());
        let body = Body::MultipartFile {
            file_name: "a.zip".to_owned(),
            path,
            growth: Some(growth),
        };
        let mut upload = body.prepare().await.unwrap().upload;
        assert_eq!(upload.size_hint().exact(), None);
        // What is in the file and not told yet is not sent.
        io::Write::write_all(&mut file, &[7; BLOCK + 9]).unwrap();
        let mut next = async || upload.frame().await.map(|frame| frame.unwrap().into_data());
        next().await.expect("the head of the form").unwrap();
        let pieces = [(4, false), (BLOCK + 4, false), (BLOCK + 9, true)];
        let mut sent = 0;
        for (written, complete) in pieces {
            let written = written as u64;
            told.send_replace(Growth { written, complete });
            while sent < written {
                sent += next().await.expect("a piece").unwrap().len() as u64;
            }
            assert_eq!(sent, written);
        }
        assert!(next().await.unwrap().unwrap().ends_with(b"--\r\n"));
        assert!(next().await.is_none());
        // From now on it is a file like any other.
        let (bytes, hint, _) = collected(body.clone()).await;
        assert_eq!(hint.exact(), Some(bytes.len() as u64));

        told.send_replace(Growth::default());
        let upload = body.prepare().await.unwrap().upload;
        drop(told);
        let error = upload.collect().await.unwrap_err();
        assert_eq!(error.to_string(), "what writes the file has given up");
    }

    #[test]
    fn file_names_cannot_leave_their_header() {
        let (before, after) = multipart_frame("B", "x\"\r\nEvil: 1\\");
        assert_eq!(
            before,
            "--B\r\nContent-Disposition: form-data; name=\"file\"; \
             filename=\"x\\\"__Evil: 1\\\\\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        assert_eq!(after, "\r\n--B--\r\n");
    }

    #[tokio::test]
    async fn a_missing_file_is_an_error_of_the_client() {
        let body = Body::File {
            path: "/nonexistent/file".into(),
            content_type: "text/plain",
        };
        let error = body.prepare().await.err().unwrap();
        assert!(
            error
                .to_string()
                .starts_with("client error: cannot read /nonexistent/file"),
            "{error}"
        );
    }
}
