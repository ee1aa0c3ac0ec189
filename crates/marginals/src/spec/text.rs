//! From text to values and back, without losing a number.

use serde::Serialize;
use serde_json::Value;

use crate::Error;

/// Data read from a text in TOML.
///
/// # Errors
/// [`Error::Spec`] where it is no TOML, and [`Error::Value`] naming a number that is not finite.
pub fn toml_value(text: &str) -> Result<Value, Error> {
    let table: toml::Table =
        toml::from_str(text).map_err(|e| Error::Spec { format: "TOML", message: e.to_string() })?;
    from_toml(&mut Vec::new(), toml::Value::Table(table))
}

/// JSON has neither NaN nor infinities and would put nothing in their place, which reads as a setting
/// left out: they stop here.
fn from_toml(path: &mut Vec<String>, value: toml::Value) -> Result<Value, Error> {
    Ok(match value {
        toml::Value::Float(x) => match serde_json::Number::from_f64(x) {
            Some(number) => Value::Number(number),
            None => return Err(Error::value(dotted(path.iter()), "a finite number", x)),
        },
        toml::Value::Array(list) => {
            let entry = |(i, value)| under(path, format!("[{i}]"), |path| from_toml(path, value));
            Value::Array(list.into_iter().enumerate().map(entry).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let entry = |(key, value): (String, toml::Value)| {
                let value = under(path, key.clone(), |path| from_toml(path, value))?;
                Ok((key, value))
            };
            Value::Object(table.into_iter().map(entry).collect::<Result<_, Error>>()?)
        }
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(x) => x.into(),
        toml::Value::Boolean(x) => x.into(),
        toml::Value::Datetime(x) => Value::String(x.to_string()),
    })
}

fn under<R>(path: &mut Vec<String>, key: String, then: impl FnOnce(&mut Vec<String>) -> R) -> R {
    path.push(key);
    let result = then(path);
    path.pop();
    result
}

/// Data read from a text in JSON.
///
/// # Errors
/// [`Error::Spec`] where it is no JSON.
pub fn json_value(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|e| Error::Spec { format: "JSON", message: e.to_string() })
}

/// Data as a value that can be written in TOML or JSON.
///
/// # Errors
/// [`Error::Value`] naming a number that is not finite: JSON would lose it.
pub fn value_of(data: &impl Serialize) -> Result<Value, Error> {
    let value = serde_json::to_value(data)
        .map_err(|e| Error::Spec { format: "JSON", message: e.to_string() })?;
    // What is absent is left out, so that only such numbers become null.
    match null(&value) {
        None => Ok(value),
        Some(mut path) => {
            path.reverse();
            Err(Error::value(dotted(path.iter()), "a finite number", "NaN or infinite"))
        }
    }
}

/// Where there is a null, innermost key first.
fn null(value: &Value) -> Option<Vec<String>> {
    let beneath = |key: String, value| {
        null(value).map(|mut path| {
            path.push(key);
            path
        })
    };
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(list) => {
            list.iter().enumerate().find_map(|(i, value)| beneath(format!("[{i}]"), value))
        }
        Value::Object(map) => map.iter().find_map(|(key, value)| beneath(key.clone(), value)),
        _ => None,
    }
}

/// `prior[1].geometric.rho`.
pub(super) fn dotted<'a>(path: impl Iterator<Item = &'a String>) -> String {
    let mut text = String::new();
    for key in path {
        if !text.is_empty() && !key.starts_with('[') {
            text.push('.');
        }
        text += key;
    }
    text
}
