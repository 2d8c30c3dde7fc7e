//! Git over HTTPS: the smart protocol's two reads, answered by `git upload-pack`.
//!
//! A job token opens the repository of its project and the submodules of that, and nothing else. LFS objects
//! are module `lfs`. Answers are kept by the bytes of
//! the request, so that the jobs of a pipeline, which all ask the same, cost one pack.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::io::ReaderStream;

use crate::api::Api;
use crate::lfs;
use crate::repository::ServedRepository;
use crate::store::private_dir;

/// Bytes of a request, packed or unpacked: wants and haves of a large repository are a few MiB.
const REQUEST_LIMIT: usize = 32 << 20;
/// `git upload-pack` processes at once.
const PROCESSES: usize = 4;
/// Answers kept.
const KEPT_ANSWERS: usize = 256;
/// Bytes of the answers kept; a larger one is kept until the next that is made.
const KEPT_BYTES: u64 = 1 << 30;
/// Variables of a surrounding Git process (a hook that calls `courser exec`) that would lead
/// `git upload-pack` to another repository.
pub(crate) const FOREIGN_VARIABLES: [&str; 6] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
];

/// Answers of `git upload-pack`, as files in the repository's own directory.
pub(crate) struct PackCache {
    answers: Mutex<HashMap<[u8; 32], Answer>>,
    processes: Semaphore,
}

/// Empty while it is being made.
type Answer = Arc<OnceCell<Kept>>;

struct Kept {
    path: PathBuf,
    bytes: u64,
}

impl Default for PackCache {
    fn default() -> Self {
        Self {
            answers: Mutex::default(),
            processes: Semaphore::new(PROCESSES),
        }
    }
}

/// What a path below a project asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    /// `info/refs?service=git-upload-pack`.
    Advertisement,
    /// `git-upload-pack`.
    UploadPack,
    /// Any way of pushing.
    ReceivePack,
}

/// What a URL means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked<'a> {
    /// `group/project`.
    project: &'a str,
    /// Number of the submodule below it.
    submodule: Option<usize>,
    what: What<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What<'a> {
    Git(Service),
    /// `info/lfs/objects/batch`.
    LfsBatch,
    /// `info/lfs/objects/<oid>`, as the batch's answer says.
    LfsObject(&'a str),
}

/// Between the path of a project and the number of a submodule. No path of a project holds it.
const SUBMODULES: &str = "/-/submodules/";

/// Path below the server of a submodule, for a job whose `url` has or has no `.git` at its end: what Git and
/// Git LFS append to the one has to fit the other.
pub(crate) fn submodule_path(project: &str, number: usize, url: &str) -> String {
    let suffix = if url.ends_with(".git") { ".git" } else { "" };
    format!("{project}{SUBMODULES}{number}{suffix}")
}

