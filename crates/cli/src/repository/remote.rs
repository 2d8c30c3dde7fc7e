//! Where the project is, as far as the URL of its remote tells.

use std::path::Path;

/// Where the project is, as far as the remote tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) host: Option<String>,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Remote {
    pub(super) fn of(remote_url: Option<&str>, root: &Path) -> Self {
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

    pub(super) fn path(&self) -> String {
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
pub(super) fn without_credentials(url: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let project = Remote::of(url, root);
            assert_eq!(
                (project.path().as_str(), project.host.as_deref()),
                (path, host)
            );
        }
    }
}
