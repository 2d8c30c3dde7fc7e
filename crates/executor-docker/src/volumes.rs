//! Volumes of a job: which ones, under which names, kept or not (`executor-docker.md` 12). All containers of a job get
//! the same ones.

mod specification;

use bollard::models::VolumeCreateRequest;
use courser_config::{DockerConfig, RunnerConfig};
use courser_job::Job;
use courser_job::helper_request::GitStrategy;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::labels::{Kind, Labels};
use crate::names::Names;
use crate::plan::{Inputs, PlanError};
pub(crate) use specification::Specification;

/// Volumes of a job, in the order of the bind list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volumes {
    list: Vec<Volume>,
}

/// One volume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Volume {
    /// Where it is in the containers, cleaned.
    pub(crate) destination: String,
    /// Entry of the bind list.
    pub(crate) bind: String,
    /// What has to be made for it; `None`: the bind says everything.
    pub(crate) made: Option<MadeVolume>,
}

/// A volume that the runner makes, and opens for every user.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MadeVolume {
    /// Its name.
    pub(crate) name: String,
    /// What to ask the engine for.
    pub(crate) request: VolumeCreateRequest,
    /// It goes with the job.
    pub(crate) temporary: bool,
}

impl Volumes {
    /// Those of the configuration, then the one of the builds directory.
    pub(crate) fn plan(
        inputs: &Inputs<'_>,
        config: &DockerConfig,
        names: &Names,
        labels: &Labels,
    ) -> Result<Self, PlanError> {
        let mut planner = Planner {
            inputs,
            config,
            names,
            labels,
            unique: unique_name(inputs.runner, inputs.job),
            suffix: if is_protected(inputs.job) {
                "-protected"
            } else {
                ""
            },
            volumes: Self::default(),
        };
        for text in &config.volumes {
            planner.add_configured(text)?;
        }
        planner.add_builds_directory()?;
        Ok(planner.volumes)
    }

    /// The bind list of every container.
    pub(crate) fn binds(&self) -> Vec<String> {
        self.list.iter().map(|volume| volume.bind.clone()).collect()
    }

    /// Those that have to be made before.
    pub(crate) fn made(&self) -> impl Iterator<Item = (&str, &MadeVolume)> {
        let volumes = self.list.iter();
        volumes.filter_map(|volume| Some((volume.destination.as_str(), volume.made.as_ref()?)))
    }

    /// Where something is mounted.
    pub(crate) fn destinations(&self) -> Vec<&str> {
        self.list
            .iter()
            .map(|volume| volume.destination.as_str())
            .collect()
    }

    /// Whether a path is in a volume that is made for this job and goes with it.
    pub(crate) fn is_new(&self, path: &str) -> bool {
        let path = clean(path);
        let over = self
            .list
            .iter()
            .filter(|volume| is_below(&path, &volume.destination));
        let nearest = over.max_by_key(|volume| volume.destination.len());
        let made = nearest.and_then(|volume| volume.made.as_ref());
        made.is_some_and(|made| made.temporary)
    }

    /// Whether something is mounted exactly there.
    pub(crate) fn has(&self, destination: &str) -> bool {
        let destination = clean(destination);
        self.list
            .iter()
            .any(|volume| volume.destination == destination)
    }
}

/// Whether a bind of the configuration lies over the builds directory: then jobs share what is in it.
pub(crate) fn bind_covers(config: &DockerConfig, builds: &str) -> bool {
    let builds = clean(builds);
    let specifications = config
        .volumes
        .iter()
        .filter_map(|text| Specification::parse(text));
    specifications
        .filter(|specification| specification.source.is_some())
        .any(|specification| is_below(&builds, &clean(specification.destination)))
}

/// What the volumes of all jobs of this runner in this place of the project have in common.
fn unique_name(runner: &RunnerConfig, job: &Job) -> String {
    let digest = Sha256::digest(format!(
        "{}-{}-{}-{}",
        runner.token.expose(),
        job.context().system_id,
        job.payload().job_info.project_id,
        job.context().concurrent_project_id,
    ));
    format!("runner-{}", hex::encode(&digest[..16]))
}

