//! From text to expression. Operators by precedence, lowest first: `||`, `&&`, comparisons, `+ -`, `* / %`,
//! unary `+ - !`, then `.`, `[]` and calls.

use super::value::Value;
use super::{CLOSE, OPEN};

/// Brackets, calls and unary operators within each other.
const DEEPEST: usize = 64;

/// Words that are no names.
const RESERVED: [&str; 34] = [
    "array",
    "as",
    "break",
    "case",
    "const",
    "continue",
    "default",
    "else",
    "fallthrough",
    "float",
    "for",
    "func",
    "function",
    "goto",
    "if",
    "import",
    "in",
    "int",
    "let",
    "loop",
    "map",
    "namespace",
    "number",
    "object",
    "package",
    "range",
    "return",
    "string",
    "struct",
    "switch",
    "type",
    "var",
    "void",
    "while",
];

/// Binary operators of one precedence, longest first.
const LEVELS: [&[(&str, Operator)]; 5] = [
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[
        ("*", Operator::Multiply),
        ("/", Operator::Divide),
        ("%", Operator::Remainder),
    ],
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
    Not,
}

#[derive(Debug)]
pub(super) enum Expression {
    Value(Value),
    Name(String),
    /// A quoted text with expressions in it.
    Text(Vec<Self>),
    Array(Vec<Self>),
    Struct(Vec<(Self, Self)>),
    Path(Box<Self>, Vec<Self>),
    Call(String, Vec<Self>),
    Signed(Sign, Box<Self>),
    /// Operands of one precedence, from left to right.
    Chain(Box<Self>, Vec<(Operator, Self)>),
}

