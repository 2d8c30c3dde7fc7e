//! How a runner describes itself (`runner-protocol.md` 2.1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::null_as_default;

/// Version of gitlab-runner whose behaviour and API Courser offers.
pub const RUNNER_VERSION: &str = "19.4.0";

/// What stands where gitlab-runner shows its Git revision: Courser's own version.
pub fn revision() -> &'static str {
    concat!("courser-", env!("CARGO_PKG_VERSION"))
}

/// The platform this was built for, by Go's name, as GitLab shows it.
pub fn platform() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// The processor this was built for, by Go's name, as GitLab shows it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        architecture => architecture,
    }
}

impl Info {
    /// This program, before anything is known of a runner: name, version, platform.
    pub fn of_this_program() -> Self {
        Self {
            name: "gitlab-runner".to_owned(),
            version: RUNNER_VERSION.to_owned(),
            revision: revision().to_owned(),
            platform: platform().to_owned(),
            architecture: architecture().to_owned(),
            ..Self::default()
        }
    }
}

/// The `info` object of register, verify, request and update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// `gitlab-runner`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub name: String,
    /// For example `19.4.0`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub version: String,
    /// Short revision; Courser's own version.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub revision: String,
    /// `linux`, `darwin`, `windows`, …
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub platform: String,
    /// `amd64`, `arm64`, …
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub architecture: String,
    /// Configured executor.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub executor: String,
    /// Configured or default shell.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub shell: String,
    /// What this runner can do.
    #[serde(deserialize_with = "null_as_default")]
    pub features: Features,
    /// Facts of the configuration.
    #[serde(deserialize_with = "null_as_default")]
    pub config: InfoConfig,
    /// Labels.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub labels: BTreeMap<String, String>,
}

/// The `config` object inside `info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InfoConfig {
    /// `[runners.docker] gpus`, else empty.
    #[serde(deserialize_with = "null_as_default")]
    pub gpus: String,
}

macro_rules! features {
    ($($name:ident,)*) => {
        /// The booleans a runner advertises, in wire order; all are always present.
        ///
        /// The server hands out jobs and cancels by them, so only what works may be true.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        #[expect(missing_docs, reason = "names are GitLab's; runner-protocol.md 2.1 says what each one means")]
        pub struct Features {
            $(pub $name: bool,)*
        }
    };
}

features! {
    variables, image, services, artifacts, cache, fallback_cache_keys, shared, upload_multiple_artifacts,
    upload_raw_artifacts, session, terminal, refspecs, masking, proxy, raw_variables, artifacts_exclude,
    multi_build_steps, trace_reset, trace_checksum, trace_size, vault_secrets, cancelable, return_exit_code,
    service_variables, service_multiple_aliases, image_executor_opts, service_executor_opts, cancel_gracefully,
    native_steps_integration, two_phase_job_commit, job_inputs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_and_config_are_always_there_in_wire_order() {
        let info = Info {
            name: "gitlab-runner".to_owned(),
            version: "19.4.0".to_owned(),
            executor: "shell".to_owned(),
            ..Info::default()
        };
        insta::assert_snapshot!(
            serde_json::to_string(&info).expect("serialises").replace(":false", ""),
            @r#"{"name":"gitlab-runner","version":"19.4.0","executor":"shell","features":{"variables","image","services","artifacts","cache","fallback_cache_keys","shared","upload_multiple_artifacts","upload_raw_artifacts","session","terminal","refspecs","masking","proxy","raw_variables","artifacts_exclude","multi_build_steps","trace_reset","trace_checksum","trace_size","vault_secrets","cancelable","return_exit_code","service_variables","service_multiple_aliases","image_executor_opts","service_executor_opts","cancel_gracefully","native_steps_integration","two_phase_job_commit","job_inputs"},"config":{"gpus":""}}"#
        );
    }

    #[test]
    fn this_program_says_what_it_stands_in_for() {
        let info = Info::of_this_program();
        assert_eq!(
            (info.name.as_str(), info.version.as_str()),
            ("gitlab-runner", "19.4.0")
        );
        assert!(info.revision.starts_with("courser-"));
    }
}
