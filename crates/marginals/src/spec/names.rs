//! Names in model files: shorthands spelled out, and unknown ones refused with the nearest known.

use serde_json::{Map, Value};

use crate::Error;

/// A part's name and its settings.
type Part = (&'static str, &'static [&'static str]);

const STRUCTURES: &[Part] = &[
    ("each-query-picks-one", &[]),
    ("each-query-picks-at-most-one", &["null"]),
    ("each-key-picks-one", &[]),
    ("independent", &[]),
];

const PRIORS: &[Part] = &[
    ("uniform", &[]),
    ("causal", &[]),
    ("window", &["left", "right"]),
    ("segments", &[]),
    ("adjacency", &[]),
    ("bias", &[]),
    ("geometric", &["rho"]),
    ("alibi", &["slopes", "standard"]),
    ("laplace", &["scale"]),
    ("generalized-gaussian", &["scale", "shape"]),
    ("relative-buckets", &["buckets", "max-distance", "bidirectional"]),
    ("key-bias", &[]),
    ("beta-geometric", &["alpha", "beta"]),
];

const POTENTIALS: &[Part] = &[
    ("dot", &["scale", "softcap"]),
    ("cosine", &["scale"]),
    ("gaussian", &["precision"]),
    ("additive", &["kind", "slope"]),
    ("rotary", &["base", "pairs", "potential"]),
];

const SECTIONS: &[&str] = &["structure", "prior", "potential", "value", "query-offset"];
const VALUES: &[&str] = &["gather", "average"];
const ADDITIVE_KINDS: &[&str] = &["gat", "gatv2", "bahdanau"];

/// Checks every name of a model and spells its shorthands out.
pub(super) fn check(model: &mut Value) -> Result<(), Error> {
    let Value::Object(sections) = model else {
        return Err(Error::value("model", "sections (structure, prior, potential …)", model));
    };
    known_keys("section", sections, SECTIONS)?;
    for (kind, parts) in [("structure", STRUCTURES), ("potential", POTENTIALS)] {
        match sections.get_mut(kind) {
            Some(part) => check_part(kind, parts, part)?,
            None => return Err(Error::value(kind, "one of the model's parts", "nothing")),
        }
    }
    match sections.get_mut("prior") {
        Some(Value::Array(priors)) => {
            priors.iter_mut().try_for_each(|prior| check_part("prior", PRIORS, prior))?;
        }
        // One prior may stand without a list.
        Some(one) => {
            check_part("prior", PRIORS, one)?;
            *one = Value::Array(vec![one.take()]);
        }
        None => {}
    }
    if let Some(Value::String(value)) = sections.get("value") {
        known("value", value, VALUES)?;
    }
    Ok(())
}

fn known(kind: &'static str, name: &str, all: &[&str]) -> Result<(), Error> {
    if all.contains(&name) { Ok(()) } else { Err(Error::unknown(kind, name, all)) }
}

fn known_keys(kind: &'static str, map: &Map<String, Value>, all: &[&str]) -> Result<(), Error> {
    map.keys().try_for_each(|key| known(kind, key, all))
}

fn check_part(kind: &'static str, parts: &[Part], part: &mut Value) -> Result<(), Error> {
    let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    let settings = |name: &str| parts.iter().find(|(known, _)| *known == name).map(|p| p.1);
    match part {
        Value::String(name) => {
            known(kind, name, &names)?;
            // A part that has settings is a table, and so is its shorthand.
            if name == "alibi" {
                *part = serde_json::json!({ "alibi": "standard" });
            } else if settings(name).is_some_and(|all| !all.is_empty()) {
                *part = serde_json::json!({ name.clone(): {} });
            }
        }
        Value::Object(map) if map.len() == 1 => {
            let (name, value) = map.iter_mut().next().expect("one entry");
            known(kind, name, &names)?;
            if let Value::Object(table) = value {
                known_keys("setting", table, settings(name).unwrap_or(&[]))?;
                if let Some(Value::String(form)) = table.get("kind") {
                    known("additive form", form, ADDITIVE_KINDS)?;
                }
                if let Some(inner) = table.get_mut("potential") {
                    check_part("potential", POTENTIALS, inner)?;
                }
                if name == "alibi" && table.get("standard") == Some(&Value::Bool(true)) {
                    *value = Value::String("standard".into());
                } else if settings(name).is_some_and(<[_]>::is_empty) {
                    // `{ causal = {} }` is `"causal"`.
                    *part = Value::String(name.clone());
                }
            }
        }
        other => {
            return Err(Error::value(kind, "a name, or one name with a table of settings", other));
        }
    }
    Ok(())
}
