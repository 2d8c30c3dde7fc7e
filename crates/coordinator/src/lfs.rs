//! Git LFS downloads: the batch API, answered from the objects that the user's repository has.
//!
//! Nothing is fetched from elsewhere. What is missing is an error that names the file and the remedy.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio_util::io::ReaderStream;

use crate::git_http::FOREIGN_VARIABLES;
use crate::repository::ServedRepository;

/// Bytes of a batch request: clients ask for 100 objects at once.
pub(crate) const REQUEST_LIMIT: usize = 1 << 20;
/// Objects of a batch.
const OBJECTS: usize = 1000;
/// Longest search for the file that names a missing object.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(10);
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

#[derive(Deserialize)]
struct Batch {
    operation: String,
    objects: Vec<Wanted>,
}

#[derive(Deserialize)]
struct Wanted {
    oid: String,
    size: u64,
}

#[derive(Serialize)]
struct Answer {
    transfer: &'static str,
    objects: Vec<Object>,
    hash_algo: &'static str,
}

#[derive(Serialize)]
struct Object {
    oid: String,
    size: u64,
    authenticated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<Actions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ObjectError>,
}

#[derive(Serialize)]
struct Actions {
    download: Download,
}

#[derive(Serialize)]
struct Download {
    href: String,
    header: HashMap<&'static str, String>,
}

#[derive(Serialize)]
struct ObjectError {
    code: u16,
    message: String,
}

/// Answers `objects/batch`. Objects are at `<base>/<oid>`, for the same `Authorization`.
pub(crate) async fn batch(
    repository: &ServedRepository,
    base: &str,
    authorization: &str,
    body: &[u8],
) -> Response {
    let Ok(batch) = serde_json::from_slice::<Batch>(body) else {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "no batch request");
    };
    if batch.operation != "download" {
        return refusal(
            StatusCode::FORBIDDEN,
            "pushing to Courser's coordinator is not supported",
        );
    }
    let is_id = |wanted: &Wanted| is_oid(&wanted.oid);
    if batch.objects.len() > OBJECTS || !batch.objects.iter().all(is_id) {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "no batch of objects");
    }
    let served = repository.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let is_there = |wanted: &Wanted| {
            let file = served.lfs_object(&wanted.oid);
            let metadata = file.and_then(|file| std::fs::metadata(file).ok());
            metadata.is_some_and(|found| found.is_file() && found.len() == wanted.size)
        };
        batch.objects.into_iter().partition(is_there)
    });
    let Ok((there, missing)): Result<(Vec<Wanted>, Vec<Wanted>), _> = looked.await else {
        return refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the objects cannot be looked for",
        );
    };
    let names = names(repository, &missing).await;
    let available = there.into_iter().map(|Wanted { oid, size }| Object {
        actions: Some(Actions {
            download: Download {
                href: format!("{base}/{oid}"),
                header: HashMap::from([("Authorization", authorization.to_owned())]),
            },
        }),
        error: None,
        authenticated: true,
        oid,
        size,
    });
    let absent = missing.into_iter().map(|Wanted { oid, size }| Object {
        actions: None,
        error: Some(ObjectError {
            code: 404,
            message: explanation(names.get(&oid)),
        }),
        authenticated: true,
        oid,
        size,
    });
    let answer = Answer {
        transfer: "basic",
        objects: available.chain(absent).collect(),
        hash_algo: "sha256",
    };
    let text = serde_json::to_string(&answer).unwrap_or_default();
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response()
}

/// The bytes of one object.
pub(crate) async fn object(repository: &ServedRepository, oid: &str) -> Response {
    let missing = || refusal(StatusCode::NOT_FOUND, "there is no such object");
    let Some(path) = repository.lfs_object(oid).filter(|_| is_oid(oid)) else {
        return missing();
    };
    let Ok(file) = tokio::fs::File::open(path).await else {
        return missing();
    };
    let Ok(metadata) = file.metadata().await else {
        return missing();
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, metadata.len().to_string()),
    ];
    let body = Body::from_stream(ReaderStream::with_capacity(file, 64 << 10));
    (headers, body).into_response()
}

/// A failure in the form that clients show.
pub(crate) fn refusal(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({ "message": message }).to_string();
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
}

fn is_oid(oid: &str) -> bool {
    oid.len() == 64 && oid.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn explanation(file: Option<&String>) -> String {
    let what = file.map_or_else(
        || "this object".to_owned(),
        |file| format!("the object of {file}"),
    );
    format!("{what} is not in your repository: run \"git lfs fetch\" there, then start again")
}

/// Files of the served commit whose pointers name these objects.
async fn names(repository: &ServedRepository, missing: &[Wanted]) -> HashMap<String, String> {
    let (false, Some(commit)) = (missing.is_empty(), repository.latest()) else {
        return HashMap::new();
    };
    let mut search = Command::new("git");
    search.args(["grep", "-z", "--fixed-strings", "--max-count=1"]);
    // The user's configuration may ask for more in a line than name and match.
    search.args(["--no-line-number", "--no-column", "--no-color"]);
    for wanted in missing {
        search.args(["-e", &format!("oid sha256:{}", wanted.oid)]);
    }
    for name in FOREIGN_VARIABLES {
        search.env_remove(name);
    }
    search
        .args([&commit, "--"])
        .env("GIT_DIR", repository.git_dir())
        .current_dir(Path::new("/"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let Ok(Ok(found)) = tokio::time::timeout(SEARCH_TIMEOUT, search.output()).await else {
        return HashMap::new();
    };
    let text = String::from_utf8_lossy(&found.stdout);
    text.lines()
        .filter_map(|line| {
            let (place, pointer) = line.split_once('\0')?;
            let file = place.split_once(':')?.1;
            let oid = pointer.strip_prefix("oid sha256:")?;
            Some((oid.to_owned(), file.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::repository::Origin;

    #[tokio::test]
    async fn the_file_of_a_missing_object_is_named_whatever_the_configuration_of_git_grep() {
        let dir = tempfile::tempdir().unwrap();
        let repository = ServedRepository::create(dir.path(), &Origin::default()).unwrap();
        let config = dir.path().join("config");
        let mut config = std::fs::OpenOptions::new()
            .append(true)
            .open(config)
            .unwrap();
        write!(
            config,
            "[grep]\n\tlineNumber = true\n\tcolumn = true\n[color]\n\tgrep = always\n"
        )
        .unwrap();
        let git = |arguments: &[&str], input: &str| {
            let mut command = std::process::Command::new("git");
            let names = ["AUTHOR", "COMMITTER"];
            for name in names {
                command.env(format!("GIT_{name}_NAME"), "a");
                command.env(format!("GIT_{name}_EMAIL"), "a@b");
            }
            let mut child = command
                .args(arguments)
                .env("GIT_DIR", repository.git_dir())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(input.as_bytes()).unwrap();
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let oid = "ab".repeat(32);
        let pointer =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 3\n");
        let blob = git(&["hash-object", "-w", "--stdin"], &pointer);
        let tree = git(&["mktree"], &format!("100644 blob {blob}\tbig.bin\n"));
        let commit = git(&["commit-tree", &tree, "-m", "first"], "");
        repository.set_ref("refs/heads/main", &commit).unwrap();
        let missing = [Wanted {
            oid: oid.clone(),
            size: 3,
        }];
        let names = names(&repository, &missing).await;
        assert_eq!(names.get(&oid).map(String::as_str), Some("big.bin"));
    }
}
