//! From expression to value.

use super::read::{Expression, Operator, Sign};
use super::value::{Scope, Value};

impl Expression {
    pub(super) fn evaluate(&self, scope: &Scope) -> Result<Value, String> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Name(name) => scope.get(name)?.usable(),
            Self::Path(base, selectors) => {
                let mut value = match base.as_ref() {
                    // What is behind it may be used even where all of it may not.
                    Self::Name(name) => scope.get(name)?,
                    other => other.evaluate(scope)?,
                };
                for selector in selectors {
                    value = value.at(&selector.evaluate(scope)?)?;
                }
                value.usable()
            }
            Self::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part.evaluate(scope)? {
                        value @ Value::Text(_) => value.write(&mut text, scope)?,
                        other => return Err(format!("{} in a text: use str()", other.kind())),
                    }
                }
                Ok(Value::Text(text.into()))
            }
            Self::Array(elements) => {
                let elements = elements.iter().map(|element| element.evaluate(scope));
                Ok(Value::Array(elements.collect::<Result<_, _>>()?))
            }
            Self::Struct(fields) => {
                let fields = fields
                    .iter()
                    .map(|(key, value)| match key.evaluate(scope)? {
                        Value::Text(key) => Ok((key.as_ref().to_owned(), value.evaluate(scope)?)),
                        other => Err(format!("{} cannot be the name of a field", other.kind())),
                    });
                fields.collect()
            }
            Self::Call(name, arguments) => call(name, arguments, scope),
            Self::Signed(sign, operand) => {
                let value = operand.evaluate(scope)?;
                match (sign, &value) {
                    (Sign::Not, _) => Ok(Value::Boolean(!value.is_truthy())),
                    (Sign::Plus, Value::Number(number)) => Ok(Value::Number(*number)),
                    (Sign::Minus, Value::Number(number)) => Ok(Value::Number(-number)),
                    _ => Err(format!("{} has no sign", value.kind())),
                }
            }
            Self::Chain(first, others) => {
                let mut left = first.evaluate(scope)?;
                for (operator, right) in others {
                    left = combine(left, *operator, right, scope)?;
                }
                Ok(left)
            }
        }
    }
}

fn combine(
    left: Value,
    operator: Operator,
    right: &Expression,
    scope: &Scope,
) -> Result<Value, String> {
    match operator {
        Operator::Or if left.is_truthy() => return Ok(left),
        Operator::And if !left.is_truthy() => return Ok(left),
        _ => {}
    }
    let right = right.evaluate(scope)?;
    let order = || left.compare(&right);
    let holds = match operator {
        Operator::Or | Operator::And => return Ok(right),
        Operator::Equal => order().is_eq(),
        Operator::NotEqual => order().is_ne(),
        Operator::Less => order().is_lt(),
        Operator::AtMost => order().is_le(),
        Operator::Greater => order().is_gt(),
        Operator::AtLeast => order().is_ge(),
        Operator::Add
        | Operator::Subtract
        | Operator::Multiply
        | Operator::Divide
        | Operator::Remainder => return calculate(&left, operator, &right, scope),
    };
    Ok(Value::Boolean(holds))
}

fn calculate(
    left: &Value,
    operator: Operator,
    right: &Value,
    scope: &Scope,
) -> Result<Value, String> {
    let number = match (left, operator, right) {
        (Value::Text(left), Operator::Add, Value::Text(right)) => {
            scope.pay(left.len() + right.len())?;
            return Ok(Value::Text(format!("{left}{right}").into()));
        }
        (Value::Number(_), Operator::Divide | Operator::Remainder, Value::Number(0.0)) => {
            return Err("division by zero".to_owned());
        }
        (Value::Number(left), operator, Value::Number(right)) => match operator {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide => left / right,
            _ => left % right,
        },
        _ => {
            let (left, right) = (left.kind(), right.kind());
            return Err(format!("{left} and {right} cannot be calculated with"));
        }
    };
    if number.is_finite() {
        Ok(Value::Number(number))
    } else {
        Err("the number is too large".to_owned())
    }
}

fn call(name: &str, arguments: &[Expression], scope: &Scope) -> Result<Value, String> {
    if !matches!(name, "str" | "num" | "bool") {
        return Err(format!("there is no function {name}()"));
    }
    let [argument] = arguments else {
        let count = arguments.len();
        return Err(format!("{name}() wants one argument, found {count}"));
    };
    let value = argument.evaluate(scope)?;
    match (name, &value) {
        ("bool", _) => Ok(Value::Boolean(value.is_truthy())),
        ("num", Value::Number(_)) => Ok(value),
        ("num", Value::Text(text)) => {
            let number = text.trim().parse::<f64>();
            let number = number.ok().filter(|number| number.is_finite());
            let number = number.ok_or_else(|| format!("num() cannot convert {text:?}"))?;
            Ok(Value::Number(number))
        }
        ("num", other) => Err(format!("num() cannot convert {}", other.kind())),
        _ => {
            let mut text = String::new();
            value.write(&mut text, scope)?;
            Ok(Value::Text(text.into()))
        }
    }
}
