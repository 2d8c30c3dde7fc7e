//! A private CA is trusted in every container of a job, whatever its image, without touching the image.
//!
//! ```text
//! image id, Anchors ─► ImageTrusts::of ─► ImageTrust ─► plan ─► ContainerTrust { mounts, environment, line }
//!                                                                   │ into the container's definition
//!                                                       create the container
//!                                                                   │
//!                                                       ContainerTrust::fill, before its first start
//! ```
//!
//! An image is read once (`reading.rs`): the engine is asked what of the known places (`locations.rs`) it has and where
//! their links lead (`survey.rs`), and gives the directories that hold bundles, hashes and keystores (`directory.rs`). The
//! private CAs are added to what is there (`cover.rs`, `courser_trust`). Each container then gets a volume of its own over
//! each of these directories, filled through the archive API before it starts: writable, so that `update-ca-certificates`
//! replaces files as everywhere else, removed with the container (`v=true`), and in no layer and no `docker commit`.
//!
//! What is read is kept in memory only and by the image's id, which is a digest of all that is in it: ask with the id that
//! the container is made of, and nothing that a job did can be read back.

mod anchors;
mod cover;
mod directory;
mod locations;
mod pem_directory;
mod reading;
mod survey;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bollard::models::{Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use bytes::Bytes;
use courser_job::messages;
use courser_job::{BUNDLE_VARIABLES, Otherwise};
use tokio::sync::OnceCell;

pub use self::anchors::Anchors;
use self::cover::Covered;
use self::directory::Directory;
use self::survey::Survey;
use crate::engine::{Engine, EngineError};

/// Why an image was not read, or a container's volumes were not filled.
#[derive(Debug, thiserror::Error)]
pub enum ImageTrustError {
    /// The engine did not do what was asked of it.
    #[error("the engine failed while it was asked for the certificates of image {image}: {source}")]
    Read {
        /// Its id.
        image: String,
        /// Cause.
        source: EngineError,
    },
    /// The engine took no archive.
    #[error(
        "the engine failed while it was handed certificates for container {container}: {source}"
    )]
    Fill {
        /// Its id.
        container: String,
        /// Cause.
        source: EngineError,
    },
    /// No archive could be made.
    #[error("an archive of certificates cannot be made: {0}")]
    Archive(#[from] io::Error),
}

/// Images in use are a few; what is not used for a while is read again.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// By engine, by image, and by what is added to it.
type Key = (String, String, [u8; 32]);

/// Read, or being read.
type Cell = Arc<OnceCell<Arc<ImageTrust>>>;

/// What is known of images. One a process.
#[derive(Default)]
pub struct ImageTrusts {
    known: Mutex<Vec<(Key, Cell)>>,
}

impl ImageTrusts {
    /// Of the image with this id, `sha256:…`: never a name, which can come to mean another image. `probe` is name
    /// and labels of the container that is made to look into the image.
    ///
    /// # Errors
    ///
    /// Those of the engine; the next call tries again.
    pub async fn of(
        &self,
        engine: &Engine,
        image: &str,
        anchors: &Anchors,
        probe: (&str, &HashMap<String, String>),
    ) -> Result<Arc<ImageTrust>, ImageTrustError> {
        let host = engine.host().to_owned();
        let key = (host, image.to_owned(), anchors.digest);
        let cell = self.cell(&key);
        let trust = cell
            .get_or_try_init(|| async {
                let trust = ImageTrust::for_image(engine, image, anchors, probe).await?;
                Ok::<_, ImageTrustError>(Arc::new(trust))
            })
            .await?;
        self.forget();
        Ok(Arc::clone(trust))
    }

    /// The same for all who ask at the same time; the last one asked for is the last in the list.
    fn cell(&self, key: &Key) -> Cell {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match known.iter().position(|(other, _)| other == key) {
            Some(index) => known.remove(index),
            None => (key.clone(), Arc::default()),
        };
        let cell = Arc::clone(&entry.1);
        known.push(entry);
        cell
    }

    /// Lets go of what was not asked for for the longest time.
    fn forget(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = MOST_BYTES;
        let mut kept = known.len();
        while let Some((_, cell)) = kept.checked_sub(1).and_then(|index| known.get(index)) {
            let weight = cell.get().map_or(0, |trust| trust.weight);
            let Some(rest) = left.checked_sub(weight) else {
                break;
            };
            left = rest;
            kept -= 1;
        }
        known.drain(..kept);
    }
}

