//! The host's part of a container: limits, devices, namespaces (`executor-docker.md` 5.4).

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    DeviceMapping, DeviceRequest, HostConfig, HostConfigIsolationEnum, HostConfigLogConfig,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use courser_config::{Device, DockerConfig, GpuRequest, Isolation, Ulimit};

use super::filled;
use crate::allowed;

/// What differs from container to container of one job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostSettings<'a> {
    /// `[runners.docker]`.
    pub(crate) config: &'a DockerConfig,
    /// Name of the image as privileges and devices are given to it.
    pub(crate) image: &'a str,
    /// Bind list.
    pub(crate) binds: &'a [String],
    /// Network mode; `None` = the daemon's default.
    pub(crate) network_mode: Option<&'a str>,
    /// Security options, profiles included.
    pub(crate) security: &'a [String],
    /// Hosts beside those of the configuration.
    pub(crate) links: &'a [String],
    /// A process of the engine's is process 1.
    pub(crate) init: bool,
}

/// Keys by role: a service has fewer, and its own for some.
pub(crate) type Role = fn(HostSettings<'_>) -> HostConfig;

/// Host's part of the build and the helper container; `pid_mode` and `init` are for the build container alone.
pub(crate) const BUILD_AND_HELPER: Role = |settings| {
    let config = settings.config;
    HostConfig {
        memory: nonzero(config.memory),
        memory_swap: nonzero(config.memory_swap),
        memory_reservation: nonzero(config.memory_reservation),
        cpuset_cpus: text(&config.cpuset_cpus),
        cpuset_mems: text(&config.cpuset_mems),
        cpu_shares: nonzero(config.cpu_shares),
        nano_cpus: nonzero(config.cpus),
        cgroup_parent: text(&config.cgroup_parent),
        devices: filled(&config.devices.iter().map(device).collect::<Vec<_>>()),
        device_requests: config.gpus.as_ref().map(|request| vec![gpus(request)]),
        device_cgroup_rules: filled(&config.device_cgroup_rules),
        ulimits: filled(&config.ulimit.iter().map(ulimit).collect::<Vec<_>>()),
        oom_kill_disable: Some(config.oom_kill_disable),
        oom_score_adj: nonzero(config.oom_score_adjust),
        extra_hosts: filled(&[&config.extra_hosts[..], settings.links].concat()),
        links: filled(&config.links),
        volumes_from: filled(&config.volumes_from),
        volume_driver: text(&config.volume_driver),
        privileged: Some(allowed::may_be_privileged(
            config.privileged,
            &config.allowed_privileged_images,
            settings.image,
        )),
        cap_add: filled(&config.cap_add),
        cap_drop: filled(&config.cap_drop),
        sysctls: map(&config.sysctls),
        group_add: filled(&config.group_add),
        tmpfs: map(&config.tmpfs),
        ipc_mode: text(&config.ipcmode),
        ..common(settings)
    }
};

/// Host's part of a service's container.
pub(crate) const SERVICE: Role = |settings| {
    let config = settings.config;
    let matching = config
        .services_devices
        .iter()
        .filter(|(glob, _)| allowed::matches_any(std::slice::from_ref(glob), settings.image));
    let devices: Vec<_> = matching
        .flat_map(|(_, devices)| devices)
        .map(device)
        .collect();
    HostConfig {
        memory: nonzero(config.service_memory),
        memory_swap: nonzero(config.service_memory_swap),
        memory_reservation: nonzero(config.service_memory_reservation),
        cpuset_cpus: text(&config.service_cpuset_cpus),
        cpu_shares: nonzero(config.service_cpu_shares),
        nano_cpus: nonzero(config.service_cpus),
        cgroup_parent: text(&config.service_cgroup_parent),
        devices: filled(&devices),
        device_requests: config
            .service_gpus
            .as_ref()
            .map(|request| vec![gpus(request)]),
        extra_hosts: filled(&config.extra_hosts),
        privileged: Some(allowed::may_be_privileged(
            config.services_privileged.unwrap_or(config.privileged),
            &config.allowed_privileged_services,
            settings.image,
        )),
        tmpfs: map(&config.services_tmpfs),
        ..common(settings)
    }
};

/// What all containers have.
fn common(settings: HostSettings<'_>) -> HostConfig {
    let config = settings.config;
    HostConfig {
        dns: filled(&config.dns),
        dns_search: filled(&config.dns_search),
        security_opt: filled(settings.security),
        shm_size: nonzero(config.shm_size),
        runtime: text(&config.runtime),
        userns_mode: text(&config.userns_mode),
        isolation: match config.isolation {
            Isolation::Unset => None,
            Isolation::Default => Some(HostConfigIsolationEnum::DEFAULT),
            Isolation::Process => Some(HostConfigIsolationEnum::PROCESS),
            Isolation::HyperV => Some(HostConfigIsolationEnum::HYPERV),
        },
        init: settings.init.then_some(true),
        network_mode: settings.network_mode.map(str::to_owned),
        binds: filled(settings.binds),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: map(&config.log_options),
        }),
        ..HostConfig::default()
    }
}

fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.container.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

fn gpus(request: &GpuRequest) -> DeviceRequest {
    DeviceRequest {
        driver: text(&request.driver),
        count: Some(request.count),
        device_ids: filled(&request.device_ids),
        capabilities: Some(request.capabilities.clone()),
        options: map(&request.options),
    }
}

fn ulimit((name, limit): (&String, &Ulimit)) -> ResourcesUlimits {
    ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    }
}

fn nonzero(number: i64) -> Option<i64> {
    (number != 0).then_some(number)
}

pub(super) fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn map(entries: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!entries.is_empty()).then(|| entries.clone().into_iter().collect())
}

#[cfg(test)]
mod tests;
