//! What a test resolves with: a runner's surroundings, a job's secrets, and what was said in its log.

use std::sync::{Arc, Mutex};

use courser_net::{Ambience, Legs, ProxySettings, SystemRoots};
use courser_protocol::{JobSecrets, JobVariable};
use courser_secrets::{
    Environment, Failure, Leases, Request, SecretsConfig, Surroundings, resolve,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

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

/// What resolving came to.
pub(crate) struct Resolved {
    pub(crate) result: Result<Vec<JobVariable>, Failure>,
    pub(crate) leases: Arc<Leases>,
    /// The lines of the log, without colours.
    pub(crate) said: Vec<String>,
}

impl Resolved {
    /// Names and values.
    pub(crate) fn values(&self) -> Vec<(&str, &str)> {
        let variables = self.result.as_ref().expect("all secrets are resolved");
        let pairs = variables.iter();
        pairs
            .map(|variable| (variable.key.as_str(), variable.value.expose()))
            .collect()
    }

    pub(crate) fn failure(&self) -> &Failure {
        self.result.as_ref().expect_err("a failure")
    }
}

pub(crate) fn request(secrets: Value) -> Request {
    let secrets: JobSecrets = serde_json::from_value(secrets).expect("secrets");
    Request::new(&secrets, str::to_owned)
}

pub(crate) async fn resolved(request: &Request, surroundings: &Surroundings) -> Resolved {
    let leases = Arc::new(Leases::default());
    let said = Mutex::new(Vec::new());
    let say = |line: &str| said.lock().expect("nobody panics").push(plain(line));
    let stop = CancellationToken::new();
    let result = resolve(request, surroundings, &leases, &stop, &say).await;
    Resolved {
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

/// A secret of Vault as GitLab sends it.
pub(crate) fn vault(
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
