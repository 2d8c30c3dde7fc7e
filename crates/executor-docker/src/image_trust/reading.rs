//! Reading an image through the engine: a container of it is made, looked into, and removed; it is never started.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder,
    DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::cover::Layout;
use super::directory::{Directory, DirectoryError, MOST_BYTES};
use super::survey::{Stat, Survey};

/// All archives of an image together: many times what certificates come to.
const MOST_BYTES_OF_AN_IMAGE: usize = 2 * MOST_BYTES;

/// Questions that are under way at a time.
const AT_A_TIME: usize = 8;

/// Everything that counts of an image.
pub(super) struct ImageReading {
    pub(super) survey: Survey,
    pub(super) layout: Layout,
    pub(super) directories: BTreeMap<String, Result<Directory, DirectoryError>>,
}

/// Reads the image with this id. `environment` is its own; `name` lets the
/// container be found should this be given up, or this process die.
pub(super) async fn read(
    engine: &Docker,
    image: &str,
    environment: &[String],
    (name, labels): (&str, &HashMap<String, String>),
) -> Result<ImageReading, Error> {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let created = engine
        .create_container(
            Some(options),
            ContainerCreateBody {
                image: Some(image.to_owned()),
                // Images without a command make no container without one.
                cmd: Some(vec!["never started".to_owned()]),
                labels: Some(labels.clone()),
                network_disabled: Some(true),
                ..Default::default()
            },
        )
        .await?;
    let reading = look(engine, &created.id, environment).await;
    let options = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    let removed = engine.remove_container(&created.id, Some(options)).await;
    let reading = reading?;
    removed?;
    Ok(reading)
}

async fn look(
    engine: &Docker,
    container: &str,
    environment: &[String],
) -> Result<ImageReading, Error> {
    let mut survey = Survey::of(environment);
    loop {
        let questions = survey.questions();
        if questions.is_empty() {
            break;
        }
        let mut answers = stream::iter(questions)
            .map(async |path| {
                let stat = stat(engine, container, &path).await;
                stat.map(|stat| (path, stat))
            })
            .buffer_unordered(AT_A_TIME);
        while let Some(answer) = answers.next().await {
            let (path, stat) = answer?;
            survey.answer(path, stat);
        }
    }
    let layout = Layout::of(&survey);
    let left = AtomicUsize::new(MOST_BYTES_OF_AN_IMAGE);
    let reads = layout.to_read().map(async |path| {
        let archive = download(engine, container, path, &left).await?;
        let directory = archive.and_then(|archive| Directory::read(path, &archive));
        Ok::<_, Error>((path.to_owned(), directory))
    });
    let reads = stream::iter(reads.collect::<Vec<_>>());
    let directories = reads.buffered(AT_A_TIME).try_collect().await?;
    Ok(ImageReading {
        survey,
        layout,
        directories,
    })
}

async fn stat(engine: &Docker, container: &str, path: &str) -> Result<Stat, Error> {
    /// Bits of Go's `os.FileMode`.
    const DIRECTORY: u32 = 1 << 31;
    const LINK: u32 = 1 << 27;
    const OTHER: u32 = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;
    let options = ContainerArchiveInfoOptionsBuilder::default()
        .path(path)
        .build();
    let stat = match engine
        .get_container_archive_info(container, Some(options))
        .await
    {
        Ok(stat) => stat,
        Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => return Ok(Stat::Missing),
        Err(Error::DockerResponseServerError { message, .. }) if leads_nowhere(&message) => {
            return Ok(Stat::Other);
        }
        Err(error) => return Err(error),
    };
    Ok(match stat.file_mode {
        mode if mode & LINK != 0 => Stat::Link(stat.link_target),
        mode if mode & DIRECTORY != 0 => Stat::Directory,
        mode if mode & OTHER != 0 => Stat::Other,
        _ => Stat::File,
    })
}

/// A loop of links, or a file where a directory should be: the image's fault. Anything else is the engine's, and an image
/// that could not be read must not count as one that has nothing.
fn leads_nowhere(message: &str) -> bool {
    let texts = [
        "not a directory",
        "too many links",
        "too many levels of symbolic links",
    ];
    texts.iter().any(|text| message.contains(text))
}

/// The archive of a directory; what it takes of the image's share is taken from `left`.
async fn download(
    engine: &Docker,
    container: &str,
    path: &str,
    left: &AtomicUsize,
) -> Result<Result<Bytes, DirectoryError>, Error> {
    let options = DownloadFromContainerOptionsBuilder::default()
        .path(path)
        .build();
    let mut archive = BytesMut::new();
    let mut pieces = std::pin::pin!(engine.download_from_container(container, Some(options)));
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let count = piece.len();
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(count)
        });
        archive.extend_from_slice(&piece);
        if taken.is_err() || archive.len() > MOST_BYTES {
            return Ok(Err(DirectoryError::TooLarge));
        }
    }
    Ok(Ok(archive.freeze()))
}
