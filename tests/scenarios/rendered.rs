//! A job's log as the scenarios write it down: everything that counts, nothing that changes from run to run.
//!
//! - Stamps go; who wrote remains: `.` the runner, `O` and `E` the two pipes of a script. The pipes have no order between
//!   them, so within a stage what came through `O` is written before what came through `E`.
//! - A section is `== name`. Its end and its title have to be right and are not shown.
//! - Colours are `<green>…</>`, the sequence that clears a line is `<K>`, a carriage return is `<CR>`.
//! - The beginning that all jobs share is `(started)`, with sources that are skipped `(started, no sources)`.
//! - Addresses, directories, host, versions, process ids, sizes of pieces on the way are names in angle brackets.

use super::scene::Scene;
use crate::wire::gitlab::Record;

/// Name and title of each section; `step_*` have their own rule.
const TITLES: [(&str, &str); 13] = [
    ("prepare_executor", "Preparing the \"shell\" executor"),
    ("prepare_script", "Preparing environment"),
    ("get_sources", "Getting source from Git repository"),
    (
        "clear_worktree",
        "Deleting all tracked and untracked files due to source fetch failure",
    ),
    ("restore_cache", "Restoring cache"),
    ("download_artifacts", "Downloading artifacts"),
    ("after_script", "Running after_script"),
    ("archive_cache", "Saving cache for successful job"),
    ("archive_cache_on_failure", "Saving cache for failed job"),
    (
        "upload_artifacts_on_success",
        "Uploading artifacts for successful job",
    ),
    (
        "upload_artifacts_on_failure",
        "Uploading artifacts for failed job",
    ),
    (
        "cleanup_file_variables",
        "Cleaning up project directory and file based variables",
    ),
    ("resolve_secrets", "Resolving secrets"),
];

/// What all logs begin with; the third line is there when flags differ from their default.
const HEADER: &str = "\
. <K>Running with gitlab-runner <version></>
. <K>  on wire wireabcde, system ID: <system id></>
";
const FLAGS: &str = ". <K>  feature flags: ";
const PREPARATION: &str = "\
== prepare_executor
. <K>Using Shell (bash) executor...</>
== prepare_script
O Running on <host>...
";
const NO_SOURCES: &str = "\
== get_sources
O <green>Skipping Git repository setup</>
O <green>Skipping Git checkout</>
O <green>Skipping Git submodules setup</>
";

/// The log of a job of this scene.
pub(super) fn rendered(scene: &Scene, job: &Record) -> String {
    let text = String::from_utf8(job.log.clone()).expect("a log is UTF-8");
    let stamped = text.starts_with("20");
    let lines = if stamped {
        unstamped(&job.lines())
    } else {
        text.lines().map(|line| (". ", line.to_owned())).collect()
    };
    let mut shown: Vec<String> = Vec::new();
    let mut pipes: Vec<(&str, String)> = Vec::new();
    let mut open = None;
    for (writer, line) in lines {
        let line = sections(&line, &mut open, &mut shown, &mut pipes);
        if line.is_empty() && writer == ". " {
            continue;
        }
        let line = scene.placeless(&colours(&line));
        if writer == ". " {
            flush(&mut pipes, &mut shown);
            shown.push(format!(". {line}").trim_end().to_owned());
        } else {
            pipes.push((writer, format!("{writer}{line}").trim_end().to_owned()));
        }
    }
    flush(&mut pipes, &mut shown);
    let text = shown.join("\n") + "\n";
    shortened(&text)
}

/// Puts `(started)` and `(no sources)` in the place of what most logs begin with, if it is right to the letter.
fn shortened(text: &str) -> String {
    let Some(rest) = text.strip_prefix(HEADER) else {
        return text.to_owned();
    };
    let (flags, rest) = match rest
        .strip_prefix(FLAGS)
        .and_then(|rest| rest.split_once("</>\n"))
    {
        Some((flags, rest)) => (format!(" with {flags}"), rest),
        None => (String::new(), rest),
    };
    let Some(rest) = rest.strip_prefix(PREPARATION) else {
        return text.to_owned();
    };
    match rest.strip_prefix(NO_SOURCES) {
        Some(rest) => format!("(started{flags}, no sources)\n{rest}"),
        None => format!("(started{flags})\n{rest}"),
    }
}

