//! Feature flags, resolved once for a job (`runner-protocol.md` 4.5).

use std::collections::BTreeMap;

use courser_protocol::{JobVariable, feature_flags};

use crate::variables::strict_bool;

macro_rules! features {
    ($($field:ident = $name:literal,)*) => {
        /// Value of every flag for one job: runner configuration, else job variable, else default.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each field is the flag of that name; courser_protocol::feature_flags says what it does")]
        pub struct Features {
            $(pub $field: bool,)*
            /// All flags by name, in the order of the table.
            pub(crate) all: Vec<(&'static str, bool)>,
        }

        impl Features {
            fn from_values(all: Vec<(&'static str, bool)>) -> Self {
                let value = |name: &str| all.iter().any(|(flag, value)| *flag == name && *value);
                Self { $($field: value($name),)* all }
            }

            /// Flags that this crate acts upon.
            #[cfg(test)]
            const NAMES: &[&str] = &[$($name,)*];
        }
    };
}

features! {
    timestamps = "FF_TIMESTAMPS",
    mask_all_default_tokens = "FF_MASK_ALL_DEFAULT_TOKENS",
    exponential_backoff = "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY",
    gitaly_correlation_id = "FF_USE_GITALY_CORRELATION_ID",
    job_inputs_interpolation = "FF_ENABLE_JOB_INPUTS_INTERPOLATION",
    direct_download = "FF_USE_DIRECT_DOWNLOAD",
    bundle_uris = "FF_USE_GIT_BUNDLE_URIS",
    bash_exit_code_check = "FF_ENABLE_BASH_EXIT_CODE_CHECK",
    legacy_bash_eval = "FF_USE_LEGACY_BASH_EVAL",
    disable_powershell_stdin = "FF_DISABLE_POWERSHELL_STDIN",
    script_sections = "FF_SCRIPT_SECTIONS",
    job_cleanup = "FF_ENABLE_JOB_CLEANUP",
    posix_escapes = "FF_POSIXLY_CORRECT_ESCAPES",
    git_urls_without_tokens = "FF_GIT_URLS_WITHOUT_TOKENS",
    git_native_clone = "FF_USE_GIT_NATIVE_CLONE",
    git_proactive_auth = "FF_USE_GIT_PROACTIVE_AUTH",
    hash_cache_keys = "FF_HASH_CACHE_KEYS",
    clean_up_failed_cache_extract = "FF_CLEAN_UP_FAILED_CACHE_EXTRACT",
    network_per_build = "FF_NETWORK_PER_BUILD",
    docker_init = "FF_USE_INIT_WITH_DOCKER_EXECUTOR",
    disable_umask_for_docker = "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR",
    native_container_stop = "FF_USE_NATIVE_CONTAINER_STOP",
    secret_resolving_fails_if_missing = "FF_SECRET_RESOLVING_FAILS_IF_MISSING",
}

impl Features {
    /// Resolves all flags from the variables of a job and its secrets, which beat them. A value of the job that is no
    /// boolean keeps the default and gives a warning.
    pub fn resolve(
        configured: &BTreeMap<String, bool>,
        job: &[JobVariable],
        secrets: &[JobVariable],
        warnings: &mut Vec<String>,
    ) -> Self {
        let all = feature_flags::ALL.iter().map(|flag| {
            let from_job = || {
                let named = |variable: &&JobVariable| variable.key == flag.name;
                let of_secrets = secrets.iter().rfind(named);
                let variable = of_secrets.or_else(|| job.iter().rfind(named))?;
                let raw = variable.value.expose();
                if raw.is_empty() {
                    return None;
                }
                let value = strict_bool(raw);
                if value.is_none() {
                    let raw = of_secrets.map_or(raw, |_| "a secret");
                    warnings.push(format!(
                        "{}: could not parse feature flag, expected bool, got {raw}",
                        flag.name
                    ));
                }
                value
            };
            let value = configured.get(flag.name).copied().or_else(from_job);
            (flag.name, value.unwrap_or(flag.default))
        });
        Self::from_values(all.collect())
    }

    /// Every flag with its value, in the order of the table.
    pub fn all(&self) -> &[(&'static str, bool)] {
        &self.all
    }

    /// Flags that differ from their default.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        self.all.iter().copied().filter(|(name, value)| {
            feature_flags::find(name).is_some_and(|flag| flag.default != *value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_beats_job_variable_beats_default() {
        let job = |value: &str| {
            vec![JobVariable {
                key: "FF_TIMESTAMPS".to_owned(),
                value: value.into(),
                ..JobVariable::default()
            }]
        };
        let configured = |value| BTreeMap::from([("FF_TIMESTAMPS".to_owned(), value)]);
        let mut warnings = Vec::new();
        let none = BTreeMap::new();
        assert!(Features::resolve(&none, &[], &[], &mut warnings).timestamps);
        assert!(!Features::resolve(&none, &job("false"), &[], &mut warnings).timestamps);
        assert!(Features::resolve(&configured(true), &job("false"), &[], &mut warnings).timestamps);
        assert_eq!(warnings, Vec::<String>::new());
        assert!(Features::resolve(&none, &job("maybe"), &[], &mut warnings).timestamps);
        assert_eq!(
            warnings,
            ["FF_TIMESTAMPS: could not parse feature flag, expected bool, got maybe"]
        );
        let by_secret =
            |value| Features::resolve(&none, &job("true"), &job(value), &mut Vec::new());
        assert!(!by_secret("false").timestamps && by_secret("true").timestamps);
        Features::resolve(&none, &[], &job("hunter2"), &mut warnings);
        let last = warnings.last().map(String::as_str);
        let told = "FF_TIMESTAMPS: could not parse feature flag, expected bool, got a secret";
        assert_eq!(last, Some(told));
        let off = Features::resolve(&configured(false), &[], &[], &mut warnings);
        assert_eq!(
            off.changed().collect::<Vec<_>>(),
            [("FF_TIMESTAMPS", false)]
        );
    }

    #[test]
    fn every_flag_acted_upon_is_in_the_table() {
        for name in Features::NAMES {
            assert!(feature_flags::find(name).is_some(), "{name}");
        }
    }
}
