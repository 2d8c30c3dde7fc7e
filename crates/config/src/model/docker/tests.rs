use std::collections::BTreeSet;

use super::*;
use crate::keys::{self, Key, Kind};
use crate::{Environment, LintError, lint, load};

fn docker(keys: &str) -> DockerConfig {
    let text = format!("[[runners]]\nurl = \"u\"\ntoken = \"t\"\n[runners.docker]\n{keys}\n");
    let mut loaded = load(&text, "c", &Environment::default()).unwrap_or_else(|e| panic!("{e}"));
    let runner = loaded.config.runners.remove(0);
    runner.docker.expect("the section is there")
}

fn fault(keys: &str) -> String {
    let faults = docker(keys).faults;
    assert_eq!(faults.len(), 1, "{keys}: {faults:?}");
    faults[0].message.clone()
}

fn table() -> &'static [Key] {
    match keys::find(keys::RUNNER, "docker").map(|key| key.kind) {
        Some(Kind::Table(keys)) => keys,
        _ => panic!("docker is a table"),
    }
}

#[test]
fn the_model_has_every_key_of_the_table() {
    let table: BTreeSet<_> = table().iter().map(|key| key.name).collect();
    let model: BTreeSet<_> = DockerConfig::KEYS.iter().copied().collect();
    assert_eq!(model, table);
}

#[test]
fn every_key_is_read() {
    // One value for each key that differs from its default.
    let value = |key: &Key| match (key.name, key.kind) {
        ("services", _) => "[{ name = \"x\" }]",
        ("dns", _) => "[\"10.0.0.1\"]",
        ("pull_policy" | "allowed_pull_policies", _) => "[\"never\"]",
        ("mac_address", _) => "\"92:d0:c6:0a:29:33\"",
        ("isolation", _) => "\"hyperv\"",
        ("ulimit", _) => "{ nofile = \"1:2\" }",
        ("log_options", _) => "{ env = \"X\" }",
        (_, Kind::Text) => "\"7\"",
        (_, Kind::Bool) => "true",
        (_, Kind::OptionalBool) => "false",
        (_, Kind::Int | Kind::OptionalInt) => "7",
        (_, Kind::Texts) => "[\"x\"]",
        (_, Kind::TextMap) => "{ x = \"y\" }",
        (_, Kind::TextsMap) => "{ x = [\"y\"] }",
        other => panic!("{other:?}"),
    };
    for key in table() {
        let config = docker(&format!("{} = {}", key.name, value(key)));
        assert_ne!(config, DockerConfig::default(), "{}", key.name);
        assert_eq!(config.faults, [], "{}", key.name);
    }
}

#[test]
fn sizes_have_binary_units() {
    for (text, bytes) in [
        ("", 0),
        ("0", 0),
        ("1024", 1024),
        ("512m", 512 << 20),
        ("1.5G", 3 << 29),
        ("64KiB", 64 << 10),
        ("64 kb", 64 << 10),
        ("7b", 7),
        ("2t", 2 << 40),
    ] {
        assert_eq!(
            docker(&format!("memory = {text:?}")).memory,
            bytes,
            "{text}"
        );
    }
    for (text, expected) in [
        ("many", "Error parsing docker memory: invalid size: 'many'"),
        ("-1", "Error parsing docker memory: invalid size: '-1'"),
        ("1x", "Error parsing docker memory: invalid suffix: 'x'"),
        ("1mm", "Error parsing docker memory: invalid suffix: 'mm'"),
        ("1ib", "Error parsing docker memory: invalid suffix: 'ib'"),
        ("1 2g", "Error parsing docker memory: invalid size: '1 2g'"),
        (
            "99999p",
            "Error parsing docker memory: invalid size: '99999p'",
        ),
    ] {
        assert_eq!(fault(&format!("memory = {text:?}")), expected);
    }
    assert_eq!(
        fault("service_memory_swap = \"x\""),
        "Error parsing docker service_memory_swap: invalid size: 'x'"
    );
}

