//! The expressions of `rules:if`, `only:variables` and their kin (`gitlab-ci-yaml.md` 12).

use std::sync::LazyLock;

use regex::Regex;

use crate::re2::Patterns;

/// More tokens are refused.
const MAXIMUM_TOKENS: usize = 100;

/// A checked expression.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    text: String,
    root: Term,
}

/// Why a text is no expression, with the offset of the fault in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) offset: usize,
    pub(crate) reason: String,
}

impl Invalid {
    /// The reason with its place in `text`.
    pub(crate) fn describe(&self, text: &str) -> String {
        let character = text[..self.offset].chars().count() + 1;
        format!("{} at character {character}", self.reason)
    }
}

/// What an evaluation gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The value is present: not null, not false, not blank.
    pub(crate) holds: bool,
    /// A match against a text that is no pattern took part; GitLab then searches the wrong way round.
    pub(crate) matched_plain_text: bool,
}

#[derive(Debug, Clone)]
enum Term {
    Null,
    Bool(bool),
    Text(String),
    Pattern(Regex),
    Variable(String),
    Not(Box<Self>),
    Binary(Operator, Box<Self>, Box<Self>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Match,
    NoMatch,
    And,
    Or,
}

#[derive(Debug, Clone)]
enum Value {
    Null,
    Bool(bool),
    Text(String),
    Pattern(Regex),
}

#[derive(Debug)]
enum Token {
    Open,
    Close,
    Not,
    Operator(Operator),
    Term(Term),
}

impl Expression {
    /// Checks `text` as GitLab does, literal patterns included.
    pub(crate) fn parse(text: &str, patterns: &Patterns) -> Result<Self, Invalid> {
        let tokens = scan(text, patterns)?;
        let mut parser = Parser {
            tokens: tokens.into_iter().peekable(),
            end: text.len(),
        };
        let root = parser.expression(0)?;
        match parser.tokens.next() {
            None => Ok(Self {
                text: text.to_owned(),
                root,
            }),
            Some((offset, _)) => Err(invalid(offset, "an operator is missing")),
        }
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text with values in place of variables: texts in quotes, `null` for what has no value.
    pub(crate) fn shown(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
        patterns: &Patterns,
    ) -> String {
        let mut shown = String::with_capacity(self.text.len());
        let mut rest = 0;
        for (offset, token) in scan(&self.text, patterns).unwrap_or_default() {
            let Token::Term(Term::Variable(name)) = token else {
                continue;
            };
            shown.push_str(&self.text[rest..offset]);
            match lookup(&name) {
                None => shown.push_str("null"),
                Some(value) => {
                    let quote = if value.contains('"') { '\'' } else { '"' };
                    shown.push(quote);
                    shown.push_str(&value);
                    shown.push(quote);
                }
            }
            rest = offset + variable_length(&self.text[offset..]);
        }
        shown.push_str(&self.text[rest..]);
        shown
    }

    /// Evaluates; `lookup` gives a variable's value, not expanded.
    pub(crate) fn evaluate(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
        patterns: &Patterns,
    ) -> Outcome {
        let mut evaluation = Evaluation {
            lookup,
            patterns,
            matched_plain_text: false,
        };
        let holds = evaluation.value(&self.root).is_present();
        Outcome {
            holds,
            matched_plain_text: evaluation.matched_plain_text,
        }
    }
}

/// Length of the variable or input that `text` begins with.
fn variable_length(text: &str) -> usize {
    if let Some(input) = INPUT.find(text) {
        return input.len();
    }
    let name = &text[1..];
    1 + name
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(name.len())
}

fn invalid(offset: usize, reason: impl Into<String>) -> Invalid {
    Invalid {
        offset,
        reason: reason.into(),
    }
}

static INPUT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\$\[\[\s*(inputs\.[A-Za-z0-9_-]+)\s*\]\]").expect("is valid"));
static PATTERN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^/(?:[^/]|\\/)+[^\\]/[ismU]*").expect("is valid"));

fn scan(text: &str, patterns: &Patterns) -> Result<Vec<(usize, Token)>, Invalid> {
    let mut tokens = Vec::new();
    let mut offset = 0;
    loop {
        let rest = &text[offset..];
        let trimmed = rest.trim_start();
        offset += rest.len() - trimmed.len();
        if trimmed.is_empty() {
            return Ok(tokens);
        }
        let (length, token) = token(trimmed, offset, patterns)?;
        tokens.push((offset, token));
        if tokens.len() > MAXIMUM_TOKENS {
            return Err(invalid(offset, "more than 100 tokens"));
        }
        offset += length;
    }
}

fn token(rest: &str, offset: usize, patterns: &Patterns) -> Result<(usize, Token), Invalid> {
    let symbol = |length, token| Ok((length, token));
    let word = |word: &str| {
        rest.starts_with(word)
            && !rest[word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
    };
    if rest.starts_with('(') {
        return symbol(1, Token::Open);
    }
    if rest.starts_with(')') {
        return symbol(1, Token::Close);
    }
    if let Some(found) = INPUT.captures(rest) {
        return symbol(
            found[0].len(),
            Token::Term(Term::Variable(found[1].to_owned())),
        );
    }
    if let Some(name) = rest.strip_prefix('$') {
        let length = name
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(name.len());
        if length > 0 {
            let variable = Term::Variable(name[..length].to_owned());
            return symbol(length + 1, Token::Term(variable));
        }
    }
    for quote in ['"', '\''] {
        if let Some(body) = rest.strip_prefix(quote)
            && let Some(end) = body.find(quote)
        {
            return symbol(end + 2, Token::Term(Term::Text(body[..end].to_owned())));
        }
    }
    if let Some(found) = PATTERN.find(rest) {
        let compiled = patterns
            .compile_delimited(found.as_str())
            .ok_or_else(|| invalid(offset, "no pattern"))?
            .map_err(|error| invalid(offset, format!("invalid pattern: {}", first_line(&error))))?;
        return symbol(found.len(), Token::Term(Term::Pattern(compiled)));
    }
    if word("null") {
        return symbol(4, Token::Term(Term::Null));
    }
    if word("true") {
        return symbol(4, Token::Term(Term::Bool(true)));
    }
    if word("false") {
        return symbol(5, Token::Term(Term::Bool(false)));
    }
    for (text, operator) in [
        ("==", Operator::Equal),
        ("=~", Operator::Match),
        ("!=", Operator::NotEqual),
        ("!~", Operator::NoMatch),
        ("&&", Operator::And),
        ("||", Operator::Or),
    ] {
        if rest.starts_with(text) {
            return symbol(2, Token::Operator(operator));
        }
    }
    if rest.starts_with('!') {
        return symbol(1, Token::Not);
    }
    let shown: String = rest.chars().take(20).collect();
    Err(invalid(offset, format!("unexpected `{shown}`")))
}

/// The last line of regex's message says what is wrong; the others draw the pattern.
fn first_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<(usize, Token)>>,
    end: usize,
}

impl Parser {
    /// Everything that binds tighter than `floor`.
    fn expression(&mut self, floor: u8) -> Result<Term, Invalid> {
        let mut left = self.operand()?;
        while let Some((_, Token::Operator(operator))) = self.tokens.peek() {
            let operator = *operator;
            if operator.strength() <= floor {
                break;
            }
            self.tokens.next();
            let right = self.expression(operator.strength())?;
            left = Term::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Term, Invalid> {
        match self.tokens.next() {
            Some((_, Token::Term(term))) => Ok(term),
            Some((_, Token::Not)) => Ok(Term::Not(Box::new(self.operand()?))),
            Some((offset, Token::Open)) => {
                let inner = self.expression(0)?;
                match self.tokens.next() {
                    Some((_, Token::Close)) => Ok(inner),
                    _ => Err(invalid(offset, "unclosed parenthesis")),
                }
            }
            Some((offset, _)) => Err(invalid(offset, "a value is missing")),
            None => Err(invalid(self.end, "a value is missing")),
        }
    }
}

impl Operator {
    fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Equal | Self::NotEqual | Self::Match | Self::NoMatch => 3,
        }
    }
}

struct Evaluation<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    patterns: &'a Patterns,
    matched_plain_text: bool,
}

impl Evaluation<'_> {
    fn value(&mut self, term: &Term) -> Value {
        match term {
            Term::Null => Value::Null,
            Term::Bool(value) => Value::Bool(*value),
            Term::Text(text) => Value::Text(text.clone()),
            Term::Pattern(pattern) => Value::Pattern(pattern.clone()),
            Term::Variable(name) => (self.lookup)(name).map_or(Value::Null, Value::Text),
            Term::Not(inner) => Value::Bool(!self.value(inner).is_present()),
            Term::Binary(Operator::And, left, right) => match self.value(left) {
                falsy @ (Value::Null | Value::Bool(false)) => falsy,
                _ => self.value(right),
            },
            Term::Binary(Operator::Or, left, right) => match self.value(left) {
                Value::Null | Value::Bool(false) => self.value(right),
                truthy => truthy,
            },
            Term::Binary(operator, left, right) => {
                let (left, right) = (self.value(left), self.value(right));
                Value::Bool(match operator {
                    Operator::Equal => left.equals(&right),
                    Operator::NotEqual => !left.equals(&right),
                    Operator::Match => self.matches(&left, &right),
                    _ => !self.matches(&left, &right),
                })
            }
        }
    }

