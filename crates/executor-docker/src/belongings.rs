//! What a job has in the engine, and taking it away: after the job, when it is given up, and by another process when
//! its runner died (`executor-docker.md` 19).

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bollard::models::{
    ContainerSummary, ContainerSummaryStateEnum, NetworkDisconnectRequest, Volume,
};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use courser_config::DockerConfig;
use courser_executor::Swept;
use courser_job::messages;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::engine::{Engine, EngineError, ErrorClass};
use crate::labels::goes_with;
use crate::names::Names;

/// Limit of everything together.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// A volume that is still in use is tried again so often, and after such pauses.
const TRIES_OF_A_VOLUME: u32 = 20;
const PAUSE_OF_A_VOLUME: Duration = Duration::from_millis(250);

/// How often containers are looked for.
const LISTS: u32 = 5;

/// Names what a job has in an engine. Holds no secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Belongings {
    /// How the engine is reached, as configured: `host`, `tls_cert_path`, `tls_verify`.
    pub(crate) host: String,
    pub(crate) tls_cert_path: String,
    pub(crate) tls_verify: bool,
    /// What the names of containers and temporary volumes begin with.
    base: String,
    /// The job's own network.
    network: Option<String>,
    /// Anonymous volumes stay.
    volume_keep: bool,
    /// A volume that somebody else takes over.
    #[serde(default)]
    given_away: Option<String>,
}

/// What removing is told to.
pub(crate) trait Told: Send {
    /// A container that still ran is no longer in a network.
    fn disconnected(&mut self, container: &str, network: &str);
    /// Something is gone.
    fn removed(&mut self, what: String);
    /// Something could not be removed.
    fn failed(&mut self, what: String, error: &EngineError);
}

impl Belongings {
    pub(crate) fn new(config: &DockerConfig, names: &Names, network: Option<&str>) -> Self {
        Self {
            host: config.host.clone(),
            tls_cert_path: config.tls_cert_path.clone(),
            tls_verify: config.tls_verify,
            base: names.base().to_owned(),
            network: network.map(str::to_owned),
            volume_keep: config.volume_keep,
            given_away: None,
        }
    }

    /// This volume is not removed.
    pub(crate) fn give_away(&mut self, volume: String) {
        self.given_away = Some(volume);
    }

    /// Removes all of it, by force; may be repeated.
    pub(crate) async fn remove(&self, engine: &Engine, told: &mut dyn Told) {
        let removing = async {
            if let Err(away) = self.remove_containers(engine, told).await {
                return told.failed(format!("what is named {}…", self.base), &away);
            }
            self.remove_volumes(engine, told).await;
            if self.network.is_some() {
                remove_network(engine, &self.base, told).await;
            }
        };
        if timeout(LIMIT, removing).await.is_err() {
            let late = EngineError::NoAnswer {
                host: engine.host().to_owned(),
                waited: LIMIT,
            };
            told.failed(format!("what is named {}…", self.base), &late);
        }
    }

    /// An error where they cannot even be listed.
    async fn remove_containers(
        &self,
        engine: &Engine,
        told: &mut dyn Told,
    ) -> Result<(), EngineError> {
        engine.settled().await;
        // Several times: one that is made anew at this moment belongs to a job that ends.
        for _ in 0..LISTS {
            if !self.remove_listed(engine, told).await? {
                break;
            }
        }
        Ok(())
    }

    /// Whether there were any.
    async fn remove_listed(
        &self,
        engine: &Engine,
        told: &mut dyn Told,
    ) -> Result<bool, EngineError> {
        let filter = ("name".to_owned(), vec![format!("^/?{}-", self.base)]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&HashMap::from([filter]))
            .build();
        let found = engine.api().list_containers(Some(options)).await?;
        // Those of the job itself run between stages for our own reasons only, upstream's never do.
        let own = Names::of_stages(&self.base);
        for container in &found {
            if container.state == Some(ContainerSummaryStateEnum::RUNNING)
                && !own.contains(&name(container))
            {
                for network in networks(container) {
                    told.disconnected(&name(container), &network);
                }
            }
        }
        let removing = found.iter().map(|container| {
            let id = container.id.clone().unwrap_or_default();
            async move {
                let removed = remove_container(engine, &id, !self.volume_keep).await;
                (name(container), removed)
            }
        });
        let mut all = true;
        for (name, removed) in join_all(removing).await {
            match removed {
                Ok(()) => told.removed(format!("container {name}")),
                Err(error) => {
                    told.failed(format!("container {name}"), &error);
                    all = false;
                }
            }
        }
        Ok(all && !found.is_empty())
    }

