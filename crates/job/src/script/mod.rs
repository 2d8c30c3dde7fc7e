//! Shell scripts of a stage: wrapper, exports, echo of commands (`runner-build-lifecycle.md` 3.2 to 3.5).
//!
//! [`Body`] collects the commands of a stage; [`Body::into_script`] wraps them so that the shell has read
//! everything before the first command runs: a command that reads standard input finds it empty.

mod quote;

use courser_protocol::JobVariable;

use crate::tool_trust::Preset;
use crate::{Features, HelperRequest, Rejection, Variables, messages};
pub(crate) use quote::Quoting;

/// Dialect of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// bash.
    Bash,
    /// Any POSIX shell, for example dash or busybox.
    Sh,
}

impl Shell {
    /// Reads `shell` of the configuration; empty is bash.
    pub fn parse(name: &str) -> Result<Self, Rejection> {
        match name {
            "" | "bash" => Ok(Self::Bash),
            "sh" => Ok(Self::Sh),
            "pwsh" | "powershell" => Err(Rejection::configuration(format!(
                "shell {name:?} is not built yet: use \"bash\" or \"sh\""
            ))),
            other => Err(Rejection::configuration(format!(
                "unknown shell {other:?}: use \"bash\" or \"sh\""
            ))),
        }
    }

    /// Why a variable of that name cannot be exported; an attempt would end the script.
    pub(crate) fn cannot_export(self, key: &str) -> Option<&'static str> {
        if !is_shell_name(key) {
            Some("its name is not one that a shell can export")
        } else if self == Self::Bash && BASH_READ_ONLY.contains(&key) {
            Some("bash does not let it be changed")
        } else {
            None
        }
    }

    /// Program name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Sh => "sh",
        }
    }
}

const BASH_READ_ONLY: [&str; 6] = [
    "BASHOPTS",
    "BASH_VERSINFO",
    "EUID",
    "PPID",
    "SHELLOPTS",
    "UID",
];

/// Whether a shell can have a variable of that name.
pub(crate) fn is_shell_name(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What all scripts of a job share.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    pub(crate) shell: Shell,
    quoting: Quoting,
    exit_check: bool,
    sections: bool,
    legacy_eval: bool,
    xtrace: bool,
}

impl Style {
    pub(crate) fn new(
        shell: Shell,
        features: &Features,
        trace_sections: bool,
        xtrace: bool,
    ) -> Self {
        Self {
            shell,
            quoting: match shell {
                _ if features.posix_escapes => Quoting::Double,
                Shell::Bash => Quoting::AnsiC,
                Shell::Sh => Quoting::Single,
            },
            exit_check: features.bash_exit_code_check,
            sections: features.script_sections && trace_sections,
            legacy_eval: features.legacy_bash_eval,
            xtrace,
        }
    }
}

/// Commands of one stage.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    style: &'a Style,
    text: String,
}

const EXIT_CHECK: &str =
    "_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi\n";

/// Ends a helper request; cannot be a line of JSON.
const DELIMITER: &str = "COURSER_HELPER_REQUEST";

impl<'a> Body<'a> {
    pub(crate) fn new(style: &'a Style) -> Self {
        Self {
            style,
            text: String::with_capacity(4096),
        }
    }

    /// One command, words quoted literally.
    pub(crate) fn command(&mut self, words: &[&str]) {
        for (index, word) in words.iter().enumerate() {
            if index > 0 {
                self.text.push(' ');
            }
            self.style.quoting.push(&mut self.text, word);
        }
        self.end_command();
    }

