//! Everything about a job's containers that is known before the engine is asked for anything: decided once, from
//! configuration, job and what the daemon is.
//!
//! [`JobContainers::plan`] is called when the engine is connected. Its fields say what to make first (network, volumes,
//! services, images); its methods give the definition of each container once its image has been found:
//!
//! ```text
//! let containers = JobContainers::plan(Inputs { runner, job, daemon, random, working_directory, read_file })?;
//! print containers.lines                          // "Using Docker executor with image …", warnings
//! make containers.network, containers.volumes.made()
//! for service in &containers.services.list        // pull service.name.image, print starting_service, create, start
//!     containers.service(service, &image)
//! links = containers.network.emulated_links(&running services)
//! containers.helper(&image, command, &links)      // containers.helper_image says which image
//! containers.build(&image, &links)                // containers.image says which image, policies, platform
//! ```
//!
//! A [`PlanError`] is a failure of settings: tried again it would be the same.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use bollard::models::{ContainerCreateBody, HostConfig, SystemInfo};
use courser_config::{DockerConfig, RunnerConfig};
use courser_executor::PrepareError;
use courser_job::{Job, JobImage, messages};
use courser_protocol::FailureReason;

use crate::allowed;
use crate::container::{
    BUILD_AND_HELPER, ContainerDefinition, HostSettings, Role, SERVICE, build_user, environment,
    filled, security_options, start_command,
};
use crate::engine::ApiVersion;
use crate::helper_image::HelperImage;
use crate::images::Image;
use crate::labels::{Kind, Labels};
use crate::names::Names;
use crate::networks::Network;
use crate::services::{Service, Services};
use crate::volumes::Volumes;

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Daemon {
    /// `OSType`: `linux`, `windows`, `freebsd`.
    pub(crate) os: String,
    /// `Architecture`: `x86_64`, `aarch64`, …
    pub(crate) architecture: String,
    /// API version that is spoken with it.
    pub(crate) api: ApiVersion,
}

impl Daemon {
    /// Takes it from what the daemon says.
    pub(crate) fn new(info: &SystemInfo, api: ApiVersion) -> Self {
        Self {
            os: info.os_type.clone().unwrap_or_default(),
            architecture: info.architecture.clone().unwrap_or_default(),
            api,
        }
    }
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// The runner, with `[runners.docker]`.
    pub(crate) runner: &'a RunnerConfig,
    /// The job.
    pub(crate) job: &'a Job,
    /// The daemon.
    pub(crate) daemon: &'a Daemon,
    /// Tells this preparation from all others.
    pub(crate) random: [u8; 8],
    /// Relative paths of the configuration start here.
    pub(crate) working_directory: &'a Path,
    /// Reads a file of the runner's machine: profiles of seccomp.
    pub(crate) read_file: &'a (dyn Fn(&str) -> io::Result<Vec<u8>> + Sync),
}

/// Settings with which a job cannot have its containers. `Display` is upstream's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("missing docker configuration")]
    NoConfiguration,
    /// A key of `[runners.docker]`.
    #[error("{0}")]
    Key(String),
    #[error("unsupported os type: {0}")]
    OsType(String),
    #[error(
        "Windows containers are not built into courser yet: the daemon has to run Linux containers"
    )]
    WindowsContainers,
    #[error("docker doesn't support shells that require script file")]
    ScriptFile,
    #[error("no Docker image specified to run the build in")]
    NoImage,
    /// The log says more: [`Self::lines`].
    #[error("disallowed image")]
    Disallowed {
        image: String,
        list: &'static str,
        globs: Vec<String>,
    },
    #[error("failed to create container configuration: user {user:?} is not an allowed user: [{}]", .allowed.join(" "))]
    User { user: String, allowed: Vec<String> },
    #[error("too many services requested: {requested}, only {allowed} allowed")]
    TooManyServices { requested: usize, allowed: usize },
    #[error("invalid service image name: {name}")]
    ServiceName { name: String },
    #[error("parse volume: {0}")]
    Volume(String),
    #[error("volume for container path {destination:?} is already defined")]
    VolumeTwice { destination: String },
    #[error("build directory needs to be a non-root path")]
    VolumeOverRoot,
    #[error("build directory needs to be an absolute path")]
    BuildsRelative,
    #[error("failed to read seccomp profile from {path}: {why}")]
    SeccompRead { path: String, why: String },
    #[error("seccomp profile {path} is not valid JSON")]
    SeccompSyntax { path: String },
}

impl PlanError {
    fn disallowed_image(image: &str, globs: &[String]) -> Self {
        Self::Disallowed {
            image: image.to_owned(),
            list: "images",
            globs: globs.to_vec(),
        }
    }

    pub(crate) fn disallowed_service(image: &str, globs: &[String]) -> Self {
        Self::Disallowed {
            image: image.to_owned(),
            list: "services",
            globs: globs.to_vec(),
        }
    }

