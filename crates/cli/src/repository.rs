//! Facts of the repository that a command runs in: its files, and the event a pipeline is for.
//!
//! Facts come from `git`; without a repository (or with `--no-git`) the directory stands for itself.
//! Predefined variables: `gitlab-ci-yaml.md` 18.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use courser_executor::REPOSITORY_VARIABLES;
use courser_pipeline::{ChangedFiles, Comparison, Event, Files, slug};

/// More than GitLab reads of one file (`gitlab-ci-yaml.md` 20), so that the evaluator sees the excess.
const MAXIMUM_FILE: u64 = 2 * 1024 * 1024 + 1;
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    #[error("cannot run git in {}: {source}", directory.display())]
    Start {
        directory: PathBuf,
        source: std::io::Error,
    },
    #[error("git {command} failed in {}: {message}", directory.display())]
    Git {
        command: String,
        directory: PathBuf,
        message: String,
    },
}

/// A working tree.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// Root of the working tree or a directory inside; the directory itself without Git.
    pub(crate) root: PathBuf,
    /// What Git knows, `None` without Git.
    pub(crate) git: Option<GitFacts>,
}

/// What Git knows of the checked-out commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct GitFacts {
    /// The checked-out branch, `None` when HEAD is detached.
    pub(crate) branch: Option<String>,
    /// A tag at the commit, looked for only when HEAD is detached.
    pub(crate) tag: Option<String>,
    /// The branch that merges go to.
    pub(crate) default_branch: String,
    /// The commit, `None` before the first one.
    pub(crate) commit: Option<Commit>,
    /// URL of the remote `origin` (or the only one), without credentials.
    pub(crate) remote_url: Option<String>,
    /// `user.name` and `user.email`.
    pub(crate) user: (Option<String>, Option<String>),
}

/// The checked-out commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Commit {
    pub(crate) sha: String,
    /// First parent; `None` for a root commit and at the edge of a shallow clone.
    pub(crate) parent: Option<String>,
    pub(crate) author: String,
    /// ISO 8601.
    pub(crate) timestamp: String,
    pub(crate) message: String,
}

impl Repository {
    /// The repository that `directory` is in; the directory alone when there is none.
    pub(crate) fn discover(directory: &Path) -> Result<Self, RepositoryError> {
        if !directory
            .ancestors()
            .any(|above| above.join(".git").exists())
        {
            return Ok(Self::without_git(directory));
        }
        let root = git(directory, ["rev-parse", "--show-toplevel"])?;
        let root = PathBuf::from(root.trim_end_matches('\n'));
        let facts = GitFacts::read(&root)?;
        Ok(Self {
            root,
            git: Some(facts),
        })
    }

    /// As [`Self::discover`], but with `directory` as the root: files outside of it do not count.
    pub(crate) fn of_directory(directory: &Path) -> Result<Self, RepositoryError> {
        Ok(Self {
            root: directory.to_owned(),
            ..Self::discover(directory)?
        })
    }

    /// The directory alone.
    pub(crate) fn without_git(directory: &Path) -> Self {
        Self {
            root: directory.to_owned(),
            git: None,
        }
    }

    /// The same repository with another commit's facts; `None` when the revision names no commit.
    pub(crate) fn at(mut self, revision: &str) -> Result<Option<Self>, RepositoryError> {
        let Some(git) = &mut self.git else {
            return Ok(None);
        };
        git.commit = Commit::read(&self.root, revision)?;
        Ok(git.commit.is_some().then_some(self))
    }

    /// The event of a pipeline for the working tree; `changed_files` is left to the caller, because only
    /// some pipelines ask for it ([`Self::changed_files`]).
    pub(crate) fn event(&self, source: &str, ref_name: Option<&str>, tag: bool) -> Event {
        let (own_name, own_tag) = self.ref_name();
        let (ref_name, tag) = match ref_name {
            Some(name) => (name.to_owned(), tag),
            None => (own_name, own_tag || tag),
        };
        Event {
            source: source.to_owned(),
            predefined: self.predefined(source, &ref_name, tag),
            ref_name,
            tag,
            pipeline_variables: Vec::new(),
            changed_files: ChangedFiles::Unknown,
        }
    }

