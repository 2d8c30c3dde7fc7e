//! The connections of a runner and of the process, each with what the resolver hands it.

use courser_config::RunnerConfig;
use courser_net::legs::{
    DockerOptions, KubernetesOptions, KubernetesTrust, Look, SecretsPair, SourceState,
};
use courser_net::{Legs, TlsOptions, TrustSettings};
use courser_trust::{Bundle, Fingerprint, Generation, Store};
use url::Url;

/// One connection.
pub(super) struct Row {
    pub(super) runner: Option<String>,
    /// Short name, for scripts.
    pub(super) leg: &'static str,
    pub(super) title: &'static str,
    pub(super) peer: Option<String>,
    /// Whose predefined files count.
    pub(super) host: Option<String>,
    pub(super) handed: Handed,
    pub(super) notes: Vec<String>,
}

/// What a connection is handed.
pub(super) enum Handed {
    Settings(TrustSettings),
    /// Its notes say what.
    Nothing,
}

/// The connections of a `[[runners]]` table; `all` includes those of executors that it does not use.
pub(super) fn of_runner(runner: &RunnerConfig, legs: &Legs, all: bool) -> Vec<Row> {
    let options = TlsOptions {
        ca_file: runner.tls_ca_file.as_deref(),
        cert_file: runner.tls_cert_file.as_deref(),
        key_file: runner.tls_key_file.as_deref(),
    };
    let host = host_of(&runner.url);
    let row = |leg, title, handed, notes| Row {
        runner: Some(runner.name.clone()),
        leg,
        title,
        peer: None,
        host: host.clone(),
        handed,
        notes,
    };
    let api = legs.gitlab(options);
    let mut rows = vec![
        Row {
            peer: Some(runner.url.clone()),
            ..row(
                "gitlab",
                "GitLab API",
                Handed::Settings(api.clone()),
                Vec::new(),
            )
        },
        Row {
            peer: Some(clone_host(runner)),
            ..row(
                "git",
                "Git in jobs",
                Handed::Nothing,
                job_notes(&api, host.as_deref().unwrap_or_default()),
            )
        },
        row(
            "transfers",
            "artifacts, caches and their redirects, in jobs",
            Handed::Nothing,
            vec![
                "the system store, and the job's CA file as Git; also on the object storage's host"
                    .to_owned(),
            ],
        ),
    ];
    rows.push(row(
        "job-tools",
        "other tools in jobs",
        Handed::Nothing,
        tool_notes(runner, &api.look(host.as_deref().unwrap_or_default())),
    ));
    if all {
        rows.push(row(
            "job-router",
            "job router",
            Handed::Nothing,
            vec![
                "as the GitLab API, with the predefined files of the router's own host".to_owned(),
            ],
        ));
        rows.push(row(
            "cache-provider",
            "object storage, asked by the runner",
            Handed::Settings(legs.cache_provider(options)),
            Vec::new(),
        ));
    }
    if all || runner.executor.starts_with("docker") {
        rows.push(docker(runner, legs));
    }
    if all || runner.executor == "kubernetes" {
        rows.push(kubernetes(runner, legs));
    }
    rows
}

/// Connections that are the process's: secret servers.
pub(super) fn of_process(legs: &Legs, all: bool) -> Vec<Row> {
    let secrets = legs.secrets();
    if !all && secrets.decided_by.is_empty() {
        return Vec::new();
    }
    let mut notes = Vec::new();
    if !secrets.decided_by.is_empty() {
        notes.push(format!("decided by {}", secrets.decided_by.join(", ")));
    }
    if let Some(directory) = &secrets.ca_directory {
        notes.push(format!("and every PEM file in {}", directory.display()));
    }
    if let Some(SecretsPair::Text(..)) = secrets.pair {
        notes.push("client certificate and key out of the environment".to_owned());
    }
    if let Some(name) = &secrets.server_name {
        notes.push(format!("the server's certificate must be for {name}"));
    }
    if secrets.skip_verify {
        notes.push("SKIP_VERIFY asks for no verification at all".to_owned());
    }
    vec![Row {
        runner: None,
        leg: "secrets",
        title: "Vault and OpenBao",
        peer: None,
        host: None,
        handed: Handed::Settings(secrets.trust),
        notes,
    }]
}

/// What a job is given, in words (`runner-tls.md` 3.1).
fn job_notes(api: &TrustSettings, host: &str) -> Vec<String> {
    let look = api.look(host);
    let file = look.sources.iter().find(|source| {
        matches!(&source.state, SourceState::Present(store) if !store.certificates().is_empty())
    });
    let mut notes = vec![match file {
        Some(source) => format!(
            "CI_SERVER_TLS_CA_FILE is a copy of {}, byte for byte",
            source.source.name()
        ),
        None => {
            "CI_SERVER_TLS_CA_FILE is the chain with which the API is verified when the job comes"
                .to_owned()
        }
    }];
    notes.push(match look.pair {
        Some(pair) if pair.unusable.is_none() => format!(
            "CI_SERVER_TLS_CERT_FILE and CI_SERVER_TLS_KEY_FILE are copies of {} and {}",
            pair.certificate.display(),
            pair.key.display()
        ),
        _ => "no client certificate".to_owned(),
    });
    notes
}