#[test]
fn cpus_are_rational_numbers() {
    for (text, billionths) in [
        ("2", 2_000_000_000),
        ("0.5", 500_000_000),
        (".25", 250_000_000),
        ("1e-1", 100_000_000),
        ("3/2", 1_500_000_000),
        ("1/3", 333_333_333),
        ("0.0000000001", 0),
    ] {
        assert_eq!(
            docker(&format!("cpus = {text:?}")).cpus,
            billionths,
            "{text}"
        );
    }
    for text in [
        "two",
        "1,5",
        "1/0",
        "1e",
        ".",
        "1e99",
        "9999999999999999999",
        "1.5/2",
    ] {
        assert_eq!(
            fault(&format!("cpus = {text:?}")),
            format!("failed to parse {text} as a rational number")
        );
    }
}

#[test]
fn faults_have_upstreams_words() {
    for (keys, expected) in [
        (
            "devices = [\"/dev/a:/dev/b:r:w\"]",
            "failed to parse device string \"/dev/a:/dev/b:r:w\": too many colons",
        ),
        (
            "services_devices = { redis = [\"a:b:c:d\"] }",
            "failed to parse device string \"a:b:c:d\": too many colons",
        ),
        (
            "dns = [\"10.0.0.1\", \"dns.example\"]",
            "invalid DNS server address \"dns.example\": ParseAddr(\"dns.example\"): unable to parse IP",
        ),
        (
            "isolation = \"none\"",
            "the isolation value \"none\" is not valid. the valid values are: 'process', 'hyperv', 'default' and an empty string",
        ),
        (
            "mac_address = \"92:d0\"",
            "invalid MAC address \"92:d0\": address 92:d0: invalid MAC address",
        ),
        (
            "log_options = { env = \"A\", tag = \"x\", \"max-size\" = \"1\" }",
            "invalid log options: only [\"env\" \"labels\"] are allowed, but found: [\"max-size\" \"tag\"]",
        ),
        (
            "pull_policy = \"sometimes\"",
            "unsupported pull_policy config: \"sometimes\"",
        ),
        (
            "allowed_pull_policies = [\"never\", \"x\"]",
            "unsupported allowed_pull_policies config: \"x\"",
        ),
        (
            "ulimit = { nofile = \"a:1\" }",
            "invalid ulimit \"nofile\": \"a:1\" is neither an integer nor two with a colon between them",
        ),
    ] {
        assert_eq!(fault(keys), expected);
    }
}

#[test]
fn good_values_of_those_keys_are_parsed() {
    let config = docker(
        "devices = [\"/dev/fuse\", \"/dev/a:/dev/b\", \"/dev/a:/dev/b:r\"]\n\
         dns = [\"10.0.0.1\", \"fe80::1%eth0\", \"::1\"]\nisolation = \"Process\"\n\
         mac_address = \"0000.5e00.5301\"\nulimit = { nofile = \"64\", core = \"-1:0\" }",
    );
    assert_eq!(config.faults, []);
    let devices: Vec<_> = config
        .devices
        .iter()
        .map(|device| {
            format!(
                "{} {} {}",
                device.host, device.container, device.permissions
            )
        })
        .collect();
    assert_eq!(
        devices,
        [
            "/dev/fuse /dev/fuse rwm",
            "/dev/a /dev/b rwm",
            "/dev/a /dev/b r"
        ]
    );
    assert_eq!(config.isolation, Isolation::Process);
    assert_eq!(config.ulimit["nofile"], Ulimit { soft: 64, hard: 64 });
    assert_eq!(config.ulimit["core"], Ulimit { soft: -1, hard: 0 });
}

