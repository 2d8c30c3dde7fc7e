//! Images: which one is used, and how it gets there (`executor-docker.md` sections 9 and 10).
//!
//! In: a name, the policies that are allowed, where logins come from. Out: an [`Image`] that the Engine has, lines for the
//! job's log on the way, or an [`ImageError`] with the failure reason that GitLab is told. The Engine does the pulling;
//! whether it trusts a registry is its own affair, and the log says what is missing there.

mod credentials;
mod failure;
mod policy;
mod reference;
mod registry;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use courser_job::messages;
use courser_protocol::FailureReason;
use futures_util::StreamExt as _;
use tokio::sync::OnceCell;

use self::credentials::{Login, Logins, SourceError};
use self::failure::PullError;
use self::policy::listed;
pub(crate) use self::policy::strange_architecture;
use self::reference::Reference;
use crate::engine::{ApiVersion, Engine, EngineError};

pub use credentials::CredentialSources;
pub use policy::{Platform, PolicySources, PullPolicy};
pub use registry::{RegistryRefused, ask_registry, registry_of};

/// The images of one job. Remembers which it used, and asks the sources of logins once.
pub struct Images {
    engine: Engine,
    sources: CredentialSources,
    logins: OnceCell<Logins>,
    /// Id by name.
    used: Mutex<HashMap<String, String>>,
    pauses: Pauses,
}

/// An image that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name, variables expanded; or an id.
    pub name: &'a str,
    /// What the job asks for with `docker: platform:`.
    pub platform: Option<&'a Platform>,
    /// Tried in order, see [`PolicySources::effective`].
    pub policies: &'a [PullPolicy],
}

/// An image that the Engine has.
#[derive(Debug, Clone)]
pub struct Image {
    /// As it was wanted.
    pub name: String,
    /// `sha256:…` of its configuration.
    pub id: String,
    /// `repository@sha256:…`, unless it never was in a registry.
    pub digest: Option<String>,
    /// All that the Engine knows of it: user, ports, architecture, …
    pub inspected: ImageInspect,
}

/// An image that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ImageError {
    /// Text for the job's log.
    pub message: String,
    /// Whose fault it is; `None`: nobody's in particular, preparation is tried again.
    pub reason: Option<FailureReason>,
}

/// Between attempts of one policy.
#[derive(Debug, Clone, Copy)]
struct Pauses {
    shortest: Duration,
    longest: Duration,
}

const PAUSES: Pauses = Pauses {
    shortest: Duration::from_secs(2),
    longest: Duration::from_secs(10),
};

/// Attempts of one policy, where the network is at fault.
const ATTEMPTS: u32 = 3;

/// The first version whose inspection of an image can be told a platform.
const INSPECTS_PLATFORMS: ApiVersion = ApiVersion::new(1, 49);

impl Image {
    /// How a container names it: by the digest of the repository that was asked for, else by id. A digest of another
    /// repository goes away with that one's tag, which is nobody's business here.
    pub fn exact(&self) -> &str {
        let digest = self.digest.as_deref();
        let own = digest.filter(|digest| is_of(digest, &self.name));
        own.unwrap_or(&self.id)
    }

    /// What upstream says at every further use of it in a job.
    pub(crate) fn lines_of_use(&self, policies: &[PullPolicy]) -> Vec<String> {
        let mut lines = vec![messages::effective_pull_policy(
            &listed(policies),
            &self.name,
        )];
        if self.id != self.name {
            let digest = self.digest.as_deref();
            lines.push(messages::using_docker_image(&self.id, &self.name, digest));
        }
        lines
    }

    /// One that was inspected by that name.
    pub(crate) fn new(name: &str, inspected: ImageInspect) -> Self {
        let digests = inspected.repo_digests.as_deref().unwrap_or_default();
        // One image can have come from several registries.
        let of_name = digests.iter().find(|digest| is_of(digest, name));
        Self {
            name: name.to_owned(),
            id: inspected.id.clone().unwrap_or_default(),
            digest: of_name.or_else(|| digests.first()).cloned(),
            inspected,
        }
    }
}

/// Whether `repository@digest` is of the repository that `name` names. Engines shorten names of Docker Hub.
fn is_of(digest: &str, name: &str) -> bool {
    let short = |name: &str| {
        let repository = Reference::parse(name).ok()?.repository().to_owned();
        let hub = ["docker.io/library/", "docker.io/"];
        let rest = hub.iter().find_map(|hub| repository.strip_prefix(hub));
        Some(rest.map_or_else(|| repository.clone(), str::to_owned))
    };
    let (repository, _) = digest.split_once('@').unwrap_or((digest, ""));
    let wanted = short(name);
    wanted.is_some() && wanted == short(repository)
}

impl ImageError {
    pub(crate) fn configuration(message: String) -> Self {
        Self {
            message,
            reason: Some(FailureReason::RunnerConfigurationError),
        }
    }
}

impl Images {
    /// For one job.
    pub fn new(engine: Engine, sources: CredentialSources) -> Self {
        Self {
            engine,
            sources,
            logins: OnceCell::new(),
            used: Mutex::default(),
            pauses: PAUSES,
        }
    }