/// Reads one expression.
pub(super) struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            depth: 0,
        }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    /// An expression and the braces that close it.
    pub(super) fn template(&mut self) -> Result<Expression, String> {
        let expression = self.expression()?;
        self.expect(CLOSE)?;
        Ok(expression)
    }

    fn expression(&mut self) -> Result<Expression, String> {
        self.deeper(|reader| reader.level(&LEVELS))
    }

    fn deeper(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Expression, String>,
    ) -> Result<Expression, String> {
        if self.depth == DEEPEST {
            return Err(format!("is nested more than {DEEPEST} deep"));
        }
        self.depth += 1;
        let expression = read(self);
        self.depth -= 1;
        expression
    }

    fn level(&mut self, levels: &[&[(&'static str, Operator)]]) -> Result<Expression, String> {
        let Some((operators, tighter)) = levels.split_first() else {
            return self.signed();
        };
        let first = self.level(tighter)?;
        let mut others = Vec::new();
        while let Some(operator) = self.operator(operators) {
            others.push((operator, self.level(tighter)?));
        }
        if others.is_empty() {
            return Ok(first);
        }
        Ok(Expression::Chain(Box::new(first), others))
    }

    fn operator(&mut self, operators: &[(&'static str, Operator)]) -> Option<Operator> {
        let mut operators = operators.iter();
        operators.find_map(|(token, operator)| self.take(token).then_some(*operator))
    }

    fn signed(&mut self) -> Result<Expression, String> {
        let signs = [('+', Sign::Plus), ('-', Sign::Minus), ('!', Sign::Not)];
        self.skip_space();
        for (token, sign) in signs {
            if let Some(rest) = self.rest.strip_prefix(token) {
                self.rest = rest;
                let operand = self.deeper(Self::signed)?;
                return Ok(Expression::Signed(sign, Box::new(operand)));
            }
        }
        self.path()
    }

    fn path(&mut self) -> Result<Expression, String> {
        let base = self.primary()?;
        let mut selectors = Vec::new();
        loop {
            if self.take(".") {
                let name = self.word()?;
                selectors.push(Expression::Value(Value::Text(name.into())));
            } else if self.take("[") {
                selectors.push(self.expression()?);
                self.expect("]")?;
            } else if selectors.is_empty() {
                return Ok(base);
            } else {
                return Ok(Expression::Path(Box::new(base), selectors));
            }
        }
    }

    fn primary(&mut self) -> Result<Expression, String> {
        self.skip_space();
        match self.rest.chars().next() {
            Some('"') => self.text(),
            Some('\'') => self.raw_text(),
            Some('0'..='9') => self.number(),
            Some('(') => {
                self.take("(");
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Some('[') => {
                self.take("[");
                self.list("]", Self::expression).map(Expression::Array)
            }
            Some('{') => {
                self.take("{");
                self.list("}", Self::field).map(Expression::Struct)
            }
            _ => self.name(),
        }
    }

    fn name(&mut self) -> Result<Expression, String> {
        let name = self.word()?;
        if self.take("(") {
            let arguments = self.list(")", Self::expression)?;
            return Ok(Expression::Call(name.to_owned(), arguments));
        }
        Ok(match name {
            "null" => Expression::Value(Value::Null),
            "true" => Expression::Value(Value::Boolean(true)),
            "false" => Expression::Value(Value::Boolean(false)),
            reserved if RESERVED.contains(&reserved) => {
                return Err(format!("{reserved:?} is a reserved word"));
            }
            name => Expression::Name(name.to_owned()),
        })
    }

    /// Items up to a closing token, with commas between them; one after the last is allowed.
    fn list<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(item(self)?);
            if !self.take(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    /// `name: value`; a name that is to be looked up stands in brackets.
    fn field(&mut self) -> Result<(Expression, Expression), String> {
        self.skip_space();
        let key = if self.rest.starts_with(['"', '\'', '(']) {
            self.primary()?
        } else {
            Expression::Value(Value::Text(self.word()?.into()))
        };
        self.expect(":")?;
        Ok((key, self.expression()?))
    }

    fn word(&mut self) -> Result<&'a str, String> {
        self.skip_space();
        let is_part = |next: char| next.is_alphanumeric() || next == '_';
        let end = self.rest.find(|next: char| !is_part(next));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if word.is_empty() || word.starts_with(|first: char| first.is_numeric()) {
            return Err(self.unexpected("a value or a name"));
        }
        self.rest = rest;
        Ok(word)
    }

    fn number(&mut self) -> Result<Expression, String> {
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let mut end = digits(self.rest);
        if let Some(fraction) = self.rest[end..].strip_prefix('.')
            && fraction.starts_with(|c: char| c.is_ascii_digit())
        {
            end += 1 + digits(fraction);
        }
        if let Some(exponent) = self.rest[end..].strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let length = digits(unsigned);
            if length > 0 {
                end += 1 + exponent.len() - unsigned.len() + length;
            }
        }
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Expression::Value(Value::Number(number))),
            _ => Err(format!("{text} is no number")),
        }
    }

    /// A text in double quotes, with escapes and expressions.
    fn text(&mut self) -> Result<Expression, String> {
        self.rest = &self.rest[1..];
        let mut parts = Vec::new();
        let mut text = String::new();
        loop {
            let Some(at) = self.rest.find(['"', '\\', '$']) else {
                return Err("a quote is not closed".to_owned());
            };
            text.push_str(&self.rest[..at]);
            self.rest = &self.rest[at..];
            if let Some(rest) = self.rest.strip_prefix('"') {
                self.rest = rest;
                parts.push(Expression::Value(Value::Text(text.into())));
                return Ok(match parts.len() {
                    1 => parts.remove(0),
                    _ => Expression::Text(parts),
                });
            }
            if let Some(rest) = self.rest.strip_prefix('\\') {
                self.rest = rest;
                self.escape(&mut text)?;
            } else if let Some(rest) = self.rest.strip_prefix(OPEN) {
                self.rest = rest;
                let before = std::mem::take(&mut text);
                parts.push(Expression::Value(Value::Text(before.into())));
                parts.push(self.template()?);
            } else {
                text.push('$');
                self.rest = &self.rest[1..];
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), String> {
        if let Some(rest) = self.rest.strip_prefix(OPEN) {
            text.push_str(OPEN);
            self.rest = rest;
            return Ok(());
        }
        let mut characters = self.rest.chars();
        let escaped = match characters.next() {
            Some(plain @ ('\\' | '"' | '/')) => plain,
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('v') => '\u{b}',
            Some('u') => {
                let digits = characters.as_str().get(..4);
                let hexadecimal = |text: &&str| text.bytes().all(|c| c.is_ascii_hexdigit());
                let code = digits.filter(hexadecimal);
                let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
                let character = code.and_then(char::from_u32);
                let character = character.ok_or("\\u wants four digits of a character")?;
                characters = characters.as_str()[4..].chars();
                character
            }
            Some(other) => return Err(format!("there is no escape \\{other}")),
            None => return Err("a quote is not closed".to_owned()),
        };
        text.push(escaped);
        self.rest = characters.as_str();
        Ok(())
    }

    /// A text in single quotes: only `\\` and `\'` mean something else.
    fn raw_text(&mut self) -> Result<Expression, String> {
        self.rest = &self.rest[1..];
        let mut text = String::new();
        loop {
            let Some(at) = self.rest.find(['\'', '\\']) else {
                return Err("a quote is not closed".to_owned());
            };
            text.push_str(&self.rest[..at]);
            let (found, rest) = self.rest[at..].split_at(1);
            self.rest = rest;
            if found == "'" {
                return Ok(Expression::Value(Value::Text(text.into())));
            }
            match rest.chars().next() {
                Some(escaped @ ('\\' | '\'')) => {
                    text.push(escaped);
                    self.rest = &rest[1..];
                }
                _ => text.push('\\'),
            }
        }
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
            Some(found) => format!("expected {wanted}, found {found:?}"),
            None => format!("expected {wanted}, found the end"),
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}
