//! The event a pipeline is for, and the predefined variables that are known from the repository
//! (`gitlab-ci-yaml.md` 18).

use std::collections::BTreeMap;

use courser_coordinator::server_variables;
use courser_pipeline::{Event, slug};
use jiff::Timestamp;
use url::Url;

use super::commit::{Commit, GitFacts};
use super::remote::Remote;
use super::{Repository, short_sha};

pub(super) const NO_COMMIT: &str = "0000000000000000000000000000000000000000";
/// Of a repository without a remote.
const NO_HOST: &str = "localhost";
/// The number of a local merge request.
const MERGE_REQUEST: &str = "1";
/// Bytes of a description that GitLab puts into a variable.
const DESCRIPTION: usize = 2700;

/// What a pipeline is for, as far as somebody says it.
#[derive(Debug, Clone)]
pub(crate) struct Occasion {
    /// `CI_PIPELINE_SOURCE`.
    pub(crate) source: String,
    /// Branch or tag; what is checked out without it.
    pub(crate) ref_name: Option<String>,
    /// Whether it is a tag.
    pub(crate) tag: bool,
    /// Branch that a merge request goes to; the default branch without it.
    pub(crate) target: Option<String>,
}

impl Occasion {
    /// A push of what is checked out.
    #[cfg(test)]
    pub(crate) fn push() -> Self {
        Self::from_source("push")
    }

    /// Another source.
    pub(crate) fn from_source(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            ref_name: None,
            tag: false,
            target: None,
        }
    }

    /// Whether it is a merge request's.
    pub(crate) fn is_merge_request(&self) -> bool {
        self.source == "merge_request_event"
    }
}

impl Repository {
    /// The event of a pipeline; `changed_files` is left to the caller, because only some pipelines ask
    /// for it ([`Self::changed_files`]).
    pub(crate) fn event(&self, occasion: &Occasion) -> Event {
        let (name, tag) = match &occasion.ref_name {
            Some(name) => (name.clone(), occasion.tag),
            None => {
                let (name, tag) = self.ref_name();
                (name, tag || occasion.tag)
            }
        };
        let tag = tag && !occasion.is_merge_request();
        let full_ref = match (occasion.is_merge_request(), tag) {
            (true, _) => merge_request_ref(),
            (false, true) => format!("refs/tags/{name}"),
            (false, false) => format!("refs/heads/{name}"),
        };
        Event {
            source: occasion.source.clone(),
            predefined: self.predefined(occasion, &name, tag),
            of_server: of_server(&self.remote(), &full_ref),
            ref_name: if occasion.is_merge_request() {
                merge_request_ref()
            } else {
                name
            },
            tag,
            ..Event::default()
        }
    }

    /// `group/project`, as the remote tells.
    pub(crate) fn project_path(&self) -> String {
        self.remote().path()
    }

