//! Our own helper image: brought to an Engine, known again, replaced and taken away.

use std::path::{Path, PathBuf};

use bollard::body_try_stream;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder, StartContainerOptions, TagImageOptionsBuilder,
    UploadToContainerOptionsBuilder, WaitContainerOptions,
};
use courser_executor_docker::engine::Engine;
use courser_executor_docker::own_helper::OwnHelper;
use courser_testkit::programs::write_program;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use tempfile::TempDir;

use super::connected;

/// A Courser as it is installed, whose program says `words`.
struct Installed {
    directory: TempDir,
}

impl Installed {
    fn new(words: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let program = directory.path().join("courser");
        write_program(&program, format!("#!/bin/sh\necho {words} as ${{0##*/}}\n"));
        Self { directory }
    }

    fn with_image(self) -> Self {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/helper-images");
        assert!(
            images.is_dir(),
            "`cargo xtask helper-image` makes {}",
            images.display()
        );
        std::os::unix::fs::symlink(images, self.directory.path().join("helper-images")).unwrap();
        self
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("courser")
    }

    fn helper(&self) -> OwnHelper {
        OwnHelper::new(&self.program()).unwrap()
    }
}

/// Words that no other run of these tests has.
fn words(test: &str) -> String {
    format!("{test} {}", uuid())
}

fn uuid() -> String {
    let directory = TempDir::new().unwrap();
    let name = directory.path().file_name().unwrap();
    name.to_string_lossy().replace('.', "")
}

/// What a container of an image prints; `before` is unpacked in it beforehand.
async fn printed(
    engine: &Engine,
    image: &str,
    command: &str,
    before: Option<&OwnHelper>,
) -> String {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(["/bin/sh", "-c", command].map(str::to_owned).to_vec()),
        ..ContainerCreateBody::default()
    };
    let api = engine.api();
    let id = api
        .create_container(None::<CreateContainerOptions>, body)
        .await
        .unwrap()
        .id;
    if let Some(helper) = before {
        let archive = helper.program_archive(engine).await.unwrap();
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        api.upload_to_container(&id, Some(options), body_try_stream(archive))
            .await
            .unwrap();
    }
    api.start_container(&id, None::<StartContainerOptions>)
        .await
        .unwrap();
    api.wait_container(&id, None::<WaitContainerOptions>)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let log: Vec<_> = api.logs(&id, Some(options)).try_collect().await.unwrap();
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    api.remove_container(&id, Some(options)).await.unwrap();
    log.iter().map(ToString::to_string).collect()
}

async fn remove(engine: &Engine, image: &str) {
    let options = RemoveImageOptionsBuilder::new().force(true).build();
    engine
        .api()
        .remove_image(image, Some(options), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_image_has_git_and_this_program_and_is_loaded_once() {
    let engine = connected().await;
    let words = words("loaded");
    let installed = Installed::new(&words).with_image();
    let now = Timestamp::now();
    let helper = installed.helper();
    let image = helper.ready(&engine, now).await.unwrap().unwrap();
    let first = engine.api().inspect_image(&image).await.unwrap();
    let script = "git --version && git lfs version && bash -c 'echo bash' && courser && gitlab-runner-helper; \
                  git ls-remote https://127.0.0.1:1/x 2>&1 | grep -o 'Failed to connect'";
    let printed = printed(&engine, &image, script, None).await;
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with("git version 2."), "{printed}");
    assert!(lines[1].starts_with("git-lfs/"), "{printed}");
    let rest = [
        "bash".to_owned(),
        format!("{words} as courser"),
        format!("{words} as gitlab-runner-helper"),
        "Failed to connect".to_owned(),
    ];
    assert_eq!(lines[2..], rest, "{printed}");

    // Of this process or of another one: it is there.
    for helper in [&helper, &installed.helper()] {
        assert_eq!(helper.ready(&engine, now).await.unwrap().unwrap(), image);
    }
    let again = engine.api().inspect_image(&image).await.unwrap();
    let tagged = |image: bollard::models::ImageInspect| image.metadata.unwrap().last_tag_time;
    assert_eq!(tagged(again), tagged(first), "it was loaded again");
    remove(&engine, &image).await;
}

#[tokio::test]
async fn an_image_with_other_content_is_replaced() {
    let engine = connected().await;
    let words = words("replaced");
    let installed = Installed::new(&words).with_image();
    let helper = installed.helper();
    let image = helper
        .ready(&engine, Timestamp::now())
        .await
        .unwrap()
        .unwrap();
    let found = engine.api().inspect_image(&image).await.unwrap();
    let name = found.repo_tags.unwrap().remove(0);
    remove(&engine, &image).await;
    let (repository, tag) = name.rsplit_once(':').unwrap();
    let options = TagImageOptionsBuilder::new()
        .repo(repository)
        .tag(tag)
        .build();
    let tagging = engine
        .api()
        .tag_image("courser.test/busybox:1", Some(options));
    tagging.await.unwrap();

    let again = helper
        .ready(&engine, Timestamp::now())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again, image);
    let told = printed(&engine, &again, "courser", None).await;
    assert_eq!(told, format!("{words} as courser\n"));
    remove(&engine, &image).await;
}

#[tokio::test]
async fn without_the_file_the_program_is_put_into_a_container() {
    let engine = connected().await;
    let words = words("put");
    let installed = Installed::new(&words);
    let helper = installed.helper();
    assert_eq!(helper.ready(&engine, Timestamp::now()).await.unwrap(), None);
    let told = printed(
        &engine,
        "courser.test/busybox:1",
        "/usr/bin/gitlab-runner",
        Some(&helper),
    );
    assert_eq!(told.await, format!("{words} as gitlab-runner\n"));
}
