//! Real Git fetches from a running coordinator over TLS, with nothing but the throw-away root to trust.

use std::process::Command;

use courser_coordinator::{Images, OwnRunner};
use courser_pipeline::PipelineJob;

use crate::world::{World, git, job, text};

fn refspecs(payload: &serde_json::Value) -> Vec<&str> {
    let refspecs = payload["git_info"]["refspecs"].as_array().unwrap();
    refspecs.iter().map(|spec| spec.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_fetches_what_its_payload_names_with_every_protocol_version() {
    let world = World::with_jobs(&["build"]).await;
    let payload = world.take_job().await;
    let url = payload["git_info"]["repo_url"].as_str().unwrap();
    for protocol in [0, 1, 2] {
        let into = format!("clone-{protocol}");
        let fetched = world.fetch(&into, url, &refspecs(&payload), protocol);
        assert!(fetched.status.success(), "{}", text(&fetched.stderr));
        let clone = world.path(&into);
        let sha = payload["git_info"]["sha"].as_str().unwrap();
        git(&clone, &["checkout", "-q", sha]);
        assert_eq!(
            std::fs::read_to_string(clone.join("file")).unwrap(),
            "content"
        );
    }
    // The second of two equal fetches was answered from what the first one left.
    let answers = || {
        std::fs::read_dir(world.path("served.git/courser-answers"))
            .unwrap()
            .count()
    };
    let before = answers();
    assert!(
        world
            .fetch("again", url, &refspecs(&payload), 2)
            .status
            .success()
    );
    assert_eq!(answers(), before);
    world.coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_other_projects_and_pushes_are_refused() {
    let world = World::with_jobs(&["build"]).await;
    let payload = world.take_job().await;
    let url = payload["git_info"]["repo_url"].as_str().unwrap();
    let token = payload["token"].as_str().unwrap();
    let anonymous = url.replace(&format!("gitlab-ci-token:{token}@"), "");
    for (number, bad) in [
        url.replace(token, "glcbt-wrong"),
        url.replace("group/project", "group/other"),
        anonymous,
    ]
    .iter()
    .enumerate()
    {
        let refused = world.fetch(&format!("refused-{number}"), bad, &["main"], 2);
        assert!(!refused.status.success(), "case {number}");
    }
    let source = world.path("source");
    let push = Command::new("git")
        .args(["push", "-q", url, "main:refs/heads/new"])
        .current_dir(source)
        .env("GIT_SSL_CAINFO", world.path("root.crt"))
        .output()
        .unwrap();
    assert!(!push.status.success());
    assert!(!world.path("served.git/refs/heads/new").exists());
    world.coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_with_an_image_fetch_from_the_address_that_containers_reach() {
    let mut world = World::new().await;
    let in_container = PipelineJob {
        image: Some("debian:12".into()),
        stage: "both".to_owned(),
        ..job("contained")
    };
    let in_shell = PipelineJob {
        stage: "both".to_owned(),
        ..job("plain")
    };
    world.create_pipeline(vec![in_container, in_shell]).await;
    let elsewhere = world.coordinator.listen_at([127, 0, 0, 2].into()).await;
    let elsewhere = elsewhere.unwrap();
    let plain = world.take_job_as(OwnRunner {
        images: Images::Without,
        ..OwnRunner::default()
    });
    assert_eq!(plain.await["job_info"]["name"], "plain");
    let contained = world.take_job_as(OwnRunner {
        images: Images::With,
        url: Some(elsewhere.clone()),
        ..OwnRunner::default()
    });
    let contained = contained.await;
    assert_eq!(contained["job_info"]["name"], "contained");
    let variables = contained["variables"].as_array().unwrap();
    let value = |key: &str| {
        let found = variables.iter().find(|variable| variable["key"] == key);
        found.unwrap()["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(format!("{}/", value("CI_SERVER_URL")), elsewhere.as_str());
    let url = contained["git_info"]["repo_url"].as_str().unwrap();
    assert!(url.contains("@127.0.0.2:"), "{url}");
    // Its certificate is for that address: curl and Git check it against the same root.
    let fetched = world.fetch("clone", url, &refspecs(&contained), 2);
    assert!(fetched.status.success(), "{}", text(&fetched.stderr));
    world.coordinator.stop().await;
}
