//! Scripts are run by real shells: what matters is what they do.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use courser_protocol::JobVariable;
use courser_testkit::programs::write_program;

use super::{Body, Shell, Style};
use crate::helper_request::HelperRequest;
use crate::tool_trust::{ToolFiles, presets};
use crate::{Features, Variables};

mod powershell;

const SHELLS: [Shell; 2] = [Shell::Bash, Shell::Sh];

fn style(shell: Shell) -> Style {
    Style::new(shell, &Features::default(), false, false, "linux/amd64")
}

fn run(shell: Shell, script: &str) -> Output {
    // `sh` is dash here: the strictest shell that jobs meet.
    let program = match shell {
        Shell::Bash => "bash",
        Shell::Sh => "dash",
        Shell::Pwsh | Shell::PowerShell => unreachable!("not on this machine"),
    };
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .spawn()
        .expect("the shell starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(script.as_bytes()).expect("the shell reads");
    drop(stdin);
    child.wait_with_output().expect("the shell ends")
}

/// Runs the elements; gives exit code and output with echoed commands left out.
fn run_commands(style: &Style, elements: &[&str]) -> (Option<i32>, String) {
    let mut body = Body::new(style);
    body.commands("script_step", elements.iter().copied());
    let output = run(style.shell, &body.into_script());
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('\u{1b}'))
        .collect();
    (output.status.code(), lines.join("|"))
}

/// Shell text as it is.
fn add(body: &mut Body<'_>, line: &str) {
    body.text.push_str(line);
    body.text.push('\n');
}

#[test]
fn the_exit_code_of_the_failing_command_is_that_of_the_script() {
    for shell in SHELLS {
        for (elements, expected) in [
            (&["echo a", "echo b"][..], (Some(0), "a|b")),
            (&["echo a", "false", "echo b"], (Some(1), "a")),
            (&["(exit 37)", "echo b"], (Some(37), "")),
            (&["exit 3"], (Some(3), "")),
            (&["false || true", "echo b"], (Some(0), "b")),
            (&["if false; then :; fi", "echo b"], (Some(0), "b")),
            (&["f() { false; echo no; }", "f", "echo b"], (Some(1), "")),
            (&["set +e", "false", "echo b"], (Some(0), "b")),
            (&["command-that-is-not-there"], (Some(127), "")),
        ] {
            let (code, text) = run_commands(&style(shell), elements);
            assert_eq!((code, text.as_str()), expected, "{shell:?} {elements:?}");
        }
    }
}

#[test]
fn a_failing_pipe_fails_the_script_where_the_shell_can_tell() {
    let (code, _) = run_commands(&style(Shell::Bash), &["false | cat", "echo b"]);
    assert_eq!(code, Some(1));
}

#[test]
fn the_exit_check_works_without_errexit() {
    for shell in SHELLS {
        let features = Features {
            bash_exit_code_check: true,
            ..Features::default()
        };
        let style = Style::new(shell, &features, false, false, "linux/amd64");
        let (code, text) = run_commands(&style, &["set +e", "(exit 9)", "echo b"]);
        assert_eq!((code, text.as_str()), (Some(9), ""), "{shell:?}");
    }
}

#[test]
fn state_lasts_from_line_to_line() {
    for shell in SHELLS {
        let (code, text) = run_commands(&style(shell), &["cd /", "x=5", "pwd", "echo $x"]);
        assert_eq!((code, text.as_str()), (Some(0), "/|5"), "{shell:?}");
    }
}

#[test]
fn a_command_that_reads_input_gets_none_and_eats_no_script() {
    for shell in SHELLS {
        let (code, text) = run_commands(
            &style(shell),
            &["cat", "read -r x || echo empty", "echo end"],
        );
        assert_eq!((code, text.as_str()), (Some(0), "empty|end"), "{shell:?}");
    }
}

#[test]
fn multi_line_elements_and_here_documents_work() {
    for shell in SHELLS {
        let elements = [
            "cat <<'X'\n$a \\n 'q'\nX\n",
            "for i in 1 2; do\n  echo $i\ndone",
        ];
        let (code, text) = run_commands(&style(shell), &elements);
        assert_eq!(
            (code, text.as_str()),
            (Some(0), "$a \\n 'q'|1|2"),
            "{shell:?}"
        );
    }
}

