//! The language by tables, and what a hostile script does to it.

use courser_protocol::Input;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn scope() -> Scope {
    let input = |key: &str, kind: &str, content: Json, sensitive: bool| json!({"key": key, "value": {"type": kind, "content": content, "sensitive": sensitive}});
    let list = json!([
        input("name", "string", json!("ada"), false),
        input("odd name", "string", json!("odd"), false),
        input("empty", "string", json!(""), false),
        input("count", "number", json!(3), false),
        input("whole", "number", json!(2.0), false),
        input("part", "number", json!(1.5), false),
        input("on", "boolean", json!(true), false),
        input("off", "boolean", json!(false), false),
        input("list", "array", json!(["a", {"b": "c"}]), false),
        input("map", "struct", json!({"k": {"d": "deep"}}), false),
        input("secret", "string", json!("hush"), true),
        input("long", "string", json!("x".repeat(1 << 20)), false),
    ]);
    let inputs: Vec<Input> = serde_json::from_value(list).expect("inputs");
    Scope::of_inputs(&inputs)
}

fn assert_value(scope: &Scope, text: &str, expected: &str) {
    assert_eq!(interpolate(scope, text).as_deref(), Ok(expected), "{text}");
}

#[test]
fn expressions_become_their_values() {
    let scope = scope();
    for (text, expected) in [
        ("echo ${{ job.inputs.name }}!", "echo ada!"),
        ("${{job.inputs.name}}${{ job.inputs[\"name\"] }}", "adaada"),
        ("${{ job['inputs']['odd name'] }}", "odd"),
        ("${{ job.inputs.count }}", "3"),
        ("${{ job.inputs.whole }}", "2"),
        ("${{ job.inputs.on }}", "true"),
        ("n=${{ str(job.inputs.count) }}", "n=3"),
        ("n=${{ str( job.inputs.part ) }}", "n=1.5"),
        ("${{ job.inputs.list[0] }}", "a"),
        ("${{ job.inputs.list[1].b }}", "c"),
        ("${{ job.inputs.list[job.inputs.count - 2].b }}", "c"),
        ("${{ job.inputs.map.k[\"d\"] }}", "deep"),
        ("x ${{ str(job.inputs.list) }}", "x [\"a\",{\"b\":\"c\"}]"),
        (
            "${{ str(null) }} ${{ str([]) }}${{ str({}) }}",
            "<null> []{}",
        ),
        ("${{ str(num(\"7\")) }} ${{ str(bool('')) }}", "7 false"),
        ("\\${{ job.inputs.name }}", "${{ job.inputs.name }}"),
        ("$HOME ${X} {{ a }}", "$HOME ${X} {{ a }}"),
    ] {
        assert_value(&scope, text, expected);
    }
}

#[test]
fn operators_have_their_precedence() {
    let scope = scope();
    for (expression, expected) in [
        ("2 + 3 * 4 - 1", "13"),
        ("(2 + 3) * 4", "20"),
        ("10 - 4 - 3", "3"),
        ("10 / 4", "2.5"),
        ("-7 % 3", "-1"),
        ("1.5e3 + 2E-1", "1500.2"),
        ("--5 - +2", "3"),
        ("!job.inputs.off", "true"),
        ("!'' && !0 && ![] && !{} && !null", "true"),
        ("1 == \"1\"", "false"),
        ("1 != \"1\"", "true"),
        ("\"Z\" < \"a\" && \"a\" < \"é\"", "true"),
        ("false < true", "true"),
        ("[1, 2] < [1, 3] && [1] < [1, 0]", "true"),
        ("{a: 1, b: 2} == {\"b\": 2, 'a': 1,}", "true"),
        ("{(job.inputs.name): 1}.ada", "1"),
        ("{z: 1} < {a: 1, b: 1}", "true"),
        ("null == null", "true"),
        ("1 < 2 == true", "true"),
        ("job.inputs.count >= 3 && job.inputs.count <= 3", "true"),
        ("1 || job.inputs.none", "1"),
        ("0 && job.inputs.none", "0"),
        ("job.inputs.empty || \"latest\"", "latest"),
        ("job.inputs.name == \"ada\" && \"yes\" || \"no\"", "yes"),
        ("job.inputs.name == \"eve\" && \"yes\" || \"no\"", "no"),
        ("\"a\" + 'b' + job.inputs.name", "abada"),
        ("[1, 2,][1]", "2"),
    ] {
        assert_value(&scope, &format!("${{{{ {expression} }}}}"), expected);
    }
}

