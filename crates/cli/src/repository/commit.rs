//! What Git knows of the working tree and of one commit.

use std::path::Path;

use super::remote::without_credentials;
use super::{RepositoryError, git};

/// What Git knows of a repository and the commit that is looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct GitFacts {
    /// The checked-out branch, `None` when HEAD is detached.
    pub(crate) branch: Option<String>,
    /// A tag at the commit, looked for only when HEAD is detached.
    pub(crate) tag: Option<String>,
    /// The branch that merges go to.
    pub(crate) default_branch: String,
    /// Whether it is only a guess: the one that is checked out.
    pub(crate) default_is_guessed: bool,
    /// The commit, `None` before the first one.
    pub(crate) commit: Option<Commit>,
    /// URL of the remote `origin` (or the only one), without credentials.
    pub(crate) remote_url: Option<String>,
    /// `user.name` and `user.email`.
    pub(crate) user: (Option<String>, Option<String>),
}

/// A commit.
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

impl GitFacts {
    pub(super) fn read(root: &Path) -> Result<Self, RepositoryError> {
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
        let known = default_branch(root)?;
        let mut facts = Self {
            default_is_guessed: known.is_none(),
            default_branch: known
                .or_else(|| branch.clone())
                .unwrap_or_else(|| "main".to_owned()),
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
fn default_branch(root: &Path) -> Result<Option<String>, RepositoryError> {
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
    let usual = || ["main", "master"].into_iter().find(|name| known(name));
    Ok(head.or_else(usual).map(str::to_owned))
}

impl Commit {
    /// The commit that a revision names, `None` when there is none (`HEAD` before the first one).
    pub(super) fn read(root: &Path, revision: &str) -> Result<Option<Self>, RepositoryError> {
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
