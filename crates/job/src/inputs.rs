//! Job inputs: `${{ job.inputs.NAME }}` in scripts, images, artifacts and caches (`runner-protocol.md` 3.4).
//!
//! Of the expression language this reads access by dot and bracket, texts and numbers in brackets, and the
//! conversions `str()`, `num()` and `bool()`. What it does not read is an error that shows the expression.

use courser_protocol::{Image, Input, JobResponse};
use serde_json::Value;

use crate::job::AFTER_SCRIPT;

/// Interpolates every field that may refer to inputs. Errors are texts for the job's log.
pub(crate) fn interpolate(payload: &mut JobResponse) -> Result<(), String> {
    if payload.inputs.is_empty() {
        return Ok(());
    }
    let inputs = std::mem::take(&mut payload.inputs);
    let result = interpolate_with(&inputs, payload);
    payload.inputs = inputs;
    result
}

fn interpolate_with(inputs: &[Input], payload: &mut JobResponse) -> Result<(), String> {
    let one = |place: &str, text: &mut String| replace(inputs, place, text);
    let many = |place: &str, texts: &mut [String]| {
        texts
            .iter_mut()
            .try_for_each(|text| replace(inputs, place, text))
    };
    for step in &mut payload.steps {
        if step.name == "script" || step.name == AFTER_SCRIPT {
            many(&step.name, &mut step.script)?;
        }
    }
    interpolate_image(inputs, "image", &mut payload.image)?;
    for service in &mut payload.services {
        interpolate_image(inputs, "services", service)?;
    }
    for entry in &mut payload.artifacts {
        one("artifacts name", &mut entry.name)?;
        many("artifacts paths", &mut entry.paths)?;
        many("artifacts exclude", &mut entry.exclude)?;
        one("artifacts expire_in", &mut entry.expire_in)?;
    }
    for entry in &mut payload.cache {
        one("cache key", &mut entry.key)?;
        one("cache policy", &mut entry.policy)?;
        many("cache paths", &mut entry.paths)?;
        many("cache fallback_keys", &mut entry.fallback_keys)?;
    }
    Ok(())
}

fn interpolate_image(inputs: &[Input], place: &str, image: &mut Image) -> Result<(), String> {
    let options = &mut image.executor_opts;
    let docker = options.docker.iter_mut();
    let texts = std::iter::once(&mut image.name)
        .chain(&mut image.command)
        .chain(&mut image.entrypoint)
        .chain(&mut image.pull_policy)
        .chain(docker.flat_map(|docker| [&mut docker.platform, &mut docker.user.0]))
        .chain(options.kubernetes.iter_mut().map(|pod| &mut pod.user.0));
    for text in texts {
        replace(inputs, place, text)?;
    }
    Ok(())
}

fn replace(inputs: &[Input], place: &str, text: &mut String) -> Result<(), String> {
    if text.contains(OPEN) {
        *text = interpolated(inputs, text).map_err(|error| format!("{place}: {error}"))?;
    }
    Ok(())
}

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

fn interpolated(inputs: &[Input], text: &str) -> Result<String, String> {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let after = &rest[at + OPEN.len()..];
        if let Some(before) = rest[..at].strip_suffix('\\') {
            output.push_str(before);
            output.push_str(OPEN);
            rest = after;
            continue;
        }
        output.push_str(&rest[..at]);
        let mut reader = Reader {
            inputs,
            rest: after,
        };
        let value = reader.expression().and_then(|value| {
            reader.expect(CLOSE)?;
            Ok(value)
        });
        let shown = after.find(CLOSE).map_or(after, |end| &after[..end]);
        let failed = |why: String| format!("{OPEN}{shown}{CLOSE}: {why}");
        let value = value.map_err(failed)?;
        rest = reader.rest;
        let alone = output.is_empty() && rest.is_empty();
        match value {
            Value::String(value) => output.push_str(&value),
            Value::Number(_) | Value::Bool(_) if alone => output.push_str(&as_text(&value)),
            other => {
                let kind = kind_of(&other);
                return Err(failed(format!("is {kind}, not a text: use str()")));
            }
        }
    }
    output.push_str(rest);
    Ok(output)
}