/// A refusal in the plain text that Git shows.
struct GitRefusal(StatusCode, &'static str);

impl IntoResponse for GitRefusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, self.1).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            let realm = HeaderValue::from_static("Basic realm=\"Courser\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}

const FORBIDDEN: GitRefusal = GitRefusal(
    StatusCode::FORBIDDEN,
    "this is not the token of a running job of this project\n",
);
const INTERNAL: GitRefusal = GitRefusal(
    StatusCode::INTERNAL_SERVER_ERROR,
    "git upload-pack failed\n",
);
const NOT_FOUND: GitRefusal = GitRefusal(StatusCode::NOT_FOUND, "not found\n");
const NO_SUCH_PROJECT: GitRefusal = GitRefusal(
    StatusCode::NOT_FOUND,
    "there is no such project here. A submodule with a relative URL is served where it is checked out: \
     git submodule update --init --recursive\n",
);

/// Everything outside `/api`.
pub(crate) async fn serve(State(api): State<Api>, request: Request) -> Response {
    match answer(&api, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn answer(api: &Api, request: Request) -> Result<Response, GitRefusal> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let uri = request.uri().clone();
    let asked = parse(request.method(), uri.path(), &query).ok_or(NOT_FOUND)?;
    let path = asked.project.to_owned();
    let token = basic_password(request.headers()).ok_or(GitRefusal(
        StatusCode::UNAUTHORIZED,
        "a job token is required: user gitlab-ci-token\n",
    ))?;
    let project = api
        .queue
        .call(move |queue| {
            let id = queue.project_of_token(&token).ok_or(FORBIDDEN)?;
            let own = queue.project(id).filter(|project| project.path == path);
            match own {
                Some(project) => Ok(project.clone()),
                None if queue.has_project(&path) => Err(FORBIDDEN),
                None => Err(NO_SUCH_PROJECT),
            }
        })
        .await
        .map_err(|_| INTERNAL)??;
    let repository = match asked.submodule {
        None => &project.repository,
        Some(number) => {
            let submodule = project.repository.submodules().get(number);
            &submodule.ok_or(NOT_FOUND)?.repository
        }
    };
    let service = match asked.what {
        What::Git(service) => service,
        What::LfsObject(oid) => return Ok(lfs::object(repository, oid).await),
        What::LfsBatch => {
            let host = text(request.headers(), header::HOST);
            let authorization = text(request.headers(), header::AUTHORIZATION);
            let objects = uri.path().trim_end_matches("/batch");
            let base = format!("https://{host}{objects}");
            return Ok(
                match to_bytes(request.into_body(), lfs::REQUEST_LIMIT).await {
                    Ok(body) => lfs::batch(repository, &base, &authorization, &body).await,
                    Err(_) => lfs::refusal(StatusCode::PAYLOAD_TOO_LARGE, "request too large"),
                },
            );
        }
    };
    if service == Service::ReceivePack {
        return Err(GitRefusal(
            StatusCode::FORBIDDEN,
            "pushing to Courser's coordinator is not supported\n",
        ));
    }
    let protocol = text(request.headers(), HeaderName::from_static("git-protocol"));
    let zipped = request
        .headers()
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding == "gzip" || encoding == "x-gzip");
    let too_large = GitRefusal(StatusCode::PAYLOAD_TOO_LARGE, "request too large\n");
    let mut input = match to_bytes(request.into_body(), REQUEST_LIMIT).await {
        Ok(bytes) => bytes.to_vec(),
        Err(_) => return Err(too_large),
    };
    if zipped {
        input = unzip(&input).ok_or(too_large)?;
    }
    let file = api
        .packs
        .answer(repository, service, &protocol, &input)
        .await
        .map_err(|error| {
            tracing::warn!(%error, project = project.path, "git upload-pack failed");
            INTERNAL
        })?;
    stream(service, file).await.map_err(|error| {
        tracing::warn!(%error, "cannot read a kept pack");
        INTERNAL
    })
}

async fn stream(service: Service, file: tokio::fs::File) -> std::io::Result<Response> {
    let length = file.metadata().await?.len();
    let kind = match service {
        Service::Advertisement => "application/x-git-upload-pack-advertisement",
        _ => "application/x-git-upload-pack-result",
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    let body = Body::from_stream(ReaderStream::with_capacity(file, 64 << 10));
    Ok((headers, body).into_response())
}

/// What a request asks for.
fn parse<'a>(method: &Method, path: &'a str, query: &str) -> Option<Asked<'a>> {
    let path = path.trim_start_matches('/');
    let (project, submodule, rest) = match path.split_once(SUBMODULES) {
        None => {
            let (project, rest) = path.split_once(".git/")?;
            (project, None, rest)
        }
        Some((project, below)) => {
            let (number, rest) = below.split_once('/')?;
            let number = number.strip_suffix(".git").unwrap_or(number);
            (project, Some(number.parse().ok()?), rest)
        }
    };
    let asked = |what| Asked {
        project,
        submodule,
        what,
    };
    if let Some(rest) = rest.strip_prefix("info/lfs/objects/") {
        return match (method.as_str(), rest) {
            ("POST", "batch") => Some(asked(What::LfsBatch)),
            ("GET", oid) => Some(asked(What::LfsObject(oid))),
            _ => None,
        };
    }
    let service = match (method.as_str(), rest) {
        ("GET", "info/refs") => match query
            .split('&')
            .find_map(|pair| pair.strip_prefix("service="))
        {
            Some("git-upload-pack") => Service::Advertisement,
            Some("git-receive-pack") => Service::ReceivePack,
            // The dumb protocol would need the object files themselves.
            _ => return None,
        },
        ("POST", "git-upload-pack") => Service::UploadPack,
        ("POST", "git-receive-pack") => Service::ReceivePack,
        _ => return None,
    };
    Some(asked(What::Git(service)))
}

