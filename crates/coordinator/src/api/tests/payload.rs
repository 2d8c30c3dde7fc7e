//! What a job is told.

use super::*;

#[tokio::test]
async fn a_payload_has_variables_in_order_steps_caches_and_sources() {
    let world = World::new();
    let runner = world.runner("").await;
    let variable = |key: &str, value: &str| courser_pipeline::YamlVariable {
        key: key.to_owned(),
        value: value.to_owned(),
        raw: false,
    };
    let cache = courser_pipeline::JobCache {
        key: courser_pipeline::CacheKey::Text("deps".to_owned()),
        paths: vec!["vendor".to_owned()],
        untracked: false,
        policy: "pull-push".to_owned(),
        when: "on_success".to_owned(),
        unprotect: false,
        fallback_keys: vec!["old".to_owned()],
    };
    let build = PipelineJob {
        before_script: vec!["prepare".to_owned()],
        after_script: vec!["tidy".to_owned()],
        variables: vec![
            variable("A", "yaml"),
            variable("B", "$A and $CI_JOB_NAME"),
            variable("GIT_DEPTH", "0"),
        ],
        cache: vec![cache],
        image: Some(json!({
            "name": "alpine", "docker": {"user": 7, "platform": "linux/arm64"}, "pull_policy": "always",
            "entrypoint": ["/e"], "kubernetes": {"user": "1:2"},
        })),
        services: vec![
            json!({
                "name": "pg", "alias": "db, pg", "command": ["-c"], "entrypoint": [""], "ports": [5432],
                "pull_policy": ["never", "always"], "variables": {"A": "1"}, "docker": {"user": "pg"},
            }),
            json!({"name": "redis"}),
        ],
        timeout: Some(60),
        ..job("build", "build")
    };
    let mut new = pipeline(vec![build]);
    new.variables = vec![crate::variables::public("A", "given")];
    crate::coordinator::create_pipeline(&world.api.queue, new)
        .await
        .unwrap();
    let payload = world.ask(&runner).await.json();
    let value = |key: &str| {
        let variables = payload["variables"].as_array().unwrap();
        variables
            .iter()
            .rfind(|v| v["key"] == key)
            .map_or(Value::Null, |v| v["value"].clone())
    };
    assert_eq!(value("A"), "given");
    assert_eq!(value("B"), "given and build");
    assert_eq!(value("CI_JOB_TOKEN"), payload["token"]);
    assert_eq!(value("CI_API_V4_URL"), "https://127.0.0.1:8443/api/v4");
    assert_eq!(value("CI_COMMIT_BRANCH"), "main");
    assert_eq!(payload["steps"][0]["script"], json!(["prepare", "echo hi"]));
    assert_eq!(payload["steps"][1]["when"], "always");
    assert_eq!(payload["cache"][0]["key"], "deps-non_protected");
    assert_eq!(
        payload["cache"][0]["fallback_keys"],
        json!(["old-non_protected"])
    );
    assert_eq!(
        payload["image"],
        json!({
            "name": "alpine", "entrypoint": ["/e"], "pull_policy": ["always"],
            "executor_opts": {
                "docker": {"platform": "linux/arm64", "user": "7"}, "kubernetes": {"user": "1:2"},
            },
        })
    );
    let service = &payload["services"][0];
    assert_eq!(
        (&service["name"], &service["alias"]),
        (&json!("pg"), &json!("db, pg"))
    );
    assert_eq!(
        (&service["command"], &service["entrypoint"]),
        (&json!(["-c"]), &json!([""]))
    );
    assert_eq!(service["ports"][0]["number"], 5432);
    assert_eq!(service["pull_policy"], json!(["never", "always"]));
    assert_eq!(service["executor_opts"], json!({"docker": {"user": "pg"}}));
    let variable = &service["variables"][0];
    assert_eq!(
        (&variable["key"], &variable["value"]),
        (&json!("A"), &json!("1"))
    );
    assert_eq!(
        payload["services"][1],
        json!({"name": "redis", "executor_opts": {}})
    );
    assert_eq!(payload["runner_info"]["timeout"], 60);
    assert_eq!(payload["git_info"]["depth"], 0);
    assert_eq!(
        payload["git_info"]["refspecs"][1],
        "+refs/heads/*:refs/remotes/origin/*"
    );
}

