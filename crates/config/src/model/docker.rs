//! `[runners.docker]`: every key of it, typed (`runner-config.md` 6, `executor-docker.md` 23).
//!
//! Values with a syntax of their own are parsed here, once. One that cannot be used does not stop the load: it
//! becomes a [`KeyFault`], which `load` and `lint` show with its line and with which every job of the runner is
//! refused.

use std::collections::BTreeMap;

use crate::setting::{Section, Setting};

mod gpus;
mod values;

pub use gpus::GpuRequest;
pub use values::{Device, Isolation, Ulimit};

/// A key whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFault {
    /// Name of the key.
    pub key: &'static str,
    /// Why, in upstream's words where it has some: the text with which jobs are refused.
    pub message: String,
}

/// One `[[runners.docker.services]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DockerService {
    /// `name`: image, variables not yet expanded.
    pub name: String,
    /// `alias`: host names, separated by blanks or commas, variables not yet expanded.
    pub alias: String,
    /// `command`.
    pub command: Vec<String>,
    /// `entrypoint`.
    pub entrypoint: Vec<String>,
    /// `environment`: `KEY=value`.
    pub environment: Vec<String>,
}

macro_rules! docker_config {
    ($($(#[$meta:meta])* $key:ident: $type:ty $(= $parse:path)?,)*) => {
        /// `[runners.docker]`; a key that is absent has its type's default.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct DockerConfig {
            $($(#[$meta])* pub $key: $type,)*
            /// `services`.
            pub services: Vec<DockerService>,
            /// Keys that cannot be used, in the order above.
            pub faults: Vec<KeyFault>,
        }

        impl DockerConfig {
            /// Names of all keys.
            pub const KEYS: &[&str] = &[$(stringify!($key),)* "services"];

            /// Those that nothing is done with: there are no slots, and no flavours of the helper's image.
            pub const IDLE: &[&str] = &["service_slot_cgroup_template", "helper_image_flavor"];

            pub(crate) fn read(docker: &Section) -> Self {
                let mut config = Self {
                    services: docker.tables("services").iter().map(DockerService::read).collect(),
                    ..Self::default()
                };
                $(docker_config!(@read config docker $key $($parse)?);)*
                config
            }
        }
    };
    (@read $config:ident $docker:ident $key:ident) => {
        if let Some(value) = $docker.setting(stringify!($key)).and_then(FromSetting::from_setting) {
            $config.$key = value;
        }
    };
    (@read $config:ident $docker:ident $key:ident $parse:path) => {
        let setting = $docker.setting(stringify!($key)).filter(|setting| !setting.is_empty());
        if let Some(raw) = setting.and_then(FromSetting::from_setting) {
            match $parse(stringify!($key), raw) {
                Ok(value) => $config.$key = value,
                Err(message) => $config.faults.push(KeyFault { key: stringify!($key), message }),
            }
        }
    };
}

docker_config! {
    /// Docker endpoint; empty = the environment's, else the local socket.
    host: String,
    /// Directory of `ca.pem`, `cert.pem` and `key.pem`.
    tls_cert_path: String,
    /// TLS with verification of the daemon.
    tls_verify: bool,
    /// Host name of build and helper containers.
    hostname: String,
    /// Image of jobs that name none.
    image: String,
    /// OCI runtime.
    runtime: String,
    /// Memory limit in bytes, 0 = none.
    memory: i64 = values::memory_size,
    /// Memory and swap together in bytes, 0 = none.
    memory_swap: i64 = values::memory_size,
    /// Soft limit in bytes, 0 = none.
    memory_reservation: i64 = values::memory_size,
    /// Parent cgroup.
    cgroup_parent: String,
    /// CPUs that may be used.
    cpuset_cpus: String,
    /// Memory nodes that may be used.
    cpuset_mems: String,
    /// CPUs in billionths, 0 = no limit.
    cpus: i64 = values::cpus,
    /// Relative weight.
    cpu_shares: i64,
    /// DNS servers: addresses.
    dns: Vec<String> = values::dns_servers,
    /// Search domains.
    dns_search: Vec<String>,
    /// Containers are privileged.
    privileged: bool,
    /// Services are; unset = as `privileged`.
    services_privileged: Option<bool>,
    /// Jobs may not choose an entrypoint.
    disable_entrypoint_overwrite: bool,
    /// User of the build container.
    user: String,
    /// Users that a job may ask for; empty = any, or only `user` where it is set.
    allowed_users: Vec<String>,
    /// Extra groups.
    group_add: Vec<String>,
    /// User namespace mode.
    userns_mode: String,
    /// Capabilities to add.
    cap_add: Vec<String>,
    /// Capabilities to drop.
    cap_drop: Vec<String>,
    /// The OOM killer leaves the container alone.
    oom_kill_disable: bool,
    /// OOM score.
    oom_score_adjust: i64,
    /// Security options of build and helper containers.
    security_opt: Vec<String>,
    /// Security options of services.
    services_security_opt: Vec<String>,
    /// Host devices.
    devices: Vec<Device> = values::devices,
    /// Device cgroup rules.
    device_cgroup_rules: Vec<String>,
    /// GPUs of build and helper containers.
    gpus: Option<GpuRequest> = gpus::parse,
    /// Host devices of the services whose image matches the glob.
    services_devices: BTreeMap<String, Vec<Device>> = values::services_devices,
    /// Volumes without a source are temporary.
    disable_cache: bool,
    /// Volumes, `docker run --volume` syntax.
    volumes: Vec<String>,
    /// Anonymous volumes outlive their container.
    volume_keep: bool,
    /// Driver of the volumes that are made.
    volume_driver: String,
    /// Options of that driver.
    volume_driver_ops: BTreeMap<String, String>,
    /// Host directory for cache volumes.
    cache_dir: String,
    /// `host:ip` entries.
    extra_hosts: Vec<String>,
    /// `container[:ro]`.
    volumes_from: Vec<String>,
    /// Network; empty = the daemon's default, or one of the job's own.
    network_mode: String,
    /// PID namespace of the build container.
    pid_mode: String,
    /// IPC namespace.
    ipcmode: String,
    /// MAC address.
    mac_address: String = values::mac_address,
    /// `container:alias`.
    links: Vec<String>,
    /// Most services of a job; unset or negative = no limit.
    services_limit: Option<i64>,
    /// As `memory`, of services.
    service_memory: i64 = values::memory_size,
    /// As `memory_swap`, of services.
    service_memory_swap: i64 = values::memory_size,
    /// As `memory_reservation`, of services.
    service_memory_reservation: i64 = values::memory_size,
    /// As `cgroup_parent`, of services.
    service_cgroup_parent: String,
    /// As `slot_cgroup_template`, of services.
    service_slot_cgroup_template: String,
    /// As `cpuset_cpus`, of services.
    service_cpuset_cpus: String,
    /// As `cpus`, of services.
    service_cpus: i64 = values::cpus,
    /// As `cpu_shares`, of services.
    service_cpu_shares: i64,
    /// As `gpus`, of services.
    service_gpus: Option<GpuRequest> = gpus::parse,
    /// Seconds to wait for services; 0 = 30, negative = not at all.
    wait_for_services_timeout: i64,
    /// Globs of images that a job may use; empty = all.
    allowed_images: Vec<String>,
    /// Globs of images that may be privileged; empty = all.
    allowed_privileged_images: Vec<String>,
    /// Globs of services that may be privileged; empty = all.
    allowed_privileged_services: Vec<String>,
    /// Policies that a job may ask for; empty = those of `pull_policy`.
    allowed_pull_policies: Vec<String> = values::pull_policies,
    /// Globs of services that a job may use; empty = all.
    allowed_services: Vec<String>,
    /// Policies in order; empty = `always`.
    pull_policy: Vec<String> = values::pull_policies,
    /// Isolation technology of Windows.
    isolation: Isolation = values::isolation,
    /// Bytes of `/dev/shm`, 0 = the daemon's default.
    shm_size: i64,
    /// Directory and mount options, of build and helper containers.
    tmpfs: BTreeMap<String, String>,
    /// Directory and mount options, of services.
    services_tmpfs: BTreeMap<String, String>,
    /// Kernel settings.
    sysctls: BTreeMap<String, String>,
    /// Image of the helper, variables not yet expanded.
    helper_image: String,
    /// Flavour in the tag of the default helper image; empty = `alpine`.
    helper_image_flavor: String,
    /// Labels of every container; variables in the values are not yet expanded.
    container_labels: BTreeMap<String, String>,
    /// IPv6 in the network of a job.
    enable_ipv6: bool,
    /// Limits by name.
    ulimit: BTreeMap<String, Ulimit> = values::ulimits,
    /// MTU of the network of a job, 0 = the daemon's default.
    network_mtu: i64,
    /// Options of the `json-file` log driver.
    log_options: BTreeMap<String, String> = values::log_options,
}

impl DockerService {
    fn read(service: &Section) -> Self {
        let text = |name: &str| service.text(name).unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            alias: text("alias"),
            command: service.texts("command").to_vec(),
            entrypoint: service.texts("entrypoint").to_vec(),
            environment: service.texts("environment").to_vec(),
        }
    }
}

/// What a checked setting holds, by the type that its key has.
trait FromSetting: Sized {
    fn from_setting(setting: &Setting) -> Option<Self>;
}

macro_rules! from_setting {
    ($($type:ty: $pattern:pat => $value:expr,)*) => {
        $(impl FromSetting for $type {
            fn from_setting(setting: &Setting) -> Option<Self> {
                match setting {
                    $pattern => Some($value),
                    _ => None,
                }
            }
        })*
    };
}

from_setting! {
    String: Setting::Text(text) => text.clone(),
    bool: Setting::Bool(value) => *value,
    i64: Setting::Int(number) => *number,
    Option<bool>: Setting::Bool(value) => Some(*value),
    Option<i64>: Setting::Int(number) => Some(*number),
    Vec<String>: Setting::Texts(texts) => texts.clone(),
    BTreeMap<String, String>: Setting::TextMap(map) => map.clone(),
    BTreeMap<String, Vec<String>>: Setting::TextsMap(map) => map.clone(),
}

#[cfg(test)]
mod tests;