/// A header, empty where it is absent or no text.
fn text(headers: &HeaderMap, name: HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Password of `Authorization: Basic`; Git sends the user of the URL, `gitlab-ci-token`.
fn basic_password(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    (user == "gitlab-ci-token" && !password.is_empty()).then(|| password.to_owned())
}

fn unzip(input: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    let limit = REQUEST_LIMIT as u64;
    let read = flate2::read::GzDecoder::new(input)
        .take(limit + 1)
        .read_to_end(&mut output)
        .ok()?;
    (read as u64 <= limit).then_some(output)
}

impl PackCache {
    /// The answer, opened; made by the first who asks, the others wait for it.
    async fn answer(
        &self,
        repository: &ServedRepository,
        service: Service,
        protocol: &str,
        input: &[u8],
    ) -> std::io::Result<tokio::fs::File> {
        let mut hash = Sha256::new();
        // Refs that move change the answers to the same bytes.
        hash.update(repository.generation().to_le_bytes());
        let place = repository.git_dir().as_os_str().as_encoded_bytes();
        hash.update((place.len() as u64).to_le_bytes());
        hash.update(place);
        hash.update([service as u8]);
        hash.update((protocol.len() as u64).to_le_bytes());
        hash.update(protocol);
        hash.update(input);
        let key: [u8; 32] = hash.finalize().into();
        loop {
            let cell = self.cell(key);
            let made = cell
                .get_or_try_init(|| self.make(repository, service, protocol, input))
                .await;
            let opened = match made {
                Ok(kept) => tokio::fs::File::open(&kept.path).await,
                Err(error) => Err(error),
            };
            let Err(error) = opened else { return opened };
            self.forget(&key, &cell);
            // Another request may have made room between the two.
            if !cell.initialized() || error.kind() != std::io::ErrorKind::NotFound {
                return Err(error);
            }
        }
    }

    async fn make(
        &self,
        repository: &ServedRepository,
        service: Service,
        protocol: &str,
        input: &[u8],
    ) -> std::io::Result<Kept> {
        let _turn = self
            .processes
            .acquire()
            .await
            .map_err(std::io::Error::other)?;
        let dir = repository.answers();
        private_dir(&dir).map_err(std::io::Error::other)?;
        // Never a name that was used before: its file may still be read.
        let path = dir.join(uuid::Uuid::new_v4().simple().to_string());
        let removed_on_drop = tempfile::TempPath::try_from_path(&path)?;
        upload_pack(repository.git_dir(), service, protocol, input, &path).await?;
        let bytes = std::fs::metadata(&path)?.len();
        let path = removed_on_drop.keep()?;
        Ok(Kept { path, bytes })
    }

    /// The place of an answer. For a new one the finished ones go if they are too many or too large.
    fn cell(&self, key: [u8; 32]) -> Answer {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = answers.get(&key) {
            return Arc::clone(known);
        }
        let finished = answers.values().filter_map(|answer| answer.get());
        let bytes: u64 = finished.map(|kept| kept.bytes).sum();
        if answers.len() >= KEPT_ANSWERS || bytes >= KEPT_BYTES {
            // One that is being made has readers; whoever streams a finished one keeps it open.
            answers.retain(|_, old| {
                let Some(kept) = old.get() else { return true };
                drop(std::fs::remove_file(&kept.path));
                false
            });
        }
        Arc::clone(answers.entry(key).or_default())
    }

    /// Takes an answer away that could not be made or is gone.
    fn forget(&self, key: &[u8; 32], answer: &Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers
            .get(key)
            .is_some_and(|kept| Arc::ptr_eq(kept, answer))
        {
            answers.remove(key);
        }
    }
}

/// Runs `git upload-pack` with `input` and writes what it says to `path`.
async fn upload_pack(
    git_dir: &Path,
    service: Service,
    protocol: &str,
    input: &[u8],
    path: &Path,
) -> std::io::Result<()> {
    let output = crate::store::private_options()
        .create_new(true)
        .open(path)?;
    let mut command = Command::new("git");
    // Jobs ask for commits by id, of pipelines whose refs may have moved on; partial clones are fine.
    command
        .args(["-c", "uploadpack.allowAnySHA1InWant=true"])
        .args(["-c", "uploadpack.allowFilter=true"])
        .args(["upload-pack", "--stateless-rpc"]);
    if service == Service::Advertisement {
        command.arg("--advertise-refs");
        if !protocol.contains("version=2") {
            // Version 0 and 1 begin with a line that names the service.
            write_service_line(&output)?;
        }
    }
    for name in FOREIGN_VARIABLES {
        command.env_remove(name);
    }
    let mut child = command
        .arg(git_dir)
        .env("GIT_PROTOCOL", protocol)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // Git may have read enough before the end; its exit status tells.
            drop(stdin.write_all(input).await);
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output?;
    // A refused want ends with a failure status and an ERR packet, which is the answer to send.
    let nothing_said = std::fs::metadata(path)?.len() == 0;
    if !output.status.success() && nothing_said {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(std::io::Error::other(text));
    }
    Ok(())
}

fn write_service_line(mut output: &std::fs::File) -> std::io::Result<()> {
    use std::io::Write as _;
    output.write_all(b"001e# service=git-upload-pack\n0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_smart_protocols_reads_are_served() {
        let cases = [
            (
                "GET",
                "/g/p.git/info/refs",
                "service=git-upload-pack",
                Some(Service::Advertisement),
            ),
            (
                "GET",
                "/g/p.git/info/refs",
                "service=git-receive-pack",
                Some(Service::ReceivePack),
            ),
            ("GET", "/g/p.git/info/refs", "", None),
            (
                "POST",
                "/g/p.git/git-upload-pack",
                "",
                Some(Service::UploadPack),
            ),
            (
                "POST",
                "/g/p.git/git-receive-pack",
                "",
                Some(Service::ReceivePack),
            ),
            ("GET", "/g/p.git/git-upload-pack", "", None),
            ("GET", "/g/p.git/objects/info/packs", "", None),
            ("GET", "/g/p", "", None),
        ];
        for (method, path, query, expected) in cases {
            let method = method.parse().unwrap();
            let parsed = parse(&method, path, query);
            assert_eq!(
                parsed.map(|asked| asked.what),
                expected.map(What::Git),
                "{method} {path}?{query}"
            );
            assert!(parsed.is_none_or(|asked| asked.project == "g/p"));
        }
    }

    #[test]
    fn submodules_and_lfs_have_their_places_below_the_project() {
        let parse = |method: Method, path: &str| {
            parse(&method, path, "service=git-upload-pack")
                .map(|asked| format!("{} {:?} {:?}", asked.project, asked.submodule, asked.what))
        };
        for url in ["https://h/x.git", "git@h:x"] {
            let path = submodule_path("g/p", 3, url);
            let found = parse(Method::GET, &format!("/{path}/info/refs"));
            assert_eq!(found.as_deref(), Some("g/p Some(3) Git(Advertisement)"));
            // Git LFS appends `.git` where there is none.
            let lfs = format!(
                "/{}.git/info/lfs/objects/batch",
                path.trim_end_matches(".git")
            );
            let found = parse(Method::POST, &lfs);
            assert_eq!(found.as_deref(), Some("g/p Some(3) LfsBatch"));
        }
        let found = parse(Method::GET, "/g/p.git/info/lfs/objects/ab");
        assert_eq!(found.as_deref(), Some("g/p None LfsObject(\"ab\")"));
        assert_eq!(parse(Method::GET, "/g/p/-/submodules/x/info/refs"), None);
        assert_eq!(parse(Method::PUT, "/g/p.git/info/lfs/objects/ab"), None);
    }

    #[tokio::test]
    async fn an_answer_that_failed_or_is_gone_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let origin = crate::repository::Origin::default();
        let repository = ServedRepository::create(dir.path(), &origin).unwrap();
        let packs = PackCache::default();
        let ask = || packs.answer(&repository, Service::Advertisement, "version=2", b"");
        let first = ask().await.unwrap().metadata().await.unwrap().len();
        std::fs::remove_dir_all(repository.answers()).unwrap();
        let again = ask().await.unwrap().metadata().await.unwrap().len();
        assert_eq!(first, again);

        let head = dir.path().join("HEAD");
        std::fs::rename(&head, dir.path().join("HEAD.away")).unwrap();
        let failed = packs
            .answer(&repository, Service::Advertisement, "version=2", b"0000")
            .await;
        assert!(failed.is_err());
        assert_eq!(packs.answers.lock().unwrap().len(), 1);
    }

    #[test]
    fn old_answers_make_room_by_number_and_by_size() {
        for (number, bytes, left) in [(KEPT_ANSWERS, 1, 1), (2, KEPT_BYTES / 2, 1), (2, 1, 3)] {
            let packs = PackCache::default();
            for index in 0..number {
                let path = PathBuf::from("/nonexistent");
                let kept = OnceCell::new_with(Some(Kept { path, bytes }));
                let mut key = [0; 32];
                key[..8].copy_from_slice(&index.to_le_bytes());
                packs.answers.lock().unwrap().insert(key, Arc::new(kept));
            }
            // What is known stays.
            packs.cell([0; 32]);
            assert_eq!(packs.answers.lock().unwrap().len(), number);
            packs.cell([255; 32]);
            assert_eq!(packs.answers.lock().unwrap().len(), left);
        }
    }

    #[test]
    fn a_gzip_bomb_is_refused() {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&vec![0; REQUEST_LIMIT + 1]).unwrap();
        assert_eq!(unzip(&encoder.finish().unwrap()), None);
        assert_eq!(unzip(b"not gzip"), None);
    }
}