    async fn remove_volumes(&self, engine: &Engine, told: &mut dyn Told) {
        let (label, base) = goes_with(&self.base);
        let listing = [
            ("name", format!("^{}-", self.base)),
            ("label", format!("{label}={base}")),
        ]
        .map(|(kind, wanted)| async move {
            let options = ListVolumesOptionsBuilder::default()
                .filters(&HashMap::from([(kind, vec![wanted])]))
                .build();
            let found = engine.api().list_volumes(Some(options)).await?;
            Ok::<_, EngineError>(found.volumes.unwrap_or_default())
        });
        let mut names = BTreeSet::new();
        // Whatever the engine makes of the filters.
        let is_ours = |volume: &Volume| {
            volume.name.starts_with(&self.base) || volume.labels.get(&label) == Some(&base)
        };
        for found in join_all(listing).await {
            match found {
                Ok(found) => {
                    let ours = found.into_iter().filter(is_ours);
                    names.extend(ours.map(|volume| volume.name));
                }
                Err(error) => return told.failed("volumes".to_owned(), &error),
            }
        }
        let given_away = |name: &String| self.given_away.as_ref() == Some(name);
        let removing = names.into_iter().filter(|name| !given_away(name));
        let removing = removing.map(async |name| {
            let removed = remove_volume(engine, &name).await;
            (name, removed)
        });
        for (name, removed) in join_all(removing).await {
            match removed {
                Ok(()) => told.removed(format!("volume {name}")),
                Err(error) => told.failed(format!("volume {name}"), &error),
            }
        }
    }
}

/// Removes a volume, when whoever else removes a container with it has done so.
async fn remove_volume(engine: &Engine, name: &str) -> Result<(), EngineError> {
    let mut tries = 0;
    loop {
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        let removed = engine.api().remove_volume(name, Some(options)).await;
        match removed.map_err(EngineError::from) {
            Err(error) if error.class() == ErrorClass::Conflict && tries < TRIES_OF_A_VOLUME => {
                tries += 1;
                tokio::time::sleep(PAUSE_OF_A_VOLUME).await;
            }
            other => return other,
        }
    }
}

/// Removes one container by force, with its anonymous volumes; one that is gone already is no error.
pub(crate) async fn remove_container(
    engine: &Engine,
    id: &str,
    volumes: bool,
) -> Result<(), EngineError> {
    let options = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(volumes)
        .build();
    let removed = engine.api().remove_container(id, Some(options)).await;
    match removed.map_err(EngineError::from) {
        Err(error) if error.is_not_found() => Ok(()),
        // Somebody else is at it.
        Err(EngineError::Answer {
            status: 409,
            message,
        }) if message.contains("in progress") => Ok(()),
        other => other,
    }
}

/// Removes the job's network, and whatever is still in it. By its label: another attempt of the job has one of the same
/// name.
async fn remove_network(engine: &Engine, base: &str, told: &mut dyn Told) {
    let (label, base) = goes_with(base);
    let options = ListNetworksOptionsBuilder::default()
        .filters(&HashMap::from([("label", vec![format!("{label}={base}")])]))
        .build();
    let listed = engine.api().list_networks(Some(options)).await;
    let listed = match listed.map_err(EngineError::from) {
        Ok(listed) => listed,
        Err(error) => return told.failed("networks".to_owned(), &error),
    };
    // Whatever the engine makes of the filters.
    let ours = listed.into_iter().filter(|network| {
        let labels = network.labels.as_ref();
        labels.and_then(|labels| labels.get(&label)) == Some(&base)
    });
    for network in ours {
        let (Some(id), Some(network)) = (network.id, network.name) else {
            continue;
        };
        let inspected = engine.api().inspect_network(&id, None).await;
        let inspected = match inspected.map_err(EngineError::from) {
            Ok(inspected) => inspected,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return told.failed(format!("network {network}"), &error),
        };
        for container in inspected.containers.unwrap_or_default().into_keys() {
            if let Err(error) = remove_container(engine, &container, true).await {
                let what = format!("container {container} in network {network}");
                told.failed(what, &error);
                let options = NetworkDisconnectRequest {
                    container,
                    force: Some(true),
                };
                engine.api().disconnect_network(&id, options).await.ok();
            }
        }
        match engine.api().remove_network(&id).await {
            Ok(()) => told.removed(format!("network {network}")),
            Err(error) => told.failed(format!("network {network}"), &EngineError::from(error)),
        }
    }
}

fn name(container: &ContainerSummary) -> String {
    let names = container.names.iter().flatten();
    let name = names.map(|name| name.trim_start_matches('/')).next();
    name.or(container.id.as_deref())
        .unwrap_or_default()
        .to_owned()
}

fn networks(container: &ContainerSummary) -> Vec<String> {
    let settings = container.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    networks
        .into_iter()
        .flat_map(HashMap::keys)
        .cloned()
        .collect()
}

/// In the job's log.
pub(crate) struct InLog<'a> {
    pub(crate) say: &'a (dyn Fn(&str) + Send + Sync),
    /// The first failure, for whoever cleans up.
    pub(crate) failure: Option<String>,
}

impl Told for InLog<'_> {
    fn disconnected(&mut self, container: &str, network: &str) {
        (self.say)(&messages::disconnected(container, network));
    }

    fn removed(&mut self, what: String) {
        tracing::debug!("removed {what}");
    }

    fn failed(&mut self, what: String, error: &EngineError) {
        let line = format!("Failed to remove {what}: {error}");
        (self.say)(&messages::error(&line));
        tracing::error!("{line}");
        self.failure.get_or_insert(line);
    }
}

impl Told for Swept {
    fn disconnected(&mut self, _container: &str, _network: &str) {}

    fn removed(&mut self, what: String) {
        self.removed.push(what);
    }

    fn failed(&mut self, what: String, error: &EngineError) {
        self.not_removed.push((what, error.to_string()));
    }
}
