//! What resolving needs and no job has a say in.

use std::time::Duration;

use courser_config::SecretsConfig;
use courser_net::{
    Addresses, Ambience, Client, ClientSettings, Legs, ProviderTls, ProxySettings, TlsOptions,
};
use url::{Origin, Url};

use crate::{Environment, Failure, FailureClass, Step};

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
    pub settings: SecretsConfig,
    /// Clock and randomness.
    pub ambience: Ambience,
}

/// Clients for Vault and OpenBao. What the runner's environment says of one server is for that which it names by
/// `VAULT_ADDR`, any other is a job's choice: with the runner's certificate a job could log in there as the runner's host.
pub(crate) struct VaultClients {
    /// For the server of `VAULT_ADDR`: shows the certificate, and expects `VAULT_TLS_SERVER_NAME`.
    pub(crate) own: Option<(Origin, Client)>,
    /// For all others: shows none. Without a `VAULT_ADDR`, `VAULT_TLS_SERVER_NAME` counts for all, as upstream.
    pub(crate) others: Client,
    /// Whether there is a certificate.
    pub(crate) has_certificate: bool,
}

impl Surroundings {
    /// Those of a process, with no runner's CA file and default settings.
    pub fn new(
        legs: Legs,
        proxy: ProxySettings,
        user_agent: String,
        environment: Environment,
    ) -> Self {
        Self {
            legs,
            ca_file: None,
            proxy,
            user_agent,
            environment,
            settings: SecretsConfig::default(),
            ambience: Ambience::default(),
        }
    }

    /// Where servers may lie that jobs name. The operator answers for addresses in his list, which is looked at before; what
    /// a name in it resolves to may be the choice of others.
    fn addresses(&self) -> Addresses {
        match self.settings.servers {
            Some(_) => Addresses::NoMetadataByName,
            None => Addresses::NoMetadata,
        }
    }

    /// A client for providers in the cloud: trusts the system's roots and the runner's CA file, and shows nobody the
    /// runner's certificate.
    pub(crate) fn client(&self) -> Client {
        self.client_at(self.addresses())
    }

    /// The same for the services that tell the machine who it is, which no job names.
    pub(crate) fn client_of_machine(&self) -> Client {
        self.client_at(Addresses::Any)
    }

    /// Whether a job may name this server.
    pub(crate) fn check_server(&self, server: &Url) -> Result<(), Failure> {
        if self.settings.allows(server) {
            return Ok(());
        }
        let host = server.host_str().unwrap_or_default();
        let text = format!(
            "{host} is not among the hosts that `servers` in [runners.secrets] of the runner's config.toml allows"
        );
        Err(Failure::new(FailureClass::Configuration, text).at(Step::Connect))
    }

    fn client_at(&self, addresses: Addresses) -> Client {
        let trust = self.legs.cache_provider(TlsOptions {
            ca_file: self.ca_file.as_deref(),
            ..TlsOptions::default()
        });
        let settings = self.client_settings(trust);
        Client::of_provider(settings, self.ambience, ProviderTls::default(), addresses)
    }

    /// Clients for Vault and OpenBao: they trust what `VAULT_CACERT` and its siblings name beside all that others trust,
    /// and go through their proxy. The variables are read anew each time; a fault in them fails the secret, as
    /// upstream.
    pub(crate) async fn vault_clients(&self) -> Result<VaultClients, Failure> {
        let failed = |text: String| {
            Failure::system(text).within("error encountered setting up default configuration")
        };
        self.check_variables().map_err(failed)?;
        let secrets = self.legs.secrets();
        let reading = tokio::task::spawn_blocking(move || secrets.read());
        let provider = match reading.await {
            Ok(provider) => provider.map_err(failed)?,
            Err(error) => return Err(Failure::system(error.to_string())),
        };
        let trust = self.legs.cache_provider(TlsOptions {
            ca_file: self.ca_file.as_deref(),
            ..TlsOptions::default()
        });
        let mut settings = self.client_settings(trust);
        if let Some(proxy) = self.proxy_of_vault() {
            settings.proxy = ProxySettings {
                http: Some(proxy.to_owned()),
                https: Some(proxy.to_owned()),
                no_proxy: None,
            };
        }
        let client = |provider, addresses| {
            Client::of_provider(settings.clone(), self.ambience, provider, addresses)
        };
        let others = provider.without_identity();
        let others = match self.own_vault() {
            Some(_) => others.without_server_name(),
            None => others,
        };
        Ok(VaultClients {
            has_certificate: provider.has_identity(),
            own: self
                .own_vault()
                .map(|origin| (origin, client(provider, Addresses::Any))),
            others: client(others, self.addresses()),
        })
    }