    fn remote(&self) -> Remote {
        let url = self.git.as_ref().and_then(|git| git.remote_url.as_deref());
        Remote::of(url, &self.root)
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

    fn predefined(
        &self,
        occasion: &Occasion,
        ref_name: &str,
        tag: bool,
    ) -> BTreeMap<String, String> {
        let facts = GitFacts::default();
        let git = self.git.as_ref().unwrap_or(&facts);
        let default_branch = if git.default_branch.is_empty() {
            ref_name
        } else {
            &git.default_branch
        };
        let remote = self.remote();
        let mut variables = BTreeMap::new();
        let mut set = |key: &str, value: &str| {
            variables.insert(key.to_owned(), value.to_owned());
        };
        of_project(&remote, &mut set);
        set("CI_DEFAULT_BRANCH", default_branch);
        set("CI_PIPELINE_SOURCE", &occasion.source);
        set("CI_PIPELINE_IID", "1");
        set("CI_COMMIT_REF_NAME", ref_name);
        set("CI_COMMIT_REF_SLUG", &slug(ref_name));
        // A new project protects its default branch and nothing else. A guess gives nobody rights.
        let protected = !tag && ref_name == default_branch && !git.default_is_guessed;
        set("CI_COMMIT_REF_PROTECTED", yes_no(protected));
        let unborn = Commit {
            sha: NO_COMMIT.to_owned(),
            ..Commit::default()
        };
        let commit = git.commit.as_ref().unwrap_or(&unborn);
        of_commit(commit, &mut set);
        // Only a push to a branch has something before it.
        let before = commit.parent.as_deref();
        let before = before.filter(|_| occasion.source == "push" && !tag);
        set("CI_COMMIT_BEFORE_SHA", before.unwrap_or(NO_COMMIT));
        if tag {
            set("CI_COMMIT_TAG", ref_name);
            let message = self.tag_message(ref_name);
            set(
                "CI_COMMIT_TAG_MESSAGE",
                message.as_deref().unwrap_or_default(),
            );
        } else if !occasion.is_merge_request() {
            set("CI_COMMIT_BRANCH", ref_name);
        }
        match occasion.source.as_str() {
            "merge_request_event" => {
                let target = occasion.target.as_deref().unwrap_or(default_branch);
                let base = self.merge_base(Some(target));
                let merge_request = MergeRequest {
                    remote: &remote,
                    commit,
                    source: ref_name,
                    target,
                    base: base.as_deref().unwrap_or(NO_COMMIT),
                    default_branch,
                };
                merge_request.variables(&mut set);
            }
            "trigger" => {
                set("CI_PIPELINE_TRIGGERED", "true");
                set("CI_TRIGGER_SHORT_TOKEN", "cour");
            }
            "schedule" => set("CI_PIPELINE_SCHEDULE_DESCRIPTION", "local schedule"),
            _ => {}
        }
        if let Some(name) = &git.user.0 {
            set("GITLAB_USER_NAME", name);
        }
        if let Some(email) = &git.user.1 {
            set("GITLAB_USER_EMAIL", email);
            let login = email.split('@').next().unwrap_or_default();
            set("GITLAB_USER_LOGIN", login);
            set("CI_COMMIT_USER_LOGIN", login);
        }
        variables
    }
}

/// What does not depend on commit and event.
fn of_project(remote: &Remote, set: &mut impl FnMut(&str, &str)) {
    set("CI_PROJECT_VISIBILITY", "private");
    set("CI_CONFIG_PATH", ".gitlab-ci.yml");
    set("CI_PROJECT_NAME", &remote.name);
    set("CI_PROJECT_TITLE", &remote.name);
    set("CI_PROJECT_PATH", &remote.path());
    set("CI_PROJECT_PATH_SLUG", &slug(&remote.path()));
    set("CI_PROJECT_NAMESPACE", &remote.namespace);
    let outermost = remote.namespace.split('/').next().unwrap_or_default();
    set("CI_PROJECT_ROOT_NAMESPACE", outermost);
    if let Some(host) = &remote.host {
        let url = format!("https://{host}/{}", remote.path());
        set("CI_PROJECT_URL", &url);
    }
}

/// What the server of the remote would set; without a remote, one on this machine. Jobs get most of it from
/// the coordinator that they run on.
fn of_server(remote: &Remote, full_ref: &str) -> BTreeMap<String, String> {
    let host = remote.host.as_deref().unwrap_or(NO_HOST);
    let url = Url::parse(&format!("https://{host}/"))
        .or_else(|_| Url::parse(&format!("https://{NO_HOST}/")));
    let Ok(url) = url else {
        return BTreeMap::new();
    };
    let mut variables: BTreeMap<String, String> =
        server_variables(&url, 1, &remote.path(), full_ref)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
    let now = Timestamp::now();
    variables.insert("CI_PIPELINE_CREATED_AT".to_owned(), format!("{now:.0}"));
    variables
}

fn of_commit(commit: &Commit, set: &mut impl FnMut(&str, &str)) {
    let (title, description) = title_and_description(&commit.message);
    set("CI_COMMIT_SHA", &commit.sha);
    set("CI_COMMIT_SHORT_SHA", &short_sha(&commit.sha));
    set("CI_COMMIT_MESSAGE", &commit.message);
    set("CI_COMMIT_MESSAGE_IS_TRUNCATED", "false");
    set("CI_COMMIT_TITLE", title);
    set("CI_COMMIT_DESCRIPTION", description);
    set("CI_COMMIT_TIMESTAMP", &commit.timestamp);
    set("CI_COMMIT_AUTHOR", &commit.author);
}

/// A merge request that nobody has opened: number, title and diff as Git tells them. What GitLab sets
/// only where there is any (labels, assignees, milestone, approval) is left to `--variable`.
struct MergeRequest<'a> {
    remote: &'a Remote,
    commit: &'a Commit,
    source: &'a str,
    target: &'a str,
    base: &'a str,
    default_branch: &'a str,
}

impl MergeRequest<'_> {
    fn variables(&self, set: &mut impl FnMut(&str, &str)) {
        let path = self.remote.path();
        let (title, description) = title_and_description(&self.commit.message);
        let draft = ["draft:", "[draft]", "(draft)"]
            .iter()
            .any(|mark| title.to_lowercase().starts_with(mark));
        let cut = description.floor_char_boundary(DESCRIPTION.min(description.len()));
        let reference = merge_request_ref();
        for (key, value) in [
            ("ID", MERGE_REQUEST),
            ("IID", MERGE_REQUEST),
            ("PROJECT_ID", "1"),
            ("PROJECT_PATH", &path),
            ("SOURCE_PROJECT_ID", "1"),
            ("SOURCE_PROJECT_PATH", &path),
            ("SOURCE_BRANCH_NAME", self.source),
            (
                "SOURCE_BRANCH_PROTECTED",
                yes_no(self.source == self.default_branch),
            ),
            // Both are set in merged results pipelines only.
            ("SOURCE_BRANCH_SHA", ""),
            ("TARGET_BRANCH_SHA", ""),
            ("TARGET_BRANCH_NAME", self.target),
            (
                "TARGET_BRANCH_PROTECTED",
                yes_no(self.target == self.default_branch),
            ),
            ("DIFF_BASE_SHA", self.base),
            ("DIFF_ID", "1"),
            ("REF_PATH", &reference),
            ("EVENT_TYPE", "detached"),
            ("TITLE", title),
            ("DESCRIPTION", &description[..cut]),
            ("DESCRIPTION_IS_TRUNCATED", yes_no(cut < description.len())),
            ("DRAFT", yes_no(draft)),
            ("SQUASH_ON_MERGE", "false"),
        ] {
            set(&format!("CI_MERGE_REQUEST_{key}"), value);
        }
        if let Some(host) = &self.remote.host {
            let url = format!("https://{host}/{path}");
            set("CI_MERGE_REQUEST_PROJECT_URL", &url);
            set("CI_MERGE_REQUEST_SOURCE_PROJECT_URL", &url);
        }
        set("CI_OPEN_MERGE_REQUESTS", &format!("{path}!{MERGE_REQUEST}"));
    }
}

fn merge_request_ref() -> String {
    format!("refs/merge-requests/{MERGE_REQUEST}/head")
}

fn yes_no(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// First line, and what follows the empty line after it.
fn title_and_description(message: &str) -> (&str, &str) {
    match message.split_once('\n') {
        Some((title, rest)) => (title, rest.trim_start_matches('\n')),
        None => (message, ""),
    }
}