/// Writers and lines, with `+` lines joined to those that they go on.
fn unstamped(lines: &[String]) -> Vec<(&'static str, String)> {
    let mut joined: Vec<(&str, &str, String)> = Vec::new();
    for line in lines {
        let (stream, rest) = line.split_at(3);
        let (flag, text) = rest.split_at(1);
        let writer = match stream {
            "00O" => ". ",
            "01O" => "O ",
            "01E" => "E ",
            other => panic!("stream {other:?} in {line:?}"),
        };
        let last = joined.iter_mut().rev().find(|(of, ..)| *of == stream);
        match last {
            Some((_, _, before)) if flag == "+" => before.push_str(text),
            _ => joined.push((stream, writer, text.to_owned())),
        }
    }
    joined
        .into_iter()
        .map(|(_, writer, line)| (writer, line))
        .collect()
}

/// Takes the markers and the title out of a line of the runner; checks that they fit.
fn sections(
    line: &str,
    open: &mut Option<String>,
    shown: &mut Vec<String>,
    pipes: &mut Vec<(&'static str, String)>,
) -> String {
    let mut rest = line.to_owned();
    while let Some((before, marker)) = rest.split_once("section_") {
        let Some((marker, after)) = marker.split_once("\r\u{1b}[0K") else {
            break;
        };
        let mut parts = marker.splitn(3, ':');
        let (kind, time, name) = (parts.next(), parts.next(), parts.next());
        let (Some(kind @ ("start" | "end")), Some(time), Some(name)) = (kind, time, name) else {
            break;
        };
        if name.starts_with("section_") {
            // Printed by the script itself.
            rest = format!("{before}<{kind} of {name}>{after}");
            continue;
        }
        let recent = time.parse::<u64>().is_ok_and(|time| time > 1_700_000_000);
        assert!(recent, "{line:?}");
        flush(pipes, shown);
        if kind == "start" {
            assert_eq!(open.replace(name.to_owned()), None, "sections do not nest");
            shown.push(format!("== {name}"));
            let title = match name.strip_prefix("step_") {
                Some(_) => format!("Executing \"{name}\" stage of the job script"),
                None => TITLES
                    .iter()
                    .find(|(section, _)| *section == name)
                    .unwrap_or_else(|| panic!("section {name:?}"))
                    .1
                    .to_owned(),
            };
            let title = format!("\u{1b}[0K\u{1b}[36;1m{title}\u{1b}[0;m\u{1b}[0;m");
            let after = after
                .strip_prefix(&title)
                .unwrap_or_else(|| panic!("the title of {name} in {line:?}"));
            rest = format!("{before}{after}");
        } else {
            assert_eq!(open.take().as_deref(), Some(name), "{line:?}");
            rest = format!("{before}{after}");
        }
    }
    rest
}

/// What two pipes said since the runner last did.
fn flush(pipes: &mut Vec<(&'static str, String)>, shown: &mut Vec<String>) {
    pipes.sort_by_key(|(writer, _)| *writer == "E ");
    shown.extend(pipes.drain(..).map(|(_, line)| line));
}

fn colours(line: &str) -> String {
    [
        ("\u{1b}[32;1m", "<green>"),
        ("\u{1b}[31;1m", "<red>"),
        ("\u{1b}[36;1m", "<cyan>"),
        ("\u{1b}[0;33m", "<yellow>"),
        ("\u{1b}[33;1m", "<bright>"),
        ("\u{1b}[0;m", "</>"),
        ("\u{1b}[0K", "<K>"),
        ("\r", "<CR>"),
    ]
    .into_iter()
    .fold(line.to_owned(), |line, (from, to)| line.replace(from, to))
}
