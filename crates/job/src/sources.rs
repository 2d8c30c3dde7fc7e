//! Remote URL, credentials and URL rewriting of `get_sources` (`runner-build-lifecycle.md` 2.6, 2.7).
//!
//! URLs are split as text, never normalised: Git compares them as text.

use courser_protocol::Secret;

use crate::Job;
use crate::helper_request::{GetSources, GitServer, GitStrategy, Submodules};
use crate::settings::SubmoduleStrategy;

/// `scheme://[userinfo@]authority[/path]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemoteUrl<'a> {
    pub(crate) scheme: &'a str,
    userinfo: Option<&'a str>,
    /// Host and port.
    pub(crate) authority: &'a str,
    /// With its leading slash, or empty.
    pub(crate) path: &'a str,
}

impl<'a> RemoteUrl<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return None;
        }
        let path_start = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_start);
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, authority),
        };
        Some(Self {
            scheme,
            userinfo,
            authority,
            path,
        })
    }

    fn is_http(&self) -> bool {
        matches!(self.scheme, "http" | "https")
    }

    /// `scheme://host[:port]`.
    fn base(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    fn without_credentials(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.path)
    }

    fn with_userinfo(&self, userinfo: &str) -> String {
        format!(
            "{}://{userinfo}@{}{}",
            self.scheme, self.authority, self.path
        )
    }

    /// As without credentials, but an SSH user belongs to the address.
    fn shown(&self) -> String {
        match self.userinfo {
            Some(user) if self.scheme == "ssh" => {
                self.with_userinfo(user.split(':').next().unwrap_or(user))
            }
            _ => self.without_credentials(),
        }
    }
}

/// Where people look at a repository: its URL without credentials, query and `.git`.
pub(crate) fn repository_page(repo_url: &str) -> String {
    let url = RemoteUrl::parse(repo_url).map_or_else(
        || repo_url.to_owned(),
        |parsed| parsed.without_credentials(),
    );
    let url = url.split(['?', '#']).next().unwrap_or_default();
    url.strip_suffix(".git").unwrap_or(url).to_owned()
}

/// The remote of a job and how Git gets at it.
#[derive(Debug, PartialEq)]
pub(crate) struct Remote {
    /// Without credentials.
    url: String,
    instead_of: Vec<(Secret, String)>,
    /// `scheme://host[:port]` of the remote, `None` when it has none.
    base: Option<String>,
    /// Where credentials might have been stored by the user's Git.
    pub(crate) credential_reject_url: Option<String>,
}

impl Remote {
    pub(crate) fn of(job: &Job) -> Self {
        let context = job.context();
        let payload = job.payload();
        let repo_url = payload.git_info.repo_url.expose();
        let userinfo = format!("gitlab-ci-token:{}", percent_encode(payload.token.expose()));

        let clone_url = context.clone_url.trim_end_matches('/');
        let base_text = match RemoteUrl::parse(clone_url) {
            Some(_) => clone_url,
            None => context.url.trim_end_matches('/'),
        };
        // The remote with whatever credentials it carries.
        let remote = match RemoteUrl::parse(clone_url) {
            Some(base) => {
                let whole = format!(
                    "{clone_url}/{}.git",
                    job.variables().text("CI_PROJECT_PATH")
                );
                match (RemoteUrl::parse(&whole), base.scheme) {
                    (Some(url), "ssh") => url.with_userinfo(base.userinfo.unwrap_or("git")),
                    (Some(url), _) => url.with_userinfo(&userinfo),
                    (None, _) => whole,
                }
            }
            None => repo_url.to_owned(),
        };
        let parsed = RemoteUrl::parse(&remote);
        let url = parsed.map_or_else(|| remote.clone(), |parsed| parsed.shown());

        let mut pairs: Vec<(Secret, String)> = Vec::new();
        let mut add = |new: String, old: String| {
            let pair = (Secret::new(new), old);
            if pair.0.expose() != pair.1 && !pairs.contains(&pair) {
                pairs.push(pair);
            }
        };
        let with_tokens = !job.features().git_urls_without_tokens;
        if with_tokens {
            add(remote.clone(), url.clone());
        }
        if let Some(base) = RemoteUrl::parse(base_text).filter(RemoteUrl::is_http) {
            let plain = base.without_credentials();
            let of_the_job = if with_tokens {
                base.with_userinfo(&userinfo)
            } else {
                plain.clone()
            };
            add(of_the_job.clone(), plain);
            if job.settings().git_submodule_force_https {
                for (suffix, old) in ssh_forms(job) {
                    add(format!("{of_the_job}{suffix}"), old);
                }
            }
            if with_tokens
                && let Some(repository) = RemoteUrl::parse(repo_url).filter(RemoteUrl::is_http)
            {
                let root = RemoteUrl {
                    path: "",
                    ..repository
                };
                add(root.with_userinfo(&userinfo), root.base());
            }
        }
        let has_host = |url: &RemoteUrl<'_>| !url.authority.is_empty();
        Self {
            base: parsed.filter(has_host).map(|parsed| parsed.base()),
            credential_reject_url: parsed
                .filter(has_host)
                .filter(|url| url.is_http() || url.scheme == "ssh")
                .map(|parsed| parsed.base()),
            url,
            instead_of: pairs,
        }
    }
}

