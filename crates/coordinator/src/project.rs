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

    /// A path the API and Git's URLs can carry, made of a directory's name.
    pub fn path_for(group: &str, name: &str) -> String {
        let plain = |text: &str| {
            let text: String = text
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() || "_-.".contains(c) {
                        c
                    } else {
                        '-'
                    }
                })
                .collect();
            let text = text.trim_matches(['-', '.']).to_owned();
            if text.is_empty() {
                "project".to_owned()
            } else {
                text
            }
        };
        format!("{}/{}", plain(group), plain(name))
    }
}
