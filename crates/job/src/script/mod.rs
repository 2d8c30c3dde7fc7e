//! Shell scripts of a stage: wrapper, exports, echo of commands (`runner-build-lifecycle.md` 3.2 to 3.7).
//!
//! [`Body`] collects the commands of a stage; [`Body::into_script`] wraps them so that the shell has read
//! everything before the first command runs: a command that reads standard input finds it empty. How it is
//! said is the dialect's: `posix.rs`, `powershell.rs`. How a shell is started is `start.rs`.

mod posix;
mod powershell;
mod quote;
mod start;

use std::fmt;

use crate::tool_trust::Preset;
use crate::{Features, HelperRequest, Rejection, Variables, messages};
use posix::Posix;
use powershell::PowerShell;

/// Program that a script is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// bash.
    Bash,
    /// Any POSIX shell, for example dash or busybox.
    Sh,
    /// PowerShell 6 and later, of any platform.
    Pwsh,
    /// Windows PowerShell 5.
    PowerShell,
}

impl Shell {
    /// Reads `shell` of the configuration; empty is bash.
    pub fn parse(name: &str) -> Result<Self, Rejection> {
        match name {
            "" | "bash" => Ok(Self::Bash),
            "sh" => Ok(Self::Sh),
            "pwsh" => Ok(Self::Pwsh),
            "powershell" => Ok(Self::PowerShell),
            "cmd" => Err(Rejection::configuration(
                "shell \"cmd\" is no longer supported, by gitlab-runner neither: use \"pwsh\" or \"powershell\"",
            )),
            other => Err(Rejection::configuration(format!(
                "unknown shell {other:?}: use \"bash\", \"sh\", \"pwsh\" or \"powershell\""
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
            Self::Pwsh => "pwsh",
            Self::PowerShell => "powershell",
        }
    }

    fn dialect(self) -> &'static dyn Dialect {
        match self {
            Self::Bash | Self::Sh => &Posix,
            Self::Pwsh | Self::PowerShell => &PowerShell,
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
    posix_escapes: bool,
    exit_check: bool,
    sections: bool,
    legacy_eval: bool,
    xtrace: bool,
    /// The script is a file, not standard input.
    script_file: bool,
    /// Whether jobs run on a Unix.
    unix: bool,
    /// Files that the script makes for the job are for all users.
    open_files: bool,
}

impl Style {
    /// `platform` is where jobs run, as in `windows/amd64`.
    pub(crate) fn new(
        shell: Shell,
        features: &Features,
        trace_sections: bool,
        xtrace: bool,
        platform: &str,
    ) -> Self {
        Self {
            shell,
            posix_escapes: features.posix_escapes,
            exit_check: features.bash_exit_code_check,
            sections: features.script_sections && trace_sections,
            legacy_eval: features.legacy_bash_eval,
            xtrace,
            script_file: features.disable_powershell_stdin,
            unix: !platform.starts_with("windows/"),
            open_files: false,
        }
    }

    /// See [`RunnerContext::open_files`](crate::RunnerContext::open_files).
    pub(crate) fn sharing_files(self, open_files: bool) -> Self {
        Self { open_files, ..self }
    }
}

/// How a kind of shell says what scripts consist of. Each appends to `text`.
trait Dialect: fmt::Debug {
    fn change_directory(&self, style: &Style, text: &mut String, directory: &str);

    /// Sets an environment variable, for the rest of the script too.
    fn export(&self, style: &Style, text: &mut String, key: &str, value: &str);

    /// Prints a line.
    fn say(&self, style: &Style, text: &mut String, line: &str);

    fn blank_line(&self, style: &Style, text: &mut String);

    /// A command of the job; the script ends if it fails.
    fn run(&self, style: &Style, text: &mut String, command: &str);

    fn export_variables(
        &self,
        style: &Style,
        text: &mut String,
        variables: &Variables,
        temporary_dir: &str,
    );

    fn export_where_unset(&self, style: &Style, text: &mut String, presets: &[Preset]);

    /// Prints a command of several lines whole, in a section of the log where the dialect has that.
    fn echo_in_section(&self, style: &Style, text: &mut String, section: &str, command: &str);

    /// Runs the helper with `request`, JSON of one line, on its standard input.
    fn helper(&self, style: &Style, text: &mut String, helper_command: &str, request: &str);

    /// The whole script around its commands.
    fn wrap(&self, style: &Style, body: String) -> String;
}

/// Commands of one stage.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    style: &'a Style,
    dialect: &'static dyn Dialect,
    text: String,
}

impl<'a> Body<'a> {
    pub(crate) fn new(style: &'a Style) -> Self {
        Self {
            style,
            dialect: style.shell.dialect(),
            text: String::with_capacity(4096),
        }
    }

    /// The commands that follow run in `directory`.
    pub(crate) fn change_directory(&mut self, directory: &str) {
        self.dialect
            .change_directory(self.style, &mut self.text, directory);
    }

    /// Sets an environment variable.
    pub(crate) fn export(&mut self, key: &str, value: &str) {
        self.dialect.export(self.style, &mut self.text, key, value);
    }

    /// Prints a line that the runner itself says.
    pub(crate) fn say(&mut self, line: &str) {
        self.dialect.say(self.style, &mut self.text, line);
    }

    /// Exports the variables in order, writes file variables, and reads what earlier stages left in
    /// `GITLAB_ENV` (3.4).
    pub(crate) fn export_variables(&mut self, variables: &Variables, temporary_dir: &str) {
        self.dialect
            .export_variables(self.style, &mut self.text, variables, temporary_dir);
    }

    /// Exports each where none of its names is set. A name that is set to nothing is set.
    pub(crate) fn export_where_unset(&mut self, presets: &[Preset]) {
        self.dialect
            .export_where_unset(self.style, &mut self.text, presets);
    }

    /// Script elements, each echoed first (3.5).
    pub(crate) fn commands<'s>(
        &mut self,
        prefix: &str,
        elements: impl IntoIterator<Item = &'s str>,
    ) {
        let Self {
            style,
            dialect,
            text,
        } = self;
        for (index, element) in elements.into_iter().enumerate() {
            let command = element.trim();
            if command.is_empty() {
                dialect.blank_line(style, text);
                continue;
            }
            match command.split_once('\n') {
                Some(_) if style.sections => {
                    let section = format!("section_{prefix}_{index}");
                    dialect.echo_in_section(style, text, &section, command);
                }
                Some((first, _)) => {
                    let first = first.trim_end_matches('\r');
                    dialect.say(style, text, &messages::collapsed_command(first));
                }
                None => dialect.say(style, text, &messages::command(command)),
            }
            dialect.run(style, text, command);
        }
    }

    /// Runs the helper with a request on its standard input.
    pub(crate) fn helper(&mut self, helper_command: &str, request: &HelperRequest) {
        let request = request.to_json();
        self.dialect
            .helper(self.style, &mut self.text, helper_command, &request);
    }

    /// The whole script, to be given to the shell (3.2).
    pub(crate) fn into_script(self) -> String {
        self.dialect.wrap(self.style, self.text)
    }
}

/// File in the job's temporary directory whose lines are exported in later stages.
pub(crate) const GITLAB_ENV_FILE: &str = "gitlab_runner_env";

#[cfg(test)]
mod tests;
