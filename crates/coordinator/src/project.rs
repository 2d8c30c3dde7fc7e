//! A project: a path, and the repository its jobs fetch from.

use crate::repository::ServedRepository;

/// A project of the coordinator.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its number.
    pub id: i64,
    /// `group/project`.
    pub path: String,
    /// What jobs fetch.
    pub repository: ServedRepository,
}

impl Project {
    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The path with whatever Git's URLs and ref names could not carry replaced.
    pub fn plain_path(path: &str) -> String {
        let plain = |part: &str| {
            let keep = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            let part: String = part
                .chars()
                .map(|c| if keep(c) { c } else { '-' })
                .collect();
            let part = part
                .trim_matches(['-', '.'])
                .trim_end_matches(".git")
                .to_owned();
            if part.is_empty() {
                "project".to_owned()
            } else {
                part
            }
        };
        let parts: Vec<_> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(plain)
            .collect();
        if parts.is_empty() {
            "local/project".to_owned()
        } else {
            parts.join("/")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_fit_for_urls() {
        let cases = [
            ("group/sub/app", "group/sub/app"),
            ("local/my dir", "local/my-dir"),
            ("a/../b.git", "a/project/b"),
            ("", "local/project"),
        ];
        for (path, expected) in cases {
            assert_eq!(Project::plain_path(path), expected, "{path}");
        }
    }
}
