//! Trust for the tools of a runner's jobs: made once a generation, handed to each job.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use courser_config::RunnerConfig;
use courser_job::ToolTrust;
use courser_net::Trusted;
use courser_protocol::{JobVariable, short_token};
use courser_trust::{Bundle, Fingerprint, Source, Store, certificate_pem};

/// Makes it for the jobs of one runner as configured.
pub(crate) struct ToolTrustMaker {
    runner: String,
    enabled: bool,
    /// The executor adds them to its images' own bundles, which is done without the system's certificates too.
    for_images: bool,
    limit: Option<Vec<Fingerprint>>,
    last: Mutex<Option<(Trusted, Option<Arc<ToolTrust>>)>>,
}

impl ToolTrustMaker {
    pub(crate) fn new(config: &RunnerConfig) -> Self {
        let limit = config.job_tools_anchors.as_ref();
        let for_images = config.executor.starts_with("docker") || config.executor == "kubernetes";
        Self {
            runner: short_token(config.token.expose()).to_owned(),
            enabled: if for_images {
                config.trust_in_images
            } else {
                config.job_tools
            },
            for_images,
            limit: limit.map(|anchors| anchors.iter().copied().map(Fingerprint).collect()),
            last: Mutex::default(),
        }
    }

    /// For a job that comes while this is trusted. `None`: no private CA is configured, none of them goes to jobs, or
    /// the runner has this turned off.
    pub(crate) fn of(&self, trusted: &Trusted) -> Option<Arc<ToolTrust>> {
        if !self.enabled || !has_configured_file(&trusted.configured) {
            return None;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, made)) = &*last
            && Arc::ptr_eq(&known.system, &trusted.system)
            && Arc::ptr_eq(&known.configured, &trusted.configured)
        {
            return made.clone();
        }
        let made = self.make(trusted).map(shared);
        *last = Some((trusted.clone(), made.clone()));
        made
    }

    fn make(&self, trusted: &Trusted) -> Option<ToolTrust> {
        let runner = self.runner.as_str();
        let bundle = Bundle::compose(&trusted.system, &trusted.configured, self.limit.as_deref());
        for left_out in bundle.left_out() {
            tracing::info!(runner, "not given to the tools of jobs: {left_out}");
        }
        for fingerprint in self.limit.iter().flatten() {
            if trusted.configured.find(*fingerprint).is_none() {
                tracing::warn!(
                    runner,
                    "job_tools_anchors: SHA-256 {fingerprint} is in none of the runner's CA files"
                );
            }
        }
        for anchor in bundle.without_root() {
            let certificate = anchor.certificate();
            tracing::warn!(
                runner,
                "{} in {} is no root: Node, Python and other programs with OpenSSL do not take it for an anchor; \
                 add the certificate of {} to that file",
                certificate.subject(),
                anchor.source(),
                certificate.issuer()
            );
        }
        if bundle.private().is_empty() {
            return None;
        }
        if !self.for_images && trusted.system.certificates().is_empty() {
            // Most programs take the named bundle instead of the roots built into them.
            tracing::warn!(
                runner,
                "the tools of jobs are not told of the private CA: there is no system store, and without its \
                 certificates they would trust nobody else; install the package ca-certificates"
            );
            return None;
        }
        Some(ToolTrust {
            bundle: bundle.pem(),
            truststore: bundle.truststore(),
            private_bundle: bundle
                .private()
                .iter()
                .map(|one| certificate_pem(one.certificate()))
                .collect(),
            private: bundle.private().len(),
            system: bundle.system_count(),
        })
    }
}

/// Hundreds of runners with one CA file hold one copy of its bundle.
fn shared(made: ToolTrust) -> Arc<ToolTrust> {
    static KNOWN: Mutex<Vec<Weak<ToolTrust>>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|known| known.strong_count() > 0);
    if let Some(same) = known
        .iter()
        .filter_map(Weak::upgrade)
        .find(|known| **known == made)
    {
        return same;
    }
    let made = Arc::new(made);
    known.push(Arc::downgrade(&made));
    made
}

