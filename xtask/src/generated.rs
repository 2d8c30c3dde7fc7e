//! Pages and pictures that are made from the binary and its recordings, so that they cannot disagree with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::picture;

/// Writes every generated page.
pub(crate) fn write(root: &Path, binary: &Path) -> Result<()> {
    for (path, text) in pages(root, binary)? {
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Fails when a page differs from what the binary says, or the map names what is not there.
pub(crate) fn check(root: &Path, binary: &Path) -> Result<()> {
    let map = root.join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(&map).with_context(|| format!("read {}", map.display()))?;
    for file in source_files(&text) {
        if !is_there(root, file) {
            bail!("ARCHITECTURE.md names {file}, which is not there");
        }
    }
    for (path, text) in pages(root, binary)? {
        let present = std::fs::read_to_string(&path).unwrap_or_default();
        if present != text {
            bail!(
                "{} is not what the binary says; run `cargo xtask docs`",
                path.display()
            );
        }
    }
    Ok(())
}

fn pages(root: &Path, binary: &Path) -> Result<Vec<(PathBuf, String)>> {
    let images = root.join("docs/images");
    let mut pages = vec![(root.join("docs/commands.md"), commands(binary)?)];
    for (name, title) in PICTURES {
        let recording = images.join(format!("{name}.txt"));
        let text = std::fs::read_to_string(&recording)
            .with_context(|| format!("read {}", recording.display()))?;
        let picture = picture::draw(&text, title)?;
        pages.push((images.join(format!("{name}.svg")), picture));
    }
    Ok(pages)
}

/// Recordings that are drawn, and what each shows, in words.
const PICTURES: [(&str, &str); 2] = [
    (
        "exec",
        "Terminal: courser exec examples/matrix runs seven jobs in three stages, each passes, \
         and the summary names times and artifacts",
    ),
    (
        "trust-check",
        "Terminal: courser trust check finds a server that leaves out its intermediate certificate, \
         names the missing link and the files looked at, and proposes one command",
    ),
];

/// `docs/commands.md`: the help of every command.
fn commands(binary: &Path) -> Result<String> {
    let mut page =
        String::from("# Commands\n\nMade by `cargo xtask docs` from `--help`; do not edit.\n");
    let top = help(binary, &[])?;
    page.push_str(&section("courser", &top));
    let mut open: Vec<Vec<String>> = subcommands(&top)
        .into_iter()
        .map(|name| vec![name])
        .collect();
    open.reverse();
    while let Some(path) = open.pop() {
        let text = help(binary, &path)?;
        page.push_str(&section(&format!("courser {}", path.join(" ")), &text));
        for name in subcommands(&text).into_iter().rev() {
            let mut longer = path.clone();
            longer.push(name);
            open.push(longer);
        }
    }
    Ok(page)
}

/// Paths of the map begin in `crates/`, or at the top.
fn is_there(root: &Path, file: &str) -> bool {
    root.join("crates").join(file).exists() || root.join(file).exists()
}

/// Names such as `job/src/trace/stamp.rs` between back-ticks.
fn source_files(text: &str) -> impl Iterator<Item = &str> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(|name| name.strip_prefix("crates/").unwrap_or(name))
        .filter(|name| name.contains("/src/") && !name.contains(char::is_whitespace))
}

fn section(title: &str, help: &str) -> String {
    format!("\n## `{title}`\n\n```text\n{}\n```\n", help.trim_end())
}

fn help(binary: &Path, path: &[String]) -> Result<String> {
    let output = Command::new(binary)
        .args(path)
        .arg("--help")
        .env_clear()
        .env("COLUMNS", "100")
        .output()
        .with_context(|| format!("{} --help", binary.display()))?;
    let text = String::from_utf8(output.stdout).context("help is not UTF-8")?;
    Ok(text
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n"))
}

/// Names under `Commands:` in clap's help.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_names_files_in_the_workspace() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("read");
        let files: Vec<_> = source_files(&text).collect();
        assert!(files.len() > 30, "{files:?}");
        for file in files {
            assert!(is_there(&root, file), "{file}");
        }
    }

    #[test]
    fn commands_are_found_in_the_help() {
        let help = "about\n\nUsage: x\n\nCommands:\n  exec  Run\n        more\n  help  Print\n\nOptions:\n  -h\n";
        assert_eq!(subcommands(help), ["exec"]);
    }
}
