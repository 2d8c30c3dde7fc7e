//! What an administrator gives to containers, and keeps from them (`executor-docker.md` 5.4).

use serde_json::{Value, json};

use super::scene::{BUSYBOX, DEBIAN, Scene, failed_by_script, says, success};
use crate::wire::gitlab::{add, variable};

/// Goes on when the test says so.
const WAIT: &str = "echo ready; while [ ! -e /tmp/go ]; do sleep 0.1; done";

#[test]
fn limits_and_devices_reach_the_job() {
    let mut scene = Scene::with(
        "memory = \"64m\"\nulimit = { nofile = \"321\" }\ntmpfs = { \"/scratch\" = \"size=1m\" }\nshm_size = 1048576\n\
         extra_hosts = [\"known:192.0.2.7\"]\ndevices = [\"/dev/null:/dev/nothing\"]\n\
         sysctls = { \"net.ipv4.ip_unprivileged_port_start\" = \"79\" }\ncontainer_labels = { of = \"job $CI_JOB_ID\" }",
    );
    let look = [
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null || true",
        "echo \"files $(ulimit -n)\"",
        "echo \"scratch $(grep ' /scratch ' /proc/mounts | grep -c size=1024k)\"",
        "echo \"shm $(grep ' /dev/shm ' /proc/mounts | grep -c size=1024k)\"",
        "grep known /etc/hosts",
        "test -c /dev/nothing",
        "echo \"ports from $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)\"",
    ];
    says(
        &scene.passes(&scene.job_in(1, BUSYBOX, &look)),
        &[
            "67108864",
            "files 321",
            "scratch 1",
            "shm 1",
            "192.0.2.7",
            "ports from 79",
        ],
    );
}

/// Those that a job hardly sees are asked of the Engine.
#[test]
fn each_kind_of_container_gets_the_limits_that_are_its_own() {
    let mut scene = Scene::with(
        "cpus = \"0.5\"\ncpuset_cpus = \"0\"\ncpu_shares = 512\nmemory = \"128m\"\nmemory_swap = \"128m\"\n\
         memory_reservation = \"64m\"\noom_score_adjust = 500\ngroup_add = [\"1234\"]\ndns = [\"192.0.2.53\"]\n\
         dns_search = [\"ci.example\"]\ncap_add = [\"SYS_PTRACE\"]\ncap_drop = [\"NET_RAW\"]\npid_mode = \"host\"\n\
         ipcmode = \"shareable\"\nservice_memory = \"32m\"\nservice_cpus = \"0.25\"\nservice_cpu_shares = 256\n\
         services_tmpfs = { \"/var/lib/data\" = \"rw,size=1m\" }\nservices_security_opt = [\"no-new-privileges\"]\n\
         log_options = { labels = \"of\" }\nwait_for_services_timeout = -1\n\
         container_labels = { of = \"job $CI_JOB_ID\" }",
    );
    let look = [
        "echo \"adjusted $(cat /proc/self/oom_score_adj), groups $(id -G), pid $$\"",
        "cat /etc/resolv.conf",
        WAIT,
    ];
    let service = json!({"name": BUSYBOX, "alias": "s", "command": ["sleep", "300"]});
    let job = add(scene.job_in(1, BUSYBOX, &look), "services", service);
    let job = variable(job, "CI_JOB_ID", "1");
    let build = scene.begin(&job, "ready");
    let of = |suffix: &str| scene.inspect(&build.replace("-build", suffix));
    let (own, helper) = (of("-build"), of("-predefined"));
    let service = of("-courser.test__busybox-0");
    let common = json!({
        "NanoCpus": 500_000_000, "CpusetCpus": "0", "CpuShares": 512, "Memory": 128 << 20, "MemorySwap": 128 << 20,
        "MemoryReservation": 64 << 20, "OomScoreAdj": 500, "GroupAdd": ["1234"], "Dns": ["192.0.2.53"],
        "DnsSearch": ["ci.example"], "CapAdd": ["SYS_PTRACE"], "CapDrop": ["NET_RAW"], "IpcMode": "shareable",
        "Privileged": false, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "LogConfig": {"Type": "json-file", "Config": {"labels": "of"}},
    });
    has(&own["HostConfig"], &common);
    has(&helper["HostConfig"], &common);
    has(&own["HostConfig"], &json!({"PidMode": "host"}));
    has(&helper["HostConfig"], &json!({"PidMode": ""}));
    let services = json!({
        "NanoCpus": 250_000_000, "CpuShares": 256, "Memory": 32 << 20, "MemoryReservation": 0, "GroupAdd": null,
        "Dns": ["192.0.2.53"], "CapAdd": null, "Tmpfs": {"/var/lib/data": "rw,size=1m"},
        "SecurityOpt": ["no-new-privileges"],
    });
    has(&service["HostConfig"], &services);
    for (container, kind) in [
        (&own, "build"),
        (&helper, "predefined"),
        (&service, "service"),
    ] {
        let label = |name: &str| format!("com.gitlab.gitlab-runner.{name}");
        let labels = json!({
            "of": "job 1", label("type"): kind, label("managed"): "true", label("job.id"): "1",
            label("project.id"): scene.project.to_string(), label("runner.id"): "wireabcde",
        });
        has(&container["Config"]["Labels"], &labels);
    }
    scene.client(&["exec", &build, "touch", "/tmp/go"]);
    let done = scene.gitlab.finished(1);
    assert_eq!(done.outcome(), success(), "{}", done.text());
    says(
        &done,
        &[
            "adjusted 500, groups 0 1234, pid ",
            "search ci.example",
            "nameserver 192.0.2.53",
        ],
    );
    assert!(!done.text().contains(", pid 1\n"), "{}", done.text());
}