/// SSH addresses of the GitLab host: what replaces them after the base, and the address itself.
fn ssh_forms(job: &Job) -> Vec<(&'static str, String)> {
    let variables = job.variables();
    let host = match variables.text("CI_SERVER_SHELL_SSH_HOST") {
        host if host.is_empty() => variables.text("CI_SERVER_HOST"),
        host => host,
    };
    if host.is_empty() {
        return Vec::new();
    }
    match variables.text("CI_SERVER_SHELL_SSH_PORT").as_ref() {
        "" | "22" => vec![
            ("/", format!("git@{host}:")),
            ("", format!("ssh://git@{host}")),
        ],
        port => vec![("", format!("ssh://git@{host}:{port}"))],
    }
}

/// The request for real sources and for `none` and `empty`.
pub(crate) fn request(job: &Job) -> GetSources {
    let settings = job.settings();
    let features = job.features();
    let context = job.context();
    let git = &job.payload().git_info;
    let remote = Remote::of(job);
    let has_work_tree = matches!(
        settings.git_strategy,
        GitStrategy::Clone | GitStrategy::Fetch
    );
    let (tls_ca_file, tls_client_pair) = tls_files(job);
    let has_tls = tls_ca_file.is_some() || tls_client_pair.is_some();
    GetSources {
        strategy: settings.git_strategy,
        project_dir: job.directories().project.clone(),
        temporary_dir: job.directories().temporary.clone(),
        remote_url: remote.url,
        instead_of: remote.instead_of,
        sha: git.sha.clone(),
        ref_name: git.ref_name.clone(),
        refspecs: git.refspecs.clone(),
        depth: git.depth.max(0),
        object_format: git.repo_object_format.clone(),
        checkout: settings.git_checkout && has_work_tree,
        clean_flags: settings.git_clean_flags.clone(),
        fetch_flags: settings.git_fetch_extra_flags.clone(),
        clone_flags: settings.git_clone_extra_flags.clone(),
        user_agent: format!(
            "gitlab-runner {} {}",
            context.version, context.executable_arch
        ),
        correlation_id: if features.gitaly_correlation_id {
            context.correlation_id.clone()
        } else {
            String::new()
        },
        bundle_uris: features.bundle_uris,
        old_config: job.old_config(),
        safe_directory: job.safe_directory(),
        submodules: submodules(job),
        native_clone: features.git_native_clone && settings.git_strategy == GitStrategy::Clone,
        proactive_auth: features.git_proactive_auth,
        credential_helper_for: remote
            .base
            .clone()
            .filter(|_| features.git_urls_without_tokens),
        remote_base: remote.base.clone(),
        lfs_skip_smudge: settings.git_lfs_skip_smudge,
        tls_base: remote.base.filter(|_| has_tls),
        tls_ca_file,
        tls_client_pair,
        tls_ca_file_only: context.tls.ca_chain_only,
        credential_reject_url: remote.credential_reject_url,
    }
}

/// Submodules, where the job has a repository and asks for them.
pub(crate) fn submodules(job: &Job) -> Option<Submodules> {
    let settings = job.settings();
    let recursive = match settings.git_submodule_strategy {
        SubmoduleStrategy::Normal => false,
        SubmoduleStrategy::Recursive => true,
        SubmoduleStrategy::None | SubmoduleStrategy::Unknown(_) => return None,
    };
    job.has_repository().then(|| Submodules {
        recursive,
        paths: settings.git_submodule_paths.clone(),
        depth: settings
            .git_submodule_depth
            .unwrap_or_else(|| job.payload().git_info.depth)
            .max(0),
        update_flags: settings.git_submodule_update_flags.clone(),
    })
}

/// What the `CI_SERVER_TLS_*` variables say to the job's tools: CA file, then certificate and key.
pub(crate) fn tls_files(job: &Job) -> (Option<String>, Option<(String, String)>) {
    let path = |name: &str| {
        job.variables()
            .value(name)
            .filter(|path| !path.is_empty())
            .map(std::borrow::Cow::into_owned)
    };
    (
        path("CI_SERVER_TLS_CA_FILE"),
        path("CI_SERVER_TLS_CERT_FILE").zip(path("CI_SERVER_TLS_KEY_FILE")),
    )
}

/// The server of the sources and its files; `None` where there are no files for it.
pub(crate) fn git_server(job: &Job) -> Option<GitServer> {
    let (ca_file, client_pair) = tls_files(job);
    if ca_file.is_none() && client_pair.is_none() {
        return None;
    }
    Some(GitServer {
        base: Remote::of(job).base?,
        ca_file,
        client_pair,
    })
}

/// Escapes everything that has a meaning in the user part of a URL.
fn percent_encode(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            output.push(char::from(byte));
        } else {
            output.push('%');
            output.push_str(&hex::encode_upper([byte]));
        }
    }
    output
}

#[cfg(test)]
mod tests;
