//! Our own helper image (`executor-docker.md` 11): a small root file system with Git, and this program as a second layer.
//!
//! No registry is asked. The file system comes as a file with Courser (`cargo xtask helper-image`), and both layers go
//! to the Engine as an image archive that is written while it is sent. The image is known by its content: an Engine that
//! has one of that name with other layers gets ours, and containers are made of the id that was looked at. Where there
//! is no such file, upstream's image serves, with this program put into each container
//! ([`OwnHelper::program_archive`]).

mod archive;
mod layer;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ImageInspect, ImageSummary};
use bollard::query_parameters::{ImportImageOptions, ListImagesOptions, RemoveImageOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::engine::{Engine, EngineError};
use archive::{Archive, LABEL};
use layer::{ProgramLayer, RootLayer};

/// Directories that hold the file, seen from the program's.
const DIRECTORIES: [&str; 2] = ["helper-images", "../lib/courser/helper-images"];

/// The name of all our images; with a registry's name in it nobody pulls it by mistake.
const REPOSITORY: &str = "localhost/courser-helper";

/// Images of other versions of Courser are kept that long: one may be in use on the same host.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Makes sure that an Engine has the image. One for a process: it remembers what it has read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OwnHelper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// This program, open: another version may lie at its path by now.
    program: File,
    directories: Vec<PathBuf>,
    /// What was read last, and the right to bring an image to an Engine.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    program: Option<Arc<ProgramLayer>>,
    root: Option<Arc<RootLayer>>,
}

