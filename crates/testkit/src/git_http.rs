//! Repositories over HTTP, served by Git itself.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::{Reply, Request};

/// Answers for the repositories below `root`, whoever asks.
pub fn serve(root: &Path, request: &Request) -> Reply {
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", request.query.as_deref().unwrap_or_default())
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", request.header("content-type"))
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding"))
        .env("GIT_PROTOCOL", request.header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start git http-backend");
    let mut input = backend.stdin.take().expect("piped");
    input.write_all(&request.body).expect("write the body");
    drop(input);
    let output = backend.wait_with_output().expect("its answer").stdout;
    let mut parts = output.windows(4);
    let end = parts.position(|bytes| bytes == b"\r\n\r\n");
    let end = end.expect("a head");
    let head = String::from_utf8_lossy(&output[..end]);
    let headers: Vec<(&str, &str)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let status = headers.iter().find(|(name, _)| *name == "Status");
    let status = status.and_then(|(_, value)| value.get(..3)?.parse().ok());
    let mut reply = Reply::with("", status.unwrap_or(200), &output[end + 4..]);
    if let Reply::Answer { headers: own, .. } = &mut reply {
        *own = headers
            .into_iter()
            .filter(|(name, _)| *name != "Status")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
    }
    reply
}
