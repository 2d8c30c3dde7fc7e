//! Files of other places over the network: GitLab's REST API, and plain URLs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use courser_net::{Answer, Call, CallError, Client, ClientSettings, Retry, TlsOptions, shown_url};
use courser_pipeline::{Component, ComponentAddress, OtherProject, Unavailable};
use courser_protocol::Secret;
use http::{HeaderName, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use url::Url;

use super::version;
use crate::environment::ProcessEnvironment;
use crate::failure::{Code, Failure};
use crate::version as program;

/// More than GitLab reads of one file, so that the evaluator sees the excess.
const MAXIMUM_FILE: usize = 2 * 1024 * 1024 + 1;
/// Bytes of a JSON answer.
const MAXIMUM_ANSWER: usize = 8 * 1024 * 1024;
/// All fetching of one evaluation together (`gitlab-ci-yaml.md` 20).
const PATIENCE: Duration = Duration::from_secs(30);
/// Pages of a hundred that a listing may have.
const MAXIMUM_PAGES: usize = 1000;
/// Bytes of all pages of a listing.
const MAXIMUM_LISTING: usize = 64 * 1024 * 1024;
/// Project whose templates are GitLab's own, for those that the API does not serve.
const TEMPLATE_PROJECT: &str = "gitlab-org/gitlab";
const TEMPLATE_DIRECTORY: &str = "lib/gitlab/ci/templates";

/// When the fetching of one evaluation began.
pub(super) type Clock = Arc<OnceLock<Instant>>;

/// A client for plain URLs. Clones share connections.
#[derive(Clone)]
pub(super) struct Remote {
    client: Client,
    handle: Handle,
    began: Clock,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl Remote {
    /// Must be made inside of the runtime that does the work.
    pub(super) fn new(environment: &ProcessEnvironment, ca_file: Option<&Path>) -> Self {
        let ca_file = ca_file.map(|file| file.to_string_lossy().into_owned());
        let client = Client::new(ClientSettings {
            trust: environment.legs().gitlab(TlsOptions {
                ca_file: ca_file.as_deref(),
                cert_file: None,
                key_file: None,
            }),
            proxy: environment.proxy.clone(),
            user_agent: program::user_agent(),
            connection_max_age: Duration::ZERO,
        });
        Self {
            client,
            handle: Handle::current(),
            began: Arc::default(),
        }
    }

    /// Measures another evaluation.
    pub(super) fn restart(&mut self, clock: Clock) {
        self.began = clock;
    }

    /// The text at a URL.
    pub(super) fn text(&self, url: &str) -> Result<String, Unavailable> {
        let failed = |why: &str| {
            Unavailable(format!(
                "Remote file `{url}` could not be fetched because of {why}"
            ))
        };
        let parsed = Url::parse(url).map_err(|_| {
            Unavailable(format!(
                "Remote file `{url}` does not have a valid address!"
            ))
        })?;
        self.fetch(Call::new(Method::GET, parsed), MAXIMUM_FILE, |error| {
            failed(&format!("a network error: {error}"))
        })
        .and_then(|(status, _, bytes)| match status {
            status if status.is_success() => Ok(text(&bytes)),
            status => Err(failed(&format!("HTTP code `{}` error!", status.as_u16()))),
        })
    }

    /// Status, the number of the next page and body.
    fn fetch(
        &self,
        mut call: Call,
        limit: usize,
        failed: impl Fn(&str) -> Unavailable,
    ) -> Result<(StatusCode, Option<usize>, bytes::Bytes), Unavailable> {
        let late =
            || Unavailable("Request timed out when fetching configuration files.".to_owned());
        let left = PATIENCE.checked_sub(self.began.get_or_init(Instant::now).elapsed());
        let left = left.filter(|left| !left.is_zero()).ok_or_else(late)?;
        call.retry = Retry::Never;
        let work = async {
            let answer: Answer = self.client.send(call).await?;
            let status = answer.status;
            let next = answer.headers.get("x-next-page");
            let next = next.and_then(|page| page.to_str().ok()?.parse().ok());
            Ok::<_, CallError>((status, next, answer.bytes(limit).await?))
        };
        let outcome = self
            .handle
            .block_on(async { tokio::time::timeout(left, work).await });
        match outcome {
            Err(_) => Err(late()),
            Ok(Err(error)) => Err(failed(&error.to_string())),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A GitLab server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    remote: Remote,
    /// With a slash at the end.
    url: Url,
    token: Option<Secret>,
}

/// What is used of a commit.
#[derive(Deserialize)]
struct CommitAnswer {
    id: String,
}

#[derive(Deserialize)]
struct ReleaseAnswer {
    tag_name: String,
}

#[derive(Deserialize)]
struct TreeEntry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct TemplateAnswer {
    content: String,
}

impl Server {
    /// # Errors
    ///
    /// The URL is none, or the token would go over an open connection.
    pub(super) fn new(remote: Remote, url: &str, token: Option<Secret>) -> Result<Self, Failure> {
        let usage = |text: String| Failure::new(Code::Usage, text);
        let mut parsed = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                // What stands before an @ may be a password.
                let (_, shown) = url.rsplit_once('@').unwrap_or(("", url));
                usage(format!("--include-server {shown}: not the URL of a server"))
            })?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(usage(format!(
                "--include-server {}: user and password do not belong into the URL",
                shown_url(&parsed)
            ))
            .hint("give a token with --include-token-file"));
        }
        // From here on the URL may be shown.
        parsed.set_query(None);
        parsed.set_fragment(None);
        if token.is_some() && parsed.scheme() == "http" {
            return Err(usage(format!(
                "--include-server {}: a token is not sent over plain HTTP",
                shown_url(&parsed)
            ))
            .hint("use https, with --include-ca-file for an authority of your own"));
        }
        let path = format!("{}/", parsed.path().trim_end_matches('/'));
        parsed.set_path(&path);
        Ok(Self {
            remote,
            url: parsed,
            token,
        })
    }

    /// Measures another evaluation.
    pub(super) fn restart(&mut self, clock: Clock) {
        self.remote.restart(clock);
    }

    /// A project at a commit.
    pub(super) fn project(
        &self,
        path: &str,
        reference: Option<&str>,
    ) -> Result<ServedProject, Unavailable> {
        let commit = self.commit(path, reference.unwrap_or("HEAD"));
        let Some(sha) = commit? else {
            // Which of the two is missing, the answer tells in words only.
            let url = format!("projects/{}", encoded(path));
            let known: Option<serde_json::Value> = self.json(&url, path)?;
            return Err(Unavailable(match (known, reference) {
                (Some(_), Some(reference)) => {
                    format!("Project `{path}` reference `{reference}` does not exist!")
                }
                (Some(_), None) => format!("Project `{path}` has no commit"),
                (None, _) => format!(
                    "Project `{path}` not found or access denied! Make sure any includes in the pipeline configuration are correctly defined."
                ),
            }));
        };
        Ok(ServedProject {
            server: self.clone(),
            path: path.to_owned(),
            sha,
            known: RefCell::default(),
        })
    }

    /// A template: from the API, which has those without a directory, else from GitLab's own project.
    pub(super) fn template(&self, name: &str) -> Result<String, Unavailable> {
        let key = name.strip_suffix(".gitlab-ci.yml").unwrap_or(name);
        if !key.contains('/') {
            let url = format!("templates/gitlab_ci_ymls/{}", encoded(key));
            if let Some(TemplateAnswer { content }) = self.json(&url, name)? {
                return Ok(content);
            }
        }
        let missing = || {
            Unavailable(format!(
                "Template file `{name}` is not served by {}: put it below --include-root as templates/{name}",
                self.url
            ))
        };
        let sha = self.commit(TEMPLATE_PROJECT, "HEAD")?.ok_or_else(missing)?;
        let path = format!("{TEMPLATE_DIRECTORY}/{name}");
        self.file(TEMPLATE_PROJECT, &sha, &path)?
            .ok_or_else(missing)
    }

    /// A component of this server.
    pub(super) fn component(
        &self,
        address: &ComponentAddress<'_>,
    ) -> Result<Component, Unavailable> {
        let host = self.url.host_str().unwrap_or_default();
        let own = match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        if !own.eq_ignore_ascii_case(address.host) {
            return Err(Unavailable(format!(
                "component `{}` is not of the server {own}, which is the one to ask (--include-server)",
                address.full
            )));
        }
        let (project, name) = address.path.rsplit_once('/').unwrap_or_default();
        let url = format!("projects/{}/releases?per_page=100", encoded(project));
        let is_range = version::latest(address.version, [].into_iter()).is_some();
        let releases: Vec<ReleaseAnswer> = if is_range {
            self.json(&url, project)?.unwrap_or_default()
        } else {
            Vec::new()
        };
        let tags = releases.iter().map(|release| release.tag_name.as_str());
        let found = version::latest(address.version, tags).flatten();
        let reference = found.unwrap_or(address.version);
        let opened = self.project(project, Some(reference))?;
        let sha = opened.sha.clone();
        let mut component = version::of_files(project, name, address, Rc::new(opened), &sha)?;
        component.version = version::shown(reference);
        Ok(component)
    }

    fn commit(&self, project: &str, reference: &str) -> Result<Option<String>, Unavailable> {
        let url = format!(
            "projects/{}/repository/commits/{}",
            encoded(project),
            encoded(reference)
        );
        let answer: Option<CommitAnswer> = self.json(&url, project)?;
        Ok(answer.map(|commit| commit.id))
    }

    fn file(&self, project: &str, sha: &str, path: &str) -> Result<Option<String>, Unavailable> {
        let url = format!(
            "projects/{}/repository/files/{}/raw?ref={sha}",
            encoded(project),
            encoded(path)
        );
        let (bytes, _) = self.get(&url, project, MAXIMUM_FILE)?;
        Ok(bytes.as_deref().map(text))
    }

    fn json<T: DeserializeOwned>(&self, url: &str, what: &str) -> Result<Option<T>, Unavailable> {
        let (bytes, _) = self.get(url, what, MAXIMUM_ANSWER)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|error| {
            Unavailable(format!(
                "`{what}` cannot be fetched: {} gave an answer that is not understood: {error}",
                self.url
            ))
        })
    }

    /// The body of an answer and the number of its next page; nothing for 404.
    fn get(
        &self,
        below: &str,
        what: &str,
        limit: usize,
    ) -> Result<(Option<bytes::Bytes>, Option<usize>), Unavailable> {
        let failed = |why: &str| Unavailable(format!("`{what}` cannot be fetched: {why}"));
        let url = self.url.join(&format!("api/v4/{below}"));
        let url = url.map_err(|error| failed(&error.to_string()))?;
        let mut call = Call::new(Method::GET, url);
        if let Some(token) = &self.token {
            let name = HeaderName::from_static("private-token");
            call = call.secret_header(name, token.expose());
        }
        let (status, next, bytes) = self.remote.fetch(call, limit, failed)?;
        match status {
            StatusCode::NOT_FOUND => Ok((None, None)),
            status if status.is_success() => Ok((Some(bytes), next)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(failed(&format!(
                "{} answers {status}: the token of --include-token-file or GITLAB_TOKEN must have read_api",
                self.url
            ))),
            status => Err(failed(&format!("{} answers {status}", self.url))),
        }
    }
}

/// A project at a commit.
#[derive(Debug)]
pub(super) struct ServedProject {
    server: Server,
    path: String,
    sha: String,
    known: RefCell<HashMap<String, Option<String>>>,
}

impl OtherProject for ServedProject {
    fn read(&self, path: &str) -> Result<Option<String>, Unavailable> {
        if let Some(known) = self.known.borrow().get(path) {
            return Ok(known.clone());
        }
        let found = self.server.file(&self.path, &self.sha, path)?;
        self.known
            .borrow_mut()
            .insert(path.to_owned(), found.clone());
        Ok(found)
    }

    fn list(&self) -> Result<Vec<String>, Unavailable> {
        let mut paths = Vec::new();
        let mut page = 1;
        let mut room = MAXIMUM_LISTING;
        for _ in 0..MAXIMUM_PAGES {
            let url = format!(
                "projects/{}/repository/tree?recursive=true&per_page=100&ref={}&page={page}",
                encoded(&self.path),
                self.sha
            );
            let (bytes, next) = self.server.get(&url, &self.path, MAXIMUM_ANSWER)?;
            let bytes = bytes.unwrap_or_default();
            let Some(left) = room.checked_sub(bytes.len()) else {
                break;
            };
            room = left;
            let entries: Vec<TreeEntry> = serde_json::from_slice(&bytes).map_err(|error| {
                Unavailable(format!(
                    "the files of `{}` cannot be listed: {error}",
                    self.path
                ))
            })?;
            let files = entries.into_iter().filter(|entry| entry.kind == "blob");
            paths.extend(files.map(|entry| entry.path));
            match next {
                Some(next) => page = next,
                None => return Ok(paths),
            }
        }
        Err(Unavailable(format!(
            "project `{}` has too many files to list",
            self.path
        )))
    }
}

/// A path as one segment of a URL.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
