//! Which ways a runner and its jobs go, and with which trust (`runner-tls.md` 1).

use std::collections::BTreeSet;
use std::path::PathBuf;

use courser_config::{DockerConfig, Environment, RunnerConfig};
use courser_executor_docker::images::registry_of;
use courser_net::legs::{DockerOptions, DockerTrust};
use courser_net::{Legs, SystemRoots, TrustSettings};
use url::Url;

use crate::failure::Failure;

/// What was asked for.
pub(super) enum Origin<'a> {
    /// A runner, with its trust.
    Runner(&'a RunnerConfig, TrustSettings),
    /// A URL, with the trust for its host.
    Url(Url, TrustSettings),
}

/// One way to a server.
#[derive(Debug, Clone)]
pub(super) struct Leg {
    /// `api`, `git`, …
    pub(super) name: &'static str,
    /// What is asked for; its host and port are what is looked at.
    pub(super) url: Url,
    /// Whom this leg trusts.
    pub(super) trust: Trust,
    /// What is asked once the server is trusted.
    pub(super) question: Question,
}

/// Whom a leg trusts.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    /// These settings.
    Settings(TrustSettings),
    /// What Git in a job is given: the CA file in place of its own bundle; without a CA file the chain with which the
    /// API (of this host) was verified.
    OfGit(TrustSettings, String),
}

/// A harmless request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// The handshake is all.
    Nothing,
    /// GET.
    Get,
    /// The batch request of LFS for an object.
    LfsBatch(String),
    /// Whether a Docker Engine answers.
    Engine(DockerTrust),
    /// Whether that Engine trusts the registry of this image. Nothing is asked by us.
    Registry(String),
}

/// Draws up the legs.
pub(super) struct Planner<'a> {
    pub(super) project: Option<&'a str>,
    pub(super) lfs_oid: Option<&'a str>,
    pub(super) environment: &'a Environment,
    pub(super) legs: Legs,
    /// Whether `--ca` stands for every leg.
    pub(super) is_ca_given: bool,
    /// Predefined files of the user as whom jobs run.
    pub(super) job_certificates: PathBuf,
}