    /// Branch or tag of the working tree, and whether it is a tag.
    fn ref_name(&self) -> (String, bool) {
        let Some(git) = &self.git else {
            return ("main".to_owned(), false);
        };
        match (&git.branch, &git.tag, &git.commit) {
            (Some(branch), ..) => (branch.clone(), false),
            (None, Some(tag), _) => (tag.clone(), true),
            (None, None, Some(commit)) => (short_sha(&commit.sha), false),
            (None, None, None) => (git.default_branch.clone(), false),
        }
    }

    /// The predefined variables that are known from the repository.
    fn predefined(&self, source: &str, ref_name: &str, tag: bool) -> BTreeMap<String, String> {
        let facts = GitFacts::default();
        let git = self.git.as_ref().unwrap_or(&facts);
        let unborn = Commit {
            sha: NO_COMMIT.to_owned(),
            ..Commit::default()
        };
        let commit = git.commit.as_ref().unwrap_or(&unborn);
        let default_branch = if git.default_branch.is_empty() {
            ref_name
        } else {
            &git.default_branch
        };
        let project = Project::of(git.remote_url.as_deref(), &self.root);
        let (title, description) = title_and_description(&commit.message);
        let yes_no = |value: bool| if value { "true" } else { "false" }.to_owned();
        let mut variables = BTreeMap::new();
        let mut set = |key: &str, value: &str| variables.insert(key.to_owned(), value.to_owned());
        set("CI", "true");
        set("GITLAB_CI", "true");
        set("CI_SERVER", "yes");
        set("CI_PROJECT_ID", "1");
        set("CI_PROJECT_VISIBILITY", "private");
        set("CI_PIPELINE_SOURCE", source);
        set("CI_PIPELINE_IID", "1");
        set("CI_DEFAULT_BRANCH", default_branch);
        set("CI_CONFIG_PATH", ".gitlab-ci.yml");
        set("CI_PROJECT_NAME", &project.name);
        set("CI_PROJECT_TITLE", &project.name);
        set("CI_PROJECT_PATH", &project.path());
        set("CI_PROJECT_PATH_SLUG", &slug(&project.path()));
        set("CI_PROJECT_NAMESPACE", &project.namespace);
        let outermost = project.namespace.split('/').next().unwrap_or_default();
        set("CI_PROJECT_ROOT_NAMESPACE", outermost);
        if let Some(host) = &project.host {
            set(
                "CI_PROJECT_URL",
                &format!("https://{host}/{}", project.path()),
            );
            let name = host.split(':').next().unwrap_or_default();
            set("CI_SERVER_HOST", name);
            set("CI_SERVER_FQDN", host);
            set("CI_SERVER_PROTOCOL", "https");
            set("CI_SERVER_URL", &format!("https://{host}"));
            set("CI_API_V4_URL", &format!("https://{host}/api/v4"));
        }
        set("CI_COMMIT_SHA", &commit.sha);
        set("CI_COMMIT_SHORT_SHA", &short_sha(&commit.sha));
        set(
            "CI_COMMIT_BEFORE_SHA",
            commit.parent.as_deref().unwrap_or(NO_COMMIT),
        );
        set("CI_COMMIT_REF_NAME", ref_name);
        set("CI_COMMIT_REF_SLUG", &slug(ref_name));
        // A new project protects its default branch and nothing else.
        set(
            "CI_COMMIT_REF_PROTECTED",
            &yes_no(!tag && ref_name == default_branch),
        );
        set("CI_COMMIT_MESSAGE", &commit.message);
        set("CI_COMMIT_MESSAGE_IS_TRUNCATED", "false");
        set("CI_COMMIT_TITLE", title);
        set("CI_COMMIT_DESCRIPTION", description);
        set("CI_COMMIT_TIMESTAMP", &commit.timestamp);
        set("CI_COMMIT_AUTHOR", &commit.author);
        if tag {
            set("CI_COMMIT_TAG", ref_name);
        } else if source != "merge_request_event" {
            set("CI_COMMIT_BRANCH", ref_name);
        }
        match source {
            "merge_request_event" => {
                for (key, value) in [
                    ("ID", "1"),
                    ("IID", "1"),
                    ("PROJECT_ID", "1"),
                    ("PROJECT_PATH", &project.path()),
                    ("SOURCE_PROJECT_ID", "1"),
                    ("SOURCE_PROJECT_PATH", &project.path()),
                    ("SOURCE_BRANCH_NAME", ref_name),
                    ("TARGET_BRANCH_NAME", default_branch),
                    ("REF_PATH", "refs/merge-requests/1/head"),
                    ("EVENT_TYPE", "detached"),
                    ("TITLE", title),
                    ("DESCRIPTION", description),
                    ("DRAFT", "false"),
                    ("SQUASH_ON_MERGE", "false"),
                ] {
                    set(&format!("CI_MERGE_REQUEST_{key}"), value);
                }
                set("CI_OPEN_MERGE_REQUESTS", &format!("{}!1", project.path()));
            }
            "trigger" => {
                set("CI_PIPELINE_TRIGGERED", "true");
            }
            _ => {}
        }
        if let Some(name) = &git.user.0 {
            set("GITLAB_USER_NAME", name);
        }
        if let Some(email) = &git.user.1 {
            set("GITLAB_USER_EMAIL", email);
            let login = email.split('@').next().unwrap_or_default();
            set("GITLAB_USER_LOGIN", login);
        }
        variables
    }

