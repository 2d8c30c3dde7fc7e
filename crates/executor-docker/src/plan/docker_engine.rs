//! Whether a real Engine takes what is planned, and makes of it what was meant.

use std::panic::AssertUnwindSafe;

use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder, StartContainerOptions,
    WaitContainerOptions,
};
use courser_net::legs::DockerOptions;
use courser_net::{Legs, SystemRoots};
use courser_testkit::servers::DockerEngine;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::engine::Engine;
use crate::testing::{inputs, job_of_runner, runner};

/// Every key that this Engine can have at all: no GPUs, and nothing that names another container.
const EVERYTHING: &str = r#"
runtime = "runc"
memory = "64m"
memory_swap = "96m"
memory_reservation = "32m"
cpuset_cpus = "0"
cpuset_mems = "0"
cpus = "0.5"
cpu_shares = 512
dns = ["127.0.0.1"]
dns_search = ["courser.test"]
group_add = ["4321"]
userns_mode = "host"
cap_add = ["NET_ADMIN"]
cap_drop = ["MKNOD"]
oom_score_adjust = 5
security_opt = ["no-new-privileges"]
services_security_opt = ["no-new-privileges"]
devices = ["/dev/null:/dev/nothing:r"]
device_cgroup_rules = ["c 1:3 mr"]
services_devices = { "courser.test/**" = ["/dev/null:/dev/nothing"] }
volumes = ["/kept", "/tmp:/host:ro"]
volume_driver = "local"
extra_hosts = ["known:192.0.2.7"]
pid_mode = "host"
ipcmode = "private"
mac_address = "02:42:c0:00:02:07"
service_memory = "64m"
service_cpus = "0.5"
service_cpu_shares = 256
service_cpuset_cpus = "0"
isolation = "default"
shm_size = 1048576
tmpfs = { "/scratch" = "size=1m" }
services_tmpfs = { "/scratch" = "" }
sysctls = { "net.ipv4.ip_unprivileged_port_start" = "79" }
container_labels = { team = "a" }
ulimit = { nofile = "321:321" }
network_mtu = 1400
log_options = { env = "CI_JOB_ID", labels = "team" }
"#;

const IMAGE: &str = "courser.test/debian:12";