    /// The server that the environment names.
    fn own_vault(&self) -> Option<Origin> {
        let address = Url::parse(self.variable_of_vault("ADDR")?).ok()?;
        Some(address.origin())
    }

    /// What the environment says and is not followed, for the runner's log: a line each.
    pub fn warnings(&self) -> Vec<String> {
        self.skip_verify().into_iter().collect()
    }

    /// That no certificate goes unverified, where the environment asks for that.
    fn skip_verify(&self) -> Option<String> {
        let value = self.variable_of_vault("SKIP_VERIFY")?;
        (courser_job::strict_bool(value) == Some(true)).then(|| {
            let name = self.name_of_vault("SKIP_VERIFY");
            format!(
                "{name} of the runner's environment has no effect, servers of secrets are always verified: trust the CA of \
                 the server with VAULT_CACERT"
            )
        })
    }

    /// What the environment may have been meant to say of a server whose certificate is not accepted.
    pub(crate) fn hints_on_trust(&self, is_own: bool) -> Vec<String> {
        let mut hints = self.warnings();
        if !is_own
            && self.own_vault().is_some()
            && self.variable_of_vault("TLS_SERVER_NAME").is_some()
        {
            let name = self.name_of_vault("TLS_SERVER_NAME");
            let address = self.name_of_vault("ADDR");
            hints.push(format!(
                "{name} of the runner counts only for the server that its {address} names, which is another one"
            ));
        }
        hints
    }

    /// Which of the two names a variable has.
    fn name_of_vault(&self, suffix: &str) -> String {
        let own = format!("BAO_{suffix}");
        match self.environment.get(&own) {
            Some(_) => own,
            None => format!("VAULT_{suffix}"),
        }
    }

    /// `BAO_<suffix>`, also where it is empty, else `VAULT_<suffix>`.
    fn variable_of_vault(&self, suffix: &str) -> Option<&str> {
        let own = self.environment.get(&format!("BAO_{suffix}"));
        own.or_else(|| self.environment.get(&format!("VAULT_{suffix}")))
            .filter(|value| !value.is_empty())
    }

    fn proxy_of_vault(&self) -> Option<&str> {
        ["PROXY_ADDR", "HTTP_PROXY"]
            .into_iter()
            .find_map(|suffix| self.variable_of_vault(suffix))
    }

    /// Variables that make no sense are an error, also those that change nothing.
    fn check_variables(&self) -> Result<(), String> {
        for suffix in ["SKIP_VERIFY", "SRV_LOOKUP", "DISABLE_REDIRECTS"] {
            let value = self.variable_of_vault(suffix);
            if value.is_some_and(|value| courser_job::strict_bool(value).is_none()) {
                return Err(format!("could not parse BAO_{suffix}"));
            }
        }
        let halves = ["", "_BYTES"].map(|form| {
            ["CLIENT_CERT", "CLIENT_KEY"]
                .map(|half| self.variable_of_vault(&format!("{half}{form}")).is_some())
        });
        if halves.iter().any(|[certificate, key]| certificate != key) {
            return Err("both client cert and client key must be provided".to_owned());
        }
        Ok(())
    }

    /// A client with this trust.
    fn client_settings(&self, trust: courser_net::TrustSettings) -> ClientSettings {
        ClientSettings {
            trust,
            proxy: self.proxy.clone(),
            user_agent: self.user_agent.clone(),
            connection_max_age: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use courser_net::SystemRoots;

    use super::*;

    #[test]
    fn names_of_the_operators_list_lead_to_no_metadata_service_either() {
        let legs = Legs::new(SystemRoots::None, None, "/".into());
        let mut surroundings = Surroundings::new(
            legs,
            ProxySettings::default(),
            String::new(),
            Environment::default(),
        );
        assert_eq!(surroundings.addresses(), Addresses::NoMetadata);
        let listed = ["*.corp.example", "169.254.169.254"].map(str::to_owned);
        surroundings.settings.servers = Some(listed.into());
        assert_eq!(surroundings.addresses(), Addresses::NoMetadataByName);
        let allows = |url: &str| surroundings.check_server(&url.parse().unwrap()).is_ok();
        assert!(allows("https://169.254.169.254") && !allows("https://169.254.169.253"));
    }
}
