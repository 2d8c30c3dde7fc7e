//! A runner's surroundings and a job's secrets, and what comes of resolving.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use courser_net::{Ambience, Legs, ProxySettings, SystemRoots};
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
    pub(crate) result: Result<Vec<JobVariable>, Failure>,
    /// What has to be given back.
    pub(crate) leases: Arc<Leases>,
    /// The lines of the log, without colours.
    pub(crate) said: Vec<String>,
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
        let environment = environment.map(|(name, value)| (*name, value.as_str()));
        let proxy = self.proxy.as_ref();
        let proxy = proxy.map(|proxy| format!("http://{}", proxy.address()));
        let surroundings = Surroundings {
            legs: Legs::only(Some(self.root.certificate_pem()), "/".into()),
            proxy: ProxySettings {
                https: proxy,
                ..ProxySettings::default()
            },
            settings: self.settings.clone(),
            ..surroundings(&environment.collect::<Vec<_>>())
        };
        resolved(&request, &surroundings).await
    }
}

impl Told {
    /// The values, in order.
    pub(crate) fn values(&self) -> Vec<&str> {
        let pairs = self.pairs().into_iter();
        pairs.map(|(_, value)| value).collect()
    }

    /// Names and values.
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        let variables = match &self.result {
            Ok(variables) => variables.iter(),
            Err(failure) => panic!("{failure}\n{}", failure.advice.join("\n")),
        };
        variables
            .map(|variable| (variable.key.as_str(), variable.value.expose()))
            .collect()
    }

    /// The log.
    pub(crate) fn log(&self) -> String {
        self.said.join("\n")
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

/// A runner whose environment has these variables and which trusts nobody else. It does not wait between attempts.
pub(crate) fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    let legs = Legs::new(SystemRoots::None, None, "/".into());
    Surroundings {
        legs: legs.with_variables(variables.iter().copied()),
        ca_file: None,
        proxy: ProxySettings::default(),
        user_agent: "courser-test".to_owned(),
        environment: Environment::collect(variables.iter().copied()),
        settings: SecretsConfig::default(),
        ambience: Ambience {
            fraction: || 0.0,
            ..Ambience::default()
        },
    }
}

/// A job with these secrets and no variables.
pub(crate) fn request(secrets: Value) -> Request {
    let secrets: JobSecrets = serde_json::from_value(secrets).expect("secrets");
    Request::new(&secrets, str::to_owned)
}

/// Resolves the secrets of a job.
pub(crate) async fn resolved(request: &Request, surroundings: &Surroundings) -> Told {
    let leases = Arc::new(Leases::default());
    let said = Mutex::new(Vec::new());
    let say = |line: &str| said.lock().expect("nobody panics").push(plain(line));
    let stop = CancellationToken::new();
    let result = resolve(request, surroundings, &leases, &stop, &say).await;
    Told {
        result,
        leases,
        said: said.into_inner().expect("nobody panics"),
    }
}

fn plain(line: &str) -> String {
    let mut text = line.to_owned();
    for code in ["\u{1b}[0K", "\u{1b}[0;m", "\u{1b}[0;33m", "\u{1b}[36;1m"] {
        text = text.replace(code, "");
    }
    text.trim_end().to_owned()
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

/// A secret of a Vault anywhere as GitLab sends it, with `file: false`.
pub(crate) fn secret_at(
    url: &str,
    jwt: &str,
    role: &str,
    engine: (&str, &str),
    path: &str,
    field: &str,
) -> Value {
    json!({
        "vault": {
            "server": {"url": url, "namespace": null,
                "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": jwt, "role": role}}},
            "engine": {"name": engine.0, "path": engine.1}, "path": path, "field": field,
        },
        "file": false,
    })
}

/// A secret of the Vault with 200.
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