/// An image with the private CAs among its certificates.
#[derive(Debug)]
pub struct ImageTrust {
    covered: Covered,
    /// For paths that are links in the image.
    survey: Survey,
    /// Names that the image itself sets.
    variables: HashSet<String>,
    private: usize,
    system: usize,
    /// An archive that is put at the root reaches the volumes below it. Podman's does not: it is hidden from the job and
    /// comes up in `commit`.
    fills_at_once: bool,
    weight: usize,
    /// For containers that mount nothing of their own over it.
    archive: OnceLock<Bytes>,
}

/// How a container is made, as far as it counts here.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContainerFacts<'a> {
    /// Paths in the container at which it has binds, volumes and tmpfs of its own.
    pub mounted: &'a [&'a str],
    /// Names of its variables, those of the job too.
    pub variables: &'a [&'a str],
    /// Each volume is to be filled by a call of its own: its root file system is read-only.
    pub volumes_one_by_one: bool,
}

/// What a container gets.
#[derive(Debug)]
pub struct ContainerTrust {
    /// For its host configuration.
    pub mounts: Vec<Mount>,
    /// For its environment, `NAME=value`.
    pub environment: Vec<String>,
    /// For the job's log; the same for all containers of one image with the same mounts.
    pub line: String,
    /// Archives, and the path at which each is put.
    archives: Vec<(String, Bytes)>,
}

impl ImageTrust {
    /// Reads an image; [`ImageTrusts::of`] does that once.
    async fn for_image(
        engine: &Engine,
        image: &str,
        anchors: &Anchors,
        probe: (&str, &HashMap<String, String>),
    ) -> Result<Self, ImageTrustError> {
        let failed = |error: bollard::errors::Error| ImageTrustError::Read {
            image: image.to_owned(),
            source: error.into(),
        };
        let inspected = engine.api().inspect_image(image).await.map_err(failed)?;
        // Windows has a store that no archive reaches.
        if inspected.os.as_deref() == Some("windows") {
            return Ok(Self::new(Covered::default(), Survey::of(&[]), &[], anchors));
        }
        let environment = inspected.config.and_then(|config| config.env);
        let environment = environment.unwrap_or_default();
        let reading = reading::read(engine.api(), image, &environment, probe)
            .await
            .map_err(failed)?;
        let (layout, directories) = (reading.layout, reading.directories);
        let added = anchors.clone();
        // A keystore can ask for seconds of key derivation.
        let covering = tokio::task::spawn_blocking(move || layout.cover(directories, &added));
        let covered = covering.await.map_err(io::Error::other)?;
        Ok(Self {
            fills_at_once: !engine.is_podman(),
            ..Self::new(covered, reading.survey, &environment, anchors)
        })
    }

    fn new(covered: Covered, survey: Survey, environment: &[String], anchors: &Anchors) -> Self {
        let name = |variable: &String| {
            let name = variable
                .split_once('=')
                .map_or(variable.as_str(), |(name, _)| name);
            name.to_owned()
        };
        let weights = covered.directories.iter().map(Directory::weight);
        Self {
            // The archive holds it all once more.
            weight: weights.sum::<usize>() * 2,
            covered,
            survey,
            variables: environment.iter().map(name).collect(),
            private: anchors.private.len(),
            system: anchors.system.len(),
            fills_at_once: true,
            archive: OnceLock::new(),
        }
    }

    /// What a container of this image gets; `None` when all in it is left as it is. Nothing is put over or into what the
    /// container mounts itself: whoever mounts something there has decided.
    ///
    /// # Errors
    ///
    /// [`ImageTrustError::Archive`].
    pub fn plan(
        &self,
        container: ContainerFacts<'_>,
    ) -> Result<Option<ContainerTrust>, ImageTrustError> {
        let mounted = container.mounted.iter();
        let mounted: Vec<String> = mounted.map(|path| self.survey.resolved(path)).collect();
        let taken = |path: &str| {
            mounted
                .iter()
                .any(|mounted| locations::is_at_or_below(path, mounted))
        };
        let directories = self.covered.directories.iter();
        let directories: Vec<&Directory> = directories
            .filter(|directory| !taken(&directory.path))
            .collect();
        if directories.is_empty() {
            return Ok(None);
        }
        let reachable = |path: &&str| {
            let covers = |directory: &&Directory| locations::is_at_or_below(path, &directory.path);
            !taken(path) && directories.iter().any(covers)
        };
        let archives = if container.volumes_one_by_one || !self.fills_at_once {
            let archive = |directory: &&Directory| {
                let archive = archive(&[*directory], Prefix::None, taken)?;
                Ok((directory.path.clone(), archive))
            };
            directories.iter().map(archive).collect::<io::Result<_>>()?
        } else {
            let holds_a_mount = |directory: &&Directory| {
                let holds = |mounted: &String| locations::is_at_or_below(mounted, &directory.path);
                mounted.iter().any(holds)
            };
            let untouched = directories.len() == self.covered.directories.len()
                && !directories.iter().any(holds_a_mount);
            let archive = if untouched {
                self.whole_archive()?
            } else {
                archive(&directories, Prefix::FromRoot, taken)?
            };
            vec![("/".to_owned(), archive)]
        };
        Ok(Some(ContainerTrust {
            mounts: directories
                .iter()
                .map(|directory| mount(directory))
                .collect(),
            environment: self.environment(container.variables, reachable),
            line: self.line(&directories),
            archives,
        }))
    }

