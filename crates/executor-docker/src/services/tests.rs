use serde_json::{Value, json};

use super::*;
use crate::testing::{job_of_runner, runner};

fn plan(docker: &str, services: Value) -> Result<Services, PlanError> {
    let runner = runner(docker);
    let job = job_of_runner(
        json!({
            "services": services,
            "variables": [
                {"key": "TAG", "value": "7", "public": true}, {"key": "HIDDEN", "value": "h"},
            ],
        }),
        &runner,
    );
    let config = runner.docker.as_ref().expect("there");
    Services::plan(config, &job, &Names::new(&job, [0; 8]), &Network::Default)
}

/// `container: aliases`, the container's name without what all have in common.
fn shown(services: &Services) -> Vec<String> {
    let line = |service: &Service| {
        let (_, name) = service
            .container
            .split_once("-0000000000000000-")
            .expect("a base");
        format!("{name}: {}", service.aliases.join(" "))
    };
    services.list.iter().map(line).collect()
}

#[test]
fn those_of_the_runner_come_first_and_all_are_counted() {
    let services = plan(
        "[[runners.docker.services]]\nname = \"redis:$TAG\"\nalias = \"cache,$TAG-r\"",
        json!([{"name": "pg/postgres", "alias": "db, pg  main"}]),
    )
    .unwrap();
    assert_eq!(
        shown(&services),
        [
            "redis-0: redis cache 7-r",
            "pg__postgres-1: pg__postgres pg-postgres db pg main"
        ]
    );
    assert_eq!(services.list[0].name.image, "redis:7");
    assert_eq!(services.lines, Vec::<String>::new());
}

#[test]
fn a_taken_alias_is_skipped_and_a_service_without_any_is_left_out() {
    let services = plan(
        "",
        json!([
            {"name": "redis", "alias": "db"},
            {"name": "postgres", "alias": "db pg"},
            {"name": "redis:6"},
            {"name": "redis:5", "alias": "old"},
        ]),
    )
    .unwrap();
    assert_eq!(
        shown(&services),
        [
            "redis-0: redis db",
            "postgres-1: postgres pg",
            "redis-3: old"
        ]
    );
    let skipped = |alias, service, index| {
        format!(
            "Skipping alias \"{alias}\" for service \"{service}\" (services[{index}]): alias is already in use \
             by another service."
        )
    };
    for (line, expected) in services.lines.iter().zip([
        skipped("db", "postgres", 1),
        skipped("redis", "redis:6", 2),
        skipped("redis", "redis:5", 3),
    ]) {
        assert!(line.contains(&expected), "{line}");
    }
}

#[test]
fn limit_names_and_lists_are_checked() {
    let error = |docker: &str, services: Value| plan(docker, services).unwrap_err().to_string();
    assert_eq!(
        error("services_limit = 1", json!([{"name": "a"}, {"name": "b"}])),
        "too many services requested: 2, only 1 allowed"
    );
    assert_eq!(
        error("services_limit = 0", json!([{"name": "a"}])),
        "too many services requested: 1, only 0 allowed"
    );
    assert!(plan("services_limit = -1", json!([{"name": "a"}])).is_ok());
    assert_eq!(
        error("", json!([{"name": ""}])),
        "invalid service image name: "
    );
    assert_eq!(
        error("", json!([{"name": "a b"}])),
        "invalid service image name: a b"
    );
    let lists =
        "allowed_services = [\"redis:*\"]\n[[runners.docker.services]]\nname = \"postgres\"";
    assert_eq!(error(lists, json!([{"name": "mysql"}])), "disallowed image");
    // The administrator's own by its exact name, also where the job names it.
    assert!(
        plan(
            lists,
            json!([{"name": "redis:7"}, {"name": "postgres", "alias": "x"}])
        )
        .is_ok()
    );
}

#[test]
fn they_see_public_variables_and_their_own() {
    let services = plan(
        "[[runners.docker.services]]\nname = \"a\"\nenvironment = [\"X=$TAG\", \"nonsense\"]",
        json!([{"name": "b", "variables": [{"key": "TAG", "value": "own $TAG"}, {"key": "Y", "value": "$HIDDEN"}]}]),
    )
    .unwrap();
    let entry = |index: usize, name: &str| {
        let start = format!("{name}=");
        let environment = &services.list[index].environment;
        environment
            .iter()
            .find_map(|entry| entry.strip_prefix(&start))
            .map(str::to_owned)
    };
    assert_eq!(entry(0, "X").as_deref(), Some("7"));
    assert_eq!(entry(0, "TAG").as_deref(), Some("7"));
    assert_eq!(entry(0, "HIDDEN"), None);
    assert_eq!(entry(1, "Y").as_deref(), Some("h"));
    assert_eq!(
        entry(1, "CI_PROJECT_DIR").as_deref(),
        Some("/builds/group/p")
    );
    let names = |name: &str| {
        services.list[1]
            .environment
            .iter()
            .filter(|e| e.starts_with(name))
            .count()
    };
    assert_eq!(names("TAG="), 1);
}

#[test]
fn the_named_port_or_the_exposed_ones_are_tried() {
    let texts = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    for (environment, exposed, expected) in [
        (
            &[][..],
            &["5432/tcp", "53/udp", "80", "443/tcp"][..],
            Ok(vec![80, 443, 5432]),
        ),
        (&["healthcheck_TCP_port=8080"], &["80/tcp"], Ok(vec![8080])),
        (
            &["HEALTHCHECK_TCP_PORT=x"],
            &["80/tcp"],
            Err("invalid health check tcp port: \"x\"".to_owned()),
        ),
        (&[], &[], Ok(vec![])),
    ] {
        assert_eq!(
            ports_to_check(&texts(environment), &texts(exposed)),
            expected
        );
    }
    let many: Vec<String> = (1..40).map(|port| format!("{port}/tcp")).collect();
    assert_eq!(ports_to_check(&[], &many).map(|ports| ports.len()), Ok(20));
}