#[track_caller]
fn has(all: &Value, wanted: &Value) {
    for (key, value) in wanted.as_object().expect("an object") {
        assert_eq!(&all[key], value, "{key}");
    }
}

#[test]
fn a_capability_that_is_dropped_and_a_call_that_is_filtered_are_not_there() {
    let mut scene = Scene::new();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO"}],
    });
    let profile = scene.world.write("home/seccomp.json", profile.to_string());
    scene.docker(&format!(
        "cap_drop = [\"CHOWN\"]\nsecurity_opt = [\"seccomp={}\"]",
        profile.display()
    ));
    let look = [
        "touch a; chown 1 a || echo chown is refu''sed",
        "ln -s a b || echo ln is refu''sed",
    ];
    let done = scene.passes(&scene.job_in(1, BUSYBOX, &look));
    says(&done, &["chown is refused", "ln is refused"]);
}

#[test]
fn only_images_and_services_that_may_be_are_privileged() {
    let mut scene = Scene::with(
        "privileged = true\nallowed_privileged_images = [\"courser.test/debian:*\"]\n\
         allowed_privileged_services = [\"courser.test/debian:*\"]\nwait_for_services_timeout = -1",
    );
    // CAP_SYS_ADMIN is bit 21.
    let look = "echo $(( (0x$(grep CapEff /proc/self/status | cut -f2) >> 21) & 1 ))";
    let service = |image: &str| {
        let command = format!(
            "until [ -d /builds/g/p ]; do sleep 0.1; done; {look} > /builds/g/p/seen; sleep 300"
        );
        json!({"name": image, "entrypoint": ["sh", "-c"], "command": [command]})
    };
    for (id, image, other, seen) in [
        (1, BUSYBOX, DEBIAN, "job 0, service 1"),
        (2, DEBIAN, BUSYBOX, "job 1, service 0"),
    ] {
        let script = [
            "until [ -s seen ]; do sleep 0.1; done",
            &format!("echo \"job $({look}), service $(cat seen)\""),
        ];
        let job = add(scene.job_in(id, image, &script), "services", service(other));
        let done = scene.passes(&job);
        says(&done, &[&format!("O {seen}")]);
    }
}

#[test]
fn what_an_engine_cannot_do_fails_the_job_in_its_words() {
    let mut scene = Scene::with("runtime = \"nowhere\"");
    let done = scene.run(&scene.job_in(1, BUSYBOX, &["true"]));
    assert_eq!(
        done.outcome().1,
        "runner_configuration_error",
        "{}",
        done.text()
    );
    says(
        &done,
        &[
            "ERROR: Job failed: Error response from daemon: ",
            "nknown runtime specified nowhere",
        ],
    );

    let mut scene = Scene::with("log_options = { tag = \"x\" }");
    let done = scene.run(&scene.job_in(1, BUSYBOX, &["true"]));
    assert_eq!(done.outcome().0, "failed", "{}", done.text());
    says(
        &done,
        &["invalid log options: only [\"env\" \"labels\"] are allowed, but found: [\"tag\"]"],
    );

    // API 1.41.
    let mut scene = Scene::with("mac_address = \"02:42:ac:11:65:43\"");
    let done = scene.passes(&scene.job_in(1, BUSYBOX, &["true"]));
    let older = "mac_address is configured, but the Docker daemon's API version is older than 1.44; it cannot be applied";
    says(&done, &[older]);
}

#[test]
fn a_process_of_the_engine_s_own_begins_where_the_flag_says_so() {
    let mut scene = Scene::new();
    let look = ["echo \"first is $(cat /proc/1/comm)\"", "exit 3"];
    let job = scene.job_in(1, BUSYBOX, &look);
    let done = scene.run(&variable(job, "FF_USE_INIT_WITH_DOCKER_EXECUTOR", "true"));
    assert_eq!(done.outcome(), failed_by_script(3), "{}", done.text());
    says(&done, &["O first is docker-init"]);
    let done = scene.run(&scene.job_in(2, BUSYBOX, &look));
    says(&done, &["O first is sh"]);
}
