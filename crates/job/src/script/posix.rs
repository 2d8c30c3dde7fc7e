//! Scripts for bash and POSIX shells (`runner-build-lifecycle.md` 3.2 to 3.6).

use courser_protocol::JobVariable;

use super::quote::Quoting;
use super::{Dialect, GITLAB_ENV_FILE, Shell, Style};
use crate::tool_trust::Preset;
use crate::{Variables, messages};

const EXIT_CHECK: &str =
    "_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi\n";

/// Ends a helper request; cannot be a line of JSON.
const DELIMITER: &str = "COURSER_HELPER_REQUEST";

/// bash and sh.
#[derive(Debug)]
pub(super) struct Posix;

impl Posix {
    fn end_command(style: &Style, text: &mut String) {
        text.push('\n');
        if style.exit_check {
            text.push_str(EXIT_CHECK);
        }
    }
}

impl Dialect for Posix {
    fn change_directory(&self, style: &Style, text: &mut String, directory: &str) {
        text.push_str("cd ");
        quoting(style).push(text, directory);
        Self::end_command(style, text);
    }

    fn export(&self, style: &Style, text: &mut String, key: &str, value: &str) {
        text.push_str("export ");
        quoting(style).push(text, key);
        text.push('=');
        quoting(style).push(text, value);
        text.push('\n');
    }

    fn say(&self, style: &Style, text: &mut String, line: &str) {
        match style.shell {
            // dash's echo interprets backslashes
            Shell::Sh => text.push_str("printf '%s\\n' "),
            _ => text.push_str("echo "),
        }
        quoting(style).push(text, line);
        text.push('\n');
    }

    fn blank_line(&self, _style: &Style, text: &mut String) {
        text.push_str("echo\n");
    }

    fn run(&self, style: &Style, text: &mut String, command: &str) {
        text.push_str(command);
        Self::end_command(style, text);
    }

    /// Files are made 0600 in a directory 0700. Where users share them they are open; masked ones are made anew by each
    /// user, for that one alone.
    fn export_variables(
        &self,
        style: &Style,
        text: &mut String,
        variables: &Variables,
        temporary_dir: &str,
    ) {
        let quote = |text: &str| quoting(style).word(text);
        let directory = quote(temporary_dir);
        let environment_file = quote(&format!("{temporary_dir}/{GITLAB_ENV_FILE}"));
        let exported: Vec<&JobVariable> = variables
            .iter()
            .filter(|variable| style.shell.cannot_export(&variable.key).is_none())
            .collect();
        let files = exported.iter().copied().filter(|variable| variable.file);
        let (secret, open): (Vec<_>, Vec<_>) =
            files.partition(|file| style.open_files && file.masked);
        let umask = if style.open_files { "000" } else { "077" };
        if !(secret.is_empty() && open.is_empty()) {
            text.push_str("(umask ");
            text.push_str(umask);
            text.push('\n');
            // Processes are dear: none is started where the directory is there already.
            let line = format!(
                "[ -d {directory} ] || mkdir -p {directory}; [ -e {environment_file} ] || : > {environment_file}\n"
            );
            text.push_str(&line);
            let path = |file: &JobVariable| quote(&variables.file_path(&file.key));
            let write = |file: &JobVariable| {
                let content = quote(file.value.expose());
                format!("printf %s {content} > {}\n", path(file))
            };
            text.extend(open.into_iter().map(write));
            if !secret.is_empty() {
                text.push_str("rm -f");
                text.extend(secret.iter().map(|file| format!(" {}", path(file))));
                text.push_str(" || :\numask 077\n");
                text.extend(secret.into_iter().map(write));
            }
            text.push_str(")\n");
        }
        for variable in exported {
            if variable.file {
                let path = variables.file_path(&variable.key);
                self.export(style, text, &variable.key, &path);
            } else {
                self.export(style, text, &variable.key, variable.value.expose());
            }
        }
        let path = format!("{temporary_dir}/{GITLAB_ENV_FILE}");
        self.export(style, text, "GITLAB_ENV", &path);
        let line = format!(
            "if [ -s {environment_file} ]; then while read -r line; do export \"$line\"; done < {environment_file}; \
             elif [ ! -e {environment_file} ]; then (umask {umask}; mkdir -p {directory}; : > {environment_file}); fi\n"
        );
        text.push_str(&line);
    }

    fn export_where_unset(&self, style: &Style, text: &mut String, presets: &[Preset]) {
        for preset in presets {
            text.push_str("[ -n \"");
            for name in preset.unless {
                text.push_str("${");
                text.push_str(name);
                text.push_str("+x}");
            }
            text.push_str("\" ] || ");
            self.export(style, text, preset.name, &preset.value);
        }
    }

    fn echo_in_section(&self, style: &Style, text: &mut String, section: &str, command: &str) {
        text.push_str("_runner_section_time=${EPOCHSECONDS:-$(date +%s)}\n");
        let line = format!(
            "printf 'section_start:%s:{section}[hide_duration=true,collapsed=true]\\r\\033[0K%s\\nsection_end:%s:{section}\\r\\033[0K\\n' \
             \"$_runner_section_time\" {} \"$_runner_section_time\"\n",
            quoting(style).word(&messages::command(command))
        );
        text.push_str(&line);
    }

    fn helper(&self, style: &Style, text: &mut String, helper_command: &str, request: &str) {
        quoting(style).push(text, helper_command);
        text.push_str(" helper run <<'");
        text.push_str(DELIMITER);
        text.push_str("'\n");
        text.push_str(request);
        text.push('\n');
        text.push_str(DELIMITER);
        Self::end_command(style, text);
    }

    /// The body is evaluated as one text, so that the shell has read all of it before it begins (3.2).
    fn wrap(&self, style: &Style, mut body: String) -> String {
        if style.xtrace {
            // Inside the body: outside, the trace would begin with the whole body, secrets quoted so that
            // masking does not find them.
            body.insert_str(0, "set -o xtrace\n");
        }
        let mut script = String::with_capacity(body.len() + body.len() / 4 + 256);
        script.push_str("#!/usr/bin/env ");
        script.push_str(style.shell.program());
        script.push_str("\n\ntrap 'exit 1' TERM\n\n");
        // Tried in a subshell, because an unknown option ends a POSIX shell.
        script.push_str(
            "if [ -n \"${BASH_VERSION-}\" ] || (set -o pipefail) 2>/dev/null; then set -o pipefail; fi; set -o errexit\nset +o noclobber\n",
        );
        if style.legacy_eval {
            // In parentheses, because bash loses the exit code of a bare `eval` in a pipe.
            script.push_str(": | (eval ");
            quoting(style).push(&mut script, &body);
            script.push_str(")\n");
        } else {
            script.push_str("(trap 'exit 1' TERM; eval ");
            quoting(style).push(&mut script, &body);
            script.push_str(") </dev/null\n");
        }
        script.push_str("exit 0\n");
        script
    }
}

fn quoting(style: &Style) -> Quoting {
    match style.shell {
        _ if style.posix_escapes => Quoting::Double,
        Shell::Sh => Quoting::Single,
        _ => Quoting::AnsiC,
    }
}