fn has_configured_file(configured: &Store) -> bool {
    configured.consulted().iter().any(|consulted| {
        consulted.certificates > 0
            && matches!(
                *consulted.source,
                Source::Configured(_) | Source::Predefined(_)
            )
    })
}

/// Whether a job wants its containers left alone.
pub(crate) fn is_turned_off(variables: &[JobVariable]) -> bool {
    let mut set = variables
        .iter()
        .rev()
        .filter(|variable| variable.key == IMAGE_TRUST);
    let value = set.next().map(|variable| variable.value.expose().trim());
    value.is_some_and(|value| {
        matches!(
            value.to_ascii_lowercase().as_str(),
            "0" | "f" | "false" | "no" | "off"
        )
    })
}

/// Variable of a job.
const IMAGE_TRUST: &str = "COURSER_IMAGE_TRUST";

#[cfg(test)]
mod tests {
    use courser_testkit::pki::Authority;
    use courser_trust::Generation;

    use super::*;

    fn store(source: Source, text: &str) -> Arc<Store> {
        Arc::new(
            Store::builder()
                .add(source, text.as_bytes())
                .build(Generation(1)),
        )
    }

    fn trusted(private: Source) -> Trusted {
        let root = |name: &str| Authority::root(name).issue().certificate_pem();
        Trusted {
            system: store(Source::System("/etc/bundle".into()), &root("Public")),
            configured: store(private, &root("Private")),
        }
    }

    fn file() -> Source {
        Source::Configured("/etc/ca.pem".into())
    }

    #[test]
    fn a_configured_file_is_made_into_one_bundle_for_all_jobs_of_its_generation() {
        let maker = ToolTrustMaker::new(&RunnerConfig::default());
        let generation = trusted(file());
        let first = maker.of(&generation).expect("a bundle");
        assert_eq!((first.private, first.system), (1, 1));
        let second = maker.of(&generation).expect("a bundle");
        assert!(Arc::ptr_eq(&first, &second), "made once");
        let another = ToolTrustMaker::new(&RunnerConfig::default());
        let same = another.of(&generation).expect("a bundle");
        assert!(Arc::ptr_eq(&first, &same), "held once by all runners");
        let other = maker.of(&trusted(file())).expect("a bundle");
        assert_ne!(first.bundle, other.bundle);
        assert!(
            maker
                .of(&trusted(Source::Predefined("/c/h.crt".into())))
                .is_some()
        );
    }

    #[test]
    fn nothing_is_done_without_a_file_of_the_operator_or_against_his_will() {
        let maker = |change: fn(&mut RunnerConfig)| {
            let mut config = RunnerConfig::default();
            change(&mut config);
            ToolTrustMaker::new(&config)
        };
        let as_is = maker(|_| {});
        // The throw-away CA of `courser exec`.
        assert_eq!(as_is.of(&trusted(Source::Inline("in memory".into()))), None);
        let mut without_system = trusted(file());
        without_system.system = Arc::default();
        assert_eq!(as_is.of(&without_system), None);
        let off = maker(|config| config.job_tools = false);
        assert_eq!(off.of(&trusted(file())), None);
        let docker = |images: bool| {
            ToolTrustMaker::new(&RunnerConfig {
                executor: "docker".to_owned(),
                job_tools: false,
                trust_in_images: images,
                ..RunnerConfig::default()
            })
        };
        assert!(docker(true).of(&without_system).is_some());
        assert_eq!(docker(false).of(&trusted(file())), None);
        let limited = maker(|config| config.job_tools_anchors = Some(vec![[7; 32]]));
        assert_eq!(limited.of(&trusted(file())), None);
    }

    #[test]
    fn a_job_turns_it_off_for_itself_by_the_last_word() {
        let variable = |value: &str| JobVariable {
            key: IMAGE_TRUST.to_owned(),
            value: value.to_owned().into(),
            ..JobVariable::default()
        };
        for off in ["false", "0", "No", " off "] {
            assert!(is_turned_off(&[variable("true"), variable(off)]), "{off}");
        }
        for on in ["", "true", "1", "$X"] {
            assert!(!is_turned_off(&[variable("false"), variable(on)]), "{on}");
        }
        assert!(!is_turned_off(&[]));
    }
}
