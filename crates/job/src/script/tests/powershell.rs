//! PowerShell by golden texts: it is not on every machine that runs these tests.

use super::super::powershell::{literal, variable_value};
use super::*;

const WINDOWS: &str = "windows/amd64";
const UNIX: &str = "linux/amd64";

fn variable(key: &str, value: &str, file: bool) -> JobVariable {
    JobVariable {
        key: key.to_owned(),
        value: value.into(),
        file,
        raw: true,
        ..JobVariable::default()
    }
}

/// One of everything a stage can hold.
fn golden(shell: Shell, platform: &str, features: &Features, xtrace: bool) -> String {
    let style = Style::new(shell, features, true, xtrace, platform);
    let variables = Variables::of_test(
        vec![
            variable("PLAIN", "a b", false),
            variable(
                "ODD",
                "$HOME `e[31m \"x\" 'y' #z\ttab\nline \u{201c}q\u{201d} \u{e9}",
                false,
            ),
            variable("HOME", "read-only in PowerShell", false),
            variable("not.a.name", "x", false),
            variable("KEY", "-----BEGIN-----\nabc\n", true),
        ],
        "/b/p.tmp",
    );
    let mut body = Body::new(&style);
    body.export_variables(&variables, "/b/p.tmp");
    body.export_where_unset(&presets(&ToolFiles::below("/b/p.tmp"))[..1]);
    body.change_directory("/b/it's [here]");
    body.commands(
        "script_step",
        ["make all", "", "if ($true) {\n  echo 'two lines'\n}"],
    );
    let request = HelperRequest::ClearWorktree {
        project_dir: "/b/p".to_owned(),
    };
    body.helper("/usr/bin/courser", &request);
    body.into_script()
}

fn visible(script: &str) -> String {
    script
        .replace('\r', "\u{240d}")
        .replace('\u{1b}', "\u{241b}")
        .replace('\u{feff}', "<BOM>")
}

#[test]
fn pwsh_on_a_unix_has_unix_lines_and_a_first_line() {
    let script = golden(Shell::Pwsh, UNIX, &Features::default(), true);
    assert!(!script.contains('\r'));
    insta::assert_snapshot!(visible(&script));
}

#[test]
fn powershell_on_windows_has_windows_lines() {
    let script = golden(Shell::PowerShell, WINDOWS, &Features::default(), false);
    insta::assert_snapshot!(visible(&script));
}

#[test]
fn in_a_file_windows_powershell_has_a_mark_and_no_block() {
    let features = Features {
        disable_powershell_stdin: true,
        script_sections: true,
        ..Features::default()
    };
    let script = golden(Shell::PowerShell, WINDOWS, &features, false);
    assert!(script.starts_with('\u{feff}'));
    assert!(!script.contains("& {\r"));
    let block = golden(Shell::Pwsh, WINDOWS, &features, false);
    assert!(
        block.starts_with("& {\r\n$ErrorActionPreference = 'Stop'\r\n"),
        "{block}"
    );
    assert!(
        block.contains("echo '\u{1b}[32;1m$ if ($true) {\n  echo ''two lines''\n}\u{1b}[0;m'"),
        "{block}"
    );
}

#[test]
fn literal_text_ends_at_no_quote_that_powershell_knows() {
    for (text, expected) in [
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", "'it''s'"),
        (
            "\u{2018}x\u{2019}\u{201a}\u{201b}",
            "'\u{2018}\u{2018}x\u{2019}\u{2019}\u{201a}\u{201a}\u{201b}\u{201b}'",
        ),
        ("$env:X `n \"q\"", "'$env:X `n \"q\"'"),
    ] {
        assert_eq!(literal(text), expected, "{text}");
    }
}

#[test]
fn values_of_variables_expand_nothing_but_the_escape_character() {
    for (text, expected) in [
        ("", r#""""#),
        ("a b", r#""a b""#),
        ("$x", r#""`$x""#),
        ("`n", r#""``n""#),
        ("`e[0m", r#""`e[0m""#),
        ("#c 'q' \"d\"", r#""`#c `'q`' `"d`"""#),
        ("a\r\n\tb\0", r#""a`r`n`tb`0""#),
        (
            "\u{201c}t\u{201d}\u{201e}",
            "\"`\u{201c}t`\u{201d}`\u{201e}\"",
        ),
    ] {
        assert_eq!(variable_value(text), expected, "{text}");
    }
}