    /// What a push of this working tree would change: against the upstream branch when there are commits
    /// that it lacks, else against the commit before; uncommitted and untracked files included.
    pub(crate) fn changed_files(&self) -> Result<ChangedFiles, RepositoryError> {
        let Some(commit) = self.git.as_ref().and_then(|git| git.commit.as_ref()) else {
            return Ok(ChangedFiles::Unknown);
        };
        let upstream = git(&self.root, ["merge-base", "HEAD", "@{upstream}"])
            .ok()
            .map(|base| base.trim().to_owned())
            .filter(|base| !base.is_empty() && *base != commit.sha);
        match upstream.or_else(|| commit.parent.clone()) {
            Some(base) => self.changed_since(&base),
            None => Ok(ChangedFiles::Unknown),
        }
    }

    /// What a merge request of this working tree into the default branch would change; that branch itself
    /// is taken for a push.
    pub(crate) fn changed_files_of_merge_request(&self) -> Result<ChangedFiles, RepositoryError> {
        let Some(facts) = &self.git else {
            return Ok(ChangedFiles::Unknown);
        };
        let target = &facts.default_branch;
        let base = [
            format!("refs/remotes/origin/{target}"),
            format!("refs/heads/{target}"),
        ]
        .iter()
        .find_map(|target| git(&self.root, ["merge-base", "HEAD", target]).ok());
        let head = facts.commit.as_ref().map(|commit| commit.sha.as_str());
        match base.as_deref().map(str::trim) {
            Some(base) if Some(base) != head => self.changed_since(base),
            _ => self.changed_files(),
        }
    }

    /// What this working tree changed since it left a branch, tag or commit.
    pub(crate) fn compare_to(&self, reference: &str) -> Comparison {
        if self.git.is_none() {
            return Comparison::NotBuilt;
        }
        let names = [
            format!("refs/heads/{reference}"),
            format!("refs/remotes/origin/{reference}"),
            format!("refs/tags/{reference}"),
            reference.to_owned(),
        ];
        let base = names.iter().find_map(|name| {
            let commit = format!("{name}^{{commit}}");
            let verify = ["rev-parse", "--verify", "-q", "--end-of-options", &commit];
            let sha = git(&self.root, verify).ok()?;
            git(&self.root, ["merge-base", "HEAD", sha.trim()]).ok()
        });
        match base.map(|base| self.changed_since(base.trim())) {
            Some(Ok(ChangedFiles::Known(changed))) => Comparison::Changed(changed),
            _ => Comparison::UnknownReference,
        }
    }

    /// Differences to a commit, uncommitted and untracked files included.
    fn changed_since(&self, base: &str) -> Result<ChangedFiles, RepositoryError> {
        let mut changed: BTreeSet<String> = BTreeSet::new();
        let diff = [
            "diff",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "--relative",
            "-z",
            base,
            "--",
        ];
        let others = ["ls-files", "-z", "--others", "--exclude-standard"];
        for listing in [git(&self.root, diff)?, git(&self.root, others)?] {
            changed.extend(paths(&listing));
        }
        Ok(ChangedFiles::Known(changed.into_iter().collect()))
    }
}

/// The working tree's files: tracked ones, and untracked ones that are not ignored.
impl Files for Repository {
    fn read(&self, path: &str) -> Option<String> {
        read_inside(&self.root, Path::new(path))
    }

