//! Which commit a component's version means, and which file of its project it is.

use std::cmp::Ordering;
use std::rc::Rc;

use courser_pipeline::{Component, ComponentAddress, OtherProject, Unavailable};

use super::directories::Checkout;
use crate::repository::Repository;

/// `1.2.3` or `v1.2.3`, with what stands behind a dash.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version<'a> {
    numbers: [u64; 3],
    prerelease: &'a str,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split('+').next()?;
        let (core, prerelease) = text.split_once('-').unwrap_or((text, ""));
        let mut numbers = [0; 3];
        let mut parts = core.split('.');
        for number in &mut numbers {
            *number = parts.next()?.parse().ok()?;
        }
        parts.next().is_none().then_some(Self {
            numbers,
            prerelease,
        })
    }

    /// A version without a pre-release is later than the same with one.
    fn order(&self, other: &Self) -> Ordering {
        let rank = |version: &Self| version.prerelease.is_empty();
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| rank(self).cmp(&rank(other)))
            .then_with(|| self.prerelease.cmp(other.prerelease))
    }
}

/// The latest of the tags that `wanted` leaves: `~latest` all of them, `1` and `1.2` those that begin so.
/// `None` when `wanted` is no such thing, and so the name of a tag, branch or commit itself.
pub(super) fn latest<'t>(
    wanted: &str,
    tags: impl Iterator<Item = &'t str>,
) -> Option<Option<&'t str>> {
    let numbers: Vec<u64> = match wanted {
        "~latest" => Vec::new(),
        _ => {
            let parts: Option<Vec<u64>> = wanted.split('.').map(|part| part.parse().ok()).collect();
            parts.filter(|parts| parts.len() < 3)?
        }
    };
    let fitting = tags.filter_map(|tag| {
        let version = Version::parse(tag)?;
        let fits = version.prerelease.is_empty() && version.numbers.starts_with(&numbers);
        fits.then_some((version, tag))
    });
    let latest = fitting.max_by(|(one, _), (other, _)| one.order(other));
    Some(latest.map(|(_, tag)| tag))
}

/// The version that a component shows: the tag where it is one.
pub(super) fn shown(tag: &str) -> String {
    match Version::parse(tag) {
        Some(_) => tag.to_owned(),
        None => String::new(),
    }
}

/// A component of a repository on this machine.
pub(super) fn component(
    project: &str,
    name: &str,
    address: &ComponentAddress<'_>,
    repository: Repository,
) -> Result<Component, Unavailable> {
    let names = repository.ref_names();
    let missing = || {
        Unavailable(format!(
            "Component `{}`: project `{project}` has no version `{}`",
            address.full, address.version
        ))
    };
    let reference = match latest(address.version, names.iter().map(String::as_str)) {
        // A tag or branch may be called `1` as well.
        Some(found) => found
            .or_else(|| {
                names
                    .iter()
                    .map(String::as_str)
                    .find(|name| *name == address.version)
            })
            .ok_or_else(missing)?,
        None => address.version,
    };
    let sha = repository
        .find_ref(reference, false)
        .ok_or_else(missing)?
        .sha;
    let files = Checkout::of_commit(project, repository, Some(&sha))?;
    let mut found = of_files(project, name, address, Rc::new(files), &sha)?;
    found.version = shown(reference);
    Ok(found)
}

/// The file of a component: `templates/NAME.yml` or `templates/NAME/template.yml`.
pub(super) fn of_files(
    project: &str,
    name: &str,
    address: &ComponentAddress<'_>,
    files: Rc<dyn OtherProject>,
    sha: &str,
) -> Result<Component, Unavailable> {
    for path in [
        format!("templates/{name}.yml"),
        format!("templates/{name}/template.yml"),
    ] {
        if let Some(content) = files.read(&path)? {
            return Ok(Component {
                content,
                file: format!("{project}@{}:{path}", address.version),
                project: files,
                name: name.to_owned(),
                sha: sha.to_owned(),
                version: shown(address.version),
            });
        }
    }
    Err(Unavailable(format!(
        "Component `{}` not found: project `{project}` has neither templates/{name}.yml nor templates/{name}/template.yml there",
        address.full
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_release_of_a_range_is_taken() {
        let tags = [
            "1.0.0",
            "v1.10.0",
            "1.9.3",
            "2.0.0-rc1",
            "1.2",
            "main",
            "0.9.0",
        ];
        for (wanted, expected) in [
            ("~latest", Some(Some("v1.10.0"))),
            ("1", Some(Some("v1.10.0"))),
            ("1.9", Some(Some("1.9.3"))),
            ("0", Some(Some("0.9.0"))),
            ("2", Some(None)),
            ("1.0.0", None),
            ("main", None),
        ] {
            assert_eq!(latest(wanted, tags.into_iter()), expected, "{wanted}");
        }
        assert_eq!(
            (shown("v1.0.0"), shown("main")),
            ("v1.0.0".to_owned(), String::new())
        );
    }
}