#[test]
fn legacy_eval_and_posix_escapes_behave_alike() {
    for shell in SHELLS {
        for (legacy_bash_eval, posix_escapes) in [(true, false), (false, true), (true, true)] {
            let features = Features {
                legacy_bash_eval,
                posix_escapes,
                ..Features::default()
            };
            let style = Style::new(shell, &features, false, false, "linux/amd64");
            let (code, text) =
                run_commands(&style, &["echo \"a $HOME'b'\"", "(exit 4)", "echo no"]);
            assert_eq!((code, text.as_str()), (Some(4), "a 'b'"), "{shell:?}");
        }
    }
}

#[test]
fn commands_are_echoed_as_users_know_it() {
    for shell in SHELLS {
        let mut body_style = style(shell);
        body_style.xtrace = false;
        let mut body = Body::new(&body_style);
        body.commands("script_step", ["  : 'a\\nb' $HOME ", "", ":\n:"]);
        let output = run(shell, &body.into_script());
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "\u{1b}[32;1m$ : 'a\\nb' $HOME\u{1b}[0;m\n\n\u{1b}[32;1m$ : # collapsed multi-line command\u{1b}[0;m\n",
            "{shell:?}"
        );
    }
}

#[test]
fn script_sections_wrap_the_text_of_the_command() {
    for shell in SHELLS {
        let features = Features {
            script_sections: true,
            ..Features::default()
        };
        let style = Style::new(shell, &features, true, false, "linux/amd64");
        let mut body = Body::new(&style);
        body.commands("script_step", ["echo one", "echo %s\necho two"]);
        let output = run(shell, &body.into_script());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let time: String = text
            .split("section_start:")
            .nth(1)
            .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect())
            .unwrap_or_default();
        assert!(time.len() >= 10, "{text}");
        assert_eq!(
            text.replace(&time, "T"),
            "\u{1b}[32;1m$ echo one\u{1b}[0;m\none\n\
             section_start:T:section_script_step_1[hide_duration=true,collapsed=true]\r\u{1b}[0K\
             \u{1b}[32;1m$ echo %s\necho two\u{1b}[0;m\nsection_end:T:section_script_step_1\r\u{1b}[0K\n%s\ntwo\n",
        );
    }
}

#[test]
fn debug_trace_shows_commands_on_standard_error() {
    let style = Style::new(
        Shell::Bash,
        &Features::default(),
        false,
        true,
        "linux/amd64",
    );
    let mut body = Body::new(&style);
    body.commands("script_step", ["true marker"]);
    let output = run(Shell::Bash, &body.into_script());
    let trace = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(trace.contains("+ true marker"), "{trace}");
    assert!(
        !trace.contains("eval"),
        "the body itself is not shown: {trace}"
    );
}

/// A directory of its own, gone afterwards.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("courser-job-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0
            .join(name)
            .to_str()
            .expect("the path is UTF-8")
            .to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn variables(temporary: &str) -> Variables {
    let variable = |key: &str, value: &str| JobVariable {
        key: key.to_owned(),
        value: value.into(),
        ..JobVariable::default()
    };
    Variables::of_test(
        vec![
            variable("PLAIN", "first"),
            variable("PLAIN", "it's $$ \"x\"\n\\n`é`"),
            JobVariable {
                file: true,
                ..variable("KUBECONFIG", "line 1\nno newline at the end")
            },
        ],
        temporary,
    )
}

#[test]
fn variables_are_exported_and_files_are_written_privately() {
    use std::os::unix::fs::PermissionsExt as _;
    for shell in SHELLS {
        let scratch = Scratch::new(&format!("export-{shell:?}"));
        let temporary = scratch.path("p.tmp");
        let style = style(shell);
        let mut body = Body::new(&style);
        body.export_variables(&variables(&temporary), &temporary);
        add(&mut body, "printenv PLAIN KUBECONFIG GITLAB_ENV");
        let output = run(shell, &body.into_script());
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!(
                "it's $ \"x\"\n\\n`é`\n{temporary}/KUBECONFIG\n{temporary}/gitlab_runner_env\n"
            ),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let file = Path::new(&temporary).join("KUBECONFIG");
        assert_eq!(
            std::fs::read_to_string(&file).expect("the file is there"),
            "line 1\nno newline at the end"
        );
        let mode = |path: &Path| {
            std::fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(Path::new(&temporary)), 0o700);
    }
}