/// What the variables of tools with a bundle of their own name.
fn tool_notes(runner: &RunnerConfig, look: &Look) -> Vec<String> {
    let in_containers = runner.executor.starts_with("docker");
    let turned_off = match in_containers {
        true if !runner.trust_in_images => Some("images"),
        false if !runner.job_tools => Some("job_tools"),
        _ => None,
    };
    if let Some(key) = turned_off {
        return vec![format!("nothing: {key} = false in [runners.trust]")];
    }
    let bundle = job_bundle(runner, look);
    if in_containers && !bundle.private().is_empty() {
        let mut notes = vec![format!(
            "{} private, added to what the image of each container has",
            bundle.private().len()
        )];
        let left_out = bundle.left_out().iter();
        notes.extend(left_out.map(|one| format!("left out: {one}")));
        return notes;
    }
    let mut notes = vec![match (bundle.private().len(), bundle.system_count()) {
        (0, _) => "nothing: no private CA is configured for them".to_owned(),
        (_, 0) => "nothing: there is no system store to add to".to_owned(),
        (private, system) => format!(
            "one bundle of {private} private and {system} certificates of the system, where a variable is unset"
        ),
    }];
    let left_out = bundle.left_out().iter();
    notes.extend(left_out.map(|one| format!("left out: {one}")));
    notes
}

/// The bundle that a job's tools get, out of the files as they are now.
pub(super) fn job_bundle(runner: &RunnerConfig, look: &Look) -> Bundle {
    let mut configured = Store::builder();
    for source in &look.sources {
        if let SourceState::Present(store) = &source.state {
            configured = configured.include(store);
        }
    }
    let limit = runner.job_tools_anchors.as_ref();
    let limit: Option<Vec<_>> =
        limit.map(|anchors| anchors.iter().copied().map(Fingerprint).collect());
    Bundle::compose(
        &look.system,
        &configured.build(Generation(1)),
        limit.as_deref(),
    )
}

fn docker(runner: &RunnerConfig, legs: &Legs) -> Row {
    let options = runner.docker.clone().unwrap_or_default();
    let trust = legs.docker(DockerOptions {
        host: &options.host,
        cert_path: &options.tls_cert_path,
        verify: options.tls_verify,
    });
    let mut notes = Vec::new();
    if trust.from_environment {
        notes.push(
            "host is empty: DOCKER_HOST, DOCKER_CERT_PATH and DOCKER_TLS_VERIFY count, tls_* do not"
                .to_owned(),
        );
    }
    if trust.tls.is_none() {
        notes.push("no TLS".to_owned());
    }
    Row {
        runner: Some(runner.name.clone()),
        leg: "docker",
        title: "Docker daemon",
        peer: Some(trust.host),
        host: None,
        handed: trust.tls.map_or(Handed::Nothing, Handed::Settings),
        notes,
    }
}

fn kubernetes(runner: &RunnerConfig, legs: &Legs) -> Row {
    let options = &runner.kubernetes;
    let trust = legs.kubernetes(KubernetesOptions {
        host: &options.host,
        ca_file: &options.ca_file,
        cert_file: &options.cert_file,
        key_file: &options.key_file,
    });
    let (peer, handed, notes) = match trust {
        KubernetesTrust::Host(host, trust) => (Some(host), Handed::Settings(trust), Vec::new()),
        KubernetesTrust::InCluster(host, trust) => (
            Some(host),
            Handed::Settings(trust),
            vec!["the pod's service account".to_owned()],
        ),
        KubernetesTrust::Kubeconfig(files) => {
            let files: Vec<String> = files
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let note = format!("what the kubeconfig says: {}", files.join(", "));
            (None, Handed::Nothing, vec![note])
        }
        KubernetesTrust::Incomplete(why) => (None, Handed::Nothing, vec![why.to_owned()]),
    };
    Row {
        runner: Some(runner.name.clone()),
        leg: "kubernetes",
        title: "Kubernetes API",
        peer,
        host: None,
        handed,
        notes,
    }
}

fn clone_host(runner: &RunnerConfig) -> String {
    if runner.clone_url.is_empty() {
        runner.url.clone()
    } else {
        runner.clone_url.clone()
    }
}

/// The host of a URL as predefined files are named: no port, no brackets.
fn host_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    Some(bare.unwrap_or(host).to_owned())
}
