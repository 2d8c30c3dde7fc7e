//! Syntax of an entry of `volumes` on Linux: `[source:]destination[:mode][:|,label][:|,propagation]`
//! (`executor-docker.md` 12.1).

/// An entry in its parts. Only in the destination are variables expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Specification<'a> {
    /// Path on the host, or name of a volume.
    pub(crate) source: Option<&'a str>,
    /// Path in the container; it may begin with a variable.
    pub(crate) destination: &'a str,
    /// Mode, label and propagation, as written.
    options: Vec<&'a str>,
}

const MODES: &[&str] = &["ro", "rw", "o"];
const LABELS: &[&str] = &["z"];
const PROPAGATIONS: &[&str] = &[
    "shared", "slave", "private", "rshared", "rslave", "rprivate",
];

impl<'a> Specification<'a> {
    /// `None` for what is no entry.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts[..] {
            [source, destination, ref options @ ..] if is_destination(destination) => {
                (Some(source), destination, options)
            }
            [destination, ref options @ ..] if is_destination(destination) => {
                (None, destination, options)
            }
            _ => return None,
        };
        if source.is_some_and(|source| !is_path(source) && !is_volume_name(source)) {
            return None;
        }
        let options: Vec<&str> = options.iter().flat_map(|part| part.split(',')).collect();
        are_options(&options).then_some(Self {
            source,
            destination,
            options,
        })
    }

    /// Entry of the engine's bind list.
    pub(crate) fn bind(&self, source: &str, destination: &str) -> String {
        let mut bind = format!("{source}:{destination}");
        if !self.options.is_empty() {
            bind.push(':');
            bind.push_str(&self.options.join(","));
        }
        bind
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains(['\0', '\n', '\r'])
}

fn is_destination(text: &str) -> bool {
    is_path(text) || (text.starts_with('$') && text.len() > 1)
}

fn is_volume_name(text: &str) -> bool {
    !text.is_empty()
        && !text.contains([
            '\\', '/', ':', '*', '?', '"', '<', '>', '|', '\r', '\n', '\0',
        ])
}

/// Each kind at most once, in their order.
fn are_options(options: &[&str]) -> bool {
    let mut left = options;
    for kind in [MODES, LABELS, PROPAGATIONS] {
        let is_one = |option: &&str| kind.contains(&option.to_ascii_lowercase().as_str());
        if left.first().is_some_and(is_one) {
            left = &left[1..];
        }
    }
    left.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_read_and_written() {
        for (text, bind) in [
            ("/cache", "S:/cache"),
            ("/cache:ro", "S:/cache:ro"),
            ("/host:/in", "/host:/in"),
            ("name:/in", "name:/in"),
            ("my volume:/in", "my volume:/in"),
            ("/host:/in:rw", "/host:/in:rw"),
            ("/host:/in:O", "/host:/in:O"),
            ("/host:/in:ro,z", "/host:/in:ro,z"),
            ("/host:/in:ro:Z", "/host:/in:ro,Z"),
            ("/host:/in:Z", "/host:/in:Z"),
            ("/host:/in:z,rshared", "/host:/in:z,rshared"),
            ("/host:/in:rslave", "/host:/in:rslave"),
            ("/host:/in:ro:z:rprivate", "/host:/in:ro,z,rprivate"),
            ("/host:/in/$VAR", "/host:/in/$VAR"),
            ("$VAR", "S:$VAR"),
            ("/host:$VAR:ro", "/host:$VAR:ro"),
            ("/with blank:/in", "/with blank:/in"),
        ] {
            let parsed = Specification::parse(text).unwrap_or_else(|| panic!("{text}"));
            let source = parsed.source.unwrap_or("S");
            assert_eq!(parsed.bind(source, parsed.destination), bind, "{text}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for text in [
            "",
            ":",
            "/:",
            "name",
            "name:ro",
            "a/b:/in",
            "a?b:/in",
            "/host:/in:xx",
            "/host:/in:z,ro",
            "/host:/in:ro,ro",
            "/host:/in:rshared,z",
            "/host:relative",
            "/a:/b:/c",
            ":/in",
            "$",
            "/in:",
            "/in:ro,",
            "C:\\x:/in",
        ] {
            assert_eq!(Specification::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_written_reads_the_same(text in "[a:/$,roz\\\\ é]{0,16}") {
            if let Some(parsed) = Specification::parse(&text)
                && let Some(source) = parsed.source
            {
                let bind = parsed.bind(source, parsed.destination);
                prop_assert_eq!(Specification::parse(&bind), Some(parsed.clone()));
            }
        }
    }
}
