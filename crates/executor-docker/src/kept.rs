//! What stays of a job for a later look (`courser exec --keep`): an image of its build container as the scripts left it, and
//! the volume with its working copy.
//!
//! Both have the labels that the keeper chose; by them they are found again and removed ([`Kept::of`]).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, InspectContainerOptions, ListImagesOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use crate::engine::{Engine, EngineError};
use crate::images::Image;
use crate::plan::JobContainers;

/// Repository of the images that are kept.
const REPOSITORY: &str = "localhost/courser-kept";

/// An Engine that takes longer to make an image of a container holds the job up.
const COMMIT_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Has something stay of each job.
#[derive(Debug, Clone)]
pub struct Keep {
    /// Labels of what stays.
    pub labels: HashMap<String, String>,
    /// Told of it, with the job's id.
    pub told: UnboundedSender<(i64, KeptJob)>,
}

/// What stayed of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptJob {
    /// Name of the image; `None`: its scripts never ran.
    pub image: Option<String>,
    /// Name of the volume in which builds lie.
    pub volume: String,
    /// Where that is mounted.
    pub builds: String,
    /// The working copy, in there.
    pub project: String,
}

/// What keeping needs to know of a job, from its plan on.
pub(crate) struct Keeping {
    keep: Keep,
    job: i64,
    tag: String,
    config: ContainerConfig,
    volume: Option<(String, String)>,
    project: String,
}

impl Keep {
    /// Of the job with that plan, in that image.
    pub(crate) fn job(
        &self,
        job: i64,
        plan: &JobContainers<'_>,
        image: &Image,
        variables: &[String],
    ) -> Keeping {
        let builds = plan.builds();
        let mut made = plan.volumes.made();
        let volume = made.find(|(destination, volume)| *destination == builds && volume.temporary);
        Keeping {
            keep: self.clone(),
            job,
            tag: plan.names.base().to_owned(),
            config: ContainerConfig {
                env: Some(blanked(variables, image)),
                labels: Some(self.labels.clone()),
                ..ContainerConfig::default()
            },
            volume: volume
                .map(|(destination, volume)| (volume.name.clone(), destination.to_owned())),
            project: plan.project_dir().to_owned(),
        }
    }
}

/// Containers of the image that is kept get no value of that job's variables: all are set back to what its own image has.
fn blanked(variables: &[String], image: &Image) -> Vec<String> {
    let config = image.inspected.config.as_ref();
    let of_image: Vec<&String> = config
        .and_then(|config| config.env.as_ref())
        .into_iter()
        .flatten()
        .collect();
    let names = variables
        .iter()
        .map(|entry| entry.split('=').next().unwrap_or_default());
    names
        .map(|name| {
            let same = |entry: &&&String| {
                entry
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('='))
            };
            match of_image.iter().find(same) {
                Some(entry) => (*entry).clone(),
                None => format!("{name}="),
            }
        })
        .collect()
}

impl Keeping {
    /// Keeps it; `build` is the container in which scripts ran. Gives the volume that is to stay.
    ///
    /// # Errors
    ///
    /// The engine refuses, or does not come to an end.
    pub(crate) async fn take(
        self,
        engine: &Engine,
        build: Option<&str>,
    ) -> Result<Option<String>, EngineError> {
        let Some((volume, builds)) = self.volume else {
            return Ok(None);
        };
        let mut image = None;
        if let Some(build) = build {
            let inspecting = engine
                .api()
                .inspect_container(build, None::<InspectContainerOptions>);
            let state = inspecting.await?.state.unwrap_or_default();
            // Docker's way of saying never.
            let has_run = state.started_at.is_some_and(|at| !at.starts_with("0001-"));
            if has_run {
                let options = CommitContainerOptionsBuilder::default()
                    .container(build)
                    .repo(REPOSITORY)
                    .tag(&self.tag)
                    .build();
                let committing = engine.api().commit_container(options, self.config);
                let committed = tokio::time::timeout(COMMIT_LIMIT, committing).await;
                committed.map_err(|_| EngineError::NoAnswer {
                    host: engine.host().to_owned(),
                    waited: COMMIT_LIMIT,
                })??;
                image = Some(format!("{REPOSITORY}:{}", self.tag));
            }
        }
        let kept = KeptJob {
            image,
            volume: volume.clone(),
            builds,
            project: self.project,
        };
        // Nobody listening is fine: the labels find it.
        self.keep.told.send((self.job, kept)).ok();
        Ok(Some(volume))
    }
}

impl KeptJob {
    /// Whether nobody has removed it meanwhile.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub async fn is_there(&self, engine: &Engine) -> Result<bool, EngineError> {
        if is_missing(engine.api().inspect_volume(&self.volume).await)? {
            return Ok(false);
        }
        match &self.image {
            Some(image) => Ok(!is_missing(engine.api().inspect_image(image).await)?),
            None => Ok(true),
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(REPOSITORY)
        .is_some_and(|rest| rest.starts_with(':'))
}

fn is_missing<T>(asked: Result<T, bollard::errors::Error>) -> Result<bool, EngineError> {
    match asked.map_err(EngineError::from) {
        Ok(_) => Ok(false),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error),
    }
}

/// An image or a volume that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its labels.
    pub labels: HashMap<String, String>,
    thing: Thing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    /// By the name that we gave it, not by its id: it may have other names by now.
    Image(String),
    Volume(String),
}

impl Kept {
    /// What has a label with that value. Images that were made `FROM` a kept one have its labels: only those are ours that
    /// have our name.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub async fn of(engine: &Engine, label: &str, value: &str) -> Result<Vec<Self>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{label}={value}")])]);
        let options = ListImagesOptionsBuilder::default()
            .filters(&filters)
            .build();
        let images = engine.api().list_images(Some(options)).await?;
        let images = images.into_iter().flat_map(|image| {
            let labels = image.labels;
            let ours = image.repo_tags.into_iter().filter(|name| is_ours(name));
            ours.map(move |name| Self {
                labels: labels.clone(),
                thing: Thing::Image(name),
            })
        });
        let options = ListVolumesOptionsBuilder::default()
            .filters(&filters)
            .build();
        let volumes = engine.api().list_volumes(Some(options)).await?.volumes;
        let volumes = volumes.unwrap_or_default().into_iter().map(|volume| Self {
            labels: volume.labels,
            thing: Thing::Volume(volume.name),
        });
        Ok(images.chain(volumes).collect())
    }

    /// The volume of that name, if there is one.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub async fn volume(engine: &Engine, name: &str) -> Result<Option<Self>, EngineError> {
        let missing = is_missing(engine.api().inspect_volume(name).await)?;
        Ok((!missing).then(|| Self {
            labels: HashMap::new(),
            thing: Thing::Volume(name.to_owned()),
        }))
    }

    /// Removes it; one that is gone already is no error. An image that has another name as well keeps that one.
    ///
    /// # Errors
    ///
    /// The engine refuses: a container has it, or an image was made of it.
    pub async fn remove(&self, engine: &Engine) -> Result<(), EngineError> {
        let removed = match &self.thing {
            Thing::Image(name) => {
                let options = RemoveImageOptionsBuilder::default().force(false).build();
                let removed = engine.api().remove_image(name, Some(options), None).await;
                removed.map(drop)
            }
            Thing::Volume(name) => {
                let options = RemoveVolumeOptionsBuilder::default().force(true).build();
                engine.api().remove_volume(name, Some(options)).await
            }
        };
        is_missing(removed).map(drop)
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.thing {
            Thing::Image(name) => write!(f, "image {name}"),
            Thing::Volume(name) => write!(f, "volume {name}"),
        }
    }
}
