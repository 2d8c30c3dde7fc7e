//! Which files have changed (`gitlab-ci-yaml.md` 11.1).

use std::collections::BTreeSet;

use courser_pipeline::{ChangedFiles, Comparison};

use super::{Repository, RepositoryError, git, paths};

impl Repository {
    /// What a push of this working tree would change: against the upstream branch when there are commits
    /// that it lacks, else against the commit before; uncommitted and untracked files included. Of a
    /// commit: what it changed against the one before.
    pub(crate) fn changed_files(&self) -> Result<ChangedFiles, RepositoryError> {
        let Some(commit) = self.git.as_ref().and_then(|git| git.commit.as_ref()) else {
            return Ok(ChangedFiles::Unknown);
        };
        let upstream = || {
            let base = git(&self.root, ["merge-base", "HEAD", "@{upstream}"]).ok()?;
            let base = base.trim();
            (!base.is_empty() && base != commit.sha).then(|| base.to_owned())
        };
        let base = match self.committed() {
            Some(_) => commit.parent.clone(),
            None => upstream().or_else(|| commit.parent.clone()),
        };
        match base {
            Some(base) => self.changed_since(&base),
            None => Ok(ChangedFiles::Unknown),
        }
    }

    /// What a merge request into `target` (the default branch) would change; that branch itself is taken
    /// for a push.
    pub(crate) fn changed_files_of_merge_request(
        &self,
        target: Option<&str>,
    ) -> Result<ChangedFiles, RepositoryError> {
        let head = self.git.as_ref().and_then(|git| git.commit.as_ref());
        match (self.merge_base(target), head) {
            (Some(base), Some(head)) if base != head.sha => self.changed_since(&base),
            _ => self.changed_files(),
        }
    }

    /// The commit at which this one left the branch that it is to be merged into.
    pub(super) fn merge_base(&self, target: Option<&str>) -> Option<String> {
        let facts = self.git.as_ref()?;
        let head = &facts.commit.as_ref()?.sha;
        let target = target.unwrap_or(&facts.default_branch);
        let known = ["refs/remotes/origin", "refs/heads"];
        let base = known.into_iter().find_map(|below| {
            let target = format!("{below}/{target}");
            git(&self.root, ["merge-base", head, &target]).ok()
        })?;
        Some(base.trim().to_owned())
    }

    /// What this tree changed since it left a branch, tag or commit.
    pub(crate) fn compare_to(&self, reference: &str) -> Comparison {
        let Some(facts) = &self.git else {
            return Comparison::NotBuilt;
        };
        let head = facts.commit.as_ref().map_or("HEAD", |commit| &commit.sha);
        let names = [
            format!("refs/heads/{reference}"),
            format!("refs/remotes/origin/{reference}"),
            format!("refs/tags/{reference}"),
            reference.to_owned(),
        ];
        let base = names.iter().find_map(|name| {
            let sha = self.commit_id(name)?;
            git(&self.root, ["merge-base", head, &sha]).ok()
        });
        match base.map(|base| self.changed_since(base.trim())) {
            Some(Ok(ChangedFiles::Known(changed))) => Comparison::Changed(changed),
            _ => Comparison::UnknownReference,
        }
    }

    /// Differences to a commit; of a working tree uncommitted and untracked files included.
    fn changed_since(&self, base: &str) -> Result<ChangedFiles, RepositoryError> {
        let mut diff = vec![
            "diff",
            "--name-only",
            "--no-renames",
            "--no-ext-diff",
            "--relative",
            "-z",
            base,
        ];
        diff.extend(self.committed().map(|commit| commit.sha.as_str()));
        diff.push("--");
        let mut changed: BTreeSet<String> = paths(&git(&self.root, diff)?).collect();
        if self.committed().is_none() {
            let others = ["ls-files", "-z", "--others", "--exclude-standard"];
            changed.extend(paths(&git(&self.root, others)?));
        }
        Ok(ChangedFiles::Known(changed.into_iter().collect()))
    }
}
