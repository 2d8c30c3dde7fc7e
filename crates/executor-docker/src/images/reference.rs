//! Names of images, as the Distribution project's grammar has them.

/// A name that an Engine takes: `[registry/]path[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Host and port, as written; `None` for Docker Hub.
    registry: Option<String>,
    /// Everything before tag and digest, as written.
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Docker Hub in short, as names and credentials have it.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// Longest name of a repository.
const LONGEST: usize = 255;

impl Reference {
    /// Fails with Docker's words.
    pub(crate) fn parse(name: &str) -> Result<Self, &'static str> {
        const FORMAT: &str = "invalid reference format";
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(FORMAT),
            None => (name, None),
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest[last..].split_once(':') {
            Some((component, tag)) if is_tag(tag) => {
                (&rest[..last + component.len()], Some(tag.to_owned()))
            }
            Some(_) => return Err(FORMAT),
            None => (rest, None),
        };
        let (registry, path) = match repository.split_once('/') {
            Some((first, path)) if names_a_host(first) => (Some(first), path),
            _ => (None, repository),
        };
        if registry.is_some_and(|host| !is_host(host)) || repository.len() > LONGEST {
            return Err(FORMAT);
        }
        if !path.split('/').all(is_component) {
            let lower = path.to_ascii_lowercase();
            let only_case = lower.split('/').all(is_component);
            return Err(match only_case {
                true => "invalid reference format: repository name must be lowercase",
                false => FORMAT,
            });
        }
        Ok(Self {
            registry: registry.map(str::to_owned),
            repository: repository.to_owned(),
            tag,
            digest,
        })
    }

    /// Host and port of the registry that has it.
    pub(crate) fn registry(&self) -> &str {
        match self.registry.as_deref() {
            None | Some("index.docker.io") => DOCKER_HUB,
            Some(registry) => registry,
        }
    }

    /// The name without tag and digest.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// What is pulled of the repository: the digest, else the tag, else `latest`.
    pub(crate) fn version(&self) -> &str {
        let given = self.digest.as_deref().or(self.tag.as_deref());
        given.unwrap_or("latest")
    }

    /// As it is told while pulling: `latest` is added, but not to a name that has a colon anywhere.
    pub(crate) fn shown(name: &str) -> String {
        if name.contains([':', '@']) {
            name.to_owned()
        } else {
            format!("{name}:latest")
        }
    }
}

/// Whether the first component is a registry and not part of a path on Docker Hub.
pub(crate) fn names_a_host(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

/// A host's name or address, with a port or without.
pub(super) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let outer = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && label.bytes().all(plain) && !outer
    };
    let hexadecimal = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
    let (is_name, rest) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, rest)) => (address.bytes().all(hexadecimal), rest),
        None => {
            let end = host.find(':').unwrap_or(host.len());
            (host[..end].split('.').all(label), &host[end..])
        }
    };
    let is_port = rest.strip_prefix(':').map_or(rest.is_empty(), |port| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    is_name && is_port
}

/// Lower-case letters and digits, with `.`, `_`, `__` or hyphens between them.
fn is_component(component: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    let Some(last) = component.bytes().last() else {
        return false;
    };
    let mut begun = false;
    for byte in component.bytes() {
        if plain(byte) {
            let allowed = matches!(separator.as_str(), "" | "." | "_" | "__")
                || separator.bytes().all(|byte| byte == b'-');
            if !allowed || (!begun && !separator.is_empty()) {
                return false;
            }
            separator.clear();
            begun = true;
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    plain(last)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let inner = |byte: u8| word(byte) || matches!(byte, b'.' | b'-');
    tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(inner)
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'_' | b'-');
    algorithm
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic())
        && algorithm.bytes().all(plain)
        && hex.len() >= 32
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_fall_apart_as_docker_reads_them() {
        let digested = format!("reg.tld:4999/a/b:1@{DIGEST}");
        let table = [
            ("ruby", "docker.io", "ruby", "latest"),
            ("ruby:3.3", "docker.io", "ruby", "3.3"),
            ("tutum/mysql:5.5", "docker.io", "tutum/mysql", "5.5"),
            (
                "docker.io/library/ruby",
                "docker.io",
                "docker.io/library/ruby",
                "latest",
            ),
            (
                "index.docker.io/ruby",
                "docker.io",
                "index.docker.io/ruby",
                "latest",
            ),
            ("localhost/x", "localhost", "localhost/x", "latest"),
            // A port is no tag.
            ("host:5000/img", "host:5000", "host:5000/img", "latest"),
            ("[::1]:5000/img:2", "[::1]:5000", "[::1]:5000/img", "2"),
            (
                "Host.TLD/a-b__c.d/e",
                "Host.TLD",
                "Host.TLD/a-b__c.d/e",
                "latest",
            ),
            (
                digested.as_str(),
                "reg.tld:4999",
                "reg.tld:4999/a/b",
                DIGEST,
            ),
            (DIGEST, "docker.io", "sha256", &DIGEST[7..]),
        ];
        for (name, registry, repository, version) in table {
            let read = Reference::parse(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(
                (read.registry(), read.repository(), read.version()),
                (registry, repository, version)
            );
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        for name in [
            "",
            ":1",
            "a:",
            "a@",
            "a@sha256:12",
            "../containers/x",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "a?x=1",
            "a#b",
            "a b",
            "a:b:c",
            "a%2fb",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "host:/a",
            "host:p/a",
            "ä",
            "a\n",
            "a:1\n",
        ] {
            assert_eq!(
                Reference::parse(name),
                Err("invalid reference format"),
                "{name:?}"
            );
        }
        let upper = Reference::parse("Ruby");
        assert_eq!(
            upper,
            Err("invalid reference format: repository name must be lowercase")
        );
    }

    #[test]
    fn what_is_told_gets_latest_only_without_any_colon() {
        assert_eq!(Reference::shown("ruby"), "ruby:latest");
        assert_eq!(Reference::shown("host:5000/img"), "host:5000/img");
        assert_eq!(Reference::shown("ruby:3"), "ruby:3");
    }
}
