//! Which image the helper container is made of (`executor-docker.md` 11).

use courser_config::DockerConfig;
use courser_job::{Job, Shell, messages};

/// The image of predefined stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HelperImage {
    /// `helper_image`, variables expanded: pulled by the runner's policies.
    Configured {
        /// Reference.
        image: String,
        /// Line for the log, at each use.
        line: String,
    },
    /// Our own small root file system, imported into the engine without a registry.
    Own {
        /// Reference of gitlab-runner's, for a Courser that came without that file.
        upstream: String,
    },
}

impl HelperImage {
    /// The configured one, else our own.
    pub(crate) fn choose(config: &DockerConfig, job: &Job, architecture: &str) -> Self {
        let image = job.variables().expand(&config.helper_image);
        let version = &job.context().version;
        let default = upstream_image(
            &config.helper_image_flavor,
            architecture,
            version,
            job.shell(),
        );
        if image.is_empty() {
            return Self::Own { upstream: default };
        }
        Self::Configured {
            line: messages::using_helper_image(&image, &default),
            image,
        }
    }
}

/// The image that gitlab-runner would take on Linux (11.1).
fn upstream_image(flavor: &str, architecture: &str, version: &str, shell: Shell) -> String {
    let flavor = match flavor {
        "" | "alpine" => String::new(),
        flavor => format!("{flavor}-"),
    };
    let architecture = match architecture {
        "amd64" => "x86_64",
        "armv6l" | "armv7l" => "arm",
        "aarch64" => "arm64",
        other => other,
    };
    let suffix = if shell == Shell::Pwsh { "-pwsh" } else { "" };
    format!(
        "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:{flavor}{architecture}-{}{suffix}",
        release(version)
    )
}

/// `v<major>.<minor>.<patch>` of a version that begins so, else `latest`.
fn release(version: &str) -> String {
    let mut parts = version.splitn(3, '.');
    let number = |text: &str| -> Option<String> {
        let end = text
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len());
        (end > 0).then(|| text[..end].to_owned())
    };
    let whole = |text: Option<&str>| {
        text.and_then(|text| number(text).filter(|number| number.len() == text.len()))
    };
    match (
        whole(parts.next()),
        whole(parts.next()),
        parts.next().and_then(number),
    ) {
        (Some(major), Some(minor), Some(patch)) => format!("v{major}.{minor}.{patch}"),
        _ => "latest".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{job, runner};

    #[test]
    fn the_configured_image_wins_and_tells_the_default() {
        let job = job(json!({"variables": [{"key": "V", "value": "1"}]}));
        let choose = |docker: &str| {
            let config = runner(docker).docker.expect("there");
            HelperImage::choose(&config, &job, "amd64")
        };
        let own = HelperImage::Own {
            upstream:
                "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-latest"
                    .to_owned(),
        };
        assert_eq!(choose(""), own);
        assert_eq!(choose("helper_image = \"$NONE\""), own);
        let HelperImage::Configured { image, line } = choose("helper_image = \"mine:$V\"") else {
            panic!("the configured one");
        };
        assert_eq!(image, "mine:1");
        let expected = "Using helper image:  mine:1  (overridden, default would be  \
                        registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-latest )";
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn tags_are_upstreams() {
        for (flavor, architecture, version, shell, tag) in [
            ("", "x86_64", "19.4.0", Shell::Bash, "x86_64-v19.4.0"),
            (
                "alpine",
                "aarch64",
                "19.4.0~pre.1",
                Shell::Sh,
                "arm64-v19.4.0",
            ),
            ("ubuntu", "armv7l", "19.4", Shell::Bash, "ubuntu-arm-latest"),
            (
                "ubi-fips",
                "s390x",
                "v19.4.0",
                Shell::Pwsh,
                "ubi-fips-s390x-latest-pwsh",
            ),
        ] {
            let image = upstream_image(flavor, architecture, version, shell);
            assert_eq!(image.rsplit(':').next(), Some(tag));
        }
    }
}