/// Reads one expression and gives its value.
struct Reader<'a> {
    inputs: &'a [Input],
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn expression(&mut self) -> Result<Value, String> {
        self.skip_space();
        if self.rest.starts_with(['"', '\'']) {
            return self.text().map(Value::String);
        }
        if self.rest.starts_with(|first: char| first.is_ascii_digit()) {
            return self.number();
        }
        match self.name()? {
            "job" => self.input(),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            name => {
                if !self.take("(") {
                    return Err(format!("{name:?} is not known, only job.inputs"));
                }
                let value = self.expression()?;
                self.expect(")")?;
                convert(name, value)
            }
        }
    }

    /// What follows `job`.
    fn input(&mut self) -> Result<Value, String> {
        if self.selector()?.as_ref() != Some(&Selector::Field("inputs".to_owned())) {
            return Err("only job.inputs can be used".to_owned());
        }
        let Some(Selector::Field(name)) = self.selector()? else {
            return Err("the name of an input is missing".to_owned());
        };
        // The last one wins, as with variables.
        let Some(input) = self.inputs.iter().rev().find(|input| input.key == name) else {
            return Err(format!("there is no input {name:?}"));
        };
        if input.value.sensitive {
            return Err(format!(
                "input {name:?} is sensitive, which is not supported"
            ));
        }
        let mut value = &input.value.content;
        while let Some(selector) = self.selector()? {
            let found = match &selector {
                Selector::Field(name) => value.get(name),
                Selector::Index(index) => value.get(index),
            };
            value = found.ok_or_else(|| match selector {
                Selector::Field(name) => {
                    format!("there is no field {name:?} in {}", kind_of(value))
                }
                Selector::Index(index) => {
                    format!("there is no element {index} in {}", kind_of(value))
                }
            })?;
        }
        Ok(value.clone())
    }

    fn selector(&mut self) -> Result<Option<Selector>, String> {
        if self.take(".") {
            return Ok(Some(Selector::Field(self.name()?.to_owned())));
        }
        if !self.take("[") {
            return Ok(None);
        }
        let selector = match self.expression()? {
            Value::String(name) => Selector::Field(name),
            Value::Number(number) => {
                let index = number
                    .as_u64()
                    .and_then(|index| usize::try_from(index).ok());
                Selector::Index(index.ok_or_else(|| format!("{number} is no index"))?)
            }
            other => return Err(format!("{} cannot stand in brackets", kind_of(&other))),
        };
        self.expect("]")?;
        Ok(Some(selector))
    }

    fn name(&mut self) -> Result<&'a str, String> {
        self.skip_space();
        let end = self
            .rest
            .find(|next: char| !next.is_alphanumeric() && next != '_')
            .unwrap_or(self.rest.len());
        if end == 0 || self.rest.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(self.unexpected("a name"));
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name)
    }

    fn number(&mut self) -> Result<Value, String> {
        let end = self
            .rest
            .find(|next: char| !next.is_ascii_digit() && next != '.')
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        serde_json::from_str(digits).map_err(|_| format!("{digits} is no number"))
    }

    /// A quoted text; a backslash takes the next character as it is.
    fn text(&mut self) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        let quote = characters.next().map(|(_, quote)| quote);
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => text.extend(characters.next().map(|(_, next)| next)),
                character if Some(character) == quote => {
                    self.rest = &self.rest[at + character.len_utf8()..];
                    return Ok(text);
                }
                character => text.push(character),
            }
        }
        Err("a quote is not closed".to_owned())
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("{token:?}")))
        }
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.rest.chars().next() {
            Some(found) => {
                format!("expected {wanted}, found {found:?} (operators are not built yet)")
            }
            None => format!("expected {wanted}, found the end"),
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

#[derive(PartialEq)]
enum Selector {
    Field(String),
    Index(usize),
}

fn convert(function: &str, value: Value) -> Result<Value, String> {
    let impossible = |value: &Value| Err(format!("{function}() cannot convert {}", kind_of(value)));
    match (function, value) {
        ("str", value) => Ok(Value::String(as_text(&value))),
        ("num", Value::String(text)) => match serde_json::from_str(text.trim()) {
            Ok(number @ Value::Number(_)) => Ok(number),
            _ => Err(format!("num() cannot convert {text:?}")),
        },
        ("num", Value::Bool(value)) => Ok(u64::from(value).into()),
        ("num", number @ Value::Number(_)) => Ok(number),
        ("bool", value @ Value::Bool(_)) => Ok(value),
        ("bool", Value::String(text)) => Ok(Value::Bool(!text.is_empty())),
        ("bool", Value::Number(number)) => Ok(Value::Bool(number.as_f64() != Some(0.0))),
        ("num" | "bool", value) => impossible(&value),
        _ => Err(format!("there is no function {function}()")),
    }
}

/// Texts as they are, numbers without a fraction that is zero, everything else as JSON.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
        }
        other => other.to_string(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "a struct",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn inputs() -> Vec<Input> {
        let input = |key: &str, kind: &str, content: Value, sensitive: bool| json!({"key": key, "value": {"type": kind, "content": content, "sensitive": sensitive}});
        let list = json!([
            input("name", "string", json!("ada"), false),
            input("odd name", "string", json!("odd"), false),
            input("count", "number", json!(3), false),
            input("whole", "number", json!(2.0), false),
            input("part", "number", json!(1.5), false),
            input("on", "boolean", json!(true), false),
            input("list", "array", json!(["a", {"b": "c"}]), false),
            input("map", "struct", json!({"k": {"d": "deep"}}), false),
            input("secret", "string", json!("hush"), true),
        ]);
        serde_json::from_value(list).expect("inputs")
    }

    #[test]
    fn expressions_become_their_values() {
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
            ("${{ job.inputs.map.k[\"d\"] }}", "deep"),
            ("x ${{ str(job.inputs.list) }}", "x [\"a\",{\"b\":\"c\"}]"),
            ("${{ str(num(\"7\")) }} ${{ str(bool('')) }}", "7 false"),
            ("${{ \"}}\" }}", "}}"),
            ("\\${{ job.inputs.name }}", "${{ job.inputs.name }}"),
            ("$HOME ${X} {{ a }}", "$HOME ${X} {{ a }}"),
        ] {
            assert_eq!(
                interpolated(&inputs(), text).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_done_is_an_error_that_shows_the_expression() {
        for (text, part) in [
            ("a ${{ job.inputs.none }}", "there is no input \"none\""),
            ("${{ job.inputs.secret }}", "sensitive"),
            ("n=${{ job.inputs.count }}", "use str()"),
            ("${{ job.inputs.list }}", "an array"),
            ("${{ job.inputs.list[9] }}", "no element 9"),
            ("${{ job.inputs.name.x }}", "no field \"x\" in a text"),
            ("${{ job.inputs }}", "the name of an input is missing"),
            ("${{ job.id }}", "only job.inputs"),
            ("${{ env.X }}", "\"env\" is not known"),
            ("${{ upper(job.inputs.name) }}", "no function upper()"),
            ("${{ job.inputs.count + 1 }}", "operators are not built yet"),
            ("${{ job.inputs.name", "found the end"),
            ("${{ }}", "expected a name"),
            ("${{ \"a }}", "a quote is not closed"),
            ("${{ num(\"x\") }}", "num() cannot convert \"x\""),
        ] {
            let error = interpolated(&inputs(), text).expect_err(text);
            assert!(error.starts_with("${{") && error.contains(part), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\$\\{\\{|\\}\\}|job|\\.inputs|\\[|\\]|\"|'|\\\\|[a-z0-9é (]){0,24}") {
            interpolated(&inputs(), &text).ok();
        }
    }
}