    /// Shell text as it is.
    fn raw(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn end_command(&mut self) {
        self.text.push('\n');
        if self.style.exit_check {
            self.text.push_str(EXIT_CHECK);
        }
    }

    /// `export KEY=value`.
    pub(crate) fn export(&mut self, key: &str, value: &str) {
        self.text.push_str("export ");
        self.style.quoting.push(&mut self.text, key);
        self.text.push('=');
        self.style.quoting.push(&mut self.text, value);
        self.text.push('\n');
    }

    /// Prints a line that the runner itself says.
    pub(crate) fn say(&mut self, line: &str) {
        match self.style.shell {
            // dash's echo interprets backslashes
            Shell::Sh => self.text.push_str("printf '%s\\n' "),
            Shell::Bash => self.text.push_str("echo "),
        }
        self.style.quoting.push(&mut self.text, line);
        self.text.push('\n');
    }

    /// Exports the variables in order, writes file variables, and reads what earlier stages left in
    /// `GITLAB_ENV` (3.4). Files are made 0600 in a directory 0700.
    pub(crate) fn export_variables(&mut self, variables: &Variables, temporary_dir: &str) {
        let quote = |text: &str| self.style.quoting.word(text);
        let directory = quote(temporary_dir);
        let environment_file = quote(&format!("{temporary_dir}/{GITLAB_ENV_FILE}"));
        let exported: Vec<&JobVariable> = variables
            .iter()
            .filter(|variable| self.style.shell.cannot_export(&variable.key).is_none())
            .collect();
        let files: Vec<&&JobVariable> = exported.iter().filter(|variable| variable.file).collect();
        if !files.is_empty() {
            self.raw("(umask 077");
            // Processes are dear: none is started where the directory is there already.
            self.raw(&format!(
                "[ -d {directory} ] || mkdir -p {directory}; [ -e {environment_file} ] || : > {environment_file}"
            ));
            for file in &files {
                let line = format!(
                    "printf %s {} > {}",
                    quote(file.value.expose()),
                    quote(&variables.file_path(&file.key))
                );
                self.raw(&line);
            }
            self.raw(")");
        }
        for variable in exported {
            if variable.file {
                self.export(&variable.key, &variables.file_path(&variable.key));
            } else {
                self.export(&variable.key, variable.value.expose());
            }
        }
        self.export("GITLAB_ENV", &format!("{temporary_dir}/{GITLAB_ENV_FILE}"));
        self.raw(&format!(
            "if [ -s {environment_file} ]; then while read -r line; do export \"$line\"; done < {environment_file}; \
             elif [ ! -e {environment_file} ]; then (umask 077; mkdir -p {directory}; : > {environment_file}); fi"
        ));
    }

    /// Exports each where none of its names is set. A name that is set to nothing is set.
    pub(crate) fn export_where_unset(&mut self, presets: &[Preset]) {
        for preset in presets {
            self.text.push_str("[ -n \"");
            for name in preset.unless {
                self.text.push_str("${");
                self.text.push_str(name);
                self.text.push_str("+x}");
            }
            self.text.push_str("\" ] || ");
            self.export(preset.name, &preset.value);
        }
    }

    /// Script elements, each echoed first (3.5).
    pub(crate) fn commands<'s>(
        &mut self,
        prefix: &str,
        elements: impl IntoIterator<Item = &'s str>,
    ) {
        for (index, element) in elements.into_iter().enumerate() {
            let command = element.trim();
            if command.is_empty() {
                self.raw("echo");
                continue;
            }
            match command.split_once('\n') {
                Some(_) if self.style.sections => {
                    let section = format!("section_{prefix}_{index}");
                    self.echo_in_section(&section, command);
                }
                Some((first, _)) => {
                    self.say(&messages::collapsed_command(first.trim_end_matches('\r')));
                }
                None => self.say(&messages::command(command)),
            }
            self.text.push_str(command);
            self.end_command();
        }
    }

    /// The section wraps the text of the command, not its output. The time is the target's.
    fn echo_in_section(&mut self, section: &str, command: &str) {
        self.raw("_runner_section_time=${EPOCHSECONDS:-$(date +%s)}");
        let line = format!(
            "printf 'section_start:%s:{section}[hide_duration=true,collapsed=true]\\r\\033[0K%s\\nsection_end:%s:{section}\\r\\033[0K\\n' \
             \"$_runner_section_time\" {} \"$_runner_section_time\"",
            self.style.quoting.word(&messages::command(command))
        );
        self.raw(&line);
    }

    /// Runs the helper with a request on its standard input.
    pub(crate) fn helper(&mut self, helper_command: &str, request: &HelperRequest) {
        self.style.quoting.push(&mut self.text, helper_command);
        self.text.push_str(" helper run <<'");
        self.text.push_str(DELIMITER);
        self.text.push_str("'\n");
        self.text.push_str(&request.to_json());
        self.text.push('\n');
        self.text.push_str(DELIMITER);
        self.end_command();
    }

    /// The whole script, to be given to the shell on standard input (3.2).
    pub(crate) fn into_script(mut self) -> String {
        let style = self.style;
        if style.xtrace {
            // Inside the body: outside, the trace would begin with the whole body, secrets quoted so that
            // masking does not find them.
            self.text.insert_str(0, "set -o xtrace\n");
        }
        let mut script = String::with_capacity(self.text.len() + self.text.len() / 4 + 256);
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
            style.quoting.push(&mut script, &self.text);
            script.push_str(")\n");
        } else {
            script.push_str("(trap 'exit 1' TERM; eval ");
            style.quoting.push(&mut script, &self.text);
            script.push_str(") </dev/null\n");
        }
        script.push_str("exit 0\n");
        script
    }
}

/// File in the job's temporary directory whose lines are exported in later stages.
pub(crate) const GITLAB_ENV_FILE: &str = "gitlab_runner_env";

#[cfg(test)]
mod tests;
