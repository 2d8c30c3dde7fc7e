//! Branches, tags and commits by the names that people give them.

use super::{Repository, git};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefKind {
    Branch,
    Tag,
    /// `HEAD~2`, a commit id: a commit of whatever branch is checked out.
    Commit,
}

/// A name that Git knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) kind: RefKind,
    /// Without `refs/heads/` and the like; of a commit as it was given.
    pub(crate) name: String,
    pub(crate) sha: String,
}

/// Where branches and tags are looked for, in this order.
const PLACES: [(&str, RefKind); 3] = [
    ("refs/heads/", RefKind::Branch),
    ("refs/remotes/origin/", RefKind::Branch),
    ("refs/tags/", RefKind::Tag),
];

impl Repository {
    /// What `name` stands for: a branch, one of the remote `origin`, a tag, else any commit. With `tag`
    /// only a tag. `None` when Git knows nothing of that name.
    pub(crate) fn find_ref(&self, name: &str, tag: bool) -> Option<Reference> {
        self.git.as_ref()?;
        let named = PLACES
            .iter()
            .filter(|(_, kind)| !tag || *kind == RefKind::Tag)
            .find_map(|(below, kind)| {
                let mut short = name.strip_prefix(below).unwrap_or(name);
                if below.ends_with("origin/") {
                    short = short.strip_prefix("origin/").unwrap_or(short);
                }
                let full = format!("{below}{short}");
                // Behind a prefix Git understands `main~1` too, which is no branch; and `origin/HEAD` is a
                // pointer at a branch, not one.
                if full == "refs/remotes/origin/HEAD" || !self.has_ref(&full) {
                    return None;
                }
                Some(Reference {
                    kind: *kind,
                    name: short.to_owned(),
                    sha: self.commit_id(&full)?,
                })
            });
        named.or_else(|| {
            let sha = (!tag).then(|| self.commit_id(name)).flatten()?;
            Some(Reference {
                kind: RefKind::Commit,
                name: name.to_owned(),
                sha,
            })
        })
    }

    /// Whether there is a ref of exactly this full name.
    fn has_ref(&self, full: &str) -> bool {
        git(&self.root, ["show-ref", "--verify", "--quiet", "--", full]).is_ok()
    }

    /// The commit that a revision names.
    pub(super) fn commit_id(&self, revision: &str) -> Option<String> {
        let commit = format!("{revision}^{{commit}}");
        let verify = ["rev-parse", "--verify", "-q", "--end-of-options", &commit];
        let sha = git(&self.root, verify).ok()?;
        Some(sha.trim().to_owned())
    }

    /// Message of an annotated tag.
    pub(super) fn tag_message(&self, tag: &str) -> Option<String> {
        self.git.as_ref()?;
        let format = "--format=%(objecttype)%00%(contents:subject)%0a%0a%(contents:body)";
        let name = format!("refs/tags/{tag}");
        let text = git(&self.root, ["for-each-ref", format, &name]).ok()?;
        let (kind, message) = text.split_once('\0')?;
        (kind == "tag").then(|| message.trim().to_owned())
    }

    /// Names of branches and tags, for suggestions.
    pub(crate) fn ref_names(&self) -> Vec<String> {
        let listing = git(
            &self.root,
            [
                "for-each-ref",
                "--format=%(refname)",
                "refs/heads",
                "refs/tags",
                "refs/remotes/origin",
            ],
        );
        let listing = listing.unwrap_or_default();
        let short = |name: &str| {
            let places = PLACES.iter();
            let short = places
                .filter_map(|(below, _)| name.strip_prefix(below))
                .next()?;
            (short != "HEAD").then(|| short.to_owned())
        };
        let mut names: Vec<String> = listing.lines().filter_map(short).collect();
        names.sort();
        names.dedup();
        names
    }
}
