//! The services of a job: which ones, under which names, and what is asked of them before the job begins
//! (`executor-docker.md` 14).

mod name;

use std::collections::BTreeSet;

use courser_config::{DockerConfig, DockerService};
use courser_job::{Job, JobImage, JobService, messages};
use courser_protocol::JobVariable;

use crate::allowed;
use crate::container::environment;
use crate::names::Names;
use crate::networks::Network;
use crate::plan::PlanError;
pub(crate) use name::ServiceName;

/// A service with its place in the job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Service {
    /// Name of its container.
    pub(crate) container: String,
    /// What its image's name says.
    pub(crate) name: ServiceName,
    /// Host names that no service before has.
    pub(crate) aliases: Vec<String>,
    /// Image as it was written, variables expanded, with policies, platform, user and entrypoint.
    pub(crate) image: JobImage,
    /// Command; empty = the image's own.
    pub(crate) command: Vec<String>,
    /// `NAME=value` entries.
    pub(crate) environment: Vec<String>,
}

/// Services in the order in which they start, and what the log has to say of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services {
    /// Those that run; one without any free alias does not.
    pub(crate) list: Vec<Service>,
    /// Lines for the job's log.
    pub(crate) lines: Vec<String>,
}

impl Services {
    /// Those of the configuration, then those of the job.
    pub(crate) fn plan(
        config: &DockerConfig,
        job: &Job,
        names: &Names,
        network: &Network,
    ) -> Result<Self, PlanError> {
        let configured: Vec<JobService> = config
            .services
            .iter()
            .map(|service| of_runner(job, service))
            .collect();
        let own_names: Vec<String> = configured
            .iter()
            .map(|service| service.image.name.clone())
            .collect();
        let definitions: Vec<JobService> = configured.into_iter().chain(job.services()).collect();
        let limit = config
            .services_limit
            .and_then(|limit| usize::try_from(limit).ok());
        if let Some(allowed) = limit.filter(|limit| definitions.len() > *limit) {
            return Err(PlanError::TooManyServices {
                requested: definitions.len(),
                allowed,
            });
        }
        let mut services = Self::default();
        let mut taken = BTreeSet::new();
        for (index, definition) in definitions.into_iter().enumerate() {
            let written = &definition.image.name;
            let own = own_names.iter().map(String::as_str);
            if !allowed::may_use(&config.allowed_services, own, written) {
                return Err(PlanError::disallowed_service(
                    written,
                    &config.allowed_services,
                ));
            }
            let name = ServiceName::parse(written).ok_or_else(|| PlanError::ServiceName {
                name: written.clone(),
            })?;
            let further = definition
                .alias
                .split([' ', ','])
                .filter(|alias| !alias.is_empty());
            let mut aliases = Vec::new();
            for alias in name.aliases().into_iter().chain(further.map(str::to_owned)) {
                if taken.insert(alias.clone()) {
                    aliases.push(alias);
                } else if !aliases.contains(&alias) {
                    services
                        .lines
                        .push(messages::skipping_alias(&alias, written, index));
                }
            }
            if aliases.is_empty() {
                continue;
            }
            services.list.push(Service {
                container: names.service(&name.service, index),
                name,
                aliases,
                command: definition.command,
                environment: environment::of_service(job, network, &definition.variables),
                image: definition.image,
            });
        }
        Ok(services)
    }
}

/// A service of the configuration as if the job had named it.
fn of_runner(job: &Job, service: &DockerService) -> JobService {
    let variables = job.variables();
    let variable = |entry: &String| {
        let (key, value) = entry.split_once('=')?;
        Some(JobVariable {
            key: key.to_owned(),
            value: variables.expand(value).into(),
            ..JobVariable::default()
        })
    };
    JobService {
        image: JobImage {
            name: variables.expand(&service.name),
            entrypoint: service.entrypoint.clone(),
            ..JobImage::default()
        },
        alias: variables.expand(&service.alias),
        command: service.command.clone(),
        variables: service.environment.iter().filter_map(variable).collect(),
    }
}

/// Ports that are tried before the job begins: the one that the service's variable names, else the first twenty TCP
/// ports that its image exposes, as in `5432/tcp`.
pub(crate) fn ports_to_check(
    environment: &[String],
    exposed: &[String],
) -> Result<Vec<u16>, String> {
    const VARIABLE: &str = "HEALTHCHECK_TCP_PORT";
    const MOST: usize = 20;
    let named = environment.iter().find_map(|entry| {
        let (name, value) = entry.split_once('=')?;
        name.eq_ignore_ascii_case(VARIABLE).then_some(value)
    });
    if let Some(port) = named {
        return match port.trim().parse() {
            Ok(port) => Ok(vec![port]),
            Err(_) => Err(format!("invalid health check tcp port: {port:?}")),
        };
    }
    let tcp = exposed.iter().filter_map(|port| {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        (protocol == "tcp").then(|| number.parse().ok())?
    });
    let ports: BTreeSet<u16> = tcp.collect();
    Ok(ports.into_iter().take(MOST).collect())
}

#[cfg(test)]
mod tests;
