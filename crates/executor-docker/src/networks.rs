//! Which network a job's containers are in, and how they find each other there (`executor-docker.md` 13).

use std::collections::HashMap;

use bollard::models::{EndpointSettings, NetworkCreateRequest, NetworkingConfig};
use courser_config::DockerConfig;
use courser_job::Job;

use crate::labels::{Labels, goes_with};
use crate::names::Names;

/// The network of a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Network {
    /// The daemon's default bridge.
    Default,
    /// `network_mode`: a mode, or the name of a network that is there.
    Configured(String),
    /// A bridge of the job's own, to be made and removed with it.
    OfJob(Box<NetworkCreateRequest>),
}

/// A service that runs, as other containers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reachable {
    /// Host names.
    pub(crate) aliases: Vec<String>,
    /// Id of its container.
    pub(crate) id: String,
    /// Addresses, of both families.
    pub(crate) addresses: Vec<String>,
}

impl Network {
    /// `network_mode` wins over `FF_NETWORK_PER_BUILD`.
    pub(crate) fn plan(config: &DockerConfig, job: &Job, names: &Names, labels: &Labels) -> Self {
        if !config.network_mode.is_empty() {
            return Self::Configured(config.network_mode.clone());
        }
        if !job.features().network_per_build {
            return Self::Default;
        }
        const MTU: &str = "com.docker.network.driver.mtu";
        let mtu = config.network_mtu;
        Self::OfJob(Box::new(NetworkCreateRequest {
            name: names.network().to_owned(),
            driver: Some("bridge".to_owned()),
            enable_ipv6: Some(config.enable_ipv6),
            options: (mtu != 0).then(|| HashMap::from([(MTU.to_owned(), mtu.to_string())])),
            labels: Some(
                labels
                    .network()
                    .into_iter()
                    .chain([goes_with(names.base())])
                    .collect(),
            ),
            ..NetworkCreateRequest::default()
        }))
    }

    /// What containers have as their network mode; `None`: the daemon's default.
    pub(crate) fn mode(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::Configured(mode) => Some(mode),
            Self::OfJob(request) => Some(&request.name),
        }
    }

    /// Name for `CI_BUILD_NETWORK_NAME`.
    pub(crate) fn own_name(&self) -> Option<&str> {
        match self {
            Self::OfJob(request) => Some(&request.name),
            Self::Default | Self::Configured(_) => None,
        }
    }

    /// Whether it is a network with names, not one of the engine's modes.
    pub(crate) fn is_user_defined(&self) -> bool {
        let is_mode = |mode: &str| {
            matches!(mode, "default" | "bridge" | "host" | "none") || mode.starts_with("container:")
        };
        self.mode().is_some_and(|mode| !is_mode(mode))
    }

    /// Whether containers are in the network of another one, and so have no host name and hosts of their own.
    pub(crate) fn is_another_container_s(&self) -> bool {
        self.mode()
            .is_some_and(|mode| mode.starts_with("container:"))
    }

    /// How a container with these names is in it. A MAC address is given by whoever the daemon's API lets.
    pub(crate) fn endpoint(
        &self,
        aliases: Vec<String>,
        mac_address: Option<String>,
    ) -> Option<NetworkingConfig> {
        let aliases = self.is_user_defined().then_some(aliases);
        if aliases.is_none() && mac_address.is_none() {
            return None;
        }
        let settings = EndpointSettings {
            aliases,
            mac_address,
            ..EndpointSettings::default()
        };
        let name = self.mode().unwrap_or("default").to_owned();
        Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(name, settings)])),
        })
    }

    /// Entries of the build and the helper container's hosts file, as `links` would make them.
    pub(crate) fn emulated_links(&self, services: &[Reachable]) -> Vec<String> {
        if self.is_another_container_s() {
            return Vec::new();
        }
        let of_service = |service: &Reachable| {
            let id = service.id.get(..12).unwrap_or(&service.id).to_owned();
            let names = service.aliases.iter().cloned().chain([id]);
            let hosts = names.flat_map(|name| {
                let hosts = service.addresses.iter();
                hosts.map(move |address| format!("{name}:{address}"))
            });
            hosts.collect::<Vec<_>>()
        };
        services.iter().flat_map(of_service).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{job, runner};

    fn plan(docker: &str, per_build: &str) -> Network {
        let config = runner(docker).docker.expect("there");
        let job = job(json!({"variables": [{"key": "FF_NETWORK_PER_BUILD", "value": per_build}]}));
        let labels = Labels::new(&job, &config.container_labels);
        Network::plan(&config, &job, &Names::new(&job, [0; 8]), &labels)
    }

    #[test]
    fn the_configured_network_wins_and_the_flag_makes_one() {
        assert_eq!(plan("", "false"), Network::Default);
        let configured = Network::Configured("host".to_owned());
        assert_eq!(plan("network_mode = \"host\"", "true"), configured);
        let Network::OfJob(request) = plan("enable_ipv6 = true\nnetwork_mtu = 1400", "true") else {
            panic!("a network of the job's own");
        };
        assert_eq!(request.name, "runner-abcdefg-7-2-42");
        assert_eq!(request.enable_ipv6, Some(true));
        let options = request.options.expect("given");
        assert_eq!(options["com.docker.network.driver.mtu"], "1400");
        let labels = request.labels.expect("given");
        assert_eq!(labels["com.gitlab.gitlab-runner.job.id"], "42");
        let Network::OfJob(request) = plan("", "true") else {
            panic!("a network of the job's own");
        };
        assert_eq!((request.enable_ipv6, request.options), (Some(false), None));
    }

    #[test]
    fn names_exist_in_user_defined_networks_only() {
        for (mode, user_defined, another) in [
            ("", false, false),
            ("bridge", false, false),
            ("host", false, false),
            ("none", false, false),
            ("container:x", false, true),
            ("mine", true, false),
        ] {
            let network = plan(&format!("network_mode = {mode:?}"), "false");
            assert_eq!(network.is_user_defined(), user_defined, "{mode}");
            assert_eq!(network.is_another_container_s(), another, "{mode}");
            let endpoint = network.endpoint(vec!["build".to_owned()], None);
            assert_eq!(endpoint.is_some(), user_defined, "{mode}");
        }
        let endpoint =
            plan("", "true").endpoint(vec!["build".to_owned()], Some("02:42".to_owned()));
        let mut endpoints = endpoint.and_then(|e| e.endpoints_config).expect("given");
        let settings = endpoints
            .remove("runner-abcdefg-7-2-42")
            .expect("by its name");
        assert_eq!(settings.aliases, Some(vec!["build".to_owned()]));
        assert_eq!(settings.mac_address.as_deref(), Some("02:42"));
    }

    #[test]
    fn links_are_hosts_of_every_alias_the_short_id_and_each_address() {
        let service = Reachable {
            aliases: vec!["db".to_owned(), "pg".to_owned()],
            id: "0123456789abcdef".to_owned(),
            addresses: vec!["172.17.0.2".to_owned(), "fd00::2".to_owned()],
        };
        let services = [service];
        assert_eq!(
            Network::Default.emulated_links(&services),
            [
                "db:172.17.0.2",
                "db:fd00::2",
                "pg:172.17.0.2",
                "pg:fd00::2",
                "0123456789ab:172.17.0.2",
                "0123456789ab:fd00::2",
            ]
        );
        let another = Network::Configured("container:x".to_owned());
        assert_eq!(another.emulated_links(&services), Vec::<String>::new());
    }
}