#[test]
fn gitlab_env_reaches_later_stages_and_wins_over_job_variables() {
    for shell in SHELLS {
        let scratch = Scratch::new(&format!("env-{shell:?}"));
        let temporary = scratch.path("p.tmp");
        let style = style(shell);
        let stage = |command: &str| {
            let mut body = Body::new(&style);
            body.export_variables(&variables(&temporary), &temporary);
            add(&mut body, command);
            run(shell, &body.into_script())
        };
        assert!(
            stage("printf 'PLAIN=from env\\\\x\\nNEW=a=b\\n' >> \"$GITLAB_ENV\"")
                .status
                .success()
        );
        let output = stage("printenv PLAIN NEW");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "from env\\x\na=b\n",
            "{shell:?}"
        );
        assert!(
            stage("echo 'not a name' >> \"$GITLAB_ENV\"")
                .status
                .success()
        );
        assert!(
            !stage("echo no").status.success(),
            "a malformed line fails the stage"
        );
    }
}

#[test]
fn bundles_are_named_where_nobody_has_chosen_one() {
    let names = |shell, chosen: &[&str]| {
        let style = style(shell);
        let mut body = Body::new(&style);
        for name in chosen {
            body.export(name, "");
        }
        body.export_where_unset(&presets(&ToolFiles::below("/b/it's.tmp")));
        add(
            &mut body,
            "env | sed -n 's,=.*/b/it.s.tmp/.trust/.*,,p' | sort",
        );
        let output = run(shell, &body.into_script());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout)
            .expect("UTF-8")
            .replace('\n', " ")
    };
    for shell in SHELLS {
        assert_eq!(
            names(shell, &[]),
            "AWS_CA_BUNDLE CARGO_HTTP_CAINFO CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE CURL_CA_BUNDLE DENO_CERT \
             GIT_CONFIG_SYSTEM GRPC_DEFAULT_SSL_ROOTS_FILE_PATH HTTPLIB2_CA_CERTS JAVA_TOOL_OPTIONS NIX_SSL_CERT_FILE \
             NODE_EXTRA_CA_CERTS PIP_CERT REQUESTS_CA_BUNDLE SSL_CERT_FILE SYSTEM_WGETRC "
        );
        // Who chose for a library has chosen for the programs that ask it.
        let rest = names(
            shell,
            &["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GIT_CONFIG_NOSYSTEM"],
        );
        assert_eq!(
            rest,
            "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE DENO_CERT GRPC_DEFAULT_SSL_ROOTS_FILE_PATH HTTPLIB2_CA_CERTS \
             JAVA_TOOL_OPTIONS NODE_EXTRA_CA_CERTS SYSTEM_WGETRC "
        );
    }
}

#[test]
fn the_helper_reads_its_request_from_standard_input() {
    for shell in SHELLS {
        let scratch = Scratch::new(&format!("helper-{shell:?}"));
        let helper = scratch.path("it's a helper");
        write_program(&helper, "#!/bin/sh\nprintf '%s ' \"$@\"\ncat\nexit 6\n");
        let request = HelperRequest::ClearWorktree {
            project_dir: "/b/'p' $HOME `x`\\\nCOURSER_HELPER_REQUEST\n".to_owned(),
        };
        let style = style(shell);
        let mut body = Body::new(&style);
        body.helper(&helper, &request);
        add(&mut body, "echo not reached");
        let output = run(shell, &body.into_script());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json = text
            .strip_prefix("helper run ")
            .expect("the arguments come first");
        assert_eq!(
            HelperRequest::from_json(json).expect("it is the request"),
            request
        );
        assert_eq!(output.status.code(), Some(6), "{shell:?}");
    }
}

#[test]
fn other_shells_are_refused_by_name() {
    for (name, expected) in [
        ("", Shell::Bash),
        ("sh", Shell::Sh),
        ("pwsh", Shell::Pwsh),
        ("powershell", Shell::PowerShell),
    ] {
        assert_eq!(Shell::parse(name), Ok(expected));
    }
    for name in ["cmd", "fish"] {
        let rejection = Shell::parse(name).expect_err("it is not built");
        assert!(rejection.message.contains(name), "{}", rejection.message);
    }
}