#[test]
fn quoted_texts_have_their_escapes() {
    let scope = scope();
    for (expression, expected) in [
        (r#""a\n\t\\\"\/""#, "a\n\t\\\"/"),
        (r#""\u00e9\a""#, "é\u{7}"),
        (r#""\${{ x""#, "${{ x"),
        (r#""hi ${{ job.inputs.name }}, $5""#, "hi ada, $5"),
        (r#""${{ "${{ job.inputs.name }}" }}""#, "ada"),
        (r"'It\'s \n \\ ${{ raw }}'", r"It's \n \ ${{ raw }}"),
        ("\"}}\"", "}}"),
    ] {
        assert_value(&scope, &format!("${{{{ {expression} }}}}"), expected);
    }
}

#[test]
fn what_cannot_be_done_is_an_error_that_shows_the_expression() {
    let deep = format!("${{{{ {}1 }}}}", "(".repeat(100_000));
    let signs = format!("${{{{ {}1 }}}}", "-".repeat(100_000));
    let quotes = "${{ \"".repeat(100_000);
    let long = format!("${{{{ {}'' }}}}", "job.inputs.long + ".repeat(100));
    let lists = format!("${{{{ str([{}]) }}}}", "job.inputs.long,".repeat(100));
    let many = "${{ job.inputs.long }}".repeat(70);
    for (text, part) in [
        ("a ${{ job.inputs.none }}", "there is no input \"none\""),
        ("${{ job.inputs.secret }}", "sensitive"),
        ("${{ job.inputs.secret == \"x\" }}", "sensitive"),
        ("${{ str(job) }}", "input \"secret\" is sensitive"),
        ("${{ str(job.inputs) }}", "input \"secret\" is sensitive"),
        ("n=${{ job.inputs.count }}", "use str()"),
        ("${{ \"n=${{ job.inputs.count }}\" }}", "use str()"),
        ("${{ job.inputs.list }}", "an array"),
        ("${{ null }}", "null, not a text"),
        ("${{ job.inputs.list[9] }}", "no element 9"),
        ("${{ job.inputs.list[0.5] }}", "0.5 is no index"),
        ("${{ job.inputs.name.x }}", "no field \"x\" in a text"),
        ("${{ job.id }}", "there is no field \"id\""),
        ("${{ env.X }}", "\"env\" is not known"),
        ("${{ upper(job.inputs.name) }}", "no function upper()"),
        ("${{ str(1, 2) }}", "one argument, found 2"),
        (
            "${{ \"hello\" + 42 }}",
            "a text and a number cannot be calculated with",
        ),
        ("${{ -\"x\" }}", "a text has no sign"),
        ("${{ 1 / 0 }}", "division by zero"),
        ("${{ 1 % 0 }}", "division by zero"),
        ("${{ 1e308 * 10 }}", "too large"),
        ("${{ 1e999 }}", "is no number"),
        ("${{ {1: 2} }}", "expected a value or a name"),
        ("${{ {(1): 2} }}", "a number cannot be the name of a field"),
        ("${{ while }}", "reserved word"),
        ("${{ job.inputs.name", "found the end"),
        ("${{ }}", "expected a value"),
        ("${{ 1 2 }}", "found '2'"),
        ("${{ \"a }}", "a quote is not closed"),
        ("${{ \"\\d\" }}", "no escape \\d"),
        ("${{ \"\\ud800\" }}", "\\u wants four digits"),
        ("${{ num(\"x\") }}", "num() cannot convert \"x\""),
        (&deep, "nested more than 64 deep"),
        (&signs, "nested more than 64 deep"),
        (&quotes, "nested more than 64 deep"),
        (&long, "make more than"),
        (&lists, "make more than"),
        (&many, "make more than"),
    ] {
        let error = interpolate(&scope(), text).expect_err(text);
        assert!(error.starts_with("${{") && error.contains(part), "{error}");
        assert!(!error.contains("hush") && error.len() < 1000, "{error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\$\\{\\{|\\}\\}|job|\\.inputs|\\.name|[\\[\\](){},:+*/%!<>=&|-]|\"|'|\\\\|[a-z0-9é ]){0,32}") {
        interpolate(&scope(), &format!("${{{{{text}")).ok();
    }
}
