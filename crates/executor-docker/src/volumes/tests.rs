use serde_json::{Value, json};

use super::*;
use crate::testing::{daemon, inputs, job_of_runner, runner};

/// Bind list with the random and the unique part shortened, and what is made, `t` behind temporary ones.
fn planned(docker: &str, job: Value) -> Result<(Vec<String>, Vec<String>), String> {
    let runner = runner(docker);
    let job = job_of_runner(job, &runner);
    let daemon = daemon();
    let config = runner.docker.as_ref().expect("there");
    let names = Names::new(&job, [7; 8]);
    let labels = Labels::new(&job, &config.container_labels);
    let volumes = Volumes::plan(&inputs(&job, &runner, &daemon), config, &names, &labels)
        .map_err(|error| error.to_string())?;
    let short = |text: &str| {
        text.replace(names.base(), "BASE")
            .replace(&unique_name(&runner, &job), "UNIQUE")
    };
    let made = volumes.made().map(|made| {
        let mark = if made.1.temporary { " t" } else { "" };
        format!("{}{mark}", short(&made.1.name))
    });
    let binds = volumes.binds().iter().map(|bind| short(bind)).collect();
    Ok((binds, made.collect()))
}

const BUILDS: &str = "c33bcaa1fd2c77edfc3893b41966cea8";
const CACHE: &str = "3c3f060a0374fc8bc39395164f415a70";

#[test]
fn destinations_alone_are_cache_volumes_and_the_builds_directory_comes_last() {
    let (binds, made) = planned("volumes = [\"/cache\", \"/h:/in:ro\"]", json!({})).unwrap();
    assert_eq!(
        binds,
        [
            format!("UNIQUE-cache-{CACHE}:/cache"),
            "/h:/in:ro".to_owned(),
            format!("UNIQUE-cache-{BUILDS}:/builds"),
        ]
    );
    assert_eq!(
        made,
        [
            format!("UNIQUE-cache-{CACHE}"),
            format!("UNIQUE-cache-{BUILDS}")
        ]
    );
}

#[test]
fn the_unique_part_is_a_hash_of_token_system_project_and_place() {
    let runner = runner("");
    let name = unique_name(&runner, &job_of_runner(json!({}), &runner));
    let expected = Sha256::digest("glrt-secret-s_123-7-2");
    assert_eq!(name, format!("runner-{}", &hex::encode(expected)[..32]));
}

#[test]
fn without_cache_or_without_fetch_volumes_are_temporary() {
    let (_, made) = planned("disable_cache = true\nvolumes = [\"/cache\"]", json!({})).unwrap();
    assert_eq!(
        made,
        [
            format!("BASE-cache-{CACHE} t"),
            format!("BASE-cache-{BUILDS} t")
        ]
    );
    let clone = json!({"variables": [{"key": "GIT_STRATEGY", "value": "clone"}]});
    let (_, made) = planned("volumes = [\"/cache\"]", clone).unwrap();
    assert_eq!(
        made,
        [
            format!("UNIQUE-cache-{CACHE}"),
            format!("BASE-cache-{BUILDS} t")
        ]
    );
}

#[test]
fn cache_dir_puts_them_on_the_host() {
    let (binds, made) =
        planned("cache_dir = \"caches\"\nvolumes = [\"/cache\"]", json!({})).unwrap();
    assert_eq!(
        binds,
        [
            format!("/srv/runner/caches/UNIQUE/{CACHE}:/cache"),
            format!("/srv/runner/caches/UNIQUE/{BUILDS}:/builds"),
        ]
    );
    assert_eq!(made, Vec::<String>::new());
    let (binds, _) = planned(
        "cache_dir = \"/abs\"\ndisable_cache = true\nvolumes = [\"/cache\"]",
        json!({}),
    )
    .unwrap();
    assert_eq!(binds[0], format!("BASE-cache-{CACHE}:/cache"));
}

