//! Submodules of a commit, served from what is checked out here: jobs need no network for them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use courser_coordinator::{Origin, ServedRepository, StoreError, Submodule};
use tokio::process::Command;

/// How deep submodules of submodules are looked for.
const DEPTH: usize = 16;
/// Submodules of a run.
const LIMIT: usize = 1000;
/// The longest `.git` file that is read.
const LONGEST_LINK: u64 = 8192;

/// Why they cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmoduleError {
    /// Git is missing or cannot be started.
    #[error("cannot run git: {0}")]
    Run(#[from] io::Error),
    /// What serves them cannot be written.
    #[error(transparent)]
    Write(#[from] StoreError),
}

/// Submodules at every depth.
#[derive(Debug, Default)]
pub(crate) struct Submodules {
    found: Vec<Found>,
    /// What jobs do not get from here, by name; a sentence each, without a full stop.
    pub(crate) notes: Vec<String>,
}

#[derive(Debug)]
struct Found {
    /// As written, of this one and those around it: each may be relative to the one before.
    urls: Vec<String>,
    repository: ServedRepository,
}

/// Where submodules are looked for.
struct Parent<'a> {
    /// Name for people, empty for the project itself.
    path: String,
    urls: Vec<String>,
    /// Has the commit.
    repository: PathBuf,
    commit: &'a str,
    /// Repositories of submodules by name.
    modules: PathBuf,
    work_tree: Option<PathBuf>,
}

/// What `.gitmodules` and the commit say.
struct Named {
    name: String,
    path: String,
    url: String,
    commit: String,
}

impl Submodules {
    /// Those of `commit`, which the served repository `git_dir` has. `common` is the user's repository, and
    /// `work_tree` the working tree that the commit is of.
    pub(crate) async fn find(
        common: &Path,
        git_dir: &Path,
        commit: &str,
        work_tree: Option<&Path>,
    ) -> Result<Self, SubmoduleError> {
        let mut all = Self::default();
        if work_tree.is_some_and(|tree| !tree.join(".gitmodules").is_file()) {
            return Ok(all);
        }
        let project = Parent {
            path: String::new(),
            urls: Vec::new(),
            repository: git_dir.to_owned(),
            commit,
            modules: common.join("modules"),
            work_tree: work_tree.map(Path::to_owned),
        };
        // Other commits have others.
        let state = git_dir.join("submodules").join(commit);
        all.below(&project, &state, DEPTH).await?;
        Ok(all)
    }

    /// The same for jobs whose project has this URL.
    pub(crate) fn served(&self, project_url: &str) -> Vec<Submodule> {
        let mut served: Vec<Submodule> = Vec::new();
        for found in &self.found {
            let project = project_url.to_owned();
            let url = found
                .urls
                .iter()
                .fold(project, |base, url| resolve(&base, url));
            if served.iter().all(|other| other.url != url) {
                served.push(Submodule {
                    url,
                    repository: found.repository.clone(),
                });
            }
        }
        served
    }

    async fn below(
        &mut self,
        parent: &Parent<'_>,
        state: &Path,
        depth: usize,
    ) -> Result<(), SubmoduleError> {
        for named in named(parent).await? {
            let path = if parent.path.is_empty() {
                named.path.clone()
            } else {
                format!("{}/{}", parent.path, named.path)
            };
            let work_tree = parent.work_tree.as_ref().map(|tree| tree.join(&named.path));
            let Some(repository) = repository_of(parent, &named, work_tree.as_deref()) else {
                self.notes.push(format!(
                    "submodule {path} is not checked out here: jobs ask its URL for it, unless you run git \
                     submodule update --init --recursive"
                ));
                continue;
            };
            let short = named.commit.get(..8).unwrap_or(&named.commit).to_owned();
            if !has_commit(&repository, &named.commit).await? {
                self.notes.push(format!(
                    "submodule {path} does not have commit {short} here: run git submodule update --recursive"
                ));
                continue;
            }
            if let Some(tree) = &work_tree
                && is_changed(tree).await?
            {
                self.notes.push(format!(
                    "submodule {path} has changes that are not committed: jobs get its commit {short}"
                ));
            }
            if self.found.len() == LIMIT || depth == 0 {
                self.notes
                    .push(format!("submodule {path} is one too many or too deep"));
                return Ok(());
            }
            let served = serve(
                &repository,
                &named.commit,
                &state.join(self.found.len().to_string()),
            )?;
            let mut urls = parent.urls.clone();
            urls.push(named.url);
            self.found.push(Found {
                urls: urls.clone(),
                repository: served,
            });
            let inner = Parent {
                path,
                urls,
                modules: repository.join("modules"),
                repository,
                commit: &named.commit,
                work_tree,
            };
            Box::pin(self.below(&inner, state, depth - 1)).await?;
        }
        Ok(())
    }
}

/// `git` in a directory, as for every other question to the repository.
fn git(directory: &Path) -> Command {
    let mut command = Command::from(super::command(directory));
    command.kill_on_drop(true);
    command
}

