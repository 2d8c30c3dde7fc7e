//! Containers of real images that trust a private CA.

mod matrix;
mod scene;

use std::time::Instant;

use courser_executor_docker::image_trust::ContainerFacts;

use self::scene::{BUSYBOX, DEBIAN, Order, STATIC, Scene};

const ASK: &str = "curl --silent --show-error --fail \"$PRIVATE/x\"";

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_git_trust_the_private_ca_and_the_line_says_so() {
    let scene = Scene::new().await;
    let off = scene.run(Order::new(DEBIAN, ASK).without_trust()).await;
    assert!(off.log.contains("certificate"), "{}", off.log);
    let ran = scene
        .run(Order::new(
            DEBIAN,
            &format!("{ASK} && git ls-remote \"$PRIVATE/repository.git\""),
        ))
        .await;
    assert_eq!(ran.code, 0, "{}", ran.log);
    assert!(ran.log.contains("refs/heads/main"), "{}", ran.log);
    let line = ran.line.expect("a plan");
    assert!(
        line.starts_with("Trust in containers of this image: 1 private CA beside the image's 1"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn users_without_rights_and_root_file_systems_that_are_read_only_trust_it_too() {
    let scene = Scene::new().await;
    for order in [
        Order::new(DEBIAN, ASK).user("1000:1000"),
        Order::new(DEBIAN, ASK).read_only(),
        Order::new(DEBIAN, ASK).user("65534").read_only(),
    ] {
        let ran = scene.run(order).await;
        assert_eq!(ran.code, 0, "{}", ran.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn update_ca_certificates_in_a_job_keeps_the_private_ca() {
    let scene = Scene::new().await;
    let script = format!("update-ca-certificates --fresh && {ASK}");
    let ran = scene.run(Order::new(DEBIAN, &script)).await;
    assert_eq!(ran.code, 0, "{}", ran.log);
    assert!(!ran.log.contains("busy"), "{}", ran.log);
}

/// T26 together with what is done here: the documented volume, and the recipe for Ubuntu.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_recipe_works_beside_it() {
    let scene = Scene::new().await;
    let script = format!(
        "cp /etc/gitlab-runner/certs/ca.crt /usr/local/share/ca-certificates/ca.crt && \
         update-ca-certificates --fresh && {ASK} && \
         curl --silent --show-error --fail \"$PRIVATE/x\" --cacert /etc/gitlab-runner/certs/ca.crt"
    );
    for order in [
        Order::new(DEBIAN, &script),
        Order::new(DEBIAN, &script).without_trust(),
    ] {
        let ran = scene.run(order.with_ca_volume()).await;
        assert_eq!(ran.code, 0, "{}", ran.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_layer_and_no_volume_keeps_the_private_ca() {
    let scene = Scene::new().await;
    let container = scene.create(&Order::new(DEBIAN, ASK)).await;
    assert_eq!(container.run().await.code, 0);
    let volumes = container.volumes().await;
    assert_eq!(volumes.len(), 2, "{volumes:?}");
    container
        .commit("courser.test/committed", "image-trust")
        .await;
    let script = "! grep -rlE \"$NEEDLE\" /etc /usr/local/share /usr/share/ca-certificates /var/lib 2>/dev/null && \
                  ! find / -xdev -name 'courser-*' | grep .";
    let committed = Order::new("courser.test/committed:image-trust", script).without_trust();
    let ran = scene.run(committed).await;
    scene
        .remove_image("courser.test/committed:image-trust")
        .await;
    assert_eq!(ran.code, 0, "{}", ran.log);
    drop(container);
    for volume in volumes {
        let inspecting = scene.engine.api().inspect_volume(&volume);
        assert!(inspecting.await.is_err(), "{volume} is still there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_without_a_shell_or_a_bundle_have_both_afterwards() {
    let scene = Scene::new().await;
    for image in [STATIC, BUSYBOX] {
        let container = scene.create(&Order::new(image, "")).await;
        let bundle = container.file("/etc/ssl/certs/ca-certificates.crt").await;
        assert!(bundle.contains(scene.needle()), "{image}");
        let runners = bundle.contains(scene.public_needle());
        assert_eq!(
            runners,
            image == BUSYBOX,
            "{image}: only where there was none"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_a_known_image_costs_little() {
    let scene = Scene::new().await;
    let began = Instant::now();
    let trust = scene.trust(DEBIAN).await;
    let first = began.elapsed();
    let again = Instant::now();
    for _ in 0..20 {
        scene.trust(DEBIAN).await;
        trust.plan(ContainerFacts::default()).unwrap();
    }
    let each = again.elapsed() / 20;
    let container = scene.create(&Order::new(DEBIAN, ASK)).await;
    println!(
        "first use of an image {first:?}, a container after it {each:?} and its volumes {:?}",
        container.filled
    );
    // Far more than it takes: other tests run.
    assert!(first.as_secs() < 10 && container.filled.as_secs() < 5);
}