/// Jobs of protected refs have volumes of their own. A cache key may say that a job is one of them, too.
fn is_protected(job: &Job) -> bool {
    let keys = job.payload().cache.iter().map(|cache| &cache.key);
    job.protected_ref() || keys.into_iter().any(|key| key.ends_with("-protected"))
}

struct Planner<'a> {
    inputs: &'a Inputs<'a>,
    config: &'a DockerConfig,
    names: &'a Names,
    labels: &'a Labels,
    unique: String,
    suffix: &'static str,
    volumes: Volumes,
}

impl Planner<'_> {
    fn add_configured(&mut self, text: &str) -> Result<(), PlanError> {
        let invalid = || PlanError::Volume(format!("invalid volume specification: {text:?}"));
        let specification = Specification::parse(text).ok_or_else(invalid)?;
        let job = self.inputs.job;
        let destination = job.variables().expand(specification.destination);
        let destination = absolute(&destination, job.project_dir())?;
        if self.volumes.has(&destination) {
            return Err(PlanError::VolumeTwice { destination });
        }
        match specification.source {
            Some(source) => self.volumes.list.push(Volume {
                bind: specification.bind(source, &destination),
                destination,
                made: None,
            }),
            None => self.add_cache(destination, self.config.disable_cache),
        }
        Ok(())
    }

    fn add_builds_directory(&mut self) -> Result<(), PlanError> {
        let job = self.inputs.job;
        let builds = &job.context().directories.builds;
        if !builds.starts_with('/') {
            return Err(PlanError::BuildsRelative);
        }
        let builds = absolute(builds, "/")?;
        let is_covered = bind_covers(self.config, &builds);
        if !is_covered && !self.volumes.has(&builds) {
            let kept = job.settings().git_strategy == GitStrategy::Fetch;
            self.add_cache(builds, !kept || self.config.disable_cache);
        }
        Ok(())
    }

    fn add_cache(&mut self, destination: String, temporary: bool) {
        let digest = hex::encode(Md5::digest(destination.as_bytes()));
        let suffix = self.suffix;
        let volume = if !temporary && !self.config.cache_dir.is_empty() {
            let directory = self.inputs.working_directory.join(&self.config.cache_dir);
            let unique = &self.unique;
            Volume {
                bind: format!(
                    "{}/{unique}/{digest}{suffix}:{destination}",
                    directory.display()
                ),
                destination,
                made: None,
            }
        } else {
            let owner = if temporary {
                self.names.base()
            } else {
                &self.unique
            };
            let suffix = if temporary { "" } else { suffix };
            let name = format!("{owner}-cache-{digest}{suffix}");
            Volume {
                bind: format!("{name}:{destination}"),
                made: Some(self.made(name, &destination, temporary)),
                destination,
            }
        };
        self.volumes.list.push(volume);
    }

    fn made(&self, name: String, destination: &str, temporary: bool) -> MadeVolume {
        let details = [
            ("destination", destination.to_owned()),
            ("protected", (!self.suffix.is_empty()).to_string()),
            ("reusable", (!temporary).to_string()),
        ];
        let driver = &self.config.volume_driver;
        let options = &self.config.volume_driver_ops;
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            driver: (!driver.is_empty()).then(|| driver.clone()),
            driver_opts: (!options.is_empty()).then(|| options.clone().into_iter().collect()),
            labels: Some(self.labels.own(Kind::Cache, details)),
            ..VolumeCreateRequest::default()
        };
        MadeVolume {
            name,
            request,
            temporary,
        }
    }
}

/// A destination that can be mounted; relative ones are below `base`.
fn absolute(destination: &str, base: &str) -> Result<String, PlanError> {
    let destination = if destination.starts_with('/') {
        clean(destination)
    } else {
        clean(&format!("{base}/{destination}"))
    };
    if destination == "/" {
        return Err(PlanError::VolumeOverRoot);
    }
    Ok(destination)
}

fn is_below(path: &str, directory: &str) -> bool {
    directory == "/"
        || path == directory
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// An absolute path without empty, `.` and `..` parts.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests;
