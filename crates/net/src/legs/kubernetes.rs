//! The Kubernetes API: a configured host, the service account of the pod, or a kubeconfig (`runner-tls.md` section 7).

use std::path::PathBuf;

use super::Legs;
use crate::{SystemRoots, TrustSettings};

/// Keys of `[runners.kubernetes]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct KubernetesOptions<'a> {
    /// `host`.
    pub host: &'a str,
    /// `ca_file`.
    pub ca_file: &'a str,
    /// `cert_file`.
    pub cert_file: &'a str,
    /// `key_file`.
    pub key_file: &'a str,
}

/// How the API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KubernetesTrust {
    /// A configured host.
    Host(String, TrustSettings),
    /// The pod's service account.
    InCluster(String, TrustSettings),
    /// These files say; the first that names a cluster counts.
    Kubeconfig(Vec<PathBuf>),
    /// A client certificate without its key or without `ca_file`; the text is upstream's.
    Incomplete(&'static str),
}

const SERVICE_ACCOUNT_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

pub(super) fn resolve(legs: &Legs, options: KubernetesOptions<'_>) -> KubernetesTrust {
    if options.host.is_empty() {
        return guessed(legs);
    }
    let file = |name: &str| (!name.is_empty()).then(|| legs.path(name));
    let pair = !options.cert_file.is_empty();
    if pair && (options.key_file.is_empty() || options.ca_file.is_empty()) {
        return KubernetesTrust::Incomplete(
            "ca file, cert file and key file must be specified when using file based auth",
        );
    }
    let ca_file = file(options.ca_file);
    let trust = TrustSettings {
        system: match ca_file {
            Some(_) => SystemRoots::None,
            None => legs.system.clone(),
        },
        ca_file,
        cert_file: file(options.cert_file),
        key_file: if pair { file(options.key_file) } else { None },
        certificate_directory: None,
        inline_ca: None,
    };
    KubernetesTrust::Host(options.host.to_owned(), trust)
}

/// In a pod the service account, else the kubeconfig.
fn guessed(legs: &Legs) -> KubernetesTrust {
    let service = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];
    if let [Some(host), Some(port)] = service.map(|name| legs.variables.set(name)) {
        let trust = TrustSettings {
            system: SystemRoots::None,
            ca_file: Some(SERVICE_ACCOUNT_CA.into()),
            cert_file: None,
            key_file: None,
            certificate_directory: None,
            inline_ca: None,
        };
        let host = if host.contains(':') {
            format!("https://[{host}]:{port}")
        } else {
            format!("https://{host}:{port}")
        };
        return KubernetesTrust::InCluster(host, trust);
    }
    let files = match legs.variables.set("KUBECONFIG") {
        Some(list) => list
            .split(':')
            .filter(|path| !path.is_empty())
            .map(|path| legs.path(path))
            .collect(),
        None => {
            let home = legs.variables.set("HOME").map(PathBuf::from);
            home.map(|home| home.join(".kube/config"))
                .into_iter()
                .collect()
        }
    };
    KubernetesTrust::Kubeconfig(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legs(variables: &[(&str, &str)]) -> Legs {
        let system = SystemRoots::Platform {
            file: None,
            directories: None,
        };
        Legs::new(system, None, "/work".into()).with_variables(variables.iter().copied())
    }

    #[test]
    fn a_ca_file_replaces_the_system_and_a_pair_needs_it() {
        let mut options = KubernetesOptions {
            host: "https://k",
            ..KubernetesOptions::default()
        };
        let KubernetesTrust::Host(_, trust) = legs(&[]).kubernetes(options) else {
            panic!("a host is configured");
        };
        assert_ne!(trust.system, SystemRoots::None);
        options.ca_file = "ca.crt";
        let KubernetesTrust::Host(_, trust) = legs(&[]).kubernetes(options) else {
            panic!("a host is configured");
        };
        assert_eq!(trust.system, SystemRoots::None);
        assert_eq!(trust.ca_file, Some("/work/ca.crt".into()));
        options.cert_file = "c";
        assert!(matches!(
            legs(&[]).kubernetes(options),
            KubernetesTrust::Incomplete(_)
        ));
    }

    #[test]
    fn without_a_host_the_pod_comes_before_the_kubeconfig() {
        let options = KubernetesOptions::default();
        let pod = [
            ("KUBERNETES_SERVICE_HOST", "fd00::1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ];
        let KubernetesTrust::InCluster(host, trust) = legs(&pod).kubernetes(options) else {
            panic!("in a pod");
        };
        assert_eq!(host, "https://[fd00::1]:443");
        assert_eq!(trust.ca_file, Some(SERVICE_ACCOUNT_CA.into()));
        assert_eq!(
            legs(&[("HOME", "/h")]).kubernetes(options),
            KubernetesTrust::Kubeconfig(vec!["/h/.kube/config".into()])
        );
        assert_eq!(
            legs(&[("KUBECONFIG", "/a:b"), ("HOME", "/h")]).kubernetes(options),
            KubernetesTrust::Kubeconfig(vec!["/a".into(), "/work/b".into()])
        );
    }
}
