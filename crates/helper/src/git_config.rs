//! Git configuration files that we write and look at ourselves: one file instead of nine processes.

use std::fmt::Write as _;
use std::path::Path;

use crate::HelperError;

/// A configuration file in the making.
#[derive(Default)]
pub(crate) struct GitConfig {
    text: String,
}

impl GitConfig {
    /// Adds a section with its values, in order. An empty subsection means none.
    pub(crate) fn section(
        &mut self,
        name: &str,
        subsection: &str,
        values: &[(&str, &str)],
    ) -> Result<(), HelperError> {
        if subsection.contains(['\n', '\0']) {
            return Err(HelperError::Request(
                "a URL of the job holds a line break".to_owned(),
            ));
        }
        if subsection.is_empty() {
            self.push(format_args!("[{name}]\n"));
        } else {
            let quoted = subsection.replace('\\', "\\\\").replace('"', "\\\"");
            self.push(format_args!("[{name} \"{quoted}\"]\n"));
        }
        for (key, value) in values {
            if value.contains('\0') {
                return Err(HelperError::Request(
                    "a value of the job holds a zero byte".to_owned(),
                ));
            }
            self.push(format_args!("\t{key} = {}\n", quoted(value)));
        }
        Ok(())
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.text.write_fmt(text).ok();
    }

    /// The file.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// A value as Git writes it: in quotes where it has to be.
fn quoted(value: &str) -> String {
    let plain = !value.is_empty()
        && !value.starts_with(' ')
        && !value.ends_with(' ')
        && !value.contains(['"', '\\', '\n', '\t', '\u{8}', '#', ';', '\r']);
    if plain {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

/// What a repository's own file says about its remote. Only the plain form in which Git writes it is
/// understood; everything else is [`Remote::Other`] and left to Git.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    /// There is no remote `origin`.
    Missing,
    /// It has this URL, and the external file is included.
    AsWanted,
    /// Anything else.
    Other,
}

/// Looks for `origin` with `url`, and for the inclusion of `include`.
pub(crate) fn remote(text: &str, url: &str, include: &str) -> Remote {
    if !has_remote(text) {
        return Remote::Missing;
    }
    let urls = values_of(text, "[remote \"origin\"]", "url");
    let includes = values_of(text, "[include]", "path");
    if urls == [quoted(url)] && includes == [quoted(include)] {
        Remote::AsWanted
    } else {
        Remote::Other
    }
}

/// Whether a configuration names the remote `origin` at all.
pub(crate) fn has_remote(text: &str) -> bool {
    text.lines().any(is_origin)
}

fn is_origin(line: &str) -> bool {
    let line = line.trim_start().to_lowercase();
    line.starts_with('[') && line.contains("remote") && line.contains("origin")
}

/// What of a repository's configuration makes Git run nothing and is missed: the format of its objects, and where
/// they come from. In a submodule, `git submodule sync` corrects the URL; without one, Git could not fetch into
/// submodules of submodules.
pub(crate) fn harmless_part(repository: &Path) -> String {
    let mut kept = String::new();
    let text = std::fs::read_to_string(repository.join("config")).unwrap_or_default();
    let is_sha256 = |line: &str| {
        let line = line.to_lowercase();
        line.split_once('=').is_some_and(|(key, value)| {
            key.trim().ends_with("objectformat") && value.trim() == "sha256"
        })
    };
    if text.lines().any(is_sha256) {
        kept.push_str(
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n",
        );
    }
    let origin = "[remote \"origin\"]";
    let mut values = Vec::new();
    let is_plain = |value: &String| !value.contains(['"', '\\', '#', ';', '\r']);
    let urls = values_of(&text, origin, "url");
    let is_remote = |url: &&String| {
        let schemes = ["https://", "http://", "ssh://"];
        is_plain(url) && schemes.iter().any(|scheme| url.starts_with(scheme))
    };
    values.extend(
        urls.iter()
            .filter(is_remote)
            .map(|url| ("url", url.as_str())),
    );
    let refspecs = values_of(&text, origin, "fetch");
    let is_usual = |refspec: &&String| {
        is_plain(refspec)
            && refspec.starts_with("+refs/heads/")
            && refspec.contains(":refs/remotes/origin/")
    };
    values.extend(
        refspecs
            .iter()
            .filter(is_usual)
            .map(|spec| ("fetch", spec.as_str())),
    );
    if is_partial(repository) {
        values.push(("promisor", "true"));
    }
    if !values.is_empty() {
        kept.push_str(origin);
        kept.push('\n');
    }
    for (key, value) in values {
        kept.extend(["\t", key, " = ", value, "\n"]);
    }
    kept
}

/// All values of a key in sections written like this.
fn values_of(text: &str, section: &str, key: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_inside = line == section;
        } else if let Some((found, value)) = line.split_once('=')
            && is_inside
            && found.trim().eq_ignore_ascii_case(key)
        {
            values.push(value.trim().to_owned());
        }
    }
    values
}

/// Whether some objects were left out on purpose (`--filter`): Git has to know that to get them later.
pub(crate) fn is_partial(repository: &Path) -> bool {
    let packs = std::fs::read_dir(repository.join("objects/pack"));
    packs.into_iter().flatten().flatten().any(|pack| {
        Path::new(&pack.file_name())
            .extension()
            .is_some_and(|extension| extension == "promisor")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_values_are_quoted() {
        let mut config = GitConfig::default();
        config
            .section("url", "https://u:p\"w\\@h", &[("insteadOf", "https://h")])
            .expect("writes");
        config
            .section("http", "", &[("extraHeader", "A: b; c")])
            .expect("writes");
        assert_eq!(
            config.text(),
            "[url \"https://u:p\\\"w\\\\@h\"]\n\tinsteadOf = https://h\n[http]\n\textraHeader = \"A: b; c\"\n"
        );
        assert!(config.section("url", "a\nb", &[]).is_err());
    }

    #[test]
    fn only_the_plain_form_of_a_remote_is_understood() {
        let plain = "[remote \"origin\"]\n\turl = https://h/p.git\n[include]\n\tpath = /x\n";
        let table = [
            ("[core]\n\tbare = false\n", Remote::Missing),
            ("[include]\n\tpath = /origin/remote\n", Remote::Missing),
            (plain, Remote::AsWanted),
            (
                "[remote \"origin\"]\n\turl = https://h/p.git\n",
                Remote::Other,
            ),
            ("[remote.origin]\nurl = x\n", Remote::Other),
        ];
        for (text, expected) in table {
            assert_eq!(remote(text, "https://h/p.git", "/x"), expected, "{text}");
        }
        let twice = format!("{plain}[remote \"origin\"]\n\turl = https://evil\n");
        assert_eq!(remote(&twice, "https://h/p.git", "/x"), Remote::Other);
    }
}