#[test]
fn jobs_of_protected_refs_have_volumes_of_their_own() {
    for (job, protected) in [
        (
            json!({"git_info": {"sha": "01234567", "protected": true}}),
            true,
        ),
        (
            json!({"cache": [{"key": "k-protected", "paths": ["x"]}]}),
            true,
        ),
        (
            json!({"cache": [{"key": "k-non_protected", "paths": ["x"]}]}),
            false,
        ),
        (json!({}), false),
    ] {
        let suffix = if protected { "-protected" } else { "" };
        let (_, made) = planned("volumes = [\"/cache\"]", job).unwrap();
        assert_eq!(made[0], format!("UNIQUE-cache-{CACHE}{suffix}"));
    }
}

#[test]
fn only_destinations_are_expanded_and_what_is_relative_is_the_project_s() {
    let job =
        json!({"variables": [{"key": "DIR", "value": "sub/../x"}, {"key": "ROOT", "value": "/"}]});
    let (binds, _) = planned(
        "volumes = [\"/h/$DIR:/in/$DIR\", \"/h:$DIR\", \"/h:$NONE/y\"]",
        job.clone(),
    )
    .unwrap();
    assert_eq!(
        binds[..3],
        ["/h/$DIR:/in/x", "/h:/builds/group/p/x", "/h:/y"]
    );
    assert_eq!(
        planned("volumes = [\"/h:$ROOT\"]", job),
        Err("build directory needs to be a non-root path".to_owned())
    );
}

#[test]
fn faults_have_upstreams_words() {
    for (volumes, expected) in [
        (
            "\"/x\", \"/h:/x/\"",
            "volume for container path \"/x\" is already defined",
        ),
        (
            "\"/h:/in:bad\"",
            "parse volume: invalid volume specification: \"/h:/in:bad\"",
        ),
        ("\"/\"", "build directory needs to be a non-root path"),
    ] {
        assert_eq!(
            planned(&format!("volumes = [{volumes}]"), json!({})),
            Err(expected.to_owned())
        );
    }
}

#[test]
fn a_volume_over_the_builds_directory_takes_its_place() {
    for (volumes, binds) in [
        ("\"/h:/builds\"", 1),
        ("\"/builds\"", 1),
        ("\"/h:/builds/sub\"", 2),
        ("\"/h:/build\"", 2),
    ] {
        let planned = planned(&format!("volumes = [{volumes}]"), json!({}));
        assert_eq!(planned.unwrap().0.len(), binds, "{volumes}");
    }
    for (volume, covers) in [
        ("/h:/builds", true),
        ("/h:/builds/", true),
        ("/builds", false),
        ("/h:/build", false),
        ("/h:/builds/sub", false),
    ] {
        let runner = runner(&format!("volumes = [{volume:?}]"));
        let config = runner.docker.expect("there");
        assert_eq!(bind_covers(&config, "/builds"), covers, "{volume}");
    }
}

#[test]
fn volumes_are_made_with_driver_and_labels() {
    let runner = runner(
        "volumes = [\"/cache\"]\nvolume_driver = \"local\"\nvolume_driver_ops = { size = \"1g\" }",
    );
    let job = job_of_runner(json!({}), &runner);
    let daemon = daemon();
    let config = runner.docker.as_ref().expect("there");
    let names = Names::new(&job, [7; 8]);
    let labels = Labels::new(&job, &config.container_labels);
    let volumes = Volumes::plan(&inputs(&job, &runner, &daemon), config, &names, &labels).unwrap();
    let request = &volumes.made().next().expect("one").1.request;
    assert_eq!(request.driver.as_deref(), Some("local"));
    let options = request.driver_opts.as_ref().expect("given");
    assert_eq!(options["size"], "1g");
    let labels = request.labels.as_ref().expect("given");
    for (name, value) in [
        ("type", "cache"),
        ("destination", "/cache"),
        ("protected", "false"),
        ("reusable", "true"),
        ("managed", "true"),
    ] {
        assert_eq!(
            labels[&format!("com.gitlab.gitlab-runner.{name}")],
            value,
            "{name}"
        );
    }
}