    /// Of all directories as they are, made once.
    fn whole_archive(&self) -> io::Result<Bytes> {
        if let Some(archive) = self.archive.get() {
            return Ok(archive.clone());
        }
        let directories: Vec<&Directory> = self.covered.directories.iter().collect();
        let made = archive(&directories, Prefix::FromRoot, |_| false)?;
        Ok(self.archive.get_or_init(|| made).clone())
    }

    /// Variables for programs that do not read what the image's other programs read.
    fn environment(&self, set: &[&str], reachable: impl Fn(&&str) -> bool) -> Vec<String> {
        let bundle = self
            .covered
            .bundle
            .as_ref()
            .map(|bundle| bundle.path.as_str());
        let bundle = bundle.filter(&reachable);
        let private_file = self.covered.private_file.as_deref().filter(&reachable);
        let is_set = |name: &&str| set.contains(name) || self.variables.contains(*name);
        let free = BUNDLE_VARIABLES
            .iter()
            .filter(|variable| !variable.unless.iter().any(is_set));
        free.filter_map(|variable| {
            let file = match variable.otherwise {
                Otherwise::System => None,
                Otherwise::OwnList => bundle,
                Otherwise::OwnListToo => private_file.or(bundle),
            };
            Some(format!("{}={}", variable.name, file?))
        })
        .collect()
    }

    fn line(&self, directories: &[&Directory]) -> String {
        let beside = match &self.covered.bundle {
            Some(bundle) => match bundle.own {
                Some(own) => messages::ImageBundle::Own(own),
                None => messages::ImageBundle::Runners(self.system),
            },
            None => messages::ImageBundle::None,
        };
        let covered: Vec<&str> = directories
            .iter()
            .map(|directory| directory.path.as_str())
            .collect();
        let left_alone: Vec<(&str, &str)> = self
            .covered
            .left_alone
            .iter()
            .map(|left| (left.path.as_str(), left.because.as_str()))
            .collect();
        messages::image_trust(self.private, &beside, &covered, &left_alone)
    }
}

impl ContainerTrust {
    /// What is put at the root, where that is all of it.
    pub(crate) fn at_root(&self) -> Option<&Bytes> {
        match &self.archives[..] {
            [(path, archive)] if path == "/" => Some(archive),
            _ => None,
        }
    }

    /// Fills the volumes. To be called once, after the container was created with [`mounts`](Self::mounts) and before it is
    /// started for the first time.
    ///
    /// # Errors
    ///
    /// [`ImageTrustError::Fill`].
    pub async fn fill(&self, engine: &Engine, container: &str) -> Result<(), ImageTrustError> {
        for (path, archive) in &self.archives {
            let options = UploadToContainerOptionsBuilder::default()
                .path(path)
                .build();
            engine
                .api()
                .upload_to_container(
                    container,
                    Some(options),
                    bollard::body_full(archive.clone()),
                )
                .await
                .map_err(|error| ImageTrustError::Fill {
                    container: container.to_owned(),
                    source: error.into(),
                })?;
        }
        Ok(())
    }
}

/// An anonymous volume: it goes with its container. The engine does not fill it itself, which takes longer, and which Podman
/// does at another time.
fn mount(directory: &Directory) -> Mount {
    Mount {
        target: Some(directory.path.clone()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    }
}

enum Prefix {
    /// For an archive that is put at the root.
    FromRoot,
    /// For one that is put at the directory itself.
    None,
}

fn archive(
    directories: &[&Directory],
    prefix: Prefix,
    hidden: impl Fn(&str) -> bool,
) -> io::Result<Bytes> {
    let mut builder = tar::Builder::new(Vec::new());
    for directory in directories {
        let prefix = match prefix {
            Prefix::FromRoot => &directory.path[1..],
            Prefix::None => "",
        };
        directory.write(&mut builder, prefix, &hidden)?;
    }
    Ok(builder.into_inner()?.into())
}

#[cfg(test)]
mod tests;
