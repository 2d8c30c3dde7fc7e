//! Cache keys that come from files (`gitlab-ci-yaml.md` 16.1): the repository is asked once, when the
//! pipeline is created.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;

use aws_lc_rs::digest;
use tokio::process::Command;

use courser_pipeline::{CacheKey, Pipeline};

use crate::git_http::FOREIGN_VARIABLES;

/// Ids of the files that a pipeline's keys name.
#[derive(Debug, Default)]
pub(crate) struct CacheKeys {
    /// Blob id by path.
    contents: HashMap<String, String>,
    /// Last commit by path.
    commits: HashMap<String, String>,
}

impl CacheKeys {
    /// Looks up what the pipeline's keys need; runs nothing when no key is made of files.
    pub(crate) async fn look_up(
        pipeline: &Pipeline,
        git_dir: &Path,
        commit: &str,
    ) -> std::io::Result<Self> {
        let mut keys = Self::default();
        for cache in pipeline.jobs.iter().flat_map(|job| &job.cache) {
            match &cache.key {
                CacheKey::Text(_) => {}
                CacheKey::Files { files, .. } => {
                    for file in files {
                        if !keys.contents.contains_key(file) {
                            let object = format!("{commit}:{file}");
                            let arguments = ["rev-parse", "--verify", "--quiet", &object];
                            keys.contents
                                .insert(file.clone(), git(git_dir, &arguments).await?);
                        }
                    }
                }
                CacheKey::FilesCommits { files_commits, .. } => {
                    for file in files_commits {
                        if !keys.commits.contains_key(file) {
                            let arguments = ["log", "-1", "--format=%H", commit, "--", file];
                            keys.commits
                                .insert(file.clone(), git(git_dir, &arguments).await?);
                        }
                    }
                }
            }
        }
        Ok(keys)
    }

    /// The key as text; `index` is the cache's place in its job.
    pub(crate) fn text(&self, index: usize, key: &CacheKey) -> String {
        let (files, prefix, ids) = match key {
            CacheKey::Text(text) => return text.clone(),
            CacheKey::Files { files, prefix } => (files, prefix, &self.contents),
            CacheKey::FilesCommits {
                files_commits,
                prefix,
            } => (files_commits, prefix, &self.commits),
        };
        let mut ids: Vec<&str> = files
            .iter()
            .filter_map(|file| ids.get(file))
            .map(String::as_str)
            .filter(|id| !id.is_empty())
            .collect();
        ids.sort_unstable();
        let hash = if ids.is_empty() {
            "default".to_owned()
        } else {
            let text = ids.join("-");
            hex::encode(digest::digest(
                &digest::SHA1_FOR_LEGACY_USE_ONLY,
                text.as_bytes(),
            ))
        };
        let prefix = prefix
            .clone()
            .unwrap_or_else(|| format!("{index}_{}", stems(files).join("_")));
        format!("{prefix}-{hash}")
    }
}

/// File names without directories and extensions.
fn stems(files: &[String]) -> Vec<String> {
    files
        .iter()
        .map(|file| {
            let stem = Path::new(file).file_stem().unwrap_or_default();
            stem.to_string_lossy().into_owned()
        })
        .collect()
}

/// What Git prints, trimmed; empty when it finds nothing.
async fn git(git_dir: &Path, arguments: &[&str]) -> std::io::Result<String> {
    let mut command = Command::new("git");
    for name in FOREIGN_VARIABLES {
        command.env_remove(name);
    }
    let output = command
        .arg("--git-dir")
        .arg(git_dir)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_files_are_prefix_and_hash_in_any_order_of_files() {
        let keys = CacheKeys {
            contents: [
                ("b.lock".to_owned(), "bb".to_owned()),
                ("a.lock".to_owned(), "aa".to_owned()),
            ]
            .into(),
            commits: HashMap::new(),
        };
        let files = |names: &[&str], prefix: Option<&str>| CacheKey::Files {
            files: names.iter().map(|name| (*name).to_owned()).collect(),
            prefix: prefix.map(str::to_owned),
        };
        // printf 'aa-bb' | sha1sum
        let hash = "98f7076eee4213b02ca9634ee9cfe18047eabf8c";
        let first = keys.text(0, &files(&["a.lock", "b.lock"], Some("p")));
        let second = keys.text(0, &files(&["b.lock", "a.lock"], Some("p")));
        assert_eq!(first, second);
        assert_eq!(first, format!("p-{hash}"));
        assert!(
            keys.text(1, &files(&["dir/a.lock"], None))
                .starts_with("1_a-")
        );
        assert_eq!(keys.text(0, &files(&["missing"], Some("p"))), "p-default");
        assert_eq!(
            keys.text(0, &CacheKey::Text("$CI_JOB_NAME".into())),
            "$CI_JOB_NAME"
        );
    }
}
