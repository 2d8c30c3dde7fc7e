//! How a shell is started, and how it is handed its script (`runner-build-lifecycle.md` 3.1, 3.7).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Shell;

/// Options of PowerShell that starts with a script on standard input.
const STDIN: [&str; 9] = [
    "-NoProfile",
    "-NoLogo",
    "-InputFormat",
    "text",
    "-OutputFormat",
    "text",
    "-NonInteractive",
    "-ExecutionPolicy",
    "Bypass",
];

/// A PowerShell whose only task is to start another one that reads and writes UTF-8.
const BOOTSTRAP: &str = "\
$OutputEncoding = [Console]::InputEncoding = [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false
pwsh -NoProfile -NonInteractive -Command -
if ($null -eq $LASTEXITCODE) { exit 1 }
exit $LASTEXITCODE
";

impl Shell {
    /// Arguments with which it reads a script from standard input.
    pub fn stdin_arguments(self) -> Vec<String> {
        let powershell =
            |last: [&str; 2]| STDIN.into_iter().chain(last).map(str::to_owned).collect();
        match self {
            // A login shell: profile files run in each stage (6.2).
            Self::Bash | Self::Sh => vec!["-l".to_owned()],
            Self::PowerShell => powershell(["-Command", "-"]),
            Self::Pwsh => {
                let utf16 = BOOTSTRAP.encode_utf16().flat_map(u16::to_le_bytes);
                let encoded = STANDARD.encode(utf16.collect::<Vec<u8>>());
                powershell(["-EncodedCommand", &encoded])
            }
        }
    }

    /// Arguments with which it runs the script in a file whose name ends with
    /// [`Self::script_extension`].
    pub fn file_arguments(self, path: &str) -> Vec<String> {
        let options: &[&str] = match self {
            Self::Bash | Self::Sh => &["-l"],
            Self::Pwsh | Self::PowerShell => &[
                "-NoProfile",
                "-NonInteractive",
                "-ExecutionPolicy",
                "Bypass",
                "-File",
            ],
        };
        options
            .iter()
            .copied()
            .chain([path])
            .map(str::to_owned)
            .collect()
    }

    /// End of a script file's name, without which PowerShell does not run it.
    pub fn script_extension(self) -> &'static str {
        match self {
            Self::Bash | Self::Sh => "sh",
            Self::Pwsh | Self::PowerShell => "ps1",
        }
    }

    /// Whether it is one of the two PowerShells.
    pub fn is_powershell(self) -> bool {
        matches!(self, Self::Pwsh | Self::PowerShell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_is_started_as_upstream_does() {
        assert_eq!(Shell::Sh.stdin_arguments(), ["-l"]);
        assert_eq!(
            Shell::PowerShell.stdin_arguments().join(" "),
            "-NoProfile -NoLogo -InputFormat text -OutputFormat text -NonInteractive -ExecutionPolicy Bypass -Command -"
        );
        assert_eq!(
            Shell::Pwsh.file_arguments("/t/script.ps1").join(" "),
            "-NoProfile -NonInteractive -ExecutionPolicy Bypass -File /t/script.ps1"
        );
        let arguments = Shell::Pwsh.stdin_arguments();
        assert_eq!(arguments[9], "-EncodedCommand");
        let bytes = STANDARD.decode(&arguments[10]).expect("Base64");
        let units: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        assert_eq!(String::from_utf16(&units).expect("UTF-16"), BOOTSTRAP);
    }
}
