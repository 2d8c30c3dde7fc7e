use serde_json::{Value, json};

use super::*;
use crate::testing::runner;

/// What the engine is asked for, without what all containers have.
fn asked(role: Role, docker: &str, image: &str) -> Value {
    let config = runner(docker).docker.expect("there");
    let host = role(HostSettings {
        config: &config,
        image,
        binds: &[],
        network_mode: None,
        security: &[],
        links: &["db:10.0.0.2".to_owned()],
        init: false,
    });
    let mut asked = serde_json::to_value(host).expect("JSON");
    let fields = asked.as_object_mut().expect("an object");
    for common in [
        "RestartPolicy",
        "LogConfig",
        "ExtraHosts",
        "OomKillDisable",
        "Privileged",
    ] {
        fields.remove(common);
    }
    asked
}

const LIMITS: &str = "memory = \"1m\"\nmemory_swap = \"2m\"\nmemory_reservation = \"512k\"\ncpuset_cpus = \"0,1\"\n\
    cpuset_mems = \"0\"\ncpus = \"1.5\"\ncpu_shares = 7\ncgroup_parent = \"p\"\nservice_memory = \"3m\"\n\
    service_memory_swap = \"4m\"\nservice_memory_reservation = \"5m\"\nservice_cpuset_cpus = \"2\"\n\
    service_cpus = \"0.5\"\nservice_cpu_shares = 9\nservice_cgroup_parent = \"sp\"";

#[test]
fn limits_are_those_of_the_role() {
    assert_eq!(
        asked(BUILD_AND_HELPER, LIMITS, "x"),
        json!({
            "Memory": 1 << 20, "MemorySwap": 2 << 20, "MemoryReservation": 512 << 10, "CpusetCpus": "0,1",
            "CpusetMems": "0", "NanoCpus": 1_500_000_000, "CpuShares": 7, "CgroupParent": "p",
        })
    );
    assert_eq!(
        asked(SERVICE, LIMITS, "x"),
        json!({
            "Memory": 3 << 20, "MemorySwap": 4 << 20, "MemoryReservation": 5 << 20, "CpusetCpus": "2",
            "NanoCpus": 500_000_000, "CpuShares": 9, "CgroupParent": "sp",
        })
    );
}

#[test]
fn what_is_not_configured_is_left_to_the_engine() {
    assert_eq!(asked(BUILD_AND_HELPER, "", "x"), json!({}));
    assert_eq!(asked(SERVICE, "", "x"), json!({}));
}

const REST: &str = "devices = [\"/dev/a:/dev/b:r\"]\ndevice_cgroup_rules = [\"c 1:3 mr\"]\ngpus = \"all\"\n\
    service_gpus = \"2\"\nulimit = { nofile = \"1:2\" }\noom_score_adjust = 5\ndns = [\"10.0.0.1\"]\n\
    dns_search = [\"d\"]\nlinks = [\"l:m\"]\nvolumes_from = [\"v:ro\"]\nvolume_driver = \"local\"\ncap_add = [\"A\"]\n\
    cap_drop = [\"B\"]\nsysctls = { \"net.x\" = \"1\" }\ngroup_add = [\"g\"]\ntmpfs = { \"/t\" = \"rw\" }\n\
    services_tmpfs = { \"/s\" = \"\" }\nshm_size = 4096\nruntime = \"runc\"\nuserns_mode = \"host\"\n\
    isolation = \"hyperv\"\nipcmode = \"host\"\nservices_devices = { \"redis:*\" = [\"/dev/r\"] }";

#[test]
fn the_rest_of_the_keys_reach_their_containers() {
    let gpus = |count: i64| json!([{"Count": count, "Capabilities": [["gpu"]]}]);
    assert_eq!(
        asked(BUILD_AND_HELPER, REST, "redis:7"),
        json!({
            "Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"}],
            "DeviceCgroupRules": ["c 1:3 mr"], "DeviceRequests": gpus(-1),
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "OomScoreAdj": 5, "Dns": ["10.0.0.1"],
            "DnsSearch": ["d"], "Links": ["l:m"], "VolumesFrom": ["v:ro"], "VolumeDriver": "local",
            "CapAdd": ["A"], "CapDrop": ["B"], "Sysctls": {"net.x": "1"}, "GroupAdd": ["g"],
            "Tmpfs": {"/t": "rw"}, "ShmSize": 4096, "Runtime": "runc", "UsernsMode": "host",
            "Isolation": "hyperv", "IpcMode": "host",
        })
    );
    let service = json!({
        "Devices": [{"PathOnHost": "/dev/r", "PathInContainer": "/dev/r", "CgroupPermissions": "rwm"}],
        "DeviceRequests": gpus(2), "Dns": ["10.0.0.1"], "DnsSearch": ["d"], "Tmpfs": {"/s": ""},
        "ShmSize": 4096, "Runtime": "runc", "UsernsMode": "host", "Isolation": "hyperv",
    });
    assert_eq!(asked(SERVICE, REST, "redis:7"), service);
    let other = asked(SERVICE, REST, "postgres:16");
    assert_eq!(other["Devices"], Value::Null);
}

#[test]
fn privileges_follow_role_and_list() {
    for (docker, build, service) in [
        ("", false, false),
        ("privileged = true", true, true),
        (
            "privileged = true\nservices_privileged = false",
            true,
            false,
        ),
        ("services_privileged = true", false, true),
        (
            "privileged = true\nallowed_privileged_images = [\"x:*\"]",
            false,
            true,
        ),
        (
            "privileged = true\nallowed_privileged_services = [\"x:*\"]",
            true,
            false,
        ),
    ] {
        let config = runner(docker).docker.expect("there");
        let privileged = |role: Role| {
            let host = role(HostSettings {
                config: &config,
                image: "y:1",
                binds: &[],
                network_mode: None,
                security: &[],
                links: &[],
                init: false,
            });
            host.privileged
        };
        assert_eq!(privileged(BUILD_AND_HELPER), Some(build), "{docker}");
        assert_eq!(privileged(SERVICE), Some(service), "{docker}");
    }
}