    fn list(&self) -> Vec<String> {
        let listed = self.git.as_ref().and_then(|_| {
            git(
                &self.root,
                [
                    "ls-files",
                    "-z",
                    "--cached",
                    "--others",
                    "--exclude-standard",
                    "--deduplicate",
                ],
            )
            .ok()
        });
        match listed {
            Some(listing) => paths(&listing)
                .filter(|path| self.root.join(path).symlink_metadata().is_ok())
                .collect(),
            None => walk(&self.root),
        }
    }
}

/// Reads a file below `root`; nothing outside, also not through a symbolic link.
fn read_inside(root: &Path, path: &Path) -> Option<String> {
    let plain = path
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    if !plain {
        return None;
    }
    let full = root.join(path).canonicalize().ok()?;
    if !full.starts_with(root.canonicalize().ok()?) {
        return None;
    }
    read_bounded(&full)
}

/// Reads a file as far as the evaluator looks at it.
pub(crate) fn read_bounded(path: &Path) -> Option<String> {
    let file = fs::File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAXIMUM_FILE).read_to_end(&mut bytes).ok()?;
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// All files below a directory without Git, sorted.
fn walk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let Ok(entries) = fs::read_dir(root.join(&below)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = below.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() != ".git" => open.push(path),
                Ok(kind) if !kind.is_dir() => found.extend(path.to_str().map(str::to_owned)),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

impl GitFacts {
    fn read(root: &Path) -> Result<Self, RepositoryError> {
        let branch = git(root, ["symbolic-ref", "-q", "--short", "HEAD"])
            .ok()
            .map(|name| name.trim().to_owned());
        let commit = Commit::read(root, "HEAD")?;
        let tag = match (&branch, &commit) {
            (None, Some(_)) => git(root, ["tag", "--points-at", "HEAD"])?
                .lines()
                .next()
                .map(str::to_owned),
            _ => None,
        };
        let mut facts = Self {
            default_branch: default_branch(root, branch.as_deref())?,
            branch,
            tag,
            commit,
            ..Self::default()
        };
        facts.read_configuration(root);
        Ok(facts)
    }

    /// Remote and user. `git config` fails when nothing matches, which is no error.
    fn read_configuration(&mut self, root: &Path) {
        let pattern = r"^(remote\..*\.url|user\.(name|email))$";
        let listing = git(root, ["config", "--null", "--get-regexp", pattern]).unwrap_or_default();
        for setting in listing.split('\0') {
            let Some((key, value)) = setting.split_once('\n') else {
                continue;
            };
            let value = value.to_owned();
            match key {
                "user.name" => self.user.0 = Some(value),
                "user.email" => self.user.1 = Some(value),
                "remote.origin.url" => self.remote_url = Some(without_credentials(&value)),
                _ if self.remote_url.is_none() => {
                    self.remote_url = Some(without_credentials(&value));
                }
                _ => {}
            }
        }
    }
}

/// The remote's HEAD, else `main` or `master` if there is one, else the current branch.
fn default_branch(root: &Path, branch: Option<&str>) -> Result<String, RepositoryError> {
    let listing = git(
        root,
        [
            "for-each-ref",
            "--format=%(refname) %(symref)",
            "refs/remotes/origin/HEAD",
            "refs/heads/main",
            "refs/heads/master",
            "refs/remotes/origin/main",
            "refs/remotes/origin/master",
        ],
    )?;
    let known = |name: &str| {
        listing.lines().any(|line| {
            let line = line.trim_end();
            line == format!("refs/heads/{name}") || line == format!("refs/remotes/origin/{name}")
        })
    };
    let head = listing
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(_, target)| target.strip_prefix("refs/remotes/origin/"));
    Ok(match head {
        Some(name) => name.to_owned(),
        None if known("main") => "main".to_owned(),
        None if known("master") => "master".to_owned(),
        None => branch.unwrap_or("main").to_owned(),
    })
}