    /// What the log shows before the error itself.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Disallowed { image, list, globs } => {
                messages::disallowed_image(image, list, globs)
            }
            _ => Vec::new(),
        }
    }
}

/// Final, unlike upstream for some: settings do not change by trying again, and whoever wrote them should know.
impl From<PlanError> for PrepareError {
    fn from(error: PlanError) -> Self {
        Self {
            message: error.to_string(),
            reason: Some(FailureReason::RunnerConfigurationError),
        }
    }
}

/// The containers of a job, as far as they are known before the engine has done anything.
pub(crate) struct JobContainers<'a> {
    inputs: Inputs<'a>,
    config: &'a DockerConfig,
    labels: Labels,
    user: String,
    security: Vec<String>,
    services_security: Vec<String>,
    /// Names.
    pub(crate) names: Names,
    /// The job's image, or the runner's.
    pub(crate) image: JobImage,
    /// Image of the helper container.
    pub(crate) helper_image: HelperImage,
    /// Network.
    pub(crate) network: Network,
    /// Volumes, the same for all containers.
    pub(crate) volumes: Volumes,
    /// Services.
    pub(crate) services: Services,
    /// What the log shows when the plan is made.
    pub(crate) lines: Vec<String>,
}

impl<'a> JobContainers<'a> {
    /// Decides it all.
    pub(crate) fn plan(inputs: Inputs<'a>) -> Result<Self, PlanError> {
        let (job, runner) = (inputs.job, inputs.runner);
        let config = runner.docker.as_ref().ok_or(PlanError::NoConfiguration)?;
        if let Some(fault) = config.faults.first() {
            return Err(PlanError::Key(fault.message.clone()));
        }
        match inputs.daemon.os.as_str() {
            "linux" | "freebsd" => {}
            "windows" => return Err(PlanError::WindowsContainers),
            other => return Err(PlanError::OsType(other.to_owned())),
        }
        if job.shell().is_powershell() && job.features().disable_powershell_stdin {
            return Err(PlanError::ScriptFile);
        }
        let mut lines = Vec::new();
        let image = image(config, job, &mut lines)?;
        lines.push(messages::using_docker_executor(&image.name));
        if config.volume_keep {
            lines.push(messages::volume_keep_enabled());
        }
        let names = Names::new(job, inputs.random);
        let labels = Labels::new(job, &config.container_labels);
        let network = Network::plan(config, job, &names, &labels);
        let volumes = Volumes::plan(&inputs, config, &names, &labels)?;
        let services = Services::plan(config, job, &names, &network)?;
        lines.extend(services.lines.iter().cloned());
        Ok(Self {
            user: build_user(config, &image.user)?,
            security: security_options(&config.security_opt, inputs.read_file)?,
            services_security: security_options(&config.services_security_opt, inputs.read_file)?,
            helper_image: HelperImage::choose(config, job, &inputs.daemon.architecture),
            inputs,
            config,
            labels,
            names,
            image,
            network,
            volumes,
            services,
            lines,
        })
    }

    /// Where the job's builds lie, as a volume's destination is written.
    pub(crate) fn builds(&self) -> String {
        let builds = &self.inputs.job.context().directories.builds;
        format!("/{}", builds.trim_matches('/'))
    }

    /// The job's working copy.
    pub(crate) fn project_dir(&self) -> &str {
        self.inputs.job.project_dir()
    }

    /// Name and labels of a container of that image that is only looked into.
    pub(crate) fn probe(&self, image: &str) -> (String, HashMap<String, String>) {
        let id = image.trim_start_matches("sha256:");
        let name = format!("{}-trust-{}", self.names.base(), id.get(..12).unwrap_or(id));
        (name, self.labels.own(Kind::Predefined, []))
    }

    /// The container with the job's image, in which its scripts run.
    pub(crate) fn build(&self, image: &Image, links: &[String]) -> ContainerDefinition {
        let mut definition = self.job_container(Kind::Build, &self.image.name, image, links);
        definition.name = self.names.build();
        definition.platform = platform(&self.image, image);
        let entrypoint = self.entrypoint(&self.image.entrypoint, &mut definition);
        let body = &mut definition.body;
        body.entrypoint = entrypoint;
        body.user = (!self.user.is_empty()).then(|| self.user.clone());
        body.cmd = Some(start_command(self.inputs.job.shell()));
        let pid_mode = &self.config.pid_mode;
        if let Some(host) = &mut body.host_config {
            host.pid_mode = (!pid_mode.is_empty()).then(|| pid_mode.clone());
        }
        definition
    }

    /// The container of predefined stages: it runs `command` as its image's user, whatever the job's.
    pub(crate) fn helper(
        &self,
        image: &Image,
        command: Vec<String>,
        links: &[String],
    ) -> ContainerDefinition {
        // Privileges are given to it by its id.
        let mut definition = self.job_container(Kind::Predefined, &image.id, image, links);
        definition.name = self.names.helper();
        // What an image starts first may print, and there it would disturb our program's stream.
        let mut command = command.into_iter();
        definition.body.entrypoint = Some(command.by_ref().take(1).collect());
        definition.body.cmd = Some(command.collect());
        definition
    }

