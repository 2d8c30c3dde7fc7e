//! How a shell is started in an image of which nothing is known (`executor-docker.md` 5.3, 17).

use courser_job::Shell;

/// Shells in the order in which they are tried.
const SHELLS: [&str; 7] = [
    "/usr/local/bin/bash",
    "/usr/bin/bash",
    "/bin/bash",
    "/usr/local/bin/sh",
    "/usr/bin/sh",
    "/bin/sh",
    "/busybox/sh",
];

/// Command of the build container: a shell that reads its script from standard input.
pub(crate) fn start_command(shell: Shell) -> Vec<String> {
    if shell.is_powershell() {
        let program = [shell.program().to_owned()];
        return program.into_iter().chain(shell.stdin_arguments()).collect();
    }
    with_best_shell("exec \"$shell\"")
}

/// A command that looks for the best shell of the image, and then does `what` with `$shell`. What is added to it are
/// `$0`, `$1`, …
pub(crate) fn with_best_shell(what: &str) -> Vec<String> {
    let shells = SHELLS.join(" ");
    let script = format!(
        "for shell in {shells}; do if [ -x \"$shell\" ]; then {what}; fi; done\necho shell not found\nexit 1\n"
    );
    ["sh", "-c", &script].map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_first_shell_that_can_be_executed_reads_the_script() {
        let command = start_command(Shell::Bash);
        let [program, options @ ..] = &command[..] else {
            panic!("a command");
        };
        let mut child = Command::new(program)
            .args(options)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut input = child.stdin.take().expect("piped");
        std::io::Write::write_all(
            &mut input,
            b"echo \"it is ${BASH_VERSION:+bash}\"; exit 7\n",
        )
        .expect("written");
        drop(input);
        let output = child.wait_with_output().expect("ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "it is bash\n");
        assert_eq!(output.status.code(), Some(7));
    }

    #[test]
    fn without_any_shell_it_says_so() {
        let [sh, option, script] = &start_command(Shell::Bash)[..] else {
            panic!("three words");
        };
        let nowhere = script.replace("/b", "/nowhere/b").replace("/sh", "/none");
        let output = Command::new(sh)
            .args([option, &nowhere])
            .output()
            .expect("sh starts");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "shell not found\n");
        assert_eq!(output.status.code(), Some(1));
    }

    #[test]
    fn powershell_is_named() {
        assert_eq!(start_command(Shell::Pwsh)[0], "pwsh");
    }
}