/// A repository with only this commit, and the objects of the user's.
fn serve(user: &Path, commit: &str, git_dir: &Path) -> Result<ServedRepository, SubmoduleError> {
    let shallow = user.join("shallow");
    let format = if commit.len() == 64 { "sha256" } else { "sha1" };
    let origin = Origin {
        objects: Some(user.join("objects")),
        shallow: shallow.is_file().then_some(shallow),
        object_format: format.to_owned(),
    };
    let served = ServedRepository::create(git_dir, &origin)?;
    served.set_ref("refs/heads/main", commit)?;
    Ok(served.with_lfs_objects(user.join("lfs/objects")))
}

/// Submodules that the commit has and `.gitmodules` tells of.
async fn named(parent: &Parent<'_>) -> Result<Vec<Named>, SubmoduleError> {
    let blob = format!("{}:.gitmodules", parent.commit);
    let listed = git(&parent.repository)
        .env("GIT_DIR", &parent.repository)
        .args(["config", "--null", "--blob", &blob])
        .args(["--get-regexp", r"^submodule\..*\.(path|url)$"])
        .output()
        .await?;
    let mut names: Vec<(String, Option<String>, Option<String>)> = Vec::new();
    let text = String::from_utf8_lossy(&listed.stdout);
    for (key, value) in text.split('\0').filter_map(|entry| entry.split_once('\n')) {
        let Some((name, kind)) = key
            .strip_prefix("submodule.")
            .and_then(|rest| rest.rsplit_once('.'))
        else {
            continue;
        };
        let at = names.iter().position(|(known, ..)| known == name);
        let at = at.unwrap_or_else(|| {
            names.push((name.to_owned(), None, None));
            names.len() - 1
        });
        let value = Some(value.to_owned());
        match kind {
            "path" => names[at].1 = value,
            _ => names[at].2 = value,
        }
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let paths = names.iter().filter_map(|(_, path, _)| path.as_ref());
    let tree = git(&parent.repository)
        .env("GIT_DIR", &parent.repository)
        .env("GIT_LITERAL_PATHSPECS", "1")
        .args(["ls-tree", "-z", "--full-tree", parent.commit, "--"])
        .args(paths)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&tree.stdout);
    let mut all = Vec::new();
    for entry in text.split('\0') {
        let Some((commit, path)) = entry
            .strip_prefix("160000 commit ")
            .and_then(|rest| rest.split_once('\t'))
        else {
            continue;
        };
        let of_path = |(_, known, _): &&(_, Option<String>, _)| known.as_deref() == Some(path);
        if let Some((name, _, Some(url))) = names.iter().find(of_path) {
            all.push(Named {
                name: name.clone(),
                path: path.to_owned(),
                url: url.clone(),
                commit: commit.to_owned(),
            });
        }
    }
    Ok(all)
}

/// The user's repository of a submodule: where its work tree says, or where Git keeps it by name.
fn repository_of(parent: &Parent<'_>, named: &Named, work_tree: Option<&Path>) -> Option<PathBuf> {
    let linked = work_tree.and_then(|tree| {
        let link = tree.join(".git");
        let metadata = link.symlink_metadata().ok()?;
        if metadata.is_dir() {
            return Some(link);
        }
        if metadata.len() > LONGEST_LINK {
            return None;
        }
        let text = fs::read_to_string(&link).ok()?;
        tree.join(text.strip_prefix("gitdir: ")?.trim_end())
            .canonicalize()
            .ok()
    });
    let by_name = || {
        // Git refuses such names.
        let leads_out =
            named.name.split('/').any(|part| part == "..") || named.name.starts_with('/');
        (!leads_out).then(|| parent.modules.join(&named.name))
    };
    linked
        .or_else(by_name)
        .filter(|repository| repository.join("objects").is_dir())
}

async fn has_commit(repository: &Path, commit: &str) -> Result<bool, io::Error> {
    let output = git(repository)
        .env("GIT_DIR", repository)
        .args(["cat-file", "-e", &format!("{commit}^{{commit}}")])
        .output()
        .await?;
    Ok(output.status.success())
}

async fn is_changed(work_tree: &Path) -> Result<bool, io::Error> {
    if !work_tree.join(".git").exists() {
        return Ok(false);
    }
    let arguments = ["status", "--porcelain", "--ignore-submodules=all"];
    let output = git(work_tree).args(arguments).output().await?;
    Ok(!output.stdout.is_empty())
}

/// A URL of `.gitmodules` as Git resolves it against the remote of the repository around it.
fn resolve(base: &str, url: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let mut base = base.trim_end_matches('/');
    let mut rest = url;
    let mut separator = '/';
    loop {
        if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            match base.rfind('/').or_else(|| base.rfind(':')) {
                Some(at) => {
                    separator = char::from(base.as_bytes()[at]);
                    base = &base[..at];
                }
                None => base = "",
            }
        } else if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else {
            break;
        }
    }
    format!("{base}{separator}{}", rest.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_resolved_as_git_does() {
        for (base, url, expected) in [
            ("https://h/g/p.git", "../one.git", "https://h/g/one.git"),
            ("https://h/g/p.git/", "../../x/", "https://h/x"),
            ("https://h/g/p.git", "./in", "https://h/g/p.git/in"),
            ("https://h/g/p.git", "ssh://git@h/x", "ssh://git@h/x"),
            ("git@h:g/p.git", "../one.git", "git@h:g/one.git"),
            ("git@h:p.git", "../one.git", "git@h:one.git"),
        ] {
            assert_eq!(resolve(base, url), expected, "{base} {url}");
        }
    }
}
