use bollard::models::ImageInspect;
use serde_json::{Value, json};

use super::*;
use crate::testing::{daemon, inputs, job_of_runner, runner};

/// Looks at the plan of a job.
fn with_plan<T>(
    docker: &str,
    job: Value,
    look: impl FnOnce(&JobContainers<'_>) -> T,
) -> Result<T, PlanError> {
    let runner = runner(docker);
    let job = job_of_runner(job, &runner);
    let daemon = daemon();
    JobContainers::plan(inputs(&job, &runner, &daemon)).map(|plan| look(&plan))
}

fn error(docker: &str, job: Value) -> String {
    with_plan(docker, job, |_| ())
        .expect_err("must be refused")
        .to_string()
}

fn found() -> Image {
    let inspected = ImageInspect {
        id: Some("sha256:1d".to_owned()),
        repo_digests: Some(vec!["alpine@sha256:d1".to_owned()]),
        os: Some("linux".to_owned()),
        architecture: Some("arm64".to_owned()),
        variant: Some("v8".to_owned()),
        ..ImageInspect::default()
    };
    Image::new("alpine", inspected)
}

const BASE: &str = "runner-abcdefg-project-7-concurrent-2";

#[test]
fn the_build_container_is_upstreams() {
    let docker = "user = \"dev\"\npid_mode = \"host\"\nvolumes = [\"/h:/in\"]\nextra_hosts = [\"a:1.1.1.1\"]\n\
                  security_opt = [\"no-new-privileges\"]\nlog_options = { env = \"CI_JOB_ID\" }";
    let job = json!({"image": {"name": "alpine:3", "entrypoint": ["/e", "x"]}});
    let definition = with_plan(docker, job, |plan| {
        plan.build(&found(), &["db:10.0.0.2".to_owned()])
    })
    .unwrap();
    assert_eq!(definition.name, format!("{BASE}-0707070707070707-build"));
    assert_eq!((definition.platform, definition.lines.len()), (None, 0));
    let mut body = serde_json::to_value(definition.body).expect("JSON");
    let fields = body.as_object_mut().expect("an object");
    let labels = fields.remove("Labels").expect("given");
    assert_eq!(labels["com.gitlab.gitlab-runner.type"], "build");
    assert!(fields.remove("Env").is_some_and(|list| {
        list.to_string()
            .contains("\"CI_PROJECT_DIR=/builds/group/p\"")
    }));
    assert!(
        fields
            .remove("Cmd")
            .is_some_and(|command| command[0] == "sh")
    );
    let binds = fields["HostConfig"]
        .as_object_mut()
        .and_then(|host| host.remove("Binds"));
    let binds = binds.as_ref().and_then(Value::as_array).expect("a list");
    assert_eq!((binds.len(), &binds[0]), (2, &json!("/h:/in")));
    assert_eq!(
        body,
        json!({
            "Hostname": BASE, "User": "dev", "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
            "Tty": false, "OpenStdin": true, "StdinOnce": true, "Image": "alpine@sha256:d1",
            "Entrypoint": ["/e", "x"],
            "HostConfig": {
                "OomKillDisable": false, "LogConfig": {"Type": "json-file", "Config": {"env": "CI_JOB_ID"}},
                "RestartPolicy": {"Name": "no"}, "ExtraHosts": ["a:1.1.1.1", "db:10.0.0.2"], "PidMode": "host",
                "Privileged": false, "SecurityOpt": ["no-new-privileges"],
            },
        })
    );
}

#[test]
fn the_helper_runs_as_its_image_says() {
    let docker = "user = \"dev\"\npid_mode = \"host\"\nhostname = \"h\"\nprivileged = true\n\
                  allowed_privileged_images = [\"alpine:*\"]\nmac_address = \"02:42:ac:11:00:02\"";
    let job = json!({
        "image": {"name": "alpine:3", "entrypoint": ["/e"]},
        "variables": [
            {"key": "FF_USE_INIT_WITH_DOCKER_EXECUTOR", "value": "true"},
            {"key": "FF_NETWORK_PER_BUILD", "value": "true"},
        ],
    });
    let (helper, build) = with_plan(docker, job, |plan| {
        let command = ["program", "serve"].map(str::to_owned).to_vec();
        (
            plan.helper(&found(), command, &[]),
            plan.build(&found(), &[]),
        )
    })
    .unwrap();
    assert_eq!(helper.name, format!("{BASE}-0707070707070707-predefined"));
    let body = helper.body;
    let entrypoint = Some(vec!["program".to_owned()]);
    assert_eq!((body.user, body.entrypoint), (None, entrypoint));
    assert_eq!(body.cmd, Some(vec!["serve".to_owned()]));
    assert_eq!(body.hostname.as_deref(), Some("h"));
    let host = body.host_config.expect("given");
    // The list names images, the helper is known by its id.
    assert_eq!(
        (host.privileged, host.pid_mode, host.init),
        (Some(false), None, None)
    );
    let endpoint = |config: Option<bollard::models::NetworkingConfig>| {
        let mut endpoints = config.and_then(|c| c.endpoints_config).expect("given");
        endpoints
            .remove("runner-abcdefg-7-2-42")
            .expect("in the job's network")
    };
    let of_helper = endpoint(body.networking_config);
    assert_eq!(
        of_helper.aliases,
        Some(vec!["build".to_owned(), helper.name])
    );
    assert_eq!(of_helper.mac_address, None);
    let of_build = endpoint(build.body.networking_config);
    assert_eq!(of_build.mac_address.as_deref(), Some("02:42:ac:11:00:02"));
    let host = build.body.host_config.expect("given");
    assert_eq!((host.privileged, host.init), (Some(true), Some(true)));
    assert_eq!(host.network_mode.as_deref(), Some("runner-abcdefg-7-2-42"));
}

#[test]
fn a_service_has_command_entrypoint_user_and_both_forms_of_labels() {
    let docker = "container_labels = { team = \"a\" }\nservices_security_opt = [\"label=disable\"]\n\
                  volumes = [\"/h:/in\"]";
    let job = json!({"services": [{
        "name": "postgres:16", "alias": "db", "command": ["-c", "x"], "entrypoint": ["/e"],
        "executor_opts": {"docker": {"platform": "linux/arm64/v8", "user": "pg"}},
    }]});
    let definition = with_plan(docker, job, |plan| {
        plan.service(&plan.services.list[0], &found())
    })
    .unwrap();
    assert_eq!(
        definition.name,
        format!("{BASE}-0707070707070707-postgres-0")
    );
    assert_eq!(definition.platform.as_deref(), Some("linux/arm64/v8"));
    let body = definition.body;
    assert_eq!(body.cmd, Some(vec!["-c".to_owned(), "x".to_owned()]));
    assert_eq!(body.entrypoint, Some(vec!["/e".to_owned()]));
    assert_eq!(
        (body.user.as_deref(), body.hostname, body.attach_stdin),
        (Some("pg"), None, None)
    );
    let labels = body.labels.expect("given");
    assert_eq!(labels["team"], "a");
    assert_eq!(labels["com.gitlab.gitlab-runner.team"], "a");
    assert_eq!(labels["com.gitlab.gitlab-runner.service"], "postgres");
    assert_eq!(labels["com.gitlab.gitlab-runner.service.version"], "16");
    let host = body.host_config.expect("given");
    assert_eq!(host.security_opt, Some(vec!["label=disable".to_owned()]));
    assert_eq!(host.binds.map(|binds| binds.len()), Some(2));
    assert_eq!(body.networking_config, None);
}

#[test]
fn entrypoints_may_be_forbidden_or_cleared() {
    let cleared = json!({"image": {"name": "alpine:3", "entrypoint": [""]}});
    let build = |docker: &str| {
        with_plan(docker, cleared.clone(), |plan| plan.build(&found(), &[])).unwrap()
    };
    assert_eq!(build("").body.entrypoint, Some(vec![String::new()]));
    let forbidden = build("disable_entrypoint_overwrite = true");
    assert_eq!(forbidden.body.entrypoint, None);
    assert_eq!(forbidden.lines, [messages::entrypoint_override_disabled()]);
}

#[test]
fn an_old_daemon_has_no_mac_address() {
    let runner = runner("mac_address = \"02:42:ac:11:00:02\"");
    let job = job_of_runner(json!({}), &runner);
    for (minor, address, lines) in [(43, None, 1), (44, Some("02:42:ac:11:00:02"), 0)] {
        let api = ApiVersion::new(1, minor);
        let daemon = Daemon { api, ..daemon() };
        let plan = JobContainers::plan(inputs(&job, &runner, &daemon)).unwrap();
        let build = plan.build(&found(), &[]);
        let endpoints = build
            .body
            .networking_config
            .and_then(|config| config.endpoints_config);
        let given = endpoints.and_then(|mut endpoints| endpoints.remove("default")?.mac_address);
        assert_eq!((given.as_deref(), build.lines.len()), (address, lines));
    }
}

#[test]
fn another_container_s_network_brings_its_host_name() {
    let build = with_plan("network_mode = \"container:x\"", json!({}), |plan| {
        plan.build(&found(), &[])
    })
    .unwrap();
    assert_eq!(build.body.hostname, None);
    assert_eq!(build.body.networking_config, None);
}

#[test]
fn the_image_is_the_job_s_or_the_runner_s_and_has_to_be_allowed() {
    let lines = |docker: &str, job: Value| {
        with_plan(docker, job, |plan| {
            (plan.image.name.clone(), plan.lines.concat())
        })
    };
    let none = json!({"image": {}});
    let (name, log) = lines("image = \"ruby:$CI_SERVER\"", none.clone()).unwrap();
    assert_eq!(name, "ruby:yes");
    let helper = with_plan("", json!({}), |plan| plan.helper_image.clone());
    assert!(matches!(helper, Ok(HelperImage::Own { .. })), "{helper:?}");
    assert_eq!(
        log,
        [
            messages::using_default_image(),
            messages::using_docker_executor("ruby:yes")
        ]
        .concat()
    );
    let (_, log) = lines("volume_keep = true", json!({})).unwrap();
    assert_eq!(
        log,
        [
            messages::using_docker_executor("alpine:3"),
            messages::volume_keep_enabled()
        ]
        .concat()
    );
    assert_eq!(
        error("", none.clone()),
        "no Docker image specified to run the build in"
    );
    let list = "allowed_images = [\"ruby:*\"]\nimage = \"alpine:2\"";
    let refused = with_plan(list, json!({}), |_| ()).unwrap_err();
    assert_eq!(refused.to_string(), "disallowed image");
    assert_eq!(refused.lines().len(), 3);
    assert!(lines(list, none).is_ok());
    assert!(lines(list, json!({"image": {"name": "alpine:2"}})).is_ok());
}

#[test]
fn settings_that_cannot_work_are_final() {
    for (docker, job, expected) in [
        (
            "memory = \"x\"",
            json!({}),
            "Error parsing docker memory: invalid size: 'x'",
        ),
        (
            "security_opt = [\"seccomp=/p\"]",
            json!({}),
            "failed to read seccomp profile from /p: open /p: no such file or directory",
        ),
        (
            "volumes = [\"x\"]",
            json!({}),
            "parse volume: invalid volume specification: \"x\"",
        ),
        (
            "allowed_users = [\"a\"]",
            json!({"image": {"name": "x", "executor_opts": {"docker": {"user": "b"}}}}),
            "failed to create container configuration: user \"b\" is not an allowed user: [a]",
        ),
    ] {
        assert_eq!(error(docker, job), expected);
    }
    let runner = runner("");
    let job = job_of_runner(json!({}), &runner);
    for (os, expected) in [
        ("plan9", "unsupported os type: plan9"),
        (
            "windows",
            "Windows containers are not built into courser yet: the daemon has to run Linux containers",
        ),
    ] {
        let daemon = Daemon {
            os: os.to_owned(),
            ..daemon()
        };
        let refused = JobContainers::plan(inputs(&job, &runner, &daemon))
            .err()
            .expect("refused");
        assert_eq!(refused.to_string(), expected);
        assert_eq!(
            PrepareError::from(refused).reason,
            Some(FailureReason::RunnerConfigurationError)
        );
    }
    let without = RunnerConfig::default();
    let daemon = daemon();
    let refused = JobContainers::plan(inputs(&job, &without, &daemon))
        .err()
        .expect("refused");
    assert_eq!(refused.to_string(), "missing docker configuration");
}