async fn connected() -> Engine {
    let running = DockerEngine::running();
    let way = Legs::new(SystemRoots::None, None, "/".into()).docker(DockerOptions {
        host: &running.host,
        ..DockerOptions::default()
    });
    Engine::connect(&way)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn create(engine: &Engine, definition: ContainerDefinition) -> String {
    let options = CreateContainerOptionsBuilder::default().name(&definition.name);
    let created = engine
        .api()
        .create_container(Some(options.build()), definition.body)
        .await;
    created
        .unwrap_or_else(|error| panic!("{}: {error}", definition.name))
        .id
}

/// What a shell in the container prints for a script on its standard input, and how it ends.
async fn run(engine: &Engine, id: &str, script: &str) -> (String, i64) {
    let api = engine.api();
    let options = AttachContainerOptionsBuilder::default()
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .stream(true);
    let mut attached = api
        .attach_container(id, Some(options.build()))
        .await
        .expect("attached");
    api.start_container(id, None::<StartContainerOptions>)
        .await
        .expect("started");
    attached
        .input
        .write_all(script.as_bytes())
        .await
        .expect("written");
    attached.input.shutdown().await.expect("closed");
    let printed: Vec<_> = attached.output.try_collect().await.expect("read");
    let printed = printed
        .into_iter()
        .map(|frame| String::from_utf8_lossy(&frame.into_bytes()).into_owned());
    let ended = api
        .wait_container(id, None::<WaitContainerOptions>)
        .next()
        .await
        .expect("one answer");
    let code = match ended {
        Ok(ended) => ended.status_code,
        Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => code,
        Err(error) => panic!("{error}"),
    };
    (printed.collect(), code)
}

#[tokio::test]
async fn an_engine_takes_every_key_and_containers_are_what_was_meant() {
    let engine = connected().await;
    let runner = runner(EVERYTHING);
    let job = job_of_runner(
        json!({
            "id": std::process::id(),
            "image": {"name": IMAGE, "executor_opts": {"docker": {"user": "1234"}}},
            "services": [{"name": IMAGE, "alias": "sleeper", "command": ["sleep", "600"]}],
            "variables": [
                {"key": "FF_NETWORK_PER_BUILD", "value": "true"},
                {"key": "FF_USE_INIT_WITH_DOCKER_EXECUTOR", "value": "true"},
                {"key": "GREETING", "value": "two\nlines"},
            ],
        }),
        &runner,
    );
    let info = engine.info().await.expect("it says what it is");
    let daemon = Daemon::new(info, engine.api_version());
    let plan = JobContainers::plan(Inputs {
        random: std::process::id()
            .to_be_bytes()
            .repeat(2)
            .try_into()
            .expect("eight bytes"),
        ..inputs(&job, &runner, &daemon)
    })
    .expect("planned");
    let looked = AssertUnwindSafe(look(&engine, &plan)).catch_unwind().await;
    clean_up(&engine, &plan).await;
    if let Err(panic) = looked {
        std::panic::resume_unwind(panic);
    }
}

async fn look(engine: &Engine, plan: &JobContainers<'_>) {
    let api = engine.api();
    let Network::OfJob(network) = &plan.network else {
        panic!("a network of the job's own");
    };
    api.create_network((**network).clone())
        .await
        .expect("the network");
    for (_, volume) in plan.volumes.made() {
        api.create_volume(volume.request.clone())
            .await
            .expect("a volume");
    }
    let image = api
        .inspect_image(IMAGE)
        .await
        .expect("an image of the tests");
    let image = Image::new(IMAGE, image);

    let service = &plan.services.list[0];
    let id = create(engine, plan.service(service, &image)).await;
    api.start_container(&id, None::<StartContainerOptions>)
        .await
        .expect("started");
    let inspected = api
        .inspect_container(&id, None::<InspectContainerOptions>)
        .await
        .expect("there");
    let networks = inspected
        .network_settings
        .and_then(|settings| settings.networks);
    let endpoint = networks
        .and_then(|mut all| all.remove(&network.name))
        .expect("in the job's network");
    let running = crate::networks::Reachable {
        aliases: service.aliases.clone(),
        id: id.clone(),
        addresses: endpoint.ip_address.into_iter().collect(),
    };
    let links = plan.network.emulated_links(std::slice::from_ref(&running));

    let definition = plan.build(&image, &links);
    let has_address = engine.api_version() >= MAC_ADDRESS_API;
    let warnings = if has_address {
        vec![]
    } else {
        vec![messages::mac_address_needs_newer_daemon()]
    };
    assert_eq!(definition.lines, warnings);
    let build = create(engine, definition).await;
    let script = "id -u; id -G; ulimit -n; hostname; cat /sys/class/net/eth0/mtu\n\
                  printf '%s|%s\\n' \"$GREETING\" \"$CI_BUILD_NETWORK_NAME\"\n\
                  grep -c 'known\\|sleeper' /etc/hosts\n\
                  test -c /dev/nothing && mountpoint -q /scratch && mountpoint -q /kept && mountpoint -q /builds && echo mounted\n\
                  grep -q 02:42:c0:00:02:07 /sys/class/net/eth0/address && echo addressed\n\
                  exit 7\n";
    let (printed, code) = run(engine, &build, script).await;
    let name = &network.name;
    assert_eq!(
        printed,
        format!(
            "1234\n0 4321\n321\nrunner-abcdefg-project-7-concurrent-2\n1400\n\
             two\nlines|{name}\n2\nmounted\n{}",
            if has_address { "addressed\n" } else { "" }
        )
    );
    assert_eq!(code, 7);

    let command = ["sh".to_owned(), "-s".to_owned()].to_vec();
    let helper = create(engine, plan.helper(&image, command, &links)).await;
    let (printed, code) = run(engine, &helper, "id -u; grep -c sleeper /etc/hosts\n").await;
    assert_eq!((printed.as_str(), code), ("0\n1\n", 0));
}

async fn clean_up(engine: &Engine, plan: &JobContainers<'_>) {
    let api = engine.api();
    let service = &plan.services.list[0].container;
    let containers = [plan.names.build(), plan.names.helper(), service.clone()];
    for name in containers {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true);
        drop(api.remove_container(&name, Some(options.build())).await);
    }
    for (_, volume) in plan.volumes.made() {
        let options = RemoveVolumeOptionsBuilder::default().force(true);
        drop(api.remove_volume(&volume.name, Some(options.build())).await);
    }
    drop(api.remove_network(plan.names.network()).await);
}