    fn matches(&mut self, left: &Value, right: &Value) -> bool {
        let text = left.text();
        let right = match right {
            Value::Null => return false,
            Value::Pattern(pattern) => return pattern.is_match(&text),
            Value::Text(right) => right.clone(),
            Value::Bool(right) => right.to_string(),
        };
        if let Some(Ok(pattern)) = self.patterns.compile_delimited(&right) {
            return pattern.is_match(&text);
        }
        self.matched_plain_text = true;
        right.contains(&text)
    }
}

impl Value {
    fn is_present(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) => false,
            Self::Bool(true) | Self::Pattern(_) => true,
            Self::Text(text) => !text.trim().is_empty(),
        }
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bool(a), Self::Text(b)) | (Self::Text(b), Self::Bool(a)) => &a.to_string() == b,
            (Self::Pattern(a), Self::Pattern(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::Pattern(pattern) => pattern.as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(name: &str) -> Option<String> {
        let value = match name {
            "A" => "a",
            "B" => "b",
            "EMPTY" => "",
            "BLANK" => "  ",
            "ZERO" => "0",
            "T" => "true",
            "REF" => "release/1.2",
            "PATTERN" => "/^rel.*/",
            "NAME_A" => "$A",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn parse(text: &str) -> Result<Expression, Invalid> {
        Expression::parse(text, &Patterns::default())
    }

    fn evaluate(expression: &Expression) -> Outcome {
        expression.evaluate(&variable, &Patterns::default())
    }

    fn check(text: &str, expected: &str) {
        let actual = match parse(text) {
            Ok(expression) => evaluate(&expression).holds.to_string(),
            Err(error) => format!("{}: {}", error.offset, error.reason),
        };
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn values_and_comparisons() {
        for (text, expected) in [
            ("$A", "true"),
            ("$NOPE", "false"),
            ("$EMPTY", "false"),
            ("$BLANK", "false"),
            ("$ZERO", "true"),
            (r#""false""#, "true"),
            ("false", "false"),
            (r#"$A == "a""#, "true"),
            (r#"$A != "a""#, "false"),
            (r#"$NAME_A == "a""#, "false"),
            (r#""$A" == "a""#, "false"),
            (r#"$NOPE == """#, "false"),
            ("$EMPTY == null", "false"),
            ("$NOPE == $NOPE2", "true"),
            ("$T == true", "true"),
            ("null == null", "true"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn matches() {
        for (text, expected) in [
            ("$REF =~ /^release/", "true"),
            ("$REF !~ /^release/", "false"),
            (r"$REF =~ /^release\/\d+/", "true"),
            ("$REF =~ /^RELEASE/i", "true"),
            ("$REF =~ $PATTERN", "true"),
            ("$REF =~ $NOPE", "false"),
            ("$REF !~ $NOPE", "true"),
            ("$NOPE =~ /^$/", "true"),
            (r#"$A =~ "xay""#, "true"),
            ("$REF =~ $A", "false"),
        ] {
            check(text, expected);
        }
        let odd = evaluate(&parse("$A =~ $B").unwrap());
        assert!(odd.matched_plain_text && !odd.holds);
    }

    #[test]
    fn binding() {
        for (text, expected) in [
            (r#"!$A == "a""#, "false"),
            ("!$NOPE", "true"),
            ("!($A && $NOPE)", "true"),
            ("$A || $NOPE && $NOPE", "true"),
            ("($A || $NOPE) && $NOPE", "false"),
            ("$NOPE && $A || $B", "true"),
            (r#"$A == "a" && $B == "b""#, "true"),
            // As in Ruby the empty text is an operand like any other.
            ("$EMPTY || $A", "false"),
            ("$EMPTY && $A", "true"),
            ("$A\n  &&\n  $B", "true"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn faults_are_located() {
        for (text, expected) in [
            ("", "0: a value is missing"),
            ("${A}", "0: unexpected `${A}`"),
            ("$A ==", "5: a value is missing"),
            ("($A", "0: unclosed parenthesis"),
            ("$A)", "2: an operator is missing"),
            ("$A $B", "3: an operator is missing"),
            ("$A =~ /a/", "6: unexpected `/a/`"),
            ("$A = 'x'", "3: unexpected `= 'x'`"),
            ("== $A", "0: a value is missing"),
        ] {
            check(text, expected);
        }
        assert!(parse("$A =~ /(ab/").is_err());
        assert!(parse(&vec!["$A"; 51].join(" && ")).is_err());
        assert!(parse(&vec!["$A"; 50].join(" && ")).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(?s).{0,80}") {
            drop(parse(&text));
        }

        #[test]
        fn any_sequence_of_tokens_is_parsed_or_refused(
            text in r#"(\$A|\$B|'x'|"y"|/ab/i|null|true|==|!=|=~|!~|&&|\|\||!|\(|\)| ){0,40}"#
        ) {
            if let Ok(expression) = parse(&text) {
                evaluate(&expression);
            }
        }

        #[test]
        fn negation_turns_the_outcome_round(text in r#"(\$A|\$NOPE|'x'|null)( (==|&&|\|\|) (\$B|''|true)){0,3}"#) {
            let plain = evaluate(&parse(&text).unwrap()).holds;
            let negated = parse(&format!("!({text})")).unwrap();
            prop_assert_eq!(evaluate(&negated).holds, !plain);
        }
    }
}
