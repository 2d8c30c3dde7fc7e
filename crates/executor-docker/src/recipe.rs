//! How one of a job's containers is made, as often as it has to be.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bollard::query_parameters::{CreateContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;
use courser_executor::{PrepareError, RunError};
use courser_protocol::FailureReason;
use futures_util::stream;
use jiff::Timestamp;

use crate::belongings::remove_container;
use crate::container::ContainerDefinition;
use crate::engine::{Engine, EngineError, ErrorClass};
use crate::image_trust::{ContainerFacts, ContainerTrust, ImageTrust, ImageTrustError};
use crate::labels::goes_with;
use crate::own_helper::{OwnHelper, OwnHelperError};

/// A container's definition, and what is put into it before it starts.
#[derive(Clone)]
pub(crate) struct Recipe {
    definition: ContainerDefinition,
    trust: Option<Arc<ContainerTrust>>,
    /// Our program, for images that do not have it.
    program: Option<OwnHelper>,
    /// Directories of its volumes that are there when it starts, for every user to write to; parents first.
    open_directories: Vec<String>,
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
    /// Its directories; they can be made from the helper container as well.
    #[error("directories of the job cannot be made in its volumes: {0}")]
    Directories(#[source] EngineError),
}

impl Recipe {
    pub(crate) fn new(definition: ContainerDefinition) -> Self {
        Self {
            definition,
            trust: None,
            program: None,
            open_directories: Vec::new(),
        }
    }

    /// Makes directories in its volumes, and opens them to all.
    pub(crate) fn with_open_directories(mut self, directories: Vec<String>) -> Self {
        self.open_directories = directories;
        self
    }

    /// The container as it is asked for.
    pub(crate) fn definition(&self) -> &ContainerDefinition {
        &self.definition
    }

    /// Puts our program into the container.
    pub(crate) fn with_program(mut self, program: &OwnHelper) -> Self {
        self.program = Some(program.clone());
        self
    }

    /// Adds the private CAs to what the image trusts. `mounted` is where the job's own volumes are, `base` what the names of
    /// its containers begin with. Gives the line for the log.
    pub(crate) fn with_trust(
        &mut self,
        trust: &ImageTrust,
        mounted: &[&str],
        base: &str,
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
        // Whoever removes the container by hand leaves its anonymous volumes.
        let labels = HashMap::from([goes_with(base)]);
        let mounts = trust.mounts.iter().cloned().map(|mut mount| {
            let options = mount.volume_options.get_or_insert_default();
            options.labels = Some(labels.clone());
            mount
        });
        host.mounts.get_or_insert_default().extend(mounts);
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

    /// The container's variables, as `NAME=value`.
    pub(crate) fn variables(&self) -> &[String] {
        self.definition.body.env.as_deref().unwrap_or_default()
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
        let mut trust = self.trust.as_deref();
        if !self.open_directories.is_empty() {
            // The engine takes as long for one archive as for a file in it.
            let at_root = trust.and_then(ContainerTrust::at_root).cloned();
            if at_root.is_some() {
                trust = None;
            }
            match self.put_at_root(engine, &id, at_root).await {
                Err(error) if error.is_refusal() => return Err(MakeError::Directories(error)),
                put => put?,
            }
        }
        if let Some(trust) = trust {
            trust.fill(engine, &id).await?;
        }
        Ok(id)
    }

    /// Puts the directories, and what is put with them, into a container.
    async fn put_at_root(
        &self,
        engine: &Engine,
        id: &str,
        more: Option<Bytes>,
    ) -> Result<(), EngineError> {
        let directories = archive_of(&self.open_directories);
        let directories = directories.map_err(|error| EngineError::Garbled(error.to_string()))?;
        let end = if more.is_some() { END_OF_ARCHIVE } else { 0 };
        let directories = directories.slice(..directories.len() - end);
        let body = [directories].into_iter().chain(more).map(Ok);
        let options = UploadToContainerOptionsBuilder::default()
            .path("/")
            // A link of the image's in place of one of them.
            .no_overwrite_dir_non_dir("true")
            .build();
        let body = bollard::body_try_stream(stream::iter(body));
        let uploading = engine.api().upload_to_container(id, Some(options), body);
        Ok(uploading.await?)
    }
}

/// What a tar archive ends with: more may follow in its place.
const END_OF_ARCHIVE: usize = 1024;

/// An archive of directories for everybody.
fn archive_of(directories: &[String]) -> io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    for directory in directories {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o777);
        header.set_mtime(now);
        header.set_size(0);
        archive.append_data(&mut header, directory.trim_start_matches('/'), io::empty())?;
    }
    Ok(archive.into_inner()?.into())
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
        let said = error.to_string();
        let message = match &error {
            MakeError::Engine(engine)
            | MakeError::Directories(engine)
            | MakeError::Trust(
                ImageTrustError::Read { source: engine, .. }
                | ImageTrustError::Fill { source: engine, .. },
            ) => engine.with_remedy(said),
            MakeError::Trust(ImageTrustError::Archive(_)) | MakeError::Program(_) => said,
        };
        Self {
            message,
            reason: error.reason(),
        }
    }
}

impl From<MakeError> for RunError {
    fn from(error: MakeError) -> Self {
        let reason = error.reason();
        match error {
            MakeError::Engine(error) if reason.is_none() => error.into(),
            error => Self::Environment {
                message: error.to_string(),
                reason,
            },
        }
    }
}
