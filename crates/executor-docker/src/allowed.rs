//! Which images and services a job may use, and which of them may be privileged (`executor-docker.md` 9.1, 5.4).

use courser_archive::Glob;

/// Whether an image is one of those that the globs name. A glob that is malformed names none.
pub(crate) fn matches_any(globs: &[String], image: &str) -> bool {
    globs
        .iter()
        .filter_map(|glob| Glob::new(glob).ok())
        .any(|glob| glob.is_match(image.as_bytes()))
}

/// Whether a job may use an image: the list is empty, names it, or the administrator chose it, in `own`.
pub(crate) fn may_use<'a>(
    globs: &[String],
    own: impl IntoIterator<Item = &'a str>,
    image: &str,
) -> bool {
    globs.is_empty() || own.into_iter().any(|own| own == image) || matches_any(globs, image)
}

/// Whether a container may be privileged: its kind is, and the list is empty or names its image as it was written.
pub(crate) fn may_be_privileged(privileged: bool, globs: &[String], image: &str) -> bool {
    privileged && (globs.is_empty() || matches_any(globs, image))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn globs_are_those_of_doublestar() {
        for (glob, image, expected) in [
            ("alpine", "alpine", true),
            ("alpine", "alpine:3", false),
            ("alpine:*", "alpine:3", true),
            ("ruby:*", "reg.tld/ruby:3", false),
            ("*/ruby:*", "reg.tld/ruby:3", true),
            ("*", "reg.tld/ruby:3", false),
            ("**", "reg.tld:5000/a/ruby:3", true),
            ("reg.tld:5000/**", "reg.tld:5000/a/b:1", true),
            ("reg.tld:5000/**", "reg.tld:5001/a/b:1", false),
            ("reg.tld/**/*:[0-9]", "reg.tld/a/b/c:1", true),
            ("alpine:[!0-9]*", "alpine:edge", true),
            ("alpine:[!0-9]*", "alpine:3", false),
            (
                "{docker.io/library,docker.io}/docker:*",
                "docker.io/docker:dind",
                true,
            ),
            ("alpine:[", "alpine:[", false),
        ] {
            assert_eq!(
                matches_any(&texts(&[glob]), image),
                expected,
                "{glob} {image}"
            );
        }
    }

    #[test]
    fn an_empty_list_allows_everything_and_the_administrator_s_image_is_always_allowed() {
        assert!(may_use(&[], [], "anything"));
        let ruby = texts(&["ruby:*"]);
        assert!(may_use(&ruby, [], "ruby:3"));
        assert!(!may_use(&ruby, ["alpine:3"], "alpine:4"));
        assert!(may_use(&ruby, ["alpine:3"], "alpine:3"));
    }

    #[test]
    fn a_list_limits_who_is_privileged_and_gives_nobody_more() {
        let dind = texts(&["docker:*-dind"]);
        assert!(may_be_privileged(true, &[], "x"));
        assert!(!may_be_privileged(false, &[], "x"));
        assert!(may_be_privileged(true, &dind, "docker:24-dind"));
        // As it is written: nothing is put before or behind it.
        assert!(!may_be_privileged(
            true,
            &dind,
            "docker.io/library/docker:24-dind"
        ));
        assert!(!may_be_privileged(false, &dind, "docker:24-dind"));
    }
}