#[tokio::test]
async fn every_predefined_variable_of_gitlab_is_there_and_values_that_name_them_are_expanded() {
    let world = World::new();
    let runner = world.runner("").await;
    let mut named = job("say $x", "build");
    let variable = |key: &str, value: &str| courser_pipeline::YamlVariable {
        key: key.to_owned(),
        value: value.to_owned(),
        raw: false,
    };
    named.variables = vec![
        variable("IMAGE", "$CI_REGISTRY_IMAGE:$CI_COMMIT_REF_SLUG"),
        variable("NAMED", "<$CI_JOB_NAME>"),
    ];
    world.create(vec![named]).await;
    let payload = world.ask(&runner).await.json();
    let value = |key: &str| {
        let variables = payload["variables"].as_array().unwrap();
        let of_name = variables
            .iter()
            .rev()
            .find(|variable| variable["key"] == key);
        of_name.map(|variable| variable["value"].as_str().unwrap().to_owned())
    };
    // `gitlab-ci-yaml.md` 18, without those that exist for some pipelines only.
    for key in "CI GITLAB_CI CI_SERVER CI_SERVER_URL CI_SERVER_HOST CI_SERVER_FQDN CI_SERVER_PORT \
         CI_SERVER_PROTOCOL CI_SERVER_NAME CI_SERVER_VERSION CI_SERVER_VERSION_MAJOR \
         CI_SERVER_VERSION_MINOR CI_SERVER_VERSION_PATCH CI_SERVER_REVISION CI_SERVER_SHELL_SSH_HOST \
         CI_SERVER_SHELL_SSH_PORT CI_API_V4_URL CI_API_GRAPHQL_URL CI_TEMPLATE_REGISTRY_HOST \
         CI_PAGES_DOMAIN CI_PAGES_URL CI_REGISTRY CI_REGISTRY_IMAGE CI_REGISTRY_USER \
         CI_REGISTRY_PASSWORD CI_PROJECT_ID CI_PROJECT_NAME CI_PROJECT_PATH CI_PROJECT_PATH_SLUG \
         CI_PROJECT_NAMESPACE CI_PROJECT_NAMESPACE_ID CI_PROJECT_NAMESPACE_SLUG \
         CI_PROJECT_ROOT_NAMESPACE CI_PROJECT_URL CI_PROJECT_TITLE CI_PROJECT_VISIBILITY \
         CI_DEFAULT_BRANCH CI_CONFIG_PATH CI_CONFIG_REF_URI CI_PIPELINE_ID CI_PIPELINE_IID \
         CI_PIPELINE_URL CI_PIPELINE_SOURCE CI_PIPELINE_CREATED_AT CI_COMMIT_SHA \
         CI_COMMIT_SHORT_SHA CI_COMMIT_BEFORE_SHA CI_COMMIT_REF_NAME CI_COMMIT_REF_SLUG \
         CI_COMMIT_BRANCH CI_JOB_ID CI_JOB_NAME CI_JOB_NAME_SLUG CI_JOB_GROUP_NAME CI_JOB_STAGE \
         CI_JOB_TOKEN CI_JOB_URL CI_JOB_STARTED_AT CI_NODE_TOTAL CI_REPOSITORY_URL CI_RUNNER_ID \
         CI_RUNNER_TAGS GITLAB_USER_ID GITLAB_USER_LOGIN GITLAB_USER_NAME GITLAB_USER_EMAIL"
        .split_whitespace()
    {
        assert!(value(key).is_some_and(|value| !value.is_empty()), "{key}");
    }
    let image = "registry.127.0.0.1/group/project:main";
    assert_eq!(value("IMAGE").as_deref(), Some(image));
    // A name with a `$` of its own is left to the runner, which does not look into it.
    assert_eq!(value("NAMED").as_deref(), Some("<$CI_JOB_NAME>"));
    assert_eq!(value("CI_JOB_NAME").as_deref(), Some("say $x"));
}
