//! What resolving needs and no job has a say in.

use std::time::Duration;

use courser_net::{Ambience, Client, ClientSettings, Legs, ProxySettings, TlsOptions};

use crate::{AwsSettings, AzureSettings, Environment, GoogleSettings};

/// Trust, proxies, environment and settings of a runner.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// What each connection is handed as trust.
    pub legs: Legs,
    /// The runner's `tls-ca-file`, which is trusted too.
    pub ca_file: Option<String>,
    /// Proxies.
    pub proxy: ProxySettings,
    /// `User-Agent` of every request.
    pub user_agent: String,
    /// Variables of the process.
    pub environment: Environment,
    /// What `config.toml` says.
    pub settings: ProviderSettings,
    /// Clock and randomness.
    pub ambience: Ambience,
}

/// What `config.toml` says of providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSettings {
    /// One attempt to get all secrets of a job.
    pub timeout: Duration,
    /// Whether tokens and leases are revoked when the job is over.
    pub revoke: bool,
    /// Google's.
    pub google: GoogleSettings,
    /// Azure's.
    pub azure: AzureSettings,
    /// AWS'.
    pub aws: AwsSettings,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            revoke: true,
            google: GoogleSettings::default(),
            azure: AzureSettings::default(),
            aws: AwsSettings::default(),
        }
    }
}

impl Surroundings {
    /// A client for providers in the cloud: trusts the system's roots and the runner's CA file, and shows nobody the
    /// runner's certificate.
    pub(crate) fn client(&self) -> Client {
        let trust = self.legs.cache_provider(TlsOptions {
            ca_file: self.ca_file.as_deref(),
            ..TlsOptions::default()
        });
        Client::with_ambience(self.client_settings(trust), self.ambience)
    }

    /// A client with this trust.
    pub(crate) fn client_settings(&self, trust: courser_net::TrustSettings) -> ClientSettings {
        ClientSettings {
            trust,
            proxy: self.proxy.clone(),
            user_agent: self.user_agent.clone(),
            connection_max_age: Duration::ZERO,
        }
    }
}
