//! Where a job lives (`runner-build-lifecycle.md` 2.1).

use crate::Rejection;
use crate::context::DirectoryLayout;
use crate::helper_request::GitStrategy;
use crate::sources::RemoteUrl;

/// Absolute directories of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directories {
    /// Working copy, `CI_PROJECT_DIR`.
    pub project: String,
    /// `<project>.tmp`, beside it.
    pub temporary: String,
    /// Local caches of the project.
    pub cache_root: String,
}

impl Directories {
    /// Directories before `GIT_CLONE_PATH` and strategy are known: what these may refer to.
    pub(crate) fn standard(layout: &DirectoryLayout, place: &Place<'_>) -> Result<Self, Rejection> {
        if layout.builds.is_empty() {
            return Err(Rejection::configuration("the builds_dir is not configured"));
        }
        if layout.cache.is_empty() {
            return Err(Rejection::configuration("the cache_dir is not configured"));
        }
        let path = project_path(place.repo_url, place.project_id);
        let builds = layout.builds.trim_end_matches('/');
        let project = if layout.shared_builds {
            format!(
                "{builds}/{}/{}/{path}",
                place.short_token, place.concurrent_project_id
            )
        } else {
            format!("{builds}/{path}")
        };
        Ok(Self {
            temporary: format!("{project}.tmp"),
            project,
            cache_root: format!("{}/{path}", layout.cache.trim_end_matches('/')),
        })
    }

    /// The final directories.
    pub(crate) fn with_choice(
        self,
        layout: &DirectoryLayout,
        strategy: GitStrategy,
        clone_path: &str,
        custom_build_dir_enabled: bool,
    ) -> Result<Self, Rejection> {
        let mut chosen = self;
        if !clone_path.is_empty() {
            if !custom_build_dir_enabled {
                return Err(Rejection::configuration(
                    "setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature",
                ));
            }
            let root = clean(&layout.builds);
            let path = clean(clone_path);
            let inside = root == "/" || path == root || path.starts_with(&format!("{root}/"));
            if !inside || !path.starts_with('/') {
                return Err(Rejection::configuration(format!(
                    "the GIT_CLONE_PATH=\"{clone_path}\" has to be within \"{}\"",
                    layout.builds
                )));
            }
            chosen.project = path;
        }
        if strategy == GitStrategy::Empty {
            if clone_path.is_empty() {
                chosen.project.push_str("-empty");
            }
            chosen.cache_root.push_str("-empty");
        }
        chosen.temporary = format!("{}.tmp", chosen.project);
        Ok(chosen)
    }
}

/// What names a job's directory.
pub(crate) struct Place<'a> {
    pub(crate) short_token: &'a str,
    pub(crate) concurrent_project_id: usize,
    pub(crate) repo_url: &'a str,
    pub(crate) project_id: i64,
}

/// Path part of the repository's URL, safe as a relative path.
fn project_path(repo_url: &str, project_id: i64) -> String {
    let fallback = || format!("project-{project_id}");
    let Some(url) = RemoteUrl::parse(repo_url) else {
        return fallback();
    };
    if url.authority.is_empty() {
        return fallback();
    }
    let path = url.path.split(['?', '#']).next().unwrap_or_default();
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let unsafe_part = |part: &str| part == ".." || part.contains('\0');
    let path = if path.split('/').any(unsafe_part) {
        return fallback();
    } else {
        clean(&format!("/{path}"))
    };
    match path.trim_start_matches('/') {
        "" => fallback(),
        path => path.to_owned(),
    }
}

/// Go's `path.Clean`: no empty, `.` and (where possible) `..` parts.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&"..") | None if !absolute => parts.push(".."),
                _ => {
                    parts.pop();
                }
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("", "."),
            ("a//b/./c/", "a/b/c"),
            ("/a/../..", "/"),
            ("../a/..", ".."),
            ("../../a", "../../a"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn the_project_path_comes_from_the_url_and_never_leaves_the_root() {
        for (url, expected) in [
            ("https://u:t@gitlab.example/group/p.git", "group/p"),
            ("https://gitlab.example:8443/a/b/c.git/", "a/b/c"),
            ("ssh://git@h/g/p.git", "g/p"),
            ("https://gitlab.example/", "project-7"),
            ("https://gitlab.example/a/../../etc", "project-7"),
            ("file:///srv/repo.git", "project-7"),
            ("/srv/repo.git", "project-7"),
            ("", "project-7"),
        ] {
            assert_eq!(project_path(url, 7), expected, "{url}");
        }
    }

    fn layout(shared_builds: bool) -> DirectoryLayout {
        DirectoryLayout {
            builds: "/b".to_owned(),
            cache: "/c".to_owned(),
            shared_builds,
        }
    }

    const PLACE: Place<'_> = Place {
        short_token: "abc",
        concurrent_project_id: 2,
        repo_url: "https://h/g/p.git",
        project_id: 1,
    };

    #[test]
    fn layouts_are_the_documented_ones() {
        let shared = Directories::standard(&layout(true), &PLACE).unwrap();
        assert_eq!(shared.project, "/b/abc/2/g/p");
        assert_eq!(shared.temporary, "/b/abc/2/g/p.tmp");
        assert_eq!(shared.cache_root, "/c/g/p");
        let own = Directories::standard(&layout(false), &PLACE).unwrap();
        assert_eq!(own.project, "/b/g/p");
        let empty = own
            .with_choice(&layout(false), GitStrategy::Empty, "", false)
            .unwrap();
        assert_eq!(empty.project, "/b/g/p-empty");
        assert_eq!(empty.temporary, "/b/g/p-empty.tmp");
        assert_eq!(empty.cache_root, "/c/g/p-empty");
    }

    #[test]
    fn git_clone_path_stays_within_the_builds_root() {
        let choose = |path: &str, enabled| {
            Directories::standard(&layout(true), &PLACE)
                .unwrap()
                .with_choice(&layout(true), GitStrategy::Fetch, path, enabled)
                .map(|directories| directories.project)
                .map_err(|rejection| rejection.message)
        };
        assert_eq!(choose("/b/x/./y/", true).unwrap(), "/b/x/y");
        assert_eq!(
            choose("/b/x", false).unwrap_err(),
            "setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature"
        );
        for outside in ["/b/../etc", "/bb", "b/x", "/"] {
            assert_eq!(
                choose(outside, true).unwrap_err(),
                format!("the GIT_CLONE_PATH=\"{outside}\" has to be within \"/b\"")
            );
        }
    }

    proptest! {
        #[test]
        fn any_url_gives_a_path_below_the_root(url in "[a-z:/@.]{0,20}|(?s).{0,20}") {
            let path = project_path(&url, 1);
            prop_assert!(!path.is_empty() && !path.starts_with('/'));
            prop_assert!(path.split('/').all(|part| !part.is_empty() && part != ".." && part != "."));
        }
    }
}