/// An object that no LFS server holds: the answer is a plain no.
const NO_OBJECT: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Planner<'_> {
    /// The legs of a runner or URL, the API first.
    pub(super) fn legs(&self, origin: &Origin<'_>) -> Result<Vec<Leg>, Failure> {
        match origin {
            Origin::Runner(runner, trust) => self.of_runner(runner, trust),
            Origin::Url(url, trust) => self.of_url(url, trust),
        }
    }

    fn of_runner(&self, runner: &RunnerConfig, trust: &TrustSettings) -> Result<Vec<Leg>, Failure> {
        let base = base_url(&runner.url)?;
        let mut legs = self.of_gitlab(&base, trust);
        let clone = match runner.clone_url.as_str() {
            "" => base.clone(),
            url => base_url(url)?,
        };
        match self.project {
            Some(project) => {
                let name = project.trim_matches('/').trim_end_matches(".git");
                let project = below(&clone, &format!("{name}.git"));
                legs.extend(self.of_project(&project, &base, trust));
            }
            None => legs.push(self.git_leg("git", clone, &base, trust, Question::Get)),
        }
        if let Some(server) = &runner.cache_server {
            let url = Url::parse(server).map_err(|error| {
                Failure::invalid(format!("ServerAddress of the S3 cache: {server}: {error}"))
            })?;
            legs.push(self.job_leg("cache", url, trust));
        }
        let in_runner = |name: &str| {
            let prefix = format!("{name}=");
            let mut entries = runner.environment.iter();
            entries.find_map(|entry| entry.strip_prefix(&prefix).map(ToOwned::to_owned))
        };
        let vault = in_runner("VAULT_SERVER_URL")
            .or_else(|| self.variable("BAO_ADDR"))
            .or_else(|| self.variable("VAULT_ADDR"));
        if let Some(address) = vault {
            legs.push(self.vault_leg(&base_url(&address)?, trust));
        }
        if runner.executor.starts_with("docker") {
            let docker = runner.docker.clone().unwrap_or_default();
            legs.extend(self.of_docker(&docker, trust)?);
        }
        Ok(legs)
    }

    /// The Engine, and the registries of the images that the runner's configuration names. These are the Engine's
    /// affair; `trust` is what Courser would trust there.
    fn of_docker(&self, docker: &DockerConfig, trust: &TrustSettings) -> Result<Vec<Leg>, Failure> {
        let way = self.legs.docker(DockerOptions {
            host: &docker.host,
            cert_path: &docker.tls_cert_path,
            verify: docker.tls_verify,
        });
        let leg = |name, url, trust, question| Leg {
            name,
            url,
            trust: Trust::Settings(trust),
            question,
        };
        let url = way.url().ok_or_else(|| {
            let text = format!(
                "host of [runners.docker] is {:?}, which is no URL",
                way.shown()
            );
            Failure::invalid(text).hint("unix:///var/run/docker.sock or tcp://HOST:2376")
        })?;
        let own = way.tls.clone().unwrap_or_else(|| trust.clone());
        let mut legs = vec![leg("engine", url, own, Question::Engine(way))];
        let services = docker.services.iter().map(|service| &service.name);
        let images = [&docker.image, &docker.helper_image];
        let mut seen = BTreeSet::new();
        for image in images.into_iter().chain(services) {
            let Some(registry) = registry_of(image) else {
                continue;
            };
            if !seen.insert(registry.clone()) {
                continue;
            }
            let Ok(url) = Url::parse(&format!("https://{registry}/v2/")) else {
                continue;
            };
            let question = Question::Registry(image.clone());
            let trust = TrustSettings {
                cert_file: None,
                key_file: None,
                ..trust.clone()
            };
            legs.push(leg("registry", url, trust, question));
        }
        Ok(legs)
    }

    fn of_url(&self, url: &Url, trust: &TrustSettings) -> Result<Vec<Leg>, Failure> {
        let leg = |name, question| Leg {
            name,
            url: url.clone(),
            trust: Trust::Settings(trust.clone()),
            question,
        };
        if url.scheme() == "tls" {
            if url.port().is_none() {
                return Err(Failure::invalid(format!("{url} names no port"))
                    .hint("tls://gitaly.example.com:9999"));
            }
            return Ok(vec![leg("gitaly", Question::Nothing)]);
        }
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(Failure::invalid(format!(
                "{url} cannot be checked: https://, http:// and tls:// URLs can"
            )));
        }
        let path = url.path().trim_matches('/');
        if path == "v2" || path.starts_with("v2/") {
            return Ok(vec![leg("registry", Question::Get)]);
        }
        if path == "v1" || path.starts_with("v1/") {
            return Ok(vec![self.vault_leg(&origin_of(url), trust)]);
        }
        if path.ends_with(".git") {
            let base = origin_of(url);
            let mut legs = self.of_gitlab(&base, trust);
            legs.extend(self.of_project(url, &base, trust));
            return Ok(legs);
        }
        if path.is_empty() {
            return Ok(self.of_gitlab(&origin_of(url), trust));
        }
        Ok(vec![leg("url", Question::Get)])
    }

    fn of_gitlab(&self, base: &Url, trust: &TrustSettings) -> Vec<Leg> {
        vec![
            Leg {
                name: "api",
                url: below(base, "api/v4/version"),
                trust: Trust::Settings(trust.clone()),
                question: Question::Get,
            },
            self.job_leg("artifacts", below(base, "api/v4/jobs/1/artifacts"), trust),
        ]
    }

    fn of_project(&self, project: &Url, api: &Url, trust: &TrustSettings) -> Vec<Leg> {
        let mut refs = below(project, "info/refs");
        refs.set_query(Some("service=git-upload-pack"));
        let oid = self.lfs_oid.unwrap_or(NO_OBJECT).to_owned();
        let batch = below(project, "info/lfs/objects/batch");
        vec![
            self.git_leg("git", refs, api, trust, Question::Get),
            self.git_leg("lfs", batch, api, trust, Question::LfsBatch(oid)),
        ]
    }

    /// What Git and its programs do.
    fn git_leg(
        &self,
        name: &'static str,
        url: Url,
        api: &Url,
        trust: &TrustSettings,
        question: Question,
    ) -> Leg {
        Leg {
            name,
            url,
            trust: Trust::OfGit(trust.clone(), api.host_str().unwrap_or_default().to_owned()),
            question,
        }
    }

    /// What the helper does in a job: as its user.
    fn job_leg(&self, name: &'static str, url: Url, trust: &TrustSettings) -> Leg {
        let mut trust = trust.clone();
        trust.certificate_directory = Some(self.job_certificates.clone());
        Leg {
            name,
            url,
            trust: Trust::Settings(trust),
            question: Question::Get,
        }
    }

    /// Secrets are fetched by the runner, which has files of its own for that (`runner-tls.md` 8.1).
    fn vault_leg(&self, address: &Url, trust: &TrustSettings) -> Leg {
        let mut own = self.legs.secrets().trust;
        if self.is_ca_given {
            own.ca_file.clone_from(&trust.ca_file);
        }
        Leg {
            name: "vault",
            url: below(address, "v1/sys/health"),
            trust: Trust::Settings(own),
            question: Question::Get,
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        let value = self.environment.get(name).filter(|value| !value.is_empty());
        value.map(ToOwned::to_owned)
    }
}

impl Leg {
    /// Where an answer of this leg sends its reader, with the same trust.
    pub(super) fn storage(&self, url: Url) -> Self {
        let trust = match (self.name, &self.trust) {
            // LFS asks its storage with the system's roots too, and does not say who we are.
            ("lfs", Trust::OfGit(settings, _)) => Trust::Settings(TrustSettings {
                cert_file: None,
                key_file: None,
                ..settings.clone()
            }),
            (_, same) => same.clone(),
        };
        Self {
            name: match self.name {
                "lfs" | "lfs storage" => "lfs storage",
                "artifacts" | "artifact storage" => "artifact storage",
                "registry" | "registry redirect" => "registry redirect",
                _ => "redirect",
            },
            url,
            trust,
            question: Question::Nothing,
        }
    }
}