/// Why there is no helper image.
#[derive(Debug, thiserror::Error)]
pub enum OwnHelperError {
    /// This program cannot be read.
    #[error("cannot read this program for the helper image: {0}")]
    Program(#[source] io::Error),
    /// The file of the root file system is broken.
    #[error("cannot read the helper image {}: {source}", file.display())]
    Root {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The Engine's machine cannot run this program.
    #[error(
        "the Docker Engine at {host} runs {engine} containers, and this Courser is built for linux/{own}: helper \
         containers need the same; use the Courser of that architecture"
    )]
    Platform {
        /// The Engine.
        host: String,
        /// Its system and architecture.
        engine: String,
        /// Ours.
        own: &'static str,
    },
    /// The Engine does not take it.
    #[error("cannot load the helper image: {0}")]
    Load(#[source] EngineError),
    /// The Engine took it and has something else.
    #[error("the Docker Engine at {host} has other layers in {name} than it was given: {layers}")]
    Changed {
        /// The Engine.
        host: String,
        /// The image.
        name: String,
        /// What it names, or that it has none.
        layers: String,
    },
    /// The Engine failed otherwise.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl OwnHelper {
    /// With the program at `program`, which is this one, and the images beside it.
    ///
    /// # Errors
    ///
    /// The program cannot be opened.
    pub fn new(program: &Path) -> Result<Self, OwnHelperError> {
        let beside = program.parent().unwrap_or_else(|| Path::new("."));
        let directories = DIRECTORIES.map(|directory| beside.join(directory));
        let shared = Shared {
            program: File::open(program).map_err(OwnHelperError::Program)?,
            directories: directories.to_vec(),
            known: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The id of the image on an Engine, which has it from now on; `None` when no file of a root file system lies beside
    /// the program. `now` decides which images of other versions are old.
    ///
    /// # Errors
    ///
    /// Nothing can be read or loaded, or the Engine's containers could not run this program.
    pub async fn ready(
        &self,
        engine: &Engine,
        now: Timestamp,
    ) -> Result<Option<String>, OwnHelperError> {
        let own = check_platform(engine).await?;
        let mut known = self.shared.known.lock().await;
        let Some(file) = self.file(own) else {
            return Ok(None);
        };
        let root = layer::blocking({
            let known = known.root.take();
            move || RootLayer::read(file, known)
        })
        .await?;
        known.root = Some(Arc::clone(&root));
        let program = self.program(&mut known).await?;
        let archive = Archive::new(own, root, program);
        let name = format!("{REPOSITORY}:{}", archive.tag());
        let found = match engine
            .api()
            .inspect_image(&name)
            .await
            .map_err(EngineError::from)
        {
            Ok(found) => archive.is_in(&found).then_some(found),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(id) = found.and_then(|found| found.id) {
            return Ok(Some(id));
        }
        load(engine, &archive, &name).await?;
        let found = engine
            .api()
            .inspect_image(&name)
            .await
            .map_err(EngineError::from)?;
        if !archive.is_in(&found) {
            return Err(OwnHelperError::Changed {
                host: engine.host().to_owned(),
                name,
                layers: layers(&found).join(", "),
            });
        }
        let id = found.id.unwrap_or(name);
        remove_old(engine, &id, now).await;
        Ok(Some(id))
    }

    /// This program as a tar archive to be unpacked at `/`, for a container of somebody else's helper image.
    ///
    /// # Errors
    ///
    /// The Engine's containers could not run this program, or it cannot be read.
    pub async fn program_archive(
        &self,
        engine: &Engine,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, OwnHelperError> {
        check_platform(engine).await?;
        let program = self.program(&mut *self.shared.known.lock().await).await?;
        Ok(layer::stream(move |out| program.write(out)))
    }

    async fn program(&self, known: &mut Known) -> Result<Arc<ProgramLayer>, OwnHelperError> {
        if let Some(program) = &known.program {
            return Ok(Arc::clone(program));
        }
        let shared = Arc::clone(&self.shared);
        let read = move || {
            let file = shared.program.try_clone();
            file.and_then(ProgramLayer::read)
                .map_err(OwnHelperError::Program)
        };
        let program = Arc::new(layer::blocking(read).await?);
        known.program = Some(Arc::clone(&program));
        Ok(program)
    }

    /// What to say where [`Self::ready`] gives `None`.
    pub(crate) fn missing(&self) -> String {
        let looked = self.shared.directories.iter();
        let looked: Vec<String> = looked.map(|path| path.display().to_string()).collect();
        format!(
            "{}, Courser's own helper image, is missing: it is neither in {}; gitlab-runner's is taken",
            file_name(own_architecture()),
            looked.join(" nor in ")
        )
    }

    /// The root file system for an architecture.
    fn file(&self, architecture: &str) -> Option<PathBuf> {
        let name = file_name(architecture);
        let paths = self
            .shared
            .directories
            .iter()
            .map(|directory| directory.join(&name));
        paths.into_iter().find(|path| path.is_file())
    }
}

/// This program's architecture in the words of images.
fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Of the root file system for an architecture.
fn file_name(architecture: &str) -> String {
    format!("courser-helper-{}.tar.zst", upstream_name(architecture))
}

/// The architecture in the words of images, when the Engine's containers are of ours.
async fn check_platform(engine: &Engine) -> Result<&'static str, OwnHelperError> {
    let own = own_architecture();
    let info = engine.info().await?;
    let system = info.os_type.as_deref().unwrap_or("linux");
    let architecture = info.architecture.as_deref().unwrap_or_default();
    let same = matches!(
        (architecture, own),
        ("x86_64" | "amd64", "amd64") | ("aarch64" | "arm64", "arm64")
    ) || architecture == own;
    if system == "linux" && same {
        return Ok(own);
    }
    Err(OwnHelperError::Platform {
        host: engine.host().to_owned(),
        engine: format!("{system}/{architecture}"),
        own,
    })
}

/// In the words of upstream's files and tags (`executor-docker.md` 11.1).
fn upstream_name(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        other => other,
    }
}

async fn load(engine: &Engine, archive: &Archive, name: &str) -> Result<(), OwnHelperError> {
    tracing::info!(
        image = name,
        engine = engine.host(),
        "loading the helper image"
    );
    let content = archive.clone();
    let named = name.to_owned();
    let sent = layer::stream(move |out| content.write(&named, out));
    let options = ImportImageOptions::default();
    let mut told = engine.api().import_image_stream(options, sent, None);
    while let Some(progress) = told.next().await {
        let progress = progress.map_err(|error| OwnHelperError::Load(error.into()))?;
        if let Some(error) = progress.error_detail.and_then(|detail| detail.message) {
            return Err(OwnHelperError::Load(EngineError::Stream(error)));
        }
    }
    Ok(())
}

/// Takes images of other versions away that are not new any more. The Engine keeps those that containers are made of.
async fn remove_old(engine: &Engine, id: &str, now: Timestamp) {
    let filters = HashMap::from([("label", vec![LABEL])]);
    let options = ListImagesOptions {
        filters: Some(filters.into_iter().map(owned).collect()),
        ..ListImagesOptions::default()
    };
    let listed = engine.api().list_images(Some(options)).await;
    for ImageSummary { id: other, .. } in listed.unwrap_or_default() {
        if other == id || !is_old(engine, &other, now).await {
            continue;
        }
        let options = RemoveImageOptions::default();
        match engine.api().remove_image(&other, Some(options), None).await {
            Ok(_) => tracing::info!(image = other, "an old helper image is removed"),
            Err(error) => tracing::debug!(image = other, %error, "an old helper image stays"),
        }
    }
}

fn owned((key, values): (&str, Vec<&str>)) -> (String, Vec<String>) {
    (
        key.to_owned(),
        values.into_iter().map(str::to_owned).collect(),
    )
}

async fn is_old(engine: &Engine, image: &str, now: Timestamp) -> bool {
    let Ok(found) = engine.api().inspect_image(image).await else {
        return false;
    };
    let tagged = found.metadata.and_then(|metadata| metadata.last_tag_time);
    let tagged = tagged.and_then(|time| time.parse::<Timestamp>().ok());
    tagged.is_some_and(|tagged| {
        let age = now.duration_since(tagged);
        age > jiff::SignedDuration::try_from(KEPT).unwrap_or(jiff::SignedDuration::MAX)
    })
}

fn layers(image: &ImageInspect) -> &[String] {
    let root = image.root_fs.as_ref();
    root.and_then(|root| root.layers.as_deref())
        .unwrap_or_default()
}
