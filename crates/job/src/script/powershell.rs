//! Scripts for PowerShell: `pwsh` everywhere, `powershell` of Windows (`runner-build-lifecycle.md` 3.7).
//!
//! The commands are one script block, which PowerShell has read before it runs the first. Golden texts
//! only: no PowerShell was at hand to run them.

use courser_protocol::JobVariable;

use super::{Dialect, GITLAB_ENV_FILE, Shell, Style};
use crate::tool_trust::Preset;
use crate::{Variables, messages};

/// `pwsh` and `powershell`.
#[derive(Debug)]
pub(super) struct PowerShell;

/// Variables that PowerShell does not let be assigned; a job's of that name is in the environment only.
const READ_ONLY: [&str; 17] = [
    "enabledexperimentalfeatures",
    "error",
    "executioncontext",
    "false",
    "home",
    "host",
    "iscoreclr",
    "islinux",
    "ismacos",
    "iswindows",
    "null",
    "pid",
    "psculture",
    "pshome",
    "psuiculture",
    "psversiontable",
    "true",
];

/// Ends the script with the status of a command that failed; 1 where it has none.
const EXIT_CHECK: &str =
    "if (-not $?) { if ($LASTEXITCODE) { exit $LASTEXITCODE } else { exit 1 } }";

impl PowerShell {
    fn line(style: &Style, text: &mut String, line: &str) {
        text.push_str(line);
        text.push_str(line_end(style));
    }

    fn checked(style: &Style, text: &mut String, line: &str) {
        Self::line(style, text, line);
        Self::line(style, text, EXIT_CHECK);
    }
}

impl Dialect for PowerShell {
    fn change_directory(&self, style: &Style, text: &mut String, directory: &str) {
        let line = format!("Set-Location -LiteralPath {}", literal(directory));
        Self::checked(style, text, &line);
    }

    fn export(&self, style: &Style, text: &mut String, key: &str, value: &str) {
        let value = variable_value(value);
        let line = if READ_ONLY.contains(&key.to_ascii_lowercase().as_str()) {
            format!("$env:{key} = {value}")
        } else {
            format!("${key} = {value}; $env:{key} = ${key}")
        };
        Self::line(style, text, &line);
    }

    fn say(&self, style: &Style, text: &mut String, line: &str) {
        Self::line(style, text, &format!("echo {}", literal(line)));
    }

    fn blank_line(&self, style: &Style, text: &mut String) {
        Self::line(style, text, "echo ''");
    }

    fn run(&self, style: &Style, text: &mut String, command: &str) {
        Self::checked(style, text, command);
    }

    fn export_variables(
        &self,
        style: &Style,
        text: &mut String,
        variables: &Variables,
        temporary_dir: &str,
    ) {
        let directory = literal(temporary_dir);
        let environment_file = format!("{temporary_dir}/{GITLAB_ENV_FILE}");
        let make_directory = format!(
            "if (-not (Test-Path -LiteralPath {directory})) {{ New-Item -ItemType Directory -Force -Path {directory} | Out-Null{} }}",
            if style.unix {
                format!("; chmod 700 {directory}")
            } else {
                String::new()
            }
        );
        Self::checked(style, text, &make_directory);
        let exported = variables
            .iter()
            .filter(|variable| style.shell.cannot_export(&variable.key).is_none());
        for variable in exported {
            let JobVariable { key, value, .. } = variable;
            if variable.file {
                let path = variables.file_path(key);
                let line = format!(
                    "[System.IO.File]::WriteAllText({}, {})",
                    literal(&path),
                    variable_value(value.expose())
                );
                Self::checked(style, text, &line);
                self.export(style, text, key, &path);
            } else {
                self.export(style, text, key, value.expose());
            }
        }
        self.export(style, text, "GITLAB_ENV", &environment_file);
        let file = literal(&environment_file);
        // A value may hold `=`; a line that is none is told of and left out.
        Self::line(
            style,
            text,
            &format!(
                "if (Test-Path -LiteralPath {file}) {{ foreach ($line in [System.IO.File]::ReadAllLines({file})) {{ \
                 $name, $value = $line -split '=', 2; \
                 if ($name -match '^[A-Za-z_][A-Za-z0-9_]*$' -and $null -ne $value) {{ \
                 Set-Item -LiteralPath \"env:$name\" -Value $value; Set-Variable -Name $name -Value $value -ErrorAction SilentlyContinue \
                 }} else {{ Write-Warning \"GITLAB_ENV: not a variable: $name\" }} }} }} \
                 else {{ New-Item -ItemType File -Force -Path {file} | Out-Null }}"
            ),
        );
    }

