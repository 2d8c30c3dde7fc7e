//! What the name of a service's image says: service, version, aliases (`executor-docker.md` 14.1).

/// The parts of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceName {
    /// The image without port, tag and digest.
    pub(crate) service: String,
    /// Tag, or `@` and the digest.
    pub(crate) version: String,
    /// Reference to pull: the name, with `:latest` where it has neither tag nor digest.
    pub(crate) image: String,
}

impl ServiceName {
    /// `None` for what is no name of an image.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (tagged, digest) = match name.split_once('@') {
            Some((tagged, digest)) => (tagged, Some(digest).filter(|digest| is_digest(digest))?),
            None => (name, ""),
        };
        let last = tagged.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match tagged[last..].find(':') {
            Some(colon) => (&tagged[..last + colon], &tagged[last + colon + 1..]),
            None => (tagged, ""),
        };
        let has_tag = path.len() < tagged.len();
        if has_tag && !is_component(tag) {
            return None;
        }
        let mut components = path.split('/');
        let first = components.next()?;
        // Only a registry has a port, and a registry is followed by a path.
        let host = match first.split_once(':') {
            Some((host, port)) => {
                let is_port = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
                (is_port && path.contains('/')).then_some(host)?
            }
            None => first,
        };
        let components: Vec<&str> = std::iter::once(host).chain(components).collect();
        if !components.iter().all(|component| is_component(component)) {
            return None;
        }
        let version = match (digest, tag) {
            ("", "") => "latest".to_owned(),
            ("", tag) => tag.to_owned(),
            (digest, _) => format!("@{digest}"),
        };
        let image = if digest.is_empty() && !has_tag {
            format!("{name}:latest")
        } else {
            name.to_owned()
        };
        Some(Self {
            service: components.join("/"),
            version,
            image,
        })
    }

    /// Host names that follow from the name.
    pub(crate) fn aliases(&self) -> Vec<String> {
        let underscores = self.service.replace('/', "__");
        let hyphens = self.service.replace('/', "-");
        if underscores == hyphens {
            vec![hyphens]
        } else {
            vec![underscores, hyphens]
        }
    }

    /// As the log has it: `postgres:16`, `postgres@sha256:…`.
    pub(crate) fn shown(&self) -> String {
        let separator = if self.version.starts_with('@') {
            ""
        } else {
            ":"
        };
        format!("{}{separator}{}", self.service, self.version)
    }
}

fn is_component(text: &str) -> bool {
    let mut letters = text.bytes();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || b"._-".contains(&letter))
}

fn is_digest(text: &str) -> bool {
    let hexadecimal = text.strip_prefix("sha256:");
    hexadecimal.is_some_and(|digits| {
        digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_service_version_image_and_aliases() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (name, service, version, image, aliases) in [
            (
                "postgres",
                "postgres",
                "latest",
                "postgres:latest",
                "postgres",
            ),
            (
                "tutum/mysql:5.5",
                "tutum/mysql",
                "5.5",
                "tutum/mysql:5.5",
                "tutum__mysql tutum-mysql",
            ),
            (
                "reg.tld:4999/a/b",
                "reg.tld/a/b",
                "latest",
                "reg.tld:4999/a/b:latest",
                "reg.tld__a__b reg.tld-a-b",
            ),
            (
                "reg.tld:4999/a/b:1.0-x_y",
                "reg.tld/a/b",
                "1.0-x_y",
                "reg.tld:4999/a/b:1.0-x_y",
                "reg.tld__a__b reg.tld-a-b",
            ),
        ] {
            let parsed = ServiceName::parse(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(
                (parsed.service.as_str(), parsed.version.as_str()),
                (service, version)
            );
            assert_eq!(parsed.image, image);
            assert_eq!(parsed.aliases().join(" "), aliases);
            assert_eq!(parsed.shown(), format!("{service}:{version}"));
        }
        for name in [format!("x@{digest}"), format!("x:1@{digest}")] {
            let parsed = ServiceName::parse(&name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(parsed.service, "x");
            assert_eq!(parsed.version, format!("@{digest}"));
            assert_eq!(parsed.image, name);
            assert_eq!(parsed.shown(), format!("x@{digest}"));
        }
    }

    #[test]
    fn what_is_no_name_is_none() {
        for name in [
            "",
            ":",
            "/",
            "x:",
            ":1",
            "x/",
            "/x",
            "a//b",
            "x y",
            "x@sha256:12",
            "x@",
            "a:b/c",
            "a:1/",
            "x:1:2",
            "https://x/y",
            "-x",
        ] {
            assert_eq!(ServiceName::parse(name), None, "{name}");
        }
    }
}
