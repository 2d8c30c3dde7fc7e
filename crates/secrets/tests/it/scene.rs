//! A runner's surroundings and a job's variables, and what comes of resolving.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};

use courser_net::{Ambience, Legs, ProxySettings};
use courser_protocol::{JobSecrets, JobVariable};
use courser_secrets::{
    Environment, Failure, Leases, Request, SecretsConfig, Surroundings, resolve,
};
use courser_testkit::clouds::vault::Vault;
use courser_testkit::id_token::Issuer;
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::proxy::FakeProxy;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The issuer of all tests: making its key takes a while.
pub(crate) fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| Issuer::new("https://ci.example.com"))
}

/// A runner and a job.
pub(crate) struct Scene {
    /// Trusted, and alone.
    pub(crate) root: Issued,
    /// Variables of the job.
    pub(crate) variables: Vec<(String, String)>,
    /// Variables of the runner's process.
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) settings: SecretsConfig,
    /// `FF_SECRET_RESOLVING_FAILS_IF_MISSING`.
    pub(crate) missing_fails: bool,
    proxy: Option<FakeProxy>,
}

/// What comes of it.
pub(crate) struct Told {
    /// Whether something has to be given back.
    pub(crate) holds: bool,
    pub(crate) result: Result<Vec<JobVariable>, Failure>,
    pub(crate) log: String,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            root: Authority::root("Root of the clouds").issue(),
            variables: Vec::new(),
            environment: Vec::new(),
            settings: SecretsConfig::default(),
            missing_fails: true,
            proxy: None,
        }
    }

    /// A server's certificate that is trusted.
    pub(crate) fn leaf(&self, names: &[&str]) -> Issued {
        self.root.server(names).issue()
    }

    /// Leads these `host:port`s there, and nothing else anywhere.
    pub(crate) fn route(&mut self, routes: &[(String, SocketAddr)]) {
        let routes: Vec<_> = routes
            .iter()
            .map(|(name, address)| (name.as_str(), *address))
            .collect();
        self.proxy = Some(FakeProxy::start(&routes, None));
    }

    /// Sets a variable of the job.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Resolves `secrets` of a payload.
    pub(crate) async fn resolve(&self, secrets: Value) -> Told {
        let secrets: JobSecrets = serde_json::from_value(secrets).unwrap();
        let lookup = |name: &str| {
            let found = self.variables.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| Cow::Borrowed(value.as_str()))
        };
        let mut request = Request::new(&secrets, |text| courser_job::expand(text, lookup));
        request.missing_fails = self.missing_fails;
        let environment = self.environment.iter();
        let environment: Vec<_> = environment
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let surroundings = Surroundings {
            legs: Legs::only(Some(self.root.certificate_pem()), "/".into()),
            ca_file: None,
            proxy: ProxySettings {
                https: self
                    .proxy
                    .as_ref()
                    .map(|proxy| format!("http://{}", proxy.address())),
                ..ProxySettings::default()
            },
            user_agent: "courser test".to_owned(),
            environment: Environment::collect(environment),
            settings: self.settings.clone(),
            ambience: Ambience {
                // No pauses between attempts but those that servers ask for.
                fraction: || 0.0,
                ..Ambience::default()
            },
        };
        let log = Mutex::new(String::new());
        let leases = Leases::default();
        let result = resolve(
            &request,
            &surroundings,
            &leases,
            &CancellationToken::new(),
            &|line| log.lock().unwrap().push_str(line),
        )
        .await;
        Told {
            result,
            holds: !leases.is_empty(),
            log: log.into_inner().unwrap(),
        }
    }
}

impl Told {
    /// The values, in order.
    pub(crate) fn values(&self) -> Vec<&str> {
        match &self.result {
            Ok(variables) => variables
                .iter()
                .map(|variable| variable.value.expose())
                .collect(),
            Err(failure) => panic!("{failure}\n{}", failure.advice.join("\n")),
        }
    }

    /// The failure.
    pub(crate) fn failure(&self) -> &Failure {
        self.result.as_ref().expect_err("it fails")
    }

    /// The failure with its class and advice.
    pub(crate) fn told(&self) -> String {
        let failure = self.failure();
        let advice: String = failure
            .advice
            .iter()
            .map(|line| format!("\n  > {line}"))
            .collect();
        format!("{:?}: {failure}{advice}", failure.class)
    }
}

/// A Vault with 200 secrets, reached by a name of its own.
pub(crate) fn vault() -> (Scene, Vault) {
    let mut scene = Scene::new();
    let data =
        (0..200).map(|number| (format!("s{number}"), json!({"value": format!("v{number}")})));
    let vault = Vault::start(&scene.leaf(&[Vault::NAME]), data.collect());
    scene.route(&vault.routes());
    scene.set(
        "VAULT_ID_TOKEN",
        &issuer().token("https://vault.example.com"),
    );
    (scene, vault)
}

pub(crate) fn vault_secret(path: &str) -> Value {
    json!({"vault": {
        "server": {"url": "https://vault.example.com", "namespace": null,
            "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "$VAULT_ID_TOKEN"}}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": path, "field": "value",
    }})
}

/// A secret of GitLab Secrets Manager, which is a Vault too.
pub(crate) fn gitlab_secret(path: &str) -> Value {
    json!({"gitlab_secrets_manager": {
        "server": {"url": "https://vault.example.com", "inline_auth":
            {"path": "auth/pipeline_jwt/login", "jwt": "header.payload.signature", "role": "all_pipelines"}},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": path, "field": "value",
    }})
}
