//! Trust for the job's own tools: which files there are, and which variables name them.
//!
//! Many programs have a bundle of certificates of their own and a variable that names another one. The variables are
//! set by the job's scripts where nobody else has set them: neither the job's variables, nor the runner's
//! `environment`, nor the machine, nor a login profile.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Certificates for programs of the job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolTrust {
    /// The system's certificates and the private CAs, PEM.
    pub bundle: String,
    /// The same as PKCS#12 without a password, for Java.
    #[serde(with = "as_hexadecimal")]
    pub truststore: Vec<u8>,
    /// The private CAs alone, PEM; for executors, not for the helper.
    #[serde(default, skip_serializing)]
    pub private_bundle: String,
    /// How many of them are private CAs.
    pub private: usize,
    /// How many are the system's.
    pub system: usize,
}

impl fmt::Debug for ToolTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolTrust")
            .field("private", &self.private)
            .field("system", &self.system)
            .finish_non_exhaustive()
    }
}

/// Paths of the files, in a directory below the job's temporary one. They exist from `prepare_script` to
/// `cleanup_file_variables`, and are written anew for each job: what one job does to them never reaches the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolFiles {
    directory: String,
}

impl ToolFiles {
    /// The files of the job with this temporary directory.
    pub fn below(temporary_dir: &str) -> Self {
        Self {
            // Begins with a dot: no file variable can have that name.
            directory: format!("{temporary_dir}/.trust"),
        }
    }

    /// The directory that holds the others and nothing else.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// [`ToolTrust::bundle`].
    pub fn bundle(&self) -> String {
        format!("{}/ca-bundle.pem", self.directory)
    }

    /// [`ToolTrust::truststore`].
    pub fn truststore(&self) -> String {
        format!("{}/truststore.p12", self.directory)
    }

    /// Configuration in place of the machine's own (`GIT_CONFIG_SYSTEM`), which it includes. `GIT_SSL_CAINFO`
    /// instead would beat the configuration of the server's host (`runner-tls.md` 4.2).
    pub fn git_config(&self) -> String {
        format!("{}/gitconfig", self.directory)
    }

    /// Configuration in place of the machine's own, which it repeats: wget has no variable for a bundle.
    pub fn wget_config(&self) -> String {
        format!("{}/wgetrc", self.directory)
    }
}

/// A variable that is set where none of `unless` is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// The variable itself, and those that the program reads in its place: who has set one of these has chosen a
    /// bundle for that program.
    pub(crate) unless: &'static [&'static str],
}

/// A variable by which programs are told of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleVariable {
    /// Its name.
    pub name: &'static str,
    /// It stays unset where one of these is set; see `Preset::unless`.
    pub unless: &'static [&'static str],
    /// Whom these programs trust without it.
    pub otherwise: Otherwise,
}

/// Whom programs trust when nothing names a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// The system's store.
    System,
    /// A list of their own, which the bundle takes the place of.
    OwnList,
    /// A list of their own, which the bundle is added to.
    OwnListToo,
}

/// The variables in the order in which they are to be set: one that others fall back to comes after these.
pub const BUNDLE_VARIABLES: [BundleVariable; 12] = {
    use Otherwise::{OwnList, OwnListToo, System};
    const fn variable(
        name: &'static str,
        unless: &'static [&'static str],
        otherwise: Otherwise,
    ) -> BundleVariable {
        BundleVariable {
            name,
            unless,
            otherwise,
        }
    }
    [
        // pip, before what the library in it reads
        variable(
            "PIP_CERT",
            &["PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"],
            OwnList,
        ),
        variable(
            "AWS_CA_BUNDLE",
            &["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"],
            OwnList,
        ),
        variable(
            "REQUESTS_CA_BUNDLE",
            &["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"],
            OwnList,
        ),
        variable(
            "CARGO_HTTP_CAINFO",
            &["CARGO_HTTP_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR"],
            System,
        ),
        variable(
            "NIX_SSL_CERT_FILE",
            &["NIX_SSL_CERT_FILE", "SSL_CERT_FILE"],
            System,
        ),
        variable(
            "CURL_CA_BUNDLE",
            &["CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"],
            System,
        ),
        // Go, OpenSSL, Python, Ruby, PHP, .NET: it replaces their default, the directory goes on counting
        variable("SSL_CERT_FILE", &["SSL_CERT_FILE"], System),
        variable("NODE_EXTRA_CA_CERTS", &["NODE_EXTRA_CA_CERTS"], OwnListToo),
        variable("DENO_CERT", &["DENO_CERT"], OwnListToo),
        variable(
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
            &["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"],
            OwnList,
        ),
        variable(
            "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
            &["CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE"],
            OwnList,
        ),
        variable("HTTPLIB2_CA_CERTS", &["HTTPLIB2_CA_CERTS"], OwnList),
    ]
};

