//! Pull policies and platforms: what is asked for, what is allowed (`executor-docker.md` 9.2 and 9.3).

use std::fmt;

use super::ImageError;

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the Engine has none.
    IfNotPresent,
    /// The Engine's own or nothing.
    Never,
}

impl PullPolicy {
    fn parse(text: &str, key: &str) -> Result<Self, ImageError> {
        match text {
            "always" => Ok(Self::Always),
            "if-not-present" => Ok(Self::IfNotPresent),
            "never" => Ok(Self::Never),
            _ => Err(ImageError::configuration(format!(
                "unsupported {key} config: {text:?}"
            ))),
        }
    }

    fn parse_all(texts: &[String], key: &str) -> Result<Vec<Self>, ImageError> {
        texts.iter().map(|text| Self::parse(text, key)).collect()
    }
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::IfNotPresent => "if-not-present",
            Self::Never => "never",
        })
    }
}

/// As Go prints a list: `[always never]`.
pub(super) fn listed(policies: &[PullPolicy]) -> String {
    let names: Vec<_> = policies.iter().map(ToString::to_string).collect();
    format!("[{}]", names.join(" "))
}

/// Who decides about the policies of one image.
#[derive(Debug, Clone, Copy, Default)]
pub struct PolicySources<'a> {
    /// `pull_policy` of the job's image or service.
    pub job: &'a [String],
    /// `pull_policy` of `[runners.docker]`; empty = `always`.
    pub runner: &'a [String],
    /// `allowed_pull_policies`; empty = the runner's own.
    pub allowed: &'a [String],
}

impl PolicySources<'_> {
    /// The policies that are tried for `image`, in order.
    ///
    /// # Errors
    ///
    /// A policy is unknown, or none that is asked for is allowed: a configuration error.
    pub fn effective(&self, image: &str) -> Result<Vec<PullPolicy>, ImageError> {
        let mut runner = PullPolicy::parse_all(self.runner, "pull_policy")?;
        let by_default = runner.is_empty();
        if by_default {
            runner.push(PullPolicy::Always);
        }
        let mut allowed = PullPolicy::parse_all(self.allowed, "allowed_pull_policies")?;
        if allowed.is_empty() {
            allowed.clone_from(&runner);
        }
        let (asked, source) = if !self.job.is_empty() {
            let job = PullPolicy::parse_all(self.job, "pull_policy")?;
            (job, "GitLab pipeline config")
        } else if by_default {
            (runner, "Runner config (default)")
        } else {
            (runner, "Runner config")
        };
        let effective: Vec<_> = asked
            .iter()
            .filter(|policy| allowed.contains(policy))
            .copied()
            .collect();
        if effective.is_empty() {
            return Err(ImageError::configuration(format!(
                "invalid pull policy for image {image:?}: pull_policy ({}) defined in {source} is not one of the \
                 allowed_pull_policies ({})",
                listed(&asked),
                listed(&allowed)
            )));
        }
        Ok(effective)
    }
}

/// What an image is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: &'static str,
    architecture: String,
    variant: String,
}

/// Names that stand for others (containerd's table).
const ARCHITECTURES: [(&str, &str, &str); 9] = [
    ("x86_64", "amd64", ""),
    ("x86-64", "amd64", ""),
    ("i386", "386", ""),
    ("aarch64", "arm64", ""),
    ("armhf", "arm", "v7"),
    ("armel", "arm", "v6"),
    ("arm64", "arm64", ""),
    ("arm", "arm", ""),
    ("amd64", "amd64", ""),
];
const OTHER_ARCHITECTURES: [&str; 11] = [
    "386", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
];

/// What programs of an image need and the Engine's machine has not, where both are known: `arm64` on `x86_64`. Programs of
/// the older 32-bit kind run on either family's machines.
pub(crate) fn strange_architecture<'a>(image: &'a str, machine: &str) -> Option<&'a str> {
    let normal = |name: &str| {
        let known = ARCHITECTURES.iter().find(|(other, ..)| *other == name);
        known.map_or_else(|| name.to_owned(), |(_, normal, _)| (*normal).to_owned())
    };
    let (wanted, has) = (normal(image), normal(machine));
    let runs = wanted.is_empty()
        || has.is_empty()
        || wanted == has
        || matches!(
            (wanted.as_str(), has.as_str()),
            ("386", "amd64") | ("arm", "arm64" | "armv7l")
        );
    (!runs).then_some(image)
}