impl Commit {
    /// The commit that a revision names, `None` when there is none (`HEAD` before the first one).
    fn read(root: &Path, revision: &str) -> Result<Option<Self>, RepositoryError> {
        let commit = format!("{revision}^{{commit}}");
        let verify = ["rev-parse", "--verify", "-q", "--end-of-options", &commit];
        let Ok(sha) = git(root, verify) else {
            return Ok(None);
        };
        let format = "--format=%H%x00%P%x00%an <%ae>%x00%cI%x00%B";
        let text = git(
            root,
            [
                "log",
                "-1",
                "--no-show-signature",
                "--no-color",
                format,
                sha.trim(),
                "--",
            ],
        )?;
        let mut fields = text.splitn(5, '\0').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        Ok(Some(Self {
            sha: next(),
            parent: next()
                .split(' ')
                .next()
                .filter(|sha| !sha.is_empty())
                .map(str::to_owned),
            author: next(),
            timestamp: next(),
            message: next().trim_end().to_owned(),
        }))
    }
}

/// Where the project is, as far as the remote tells.
#[derive(Debug, PartialEq, Eq)]
struct Project {
    host: Option<String>,
    namespace: String,
    name: String,
}

impl Project {
    fn of(remote_url: Option<&str>, root: &Path) -> Self {
        let local = || {
            let name = root
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_else(|| "project".to_owned());
            Self {
                host: None,
                namespace: "local".to_owned(),
                name,
            }
        };
        let Some((host, path)) = remote_url.and_then(host_and_path) else {
            return local();
        };
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        match path.rsplit_once('/') {
            Some((namespace, name)) if !name.is_empty() => Self {
                host: Some(host.to_owned()),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            _ => local(),
        }
    }

    fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Host and path of `https://host/path`, `ssh://user@host:port/path` and `user@host:path`.
fn host_and_path(url: &str) -> Option<(&str, &str)> {
    if let Some((scheme, rest)) = url.split_once("://") {
        if scheme == "file" {
            return None;
        }
        let (authority, path) = rest.split_once('/')?;
        let host = authority.rsplit('@').next()?;
        let host = if scheme == "ssh" {
            host.split(':').next()?
        } else {
            host
        };
        return Some((host, path));
    }
    let (authority, path) = url.split_once(':')?;
    let host = authority.rsplit('@').next()?;
    (!host.is_empty() && !host.contains('/')).then_some((host, path))
}

/// The URL without user and password.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, String::new()),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

fn short_sha(sha: &str) -> String {
    sha.chars().take(8).collect()
}

/// First line, and what follows the empty line after it.
fn title_and_description(message: &str) -> (&str, &str) {
    match message.split_once('\n') {
        Some((title, rest)) => (title, rest.trim_start_matches('\n')),
        None => (message, ""),
    }
}

fn paths(listing: &str) -> impl Iterator<Item = String> {
    listing
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
}

/// Runs `git` with the settings off that could make it start other programs.
pub(crate) fn git<I, S>(directory: &Path, arguments: I) -> Result<String, RepositoryError>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new("git");
    command
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .arg("--no-pager");
    for name in REPOSITORY_VARIABLES {
        command.env_remove(name);
    }
    let fixed = command.get_args().count();
    let output = command
        .args(arguments)
        .current_dir(directory)
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| RepositoryError::Start {
            directory: directory.to_owned(),
            source,
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(RepositoryError::Git {
        command: command
            .get_args()
            .nth(fixed)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        directory: directory.to_owned(),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(directory: &Path, arguments: &[&str]) {
        let mut all = vec![
            "-c",
            "user.name=Ann Author",
            "-c",
            "user.email=ann@example.org",
            "-c",
            "commit.gpgsign=false",
        ];
        all.extend(arguments);
        git(directory, all).unwrap();
    }

    /// A repository with two commits on `trunk`.
    fn repository() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        run(path, &["init", "-q", "-b", "trunk"]);
        fs::write(path.join("a.txt"), "a").unwrap();
        run(path, &["add", "."]);
        run(path, &["commit", "-q", "-m", "First"]);
        fs::create_dir(path.join("src")).unwrap();
        fs::write(path.join("src/b.txt"), "b").unwrap();
        fs::write(path.join(".gitignore"), "ignored\n").unwrap();
        run(path, &["add", "."]);
        run(path, &["commit", "-q", "-m", "Second\n\nWith a body"]);
        directory
    }

    #[test]
    fn the_event_is_filled_from_the_commit() {
        let directory = repository();
        let path = directory.path();
        let url = "https://user:secret@git.example.org:8443/group/sub/app.git";
        run(path, &["remote", "add", "origin", url]);
        let repository = Repository::discover(&path.join("src")).unwrap();
        let event = repository.event("push", None, false);
        assert_eq!((event.ref_name.as_str(), event.tag), ("trunk", false));
        for (key, value) in [
            ("CI_COMMIT_BRANCH", "trunk"),
            ("CI_DEFAULT_BRANCH", "trunk"),
            ("CI_COMMIT_TITLE", "Second"),
            ("CI_COMMIT_DESCRIPTION", "With a body"),
            ("CI_COMMIT_AUTHOR", "Ann Author <ann@example.org>"),
            ("CI_PROJECT_PATH", "group/sub/app"),
            ("CI_PROJECT_ROOT_NAMESPACE", "group"),
            (
                "CI_PROJECT_URL",
                "https://git.example.org:8443/group/sub/app",
            ),
        ] {
            assert_eq!(event.predefined[key], value, "{key}");
        }
        assert_eq!(event.predefined["CI_COMMIT_SHA"].len(), 40);
        assert!(!event.predefined.contains_key("CI_COMMIT_TAG"));
        assert!(!event.predefined.contains_key("CI_MERGE_REQUEST_IID"));
        let event = repository.event("merge_request_event", Some("feature"), false);
        assert!(!event.predefined.contains_key("CI_COMMIT_BRANCH"));
        for (key, value) in [
            ("CI_COMMIT_REF_NAME", "feature"),
            ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "feature"),
            ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "trunk"),
            ("CI_MERGE_REQUEST_IID", "1"),
            ("CI_SERVER_HOST", "git.example.org"),
        ] {
            assert_eq!(event.predefined[key], value, "{key}");
        }
        assert!(!format!("{repository:?} {event:?}").contains("secret"));
    }

    #[test]
    fn a_detached_head_at_a_tag_is_the_tag() {
        let directory = repository();
        let path = directory.path();
        run(path, &["tag", "v1"]);
        run(path, &["checkout", "-q", "--detach"]);
        let event = Repository::discover(path)
            .unwrap()
            .event("push", None, false);
        assert_eq!((event.ref_name.as_str(), event.tag), ("v1", true));
        assert_eq!(event.predefined["CI_COMMIT_TAG"], "v1");
        run(path, &["tag", "-d", "v1"]);
        let event = Repository::discover(path)
            .unwrap()
            .event("push", None, false);
        assert_eq!(event.ref_name, event.predefined["CI_COMMIT_SHORT_SHA"]);
    }

    #[test]
    fn worktrees_shallow_clones_and_unborn_branches_work() {
        let directory = repository();
        let path = directory.path();
        let beside = tempfile::tempdir().unwrap();
        let worktree = beside.path().join("worktree");
        let worktree_text = worktree.to_str().unwrap();
        run(
            path,
            &["worktree", "add", "-q", "-b", "side", worktree_text],
        );
        let found = Repository::discover(&worktree).unwrap();
        assert_eq!(found.event("push", None, false).ref_name, "side");

        let shallow = beside.path().join("shallow");
        let from = format!("file://{}", path.display());
        run(
            path,
            &[
                "clone",
                "-q",
                "--depth",
                "1",
                &from,
                shallow.to_str().unwrap(),
            ],
        );
        let found = Repository::discover(&shallow).unwrap();
        let commit = found.git.as_ref().unwrap().commit.as_ref().unwrap();
        assert_eq!(commit.message, "Second\n\nWith a body");
        assert_eq!(found.git.as_ref().unwrap().default_branch, "trunk");

        let unborn = tempfile::tempdir().unwrap();
        run(unborn.path(), &["init", "-q", "-b", "start"]);
        let found = Repository::discover(unborn.path()).unwrap();
        let event = found.event("push", None, false);
        assert_eq!(event.ref_name, "start");
        assert_eq!(event.predefined["CI_COMMIT_SHA"], NO_COMMIT);
        assert_eq!(found.changed_files().unwrap(), ChangedFiles::Unknown);
    }

    #[test]
    fn changes_are_those_of_the_last_commit_and_of_the_working_tree() {
        let directory = repository();
        let path = directory.path();
        fs::write(path.join("a.txt"), "changed").unwrap();
        fs::write(path.join("new.txt"), "new").unwrap();
        fs::write(path.join("ignored"), "no").unwrap();
        let changed = Repository::discover(path).unwrap().changed_files().unwrap();
        let expected = [".gitignore", "a.txt", "new.txt", "src/b.txt"];
        assert_eq!(
            changed,
            ChangedFiles::Known(expected.map(str::to_owned).into())
        );
    }

    #[test]
    fn changes_of_a_merge_request_are_those_since_the_default_branch() {
        let directory = repository();
        let path = directory.path();
        run(path, &["branch", "-m", "main"]);
        run(path, &["checkout", "-q", "-b", "feature"]);
        for name in ["one.txt", "two.txt"] {
            fs::write(path.join(name), "new").unwrap();
            run(path, &["add", "."]);
            run(path, &["commit", "-q", "-m", name]);
        }
        let repository = Repository::discover(path).unwrap();
        let known = |names: &[&str]| {
            ChangedFiles::Known(names.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(
            repository.changed_files_of_merge_request().unwrap(),
            known(&["one.txt", "two.txt"])
        );
        assert_eq!(repository.changed_files().unwrap(), known(&["two.txt"]));
        let expected = ["one.txt", "two.txt"].map(str::to_owned);
        for reference in ["main", "refs/heads/main"] {
            let compared = repository.compare_to(reference);
            assert_eq!(compared, Comparison::Changed(expected.to_vec()));
        }
        for reference in ["nowhere", "--all", ""] {
            let compared = repository.compare_to(reference);
            assert_eq!(compared, Comparison::UnknownReference, "{reference}");
        }
    }

    #[test]
    fn files_outside_the_working_tree_cannot_be_read() {
        let directory = repository();
        let path = directory.path();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("x.yml"), "secret: 1").unwrap();
        std::os::unix::fs::symlink(outside.path(), path.join("link")).unwrap();
        let repository = Repository::discover(path).unwrap();
        assert_eq!(repository.read("src/b.txt").as_deref(), Some("b"));
        assert_eq!(repository.read("link/x.yml"), None);
        assert_eq!(repository.read("../x.yml"), None);
        assert_eq!(repository.read("/etc/passwd"), None);
        assert_eq!(repository.read("src"), None);
    }

    #[test]
    fn listing_leaves_out_what_is_ignored_or_deleted() {
        let directory = repository();
        let path = directory.path();
        fs::write(path.join("ignored"), "no").unwrap();
        fs::write(path.join("new.txt"), "new").unwrap();
        fs::remove_file(path.join("a.txt")).unwrap();
        let listed: BTreeSet<String> = Repository::discover(path)
            .unwrap()
            .list()
            .into_iter()
            .collect();
        let expected = [".gitignore", "new.txt", "src/b.txt"];
        assert_eq!(listed, expected.map(str::to_owned).into());
        let walked = Repository::without_git(path).list();
        assert_eq!(walked, [".gitignore", "ignored", "new.txt", "src/b.txt"]);
    }

    #[test]
    fn a_directory_inside_knows_only_its_own_files() {
        let directory = repository();
        fs::write(directory.path().join("a.txt"), "changed").unwrap();
        fs::write(directory.path().join("src/new.txt"), "new").unwrap();
        let inside = Repository::of_directory(&directory.path().join("src")).unwrap();
        let expected = ["b.txt", "new.txt"].map(str::to_owned);
        assert_eq!(
            inside.changed_files().unwrap(),
            ChangedFiles::Known(expected.to_vec())
        );
        let listed: BTreeSet<String> = inside.list().into_iter().collect();
        assert_eq!(listed, expected.into());
        assert_eq!(inside.read("b.txt").as_deref(), Some("b"));
        assert_eq!(inside.read("a.txt"), None);
        assert_eq!(inside.event("push", None, false).ref_name, "trunk");
    }

    #[test]
    fn projects_are_named_after_the_remote() {
        let root = Path::new("/home/me/thing");
        for (url, path, host) in [
            (
                Some("https://gitlab.com/a/b.git"),
                "a/b",
                Some("gitlab.com"),
            ),
            (
                Some("git@gitlab.com:a/b/c.git"),
                "a/b/c",
                Some("gitlab.com"),
            ),
            (Some("ssh://git@host:2222/a/b"), "a/b", Some("host")),
            (Some("/srv/git/x.git"), "local/thing", None),
            (Some("file:///srv/git/x.git"), "local/thing", None),
            (None, "local/thing", None),
        ] {
            let project = Project::of(url, root);
            assert_eq!(
                (project.path().as_str(), project.host.as_deref()),
                (path, host)
            );
        }
    }
}
