//! With what a registry is logged in to (`executor-docker.md` section 10).
//!
//! In: the job's variable, the home of a user, what the job's payload brings. Out: for an image the login whose path
//! fits best, and where it comes from. Sources are asked once a job, helper programs with them.

mod config_file;
mod helper_program;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use bollard::auth::DockerCredentials;
use courser_protocol::{Credential, Secret};

use self::config_file::ConfigFile;
use super::reference::{DOCKER_HUB, names_a_host};

/// Where logins may come from.
#[derive(Debug, Clone, Default)]
pub struct CredentialSources {
    /// The job's variable `DOCKER_AUTH_CONFIG`: the text of a `config.json`.
    pub auth_config: Option<Secret>,
    /// Home of the runner's user, or of the user that jobs' shells run as where one is set.
    pub home: Option<PathBuf>,
    /// Of the job's payload; those of type `registry` count.
    pub of_job: Vec<Credential>,
    /// `PATH` to look for credential helpers in, if not this process's.
    pub path: Option<OsString>,
}

/// A login, and where it comes from.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) source: String,
    pub(super) credentials: DockerCredentials,
}

/// The logins of all sources, by registry path.
#[derive(Default)]
pub(super) struct Logins {
    by_path: HashMap<String, Login>,
    /// In words, for remedies.
    pub(super) looked_at: Vec<String>,
}

/// A source that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// A helper's name leads out of `PATH`: somebody tries something.
    #[error("path traversal is not allowed")]
    PathTraversal,
    #[error("{0}")]
    Other(String),
}

const OF_VARIABLE: &str = "$DOCKER_AUTH_CONFIG";
const OF_JOB: &str = "job payload (GitLab Registry)";

impl Logins {
    /// Asks all sources; of one that fails `warn` is told, and the others count. The first source that has a path keeps
    /// it.
    ///
    /// # Errors
    ///
    /// Only when the name of a credential helper is a path.
    pub(super) async fn collect(
        sources: &CredentialSources,
        warn: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, SourceError> {
        let mut logins = Self::default();
        let of_text = async |text: &Secret| {
            let file = ConfigFile::parse(text.expose())?;
            file.logins(sources.path.as_deref()).await
        };
        let variable = sources.auth_config.as_ref();
        if let Some(text) = variable.filter(|text| !text.is_empty()) {
            logins.take(OF_VARIABLE, of_text(text).await, warn)?;
        }
        if let Some((path, text)) = config_file::of_home(sources.home.as_deref()).await {
            let found = of_text(&text).await;
            logins.take(&path.display().to_string(), found, warn)?;
        }
        let of_job = sources.of_job.iter();
        let of_job: Vec<_> = of_job
            .filter(|credential| credential.kind == "registry")
            .map(|credential| {
                let login = DockerCredentials {
                    username: Some(credential.username.clone()),
                    password: Some(credential.password.expose().to_owned()),
                    serveraddress: Some(credential.url.clone()),
                    ..DockerCredentials::default()
                };
                (credential.url.clone(), login)
            })
            .collect();
        if !of_job.is_empty() {
            logins.take(OF_JOB, Ok(of_job), warn)?;
        }
        Ok(logins)
    }

    fn take(
        &mut self,
        source: &str,
        found: Result<Vec<(String, DockerCredentials)>, SourceError>,
        warn: &(dyn Fn(&str) + Sync),
    ) -> Result<(), SourceError> {
        let mut found = match found {
            Ok(found) => found,
            Err(SourceError::PathTraversal) => return Err(SourceError::PathTraversal),
            Err(error) => {
                warn(&format!(
                    "Failed to resolve credentials from {source}: {error}. Credentials from this source will not be used."
                ));
                return Ok(());
            }
        };
        self.looked_at.push(source.to_owned());
        found.sort_by(|one, other| one.0.cmp(&other.0));
        for (server, credentials) in found {
            let path = path_of_server(&server);
            if let Some(taken) = self.by_path.get(&path) {
                tracing::debug!(
                    "Credentials for {path} of {source} are not used: {} has some",
                    taken.source
                );
                continue;
            }
            let login = Login {
                source: source.to_owned(),
                credentials,
            };
            self.by_path.insert(path, login);
        }
        Ok(())
    }

    /// The login whose path is the longest beginning of the image's, over all sources.
    pub(super) fn for_image(&self, image: &str) -> Option<&Login> {
        let path = path_of_image(image);
        let mut path = path.as_str();
        loop {
            if let Some(login) = self.by_path.get(path) {
                return Some(login);
            }
            path = &path[..path.rfind('/')?];
        }
    }
}

/// Host in lower case and path, without a tag.
fn path_of_image(image: &str) -> String {
    let image = without_tag(image);
    match image.split_once('/') {
        Some((host, path)) if names_a_host(host) => format!("{}/{path}", host_name(host)),
        _ => format!("{DOCKER_HUB}/{image}"),
    }
}

/// Of a key of `auths`: a URL means its host, anything else may have a path.
fn path_of_server(server: &str) -> String {
    let scheme = ["https://", "http://"];
    let url = scheme.iter().find_map(|scheme| server.strip_prefix(scheme));
    if let Some(rest) = url {
        return host_name(rest.split('/').next().unwrap_or_default());
    }
    let server = server.trim_end_matches('/');
    match server.split_once('/') {
        Some((host, _)) => format!("{}{}", host_name(host), &without_tag(server)[host.len()..]),
        None => host_name(server),
    }
}

fn without_tag(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let tag = name[last..].find(':');
    tag.map_or(name, |colon| &name[..last + colon])
}

fn host_name(host: &str) -> String {
    match host.to_ascii_lowercase().as_str() {
        "index.docker.io" => DOCKER_HUB.to_owned(),
        lower => lower.to_owned(),
    }
}

#[cfg(test)]
mod tests;