impl Platform {
    /// Of `docker: platform:`, for example `linux/arm64/v8` or `arm64`. A system that no container runs on becomes Linux,
    /// which the second value tells.
    ///
    /// # Errors
    ///
    /// What is no platform: a configuration error.
    pub fn parse(text: &str) -> Result<(Self, Option<String>), ImageError> {
        let wrong =
            || ImageError::configuration(format!("{text:?} is no platform like linux/arm64"));
        let lower = text.to_ascii_lowercase();
        let parts: Vec<_> = lower.split('/').collect();
        let word = |part: &&str| {
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            !part.is_empty() && part.bytes().all(plain)
        };
        if !parts.iter().all(word) {
            return Err(wrong());
        }
        let (os, architecture, variant) = match *parts.as_slice() {
            [architecture] if is_architecture(architecture) => ("linux", architecture, ""),
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(wrong()),
        };
        let known = ARCHITECTURES
            .iter()
            .find(|(name, ..)| *name == architecture);
        let (architecture, own_variant) =
            known.map_or((architecture, ""), |&(_, name, variant)| (name, variant));
        let (os, corrected) = match os {
            "linux" => ("linux", None),
            "windows" => ("windows", None),
            other => (
                "linux",
                Some(format!(
                    "Platform OS {other:?} in {text:?} is not a valid container OS; using \"linux\" instead"
                )),
            ),
        };
        let platform = Self {
            os,
            architecture: architecture.to_owned(),
            variant: if variant.is_empty() {
                own_variant
            } else {
                variant
            }
            .to_owned(),
        };
        Ok((platform, corrected))
    }

    /// As the API's inspection takes it.
    pub(super) fn json(&self) -> String {
        let mut fields = serde_json::json!({ "os": self.os, "architecture": self.architecture });
        if !self.variant.is_empty() {
            fields["variant"] = self.variant.clone().into();
        }
        fields.to_string()
    }
}

fn is_architecture(name: &str) -> bool {
    ARCHITECTURES.iter().any(|(known, ..)| *known == name) || OTHER_ARCHITECTURES.contains(&name)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Policies of the job, of the runner, those that are allowed; what comes of them.
    type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], &'a str);

    fn effective(job: &[&str], runner: &[&str], allowed: &[&str]) -> Result<String, String> {
        let [job, runner, allowed] = [job, runner, allowed]
            .map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
        let sources = PolicySources {
            job: &job,
            runner: &runner,
            allowed: &allowed,
        };
        let policies = sources.effective("ruby:3");
        policies
            .map(|policies| listed(&policies))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_jobs_list_counts_then_the_runners_then_always() {
        let table: [Row<'_>; 5] = [
            (&[], &[], &[], "[always]"),
            (
                &[],
                &["if-not-present", "always"],
                &[],
                "[if-not-present always]",
            ),
            (&["never"], &["always", "never"], &[], "[never]"),
            (
                &["always", "always", "never"],
                &[],
                &["always"],
                "[always always]",
            ),
            (
                &["never", "always"],
                &["always"],
                &["never", "always"],
                "[never always]",
            ),
        ];
        for (job, runner, allowed, expected) in table {
            assert_eq!(effective(job, runner, allowed).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn nothing_allowed_names_who_asked() {
        let table: [Row<'_>; 4] = [
            (
                &["always"],
                &[],
                &["never"],
                "([always]) defined in GitLab pipeline config",
            ),
            (
                &[],
                &["always"],
                &["never"],
                "([always]) defined in Runner config",
            ),
            (
                &[],
                &[],
                &["never"],
                "([always]) defined in Runner config (default)",
            ),
            (
                &["always"],
                &["never"],
                &[],
                "([always]) defined in GitLab pipeline config",
            ),
        ];
        for (job, runner, allowed, asked) in table {
            let expected = format!(
                "invalid pull policy for image \"ruby:3\": pull_policy {asked} is not one of the allowed_pull_policies \
                 ([never])"
            );
            assert_eq!(effective(job, runner, allowed), Err(expected));
        }
        let unknown = effective(&["sometimes"], &[], &[]);
        assert_eq!(
            unknown,
            Err("unsupported pull_policy config: \"sometimes\"".to_owned())
        );
    }

    #[test]
    fn images_for_other_machines_are_told() {
        for (image, machine, strange) in [
            ("amd64", "x86_64", false),
            ("arm64", "aarch64", false),
            ("arm64", "x86_64", true),
            ("amd64", "aarch64", true),
            ("386", "x86_64", false),
            ("arm", "aarch64", false),
            ("arm", "armv7l", false),
            ("s390x", "s390x", false),
            ("", "x86_64", false),
            ("riscv64", "", false),
        ] {
            let told = strange_architecture(image, machine);
            assert_eq!(told.is_some(), strange, "{image} on {machine}");
        }
    }

    #[test]
    fn platforms_are_normalised() {
        let table = [
            ("arm64", "linux/arm64", false),
            ("linux/aarch64", "linux/arm64", false),
            ("Linux/x86_64", "linux/amd64", false),
            ("armhf", "linux/arm/v7", false),
            ("linux/arm/v6", "linux/arm/v6", false),
            ("windows/amd64", "windows/amd64", false),
            ("darwin/arm64", "linux/arm64", true),
        ];
        for (text, expected, corrected) in table {
            let (platform, correction) = Platform::parse(text).unwrap();
            assert_eq!(platform.to_string(), expected);
            assert_eq!(correction.is_some(), corrected, "{text}");
        }
        let json = Platform::parse("linux/arm/v7").unwrap().0.json();
        assert_eq!(
            json,
            r#"{"architecture":"arm","os":"linux","variant":"v7"}"#
        );
        for text in ["", "linux/", "my-machine", "a/b/c/d", "linux/am d64"] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }
}