    /// The container of a service.
    pub(crate) fn service(&self, service: &Service, image: &Image) -> ContainerDefinition {
        let (name, version) = (&service.name.service, &service.name.version);
        let mut definition = ContainerDefinition {
            name: service.container.clone(),
            platform: platform(&service.image, image),
            lines: Vec::new(),
            body: ContainerCreateBody {
                image: Some(image.exact().to_owned()),
                env: Some(service.environment.clone()),
                cmd: filled(&service.command),
                user: (!service.image.user.is_empty()).then(|| service.image.user.clone()),
                labels: Some(self.labels.service(name, version)),
                host_config: Some(self.host(
                    SERVICE,
                    &service.image.name,
                    &self.services_security,
                    &[],
                    true,
                )),
                networking_config: self.network.endpoint(service.aliases.clone(), None),
                ..ContainerCreateBody::default()
            },
        };
        let entrypoint = self.entrypoint(&service.image.entrypoint, &mut definition);
        definition.body.entrypoint = entrypoint;
        definition
    }

    /// What the build and the helper container have in common.
    fn job_container(
        &self,
        kind: Kind,
        name: &str,
        image: &Image,
        links: &[String],
    ) -> ContainerDefinition {
        let config = self.config;
        let is_build = kind == Kind::Build;
        let mut lines = Vec::new();
        // An address belongs to one container at a time, and both may run.
        let mut mac_address = Some(&config.mac_address).filter(|mac| is_build && !mac.is_empty());
        if mac_address.is_some() && self.inputs.daemon.api < MAC_ADDRESS_API {
            lines.push(messages::mac_address_needs_newer_daemon());
            mac_address = None;
        }
        let own_name = if is_build {
            self.names.build()
        } else {
            self.names.helper()
        };
        let aliases = vec!["build".to_owned(), own_name];
        let hostname = match config.hostname.as_str() {
            "" => self.names.project(),
            hostname => hostname,
        };
        let host = self.host(BUILD_AND_HELPER, name, &self.security, links, is_build);
        ContainerDefinition {
            name: String::new(),
            platform: None,
            lines,
            body: ContainerCreateBody {
                image: Some(image.exact().to_owned()),
                hostname: (!self.network.is_another_container_s()).then(|| hostname.to_owned()),
                tty: Some(false),
                attach_stdin: Some(true),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                open_stdin: Some(true),
                stdin_once: Some(true),
                env: Some(environment::of_job(self.inputs.job, &self.network)),
                labels: Some(self.labels.container(kind)),
                host_config: Some(host),
                networking_config: self.network.endpoint(aliases, mac_address.cloned()),
                ..ContainerCreateBody::default()
            },
        }
    }

    fn host(
        &self,
        role: Role,
        image: &str,
        security: &[String],
        links: &[String],
        may_have_init: bool,
    ) -> HostConfig {
        role(HostSettings {
            config: self.config,
            image,
            binds: &self.volumes.binds(),
            network_mode: self.network.mode(),
            security,
            links,
            init: may_have_init && self.inputs.job.features().docker_init,
        })
    }

    /// The wanted entrypoint, where the runner lets jobs choose it. A single empty text clears the image's own.
    fn entrypoint(
        &self,
        wanted: &[String],
        definition: &mut ContainerDefinition,
    ) -> Option<Vec<String>> {
        if wanted.is_empty() {
            return None;
        }
        if self.config.disable_entrypoint_overwrite {
            definition
                .lines
                .push(messages::entrypoint_override_disabled());
            return None;
        }
        Some(wanted.to_vec())
    }
}

/// From this API version on an endpoint has the MAC address.
const MAC_ADDRESS_API: ApiVersion = ApiVersion::new(1, 44);

/// The job's image or the runner's, where it may be used.
fn image(config: &DockerConfig, job: &Job, lines: &mut Vec<String>) -> Result<JobImage, PlanError> {
    let own = job.variables().expand(&config.image);
    let mut image = job.image();
    if image.name.is_empty() {
        if own.is_empty() {
            return Err(PlanError::NoImage);
        }
        lines.push(messages::using_default_image());
        image.name.clone_from(&own);
    }
    if !allowed::may_use(&config.allowed_images, [own.as_str()], &image.name) {
        return Err(PlanError::disallowed_image(
            &image.name,
            &config.allowed_images,
        ));
    }
    Ok(image)
}

/// The platform of the image that was found, where the job asked for one.
fn platform(wanted: &JobImage, image: &Image) -> Option<String> {
    if wanted.platform.is_empty() {
        return None;
    }
    let found = &image.inspected;
    let parts = [&found.os, &found.architecture, &found.variant];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    Some(parts.map(String::as_str).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod docker_engine;
#[cfg(test)]
mod tests;