    fn export_where_unset(&self, style: &Style, text: &mut String, presets: &[Preset]) {
        for preset in presets {
            let unset: Vec<String> = preset
                .unless
                .iter()
                .map(|name| format!("-not (Test-Path env:{name})"))
                .collect();
            let mut export = String::new();
            self.export(style, &mut export, preset.name, &preset.value);
            let line = format!("if ({}) {{ {} }}", unset.join(" -and "), export.trim_end());
            Self::line(style, text, &line);
        }
    }

    /// It has none: the command is echoed whole.
    fn echo_in_section(&self, style: &Style, text: &mut String, _section: &str, command: &str) {
        self.say(style, text, &messages::command(command));
    }

    fn helper(&self, style: &Style, text: &mut String, helper_command: &str, request: &str) {
        // A here-string ends with `'@` at the beginning of a line, where JSON of one line has `{`.
        let line_end = line_end(style);
        let line = format!(
            "@'{line_end}{request}{line_end}'@ | & {} 'helper' 'run'",
            literal(helper_command)
        );
        Self::checked(style, text, &line);
    }

    fn wrap(&self, style: &Style, body: String) -> String {
        let mut script = String::with_capacity(body.len() + 256);
        if style.unix && style.shell == Shell::Pwsh {
            Self::line(style, &mut script, "#!/usr/bin/env pwsh");
        }
        let in_block = !(style.script_file && style.shell == Shell::PowerShell);
        if in_block {
            Self::line(style, &mut script, "& {");
        } else {
            // Without it Windows PowerShell reads the file in the code page of the machine.
            script.insert(0, '\u{feff}');
        }
        if style.shell == Shell::Pwsh {
            Self::line(style, &mut script, "$ErrorActionPreference = 'Stop'");
        }
        // Requests to the helper go through a pipe.
        Self::line(
            style,
            &mut script,
            "$OutputEncoding = New-Object System.Text.UTF8Encoding $false",
        );
        if style.xtrace {
            Self::line(style, &mut script, "Set-PSDebug -Trace 2");
        }
        script.push_str(&body);
        if in_block {
            Self::line(style, &mut script, "}");
            // Read from standard input, a block of several lines begins after an empty one.
            Self::line(style, &mut script, "");
        }
        script
    }
}

fn line_end(style: &Style) -> &'static str {
    if style.unix && style.shell == Shell::Pwsh {
        "\n"
    } else {
        "\r\n"
    }
}

/// `'…'`, in which nothing but the quote itself counts, of which PowerShell knows five.
pub(super) fn literal(text: &str) -> String {
    let mut word = String::with_capacity(text.len() + 2);
    word.push('\'');
    for character in text.chars() {
        if matches!(character, '\'' | '\u{2018}'..='\u{201b}') {
            word.push(character);
        }
        word.push(character);
    }
    word.push('\'');
    word
}

/// `"…"` without anything to expand; a backtick before `e` is an escape character (GitLab's colours).
pub(super) fn variable_value(text: &str) -> String {
    let mut word = String::with_capacity(text.len() + 2);
    word.push('"');
    for character in text.chars() {
        let escape = match character {
            '`' | '#' | '\'' | '"' | '$' | '\u{201c}'..='\u{201e}' => character,
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            other => {
                word.push(other);
                continue;
            }
        };
        word.push('`');
        word.push(escape);
    }
    word.push('"');
    word.replace("``e", "`e")
}