#[test]
fn gpus_are_asked_for_as_with_docker_run() {
    let request = |text: &str| docker(&format!("gpus = {text:?}")).gpus;
    let count = |text: &str, count| GpuRequest {
        text: text.to_owned(),
        count,
        capabilities: vec![vec!["gpu".to_owned()]],
        ..GpuRequest::default()
    };
    let devices =
        "\"device=0,GPU-3a23\",driver=nvidia,\"capabilities=compute,utility\",options=a=b";
    assert_eq!(request(" "), None);
    assert_eq!(request("all"), Some(count("all", -1)));
    assert_eq!(request(" 2 "), Some(count("2", 2)));
    let texts = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        request(devices),
        Some(GpuRequest {
            text: devices.to_owned(),
            driver: "nvidia".to_owned(),
            count: 0,
            device_ids: texts(&["0", "GPU-3a23"]),
            capabilities: vec![texts(&["compute", "utility", "gpu"])],
            options: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        })
    );
    assert_eq!(request("driver=x").map(|request| request.count), Some(1));
    for (text, expected) in [
        (
            "some",
            "gpus: invalid count (some): value must be either \"all\" or an integer",
        ),
        (
            "all,count=2",
            "gpus: gpu request key 'count' can be specified only once",
        ),
        ("color=red", "gpus: unexpected key 'color' in 'color=red'"),
        ("\"device=1", "gpus: missing \" in \"\\\"device=1\""),
        ("a\"b", "gpus: bare \" in \"a\\\"b\""),
    ] {
        assert_eq!(fault(&format!("gpus = {text:?}")), expected);
    }
}

#[test]
fn services_are_an_array_of_tables() {
    let config = docker(
        "[[runners.docker.services]]\nname = \"postgres:$V\"\nalias = \"db, pg\"\n\
         entrypoint = [\"/e\"]\ncommand = [\"c\", \"d\"]\nenvironment = [\"A=b\"]\n\
         [[runners.docker.services]]\nname = \"redis\"",
    );
    assert_eq!(config.services.len(), 2);
    let first = &config.services[0];
    assert_eq!(
        (first.name.as_str(), first.alias.as_str()),
        ("postgres:$V", "db, pg")
    );
    assert_eq!(first.command, ["c", "d"]);
    assert_eq!(first.environment, ["A=b"]);
    assert_eq!(config.services[1].entrypoint, Vec::<String>::new());
}

#[test]
fn a_fault_is_told_with_its_line_and_lint_refuses_it() {
    let text = "[[runners]]\nurl = \"u\"\ntoken = \"t\"\nexecutor = \"docker\"\n[runners.docker]\n\
                image = \"x\"\nmemory = \"much\"\n";
    let loaded = load(text, "c.toml", &Environment::default()).expect("loads");
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    let expected = "line 7: runners.docker.memory: Error parsing docker memory: invalid size: 'much'; \
                    every job of this runner is refused";
    assert!(
        warnings.iter().any(|warning| warning == expected),
        "{warnings:?}"
    );
    let refused = lint(text, "c.toml", &Environment::default()).expect_err("must not pass");
    assert_eq!(
        refused,
        LintError::Schema(vec![
            "runners[0].docker.memory (line 7): Error parsing docker memory: invalid size: 'much'"
                .to_owned()
        ])
    );
}

#[test]
fn keys_that_nothing_is_done_with_are_warned_of() {
    let warnings = |executor: &str| {
        let text = format!(
            "[[runners]]\nexecutor = {executor:?}\n[runners.docker]\nimage = \"x\"\n\
             helper_image_flavor = \"ubuntu\"\nservice_slot_cgroup_template = \"t\"\nimages = \"y\"\n"
        );
        let loaded = load(&text, "c", &Environment::default()).expect("loads");
        loaded
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        warnings("docker"),
        [
            "line 5: runners.docker.helper_image_flavor: known, but has no effect in Courser yet",
            "line 6: runners.docker.service_slot_cgroup_template: known, but has no effect in Courser yet",
            "line 7: runners.docker.images: unknown key, ignored",
        ]
    );
    assert_eq!(
        warnings("shell"),
        [
            "line 3: runners.docker: has no effect with executor \"shell\"",
            "line 7: runners.docker.images: unknown key, ignored",
        ]
    );
}

#[test]
fn the_documentation_has_every_key_and_what_becomes_of_it() {
    let page = include_str!("../../../../../docs/docker.md");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.strip_suffix('`')?, cells.next()?))
    });
    let documented: Vec<_> = rows.collect();
    let expected: Vec<_> = DockerConfig::KEYS
        .iter()
        .map(|key| {
            let idle = DockerConfig::IDLE.contains(key);
            (*key, if idle { "warned of" } else { "works" })
        })
        .collect();
    let sorted = |mut rows: Vec<_>| {
        rows.sort_unstable();
        rows
    };
    assert_eq!(sorted(documented), sorted(expected));
}