impl Trust {
    /// The settings for a look; `chain` is what the API's server was verified with.
    pub(super) fn settings(&self, chain: Option<&str>) -> TrustSettings {
        match self {
            Self::Settings(settings) => settings.clone(),
            Self::OfGit(settings, api_host) => {
                let mut own = TrustSettings {
                    system: SystemRoots::None,
                    ..settings.clone()
                };
                if let Some(file) = settings.ca_file_for(api_host) {
                    own.ca_file = Some(file);
                } else if let Some(chain) = chain {
                    own.inline_ca = Some(chain.to_owned());
                } else {
                    own.system = settings.system.clone();
                }
                own
            }
        }
    }
}

/// The URL of a GitLab as runners write it: `/ci` at its end is history.
fn base_url(text: &str) -> Result<Url, Failure> {
    let trimmed = text.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/ci").unwrap_or(trimmed);
    let url =
        Url::parse(trimmed).map_err(|error| Failure::invalid(format!("{text:?}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Failure::invalid(format!(
            "{text:?}: only http and https are supported"
        )));
    }
    Ok(url)
}

fn origin_of(url: &Url) -> Url {
    let mut origin = url.clone();
    origin.set_path("/");
    origin.set_query(None);
    origin.set_fragment(None);
    origin
}

/// The URL of a path below another.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use courser_config::DockerService;

    use super::*;

    fn trust() -> TrustSettings {
        TrustSettings {
            system: SystemRoots::None,
            ca_file: Some("/etc/ca.pem".into()),
            cert_file: None,
            key_file: None,
            certificate_directory: None,
            inline_ca: None,
        }
    }

    fn planned(origin: &Origin<'_>, project: Option<&str>) -> Vec<String> {
        let planner = Planner {
            project,
            lfs_oid: None,
            environment: &Environment::default(),
            legs: Legs::only(None, "/".into()),
            is_ca_given: false,
            job_certificates: "/home/jo/.gitlab-runner/certs".into(),
        };
        let legs = planner.legs(origin).unwrap_or_else(|_| panic!("no plan"));
        legs.iter()
            .map(|leg| format!("{} {}", leg.name, leg.url))
            .collect()
    }

    #[test]
    fn a_runner_has_all_its_ways() {
        let runner = RunnerConfig {
            url: "https://gitlab.example/root/ci".to_owned(),
            clone_url: "https://clone.example:8443".to_owned(),
            cache_server: Some("https://s3.example:9000".to_owned()),
            environment: vec!["VAULT_SERVER_URL=https://vault.example:8200".to_owned()],
            ..RunnerConfig::default()
        };
        let origin = Origin::Runner(&runner, trust());
        assert_eq!(
            planned(&origin, Some("g/p")),
            [
                "api https://gitlab.example/root/api/v4/version",
                "artifacts https://gitlab.example/root/api/v4/jobs/1/artifacts",
                "git https://clone.example:8443/g/p.git/info/refs?service=git-upload-pack",
                "lfs https://clone.example:8443/g/p.git/info/lfs/objects/batch",
                "cache https://s3.example:9000/",
                "vault https://vault.example:8200/v1/sys/health",
            ]
        );
    }

    #[test]
    fn a_runner_with_docker_has_its_engine_and_the_registries_of_its_images() {
        let service = |name: &str| DockerService {
            name: name.to_owned(),
            ..DockerService::default()
        };
        let docker = DockerConfig {
            host: "tcp://builder.example".to_owned(),
            tls_cert_path: "/tls".to_owned(),
            tls_verify: true,
            image: "reg.example:5000/ruby:3".to_owned(),
            services: vec![
                service("reg.example:5000/postgres"),
                service("$SERVICE"),
                service("redis"),
            ],
            ..DockerConfig::default()
        };
        let runner = RunnerConfig {
            url: "https://gitlab.example".to_owned(),
            executor: "docker".to_owned(),
            docker: Some(docker),
            ..RunnerConfig::default()
        };
        let origin = Origin::Runner(&runner, trust());
        assert_eq!(
            planned(&origin, None)[3..],
            [
                "engine https://builder.example:2376/",
                "registry https://reg.example:5000/v2/",
                "registry https://docker.io/v2/",
            ]
        );
    }

    #[test]
    fn a_url_says_what_it_is() {
        let table = [
            ("https://g.example", 2),
            ("https://g.example/a/b.git", 4),
            ("https://r.example/v2/", 1),
            ("https://v.example/v1/sys/health", 1),
            ("https://s.example/bucket/x", 1),
            ("tls://gitaly.example:9999", 1),
        ];
        for (url, count) in table {
            let origin = Origin::Url(url.parse().expect("a URL"), trust());
            assert_eq!(planned(&origin, None).len(), count, "{url}");
        }
    }
}
