//! How one of a job's containers is made, as often as it has to be.

use std::sync::Arc;

use bollard::query_parameters::{CreateContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use courser_executor::{PrepareError, RunError};
use courser_protocol::FailureReason;

use crate::belongings::remove_container;
use crate::container::ContainerDefinition;
use crate::engine::{Engine, EngineError, ErrorClass};
use crate::image_trust::{ContainerFacts, ContainerTrust, ImageTrust, ImageTrustError};
use crate::own_helper::{OwnHelper, OwnHelperError};

/// A container's definition, and what is put into it before it starts.
#[derive(Clone)]
pub(crate) struct Recipe {
    definition: ContainerDefinition,
    trust: Option<Arc<ContainerTrust>>,
    /// Our program, for images that do not have it.
    program: Option<OwnHelper>,
}

/// A container that could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Trust(#[from] ImageTrustError),
    #[error(transparent)]
    Program(#[from] OwnHelperError),
}

impl Recipe {
    pub(crate) fn new(definition: ContainerDefinition) -> Self {
        Self {
            definition,
            trust: None,
            program: None,
        }
    }

    /// Puts our program into the container.
    pub(crate) fn with_program(mut self, program: &OwnHelper) -> Self {
        self.program = Some(program.clone());
        self
    }

    /// Adds the private CAs to what the image trusts. `mounted` is where the job's own volumes are. Gives the line for the
    /// log.
    pub(crate) fn with_trust(
        &mut self,
        trust: &ImageTrust,
        mounted: &[&str],
    ) -> Result<Option<String>, ImageTrustError> {
        let body = &mut self.definition.body;
        let host = body.host_config.get_or_insert_default();
        let tmpfs = host.tmpfs.iter().flatten().map(|(path, _)| path.as_str());
        let mounted: Vec<&str> = mounted.iter().copied().chain(tmpfs).collect();
        let variables = body.env.iter().flatten();
        let variables: Vec<&str> = variables
            .map(|entry| {
                entry
                    .split_once('=')
                    .map_or(entry.as_str(), |(name, _)| name)
            })
            .collect();
        let facts = ContainerFacts {
            mounted: &mounted,
            variables: &variables,
            volumes_one_by_one: host.readonly_rootfs == Some(true),
        };
        let Some(trust) = trust.plan(facts)? else {
            return Ok(None);
        };
        let line = trust.line.clone();
        host.mounts
            .get_or_insert_default()
            .extend(trust.mounts.iter().cloned());
        body.env
            .get_or_insert_default()
            .extend(trust.environment.iter().cloned());
        self.trust = Some(Arc::new(trust));
        Ok(Some(line))
    }

    /// What is said when the container is made.
    pub(crate) fn lines(&self) -> &[String] {
        &self.definition.lines
    }

    /// Name of the container.
    pub(crate) fn name(&self) -> &str {
        &self.definition.name
    }

    /// Makes it anew, in place of one with its name. Gives its id.
    pub(crate) async fn make(&self, engine: &Engine) -> Result<String, MakeError> {
        let ContainerDefinition { name, platform, .. } = &self.definition;
        let mut options = CreateContainerOptionsBuilder::default().name(name);
        if let Some(platform) = platform {
            options = options.platform(platform);
        }
        let options = options.build();
        let create = || {
            let body = self.definition.body.clone();
            engine.api().create_container(Some(options.clone()), body)
        };
        let created = match create().await.map_err(EngineError::from) {
            Err(error) if error.class() == ErrorClass::Conflict => {
                remove_container(engine, name, true).await?;
                create().await.map_err(EngineError::from)?
            }
            created => created?,
        };
        let id = created.id;
        if let Some(program) = &self.program {
            let archive = program.program_archive(engine).await?;
            let options = UploadToContainerOptionsBuilder::default().path("/").build();
            let body = bollard::body_try_stream(archive);
            let uploading = engine.api().upload_to_container(&id, Some(options), body);
            uploading.await.map_err(EngineError::from)?;
        }
        if let Some(trust) = &self.trust {
            trust.fill(engine, &id).await?;
        }
        Ok(id)
    }
}

impl MakeError {
    /// A malformed request comes from settings, as from a variable without a name (`executor-docker.md` 5.4).
    fn reason(&self) -> Option<FailureReason> {
        match self {
            Self::Engine(error) if error.class() == ErrorClass::BadRequest => {
                Some(FailureReason::RunnerConfigurationError)
            }
            _ => None,
        }
    }
}

impl From<MakeError> for PrepareError {
    fn from(error: MakeError) -> Self {
        Self {
            message: error.to_string(),
            reason: error.reason(),
        }
    }
}

impl From<MakeError> for RunError {
    fn from(error: MakeError) -> Self {
        Self::Environment {
            message: error.to_string(),
            reason: error.reason(),
        }
    }
}