/// All of them, for the files of a job.
pub(crate) fn presets(files: &ToolFiles) -> Vec<Preset> {
    let preset = |variable: BundleVariable| Preset {
        name: variable.name,
        value: files.bundle(),
        unless: variable.unless,
    };
    let mut presets = Vec::from(BUNDLE_VARIABLES.map(preset));
    presets.push(Preset {
        name: "GIT_CONFIG_SYSTEM",
        value: files.git_config(),
        unless: &["GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"],
    });
    presets.push(Preset {
        name: "SYSTEM_WGETRC",
        value: files.wget_config(),
        unless: &["SYSTEM_WGETRC"],
    });
    presets.extend(java_options(&files.truststore()).map(|value| Preset {
        name: "JAVA_TOOL_OPTIONS",
        value,
        unless: &["JAVA_TOOL_OPTIONS"],
    }));
    presets
}

/// Options are split at spaces unless quoted; a path with a quotation mark cannot be given.
fn java_options(truststore: &str) -> Option<String> {
    let path = match truststore {
        path if path.contains('"') => return None,
        path if path.contains(|letter: char| letter.is_whitespace() || letter == '\'') => {
            format!("\"{path}\"")
        }
        path => path.to_owned(),
    };
    Some(format!(
        "-Djavax.net.ssl.trustStore={path} -Djavax.net.ssl.trustStoreType=PKCS12"
    ))
}

/// Bytes as text in JSON.
mod as_hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::HelperRequest;
    use crate::helper_request::Prepare;

    #[test]
    fn a_variable_is_set_before_those_that_ask_for_it_could_mistake_it_for_the_users() {
        let presets = presets(&ToolFiles::below("/b/p.tmp"));
        let mut set = BTreeSet::new();
        for preset in &presets {
            assert!(preset.unless.contains(&preset.name), "{}", preset.name);
            for other in preset.unless {
                assert!(
                    !set.contains(other),
                    "{} asks for {other} after we have set it",
                    preset.name
                );
            }
            set.insert(preset.name);
        }
        assert!(
            !set.contains("GIT_SSL_CAINFO"),
            "it beats the server's own CA file"
        );
        assert!(
            !set.contains("SSL_CERT_DIR"),
            "directories stay the machine's"
        );
    }

    #[test]
    fn java_gets_paths_with_spaces_in_quotes() {
        let options = |path: &str| java_options(path);
        let plain = options("/b/t.p12").expect("an option");
        assert!(
            plain.starts_with("-Djavax.net.ssl.trustStore=/b/t.p12 -D"),
            "{plain}"
        );
        let quoted = options("/my builds/t.p12").expect("an option");
        assert!(
            quoted.starts_with("-Djavax.net.ssl.trustStore=\"/my builds/t.p12\" -D"),
            "{quoted}"
        );
        assert_eq!(options("/a\"b"), None);
    }

    #[test]
    fn certificates_pass_through_json_and_stay_out_of_debug_texts() {
        let trust = ToolTrust {
            private_bundle: String::new(),
            bundle: "# a\n".to_owned(),
            truststore: vec![0, 255],
            private: 1,
            system: 2,
        };
        assert_eq!(
            format!("{trust:?}"),
            "ToolTrust { private: 1, system: 2, .. }"
        );
        for tools in [Some(Arc::new(trust)), None] {
            let request = HelperRequest::Prepare(Prepare {
                temporary_dir: "/b/p.tmp".to_owned(),
                via: String::new(),
                tools,
                git_server: None,
            });
            let text = serde_json::to_string(&request).expect("JSON");
            let read: HelperRequest = serde_json::from_str(&text).expect("reads");
            assert_eq!(read, request);
        }
    }
}