    /// Gets an image by the first policy that gives it. Lines go through `say` as they come.
    ///
    /// # Errors
    ///
    /// When no policy gave it, with the reason of the last one.
    pub async fn fetch(
        &self,
        wanted: Wanted<'_>,
        say: &(dyn Fn(&str) + Sync),
    ) -> Result<Image, ImageError> {
        let Wanted { name, policies, .. } = wanted;
        say(&messages::effective_pull_policy(&listed(policies), name));
        let mut last = None;
        for (position, policy) in policies.iter().enumerate() {
            if position > 0 {
                say(&messages::trying_pull_policy(
                    position + 1,
                    &policy.to_string(),
                ));
            }
            match self.by_policy(*policy, wanted, say).await {
                Ok(image) => {
                    if image.id != name {
                        let digest = image.digest.as_deref();
                        say(&messages::using_docker_image(&image.id, name, digest));
                    }
                    return Ok(image);
                }
                Err(error) => {
                    say(&messages::pull_policy_failed(
                        &policy.to_string(),
                        &error.message,
                    ));
                    last = Some(error);
                }
            }
        }
        let last = last.unwrap_or_else(|| PullError::of_nobody("no policy is given".to_owned()));
        if let Some(remedy) = &last.remedy {
            say(&messages::warning(&failure::in_a_log(remedy)));
        }
        Err(ImageError {
            message: format!(
                "failed to pull image {name:?} with specified policies {}: {}",
                listed(policies),
                last.message
            ),
            reason: last.reason,
        })
    }

    async fn by_policy(
        &self,
        policy: PullPolicy,
        wanted: Wanted<'_>,
        say: &(dyn Fn(&str) + Sync),
    ) -> Result<Image, PullError> {
        let name = wanted.name;
        let reference =
            Reference::parse(name).map_err(|error| PullError::of_name(error.to_owned()))?;
        let found = self.inspect(wanted).await;
        if let Ok(image) = &found {
            let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            if used.get(name) == Some(&image.id) {
                return found.map_err(PullError::from);
            }
        }
        let image = match (found, policy) {
            (found, PullPolicy::Never) => found?,
            (Ok(image), _) if image.id == name => image,
            (Ok(image), PullPolicy::IfNotPresent) => {
                say(&messages::using_locally_found_image(&policy.to_string()));
                image
            }
            _ => {
                self.pull_patiently(wanted, &reference, say).await?;
                let inspected = self.inspect(wanted).await;
                inspected.map_err(|error| {
                    PullError::of_nobody(format!("inspecting image {name:?} after pull: {error}"))
                })?
            }
        };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(name.to_owned(), image.id.clone());
        Ok(image)
    }

    async fn inspect(
        &self,
        Wanted { name, platform, .. }: Wanted<'_>,
    ) -> Result<Image, EngineError> {
        let tells = self.engine.api_version() >= INSPECTS_PLATFORMS;
        let inspected = match platform.filter(|_| tells) {
            Some(platform) => {
                self.engine
                    .inspect_image_for(name, &platform.json())
                    .await?
            }
            None => self.engine.api().inspect_image(name).await?,
        };
        Ok(Image::new(name, inspected))
    }

    async fn pull_patiently(
        &self,
        wanted: Wanted<'_>,
        reference: &Reference,
        say: &(dyn Fn(&str) + Sync),
    ) -> Result<(), PullError> {
        let logins = self.logins(say).await?;
        let login = logins.for_image(wanted.name);
        if let Some(login) = login {
            say(&messages::authenticating_with(&login.source));
        }
        let platform = wanted.platform.map(ToString::to_string);
        let shown = Reference::shown(wanted.name);
        say(&messages::pulling_docker_image(&shown, platform.as_deref()));
        for attempt in 1.. {
            let Err(error) = self.pull(reference, platform.as_deref(), login).await else {
                break;
            };
            let error = PullError::of_pull(&error);
            if attempt >= ATTEMPTS || !error.is_passing() {
                return Err(self.with_remedy(error, reference, login, logins).await);
            }
            say(&messages::pull_will_be_retried(
                wanted.name,
                attempt,
                &error.message,
            ));
            tokio::time::sleep(self.pauses.next()).await;
        }
        Ok(())
    }

    async fn logins(&self, say: &(dyn Fn(&str) + Sync)) -> Result<&Logins, PullError> {
        let collecting = || async {
            let warn = |text: &str| say(&messages::warning(text));
            Logins::collect(&self.sources, &warn).await
        };
        let collected = self.logins.get_or_try_init(collecting).await;
        collected.map_err(|error: SourceError| PullError::of_name(error.to_string()))
    }

    /// Once, to the end of the Engine's reports.
    async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&str>,
        login: Option<&Login>,
    ) -> Result<(), EngineError> {
        let options = CreateImageOptionsBuilder::new()
            .from_image(reference.repository())
            .tag(reference.version())
            .platform(platform.unwrap_or_default())
            .build();
        let login = login.map(|login| login.credentials.clone());
        let mut reports = self.engine.api().create_image(Some(options), None, login);
        while let Some(report) = reports.next().await {
            report?;
        }
        Ok(())
    }

    async fn with_remedy(
        &self,
        error: PullError,
        reference: &Reference,
        login: Option<&Login>,
        logins: &Logins,
    ) -> PullError {
        let info = self.engine.info().await.ok();
        let place = failure::Place::of(self.engine.host(), info);
        error.explained(
            reference,
            login.map(|login| login.source.as_str()),
            logins,
            &place,
        )
    }
}

impl Pauses {
    fn next(self) -> Duration {
        let fraction = (courser_net::Ambience::default().fraction)();
        self.shortest + (self.longest - self.shortest).mul_f64(fraction)
    }
}
