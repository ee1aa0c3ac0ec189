//! Names in model files: shorthands spelled out, and unknown ones refused with the nearest known.

use serde_json::{Map, Value};

use crate::Error;

/// A part that model files name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// `structure`, `prior` or `potential`: the section it stands in.
    pub kind: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it says, in symbols.
    pub meaning: &'static str,
    /// Its settings.
    pub settings: &'static [&'static str],
    /// An entry of its section, in TOML.
    pub example: &'static str,
    /// Tensors it reads from the input, with their shapes.
    pub tensors: &'static [&'static str],
}

const fn part(
    kind: &'static str,
    name: &'static str,
    meaning: &'static str,
    settings: &'static [&'static str],
    example: &'static str,
) -> Part {
    Part { kind, name, meaning, settings, example, tensors: &[] }
}

impl Part {
    const fn reading(self, tensors: &'static [&'static str]) -> Self {
        Self { tensors, ..self }
    }
}

/// Every part of the model language.
pub const PARTS: &[Part] = &[
    part(
        "structure",
        "each-query-picks-one",
        "Σ_j φ_ij = 1: p is a softmax over the keys",
        &[],
        r#""each-query-picks-one""#,
    ),
    part(
        "structure",
        "each-query-picks-at-most-one",
        "Σ_j φ_ij ≤ 1: p is a softmax with a null edge of log-weight `null`, 0 by default",
        &["null"],
        "{ each-query-picks-at-most-one = { null = 0.5 } }",
    ),
    part(
        "structure",
        "each-key-picks-one",
        "Σ_i φ_ij = 1: p is a softmax over the queries",
        &[],
        r#""each-key-picks-one""#,
    ),
    part(
        "structure",
        "independent",
        "every set of edges: p is the logistic function of the score",
        &[],
        r#""independent""#,
    ),
    part(
        "structure",
        "nearest-accepted",
        "keys are offered from the last to the first, each accepted with σ(θ), and the first accepted is \
         picked: stick-breaking",
        &[],
        r#""nearest-accepted""#,
    ),
    part(
        "structure",
        "walk",
        "paths of h ≤ H picks of a one-step structure, h ~ weights: E[v] = Σ_h P(h) P^h V",
        &["hops", "weights", "step"],
        "{ walk = { hops = 2, weights = [0.2, 0.5, 0.3] } }",
    )
    .reading(&["walk.weights or walk.log-weights [H + 1] or [heads, H + 1], if the file has none"]),
    part("prior", "uniform", "log w_ij = 0", &[], r#""uniform""#),
    part("prior", "causal", "log w_ij = 0 for j ≤ i, −∞ ahead", &[], r#""causal""#),
    part(
        "prior",
        "window",
        "log w_ij = 0 for i − left ≤ j ≤ i + right, −∞ elsewhere",
        &["left", "right"],
        "{ window = { left = 127, right = 0 } }",
    ),
    part("prior", "segments", "log w_ij = 0 within a segment, −∞ across", &[], r#""segments""#)
        .reading(&["segments.q [B, N]", "segments.k [B, M]"]),
    part(
        "prior",
        "adjacency",
        "log w_ij = the log-weight of the edge i → j, 0 without weights, −∞ where there is none",
        &[],
        r#""adjacency""#,
    )
    .reading(&[
        "adjacency.indptr [N + 1]",
        "adjacency.indices [E]",
        "adjacency.log-weights [E], if present",
    ]),
    part("prior", "bias", "log w_ij = b_ij, given or learned", &[], r#""bias""#)
        .reading(&["bias, broadcast to [B, H, N, M]"]),
    part(
        "prior",
        "geometric",
        "log w_ij = |i − j| log(1 − ρ)",
        &["rho"],
        "{ geometric = { rho = 0.1 } }",
    ),
    part(
        "prior",
        "alibi",
        "log w_ij = −m_h |i − j|, with the slopes of the paper or given ones",
        &["slopes", "standard"],
        "{ alibi = { slopes = [0.5, 0.25] } }",
    ),
    part(
        "prior",
        "laplace",
        "log w_ij = −|i − j| / scale",
        &["scale"],
        "{ laplace = { scale = 8.0 } }",
    ),
    part(
        "prior",
        "generalized-gaussian",
        "log w_ij = −(|i − j| / scale)^shape",
        &["scale", "shape"],
        "{ generalized-gaussian = { scale = 8.0, shape = 2.0 } }",
    ),
    part(
        "prior",
        "relative-buckets",
        "log w_ij = table[bucket(i − j), h]",
        &["buckets", "max-distance", "bidirectional"],
        "{ relative-buckets = { buckets = 32, max-distance = 128, bidirectional = true } }",
    )
    .reading(&["relative-bias [buckets, H]"]),
    part("prior", "key-bias", "log w_ij = b_j", &[], r#""key-bias""#)
        .reading(&["key-bias, broadcast to [B, H, M]"]),
    part(
        "prior",
        "beta-geometric",
        "log w_ij = log B(α + 1, β + |i − j|) − log B(α, β)",
        &["alpha", "beta"],
        "{ beta-geometric = { alpha = 1.0, beta = 4.0 } }",
    ),
    part(
        "potential",
        "dot",
        "log ψ = scale · q·k, 1/√D by default; with a softcap c, c tanh(scale · q·k / c)",
        &["scale", "softcap"],
        "{ dot = { scale = 0.125 } }",
    ),
    part(
        "potential",
        "cosine",
        "log ψ = scale · q·k / (‖q‖ ‖k‖)",
        &["scale"],
        "{ cosine = { scale = 10.0 } }",
    ),
    part(
        "potential",
        "gaussian",
        "log ψ = −½ (q − k)ᵀ Λ (q − k), Λ a number, `2.0`, or diagonal: a row of one number per \
         coordinate for all heads, `[[1.0, 2.0, 3.0]]`, or a row per head",
        &["precision"],
        "{ gaussian = { precision = 2.0 } }",
    ),
    part(
        "potential",
        "additive",
        "log ψ = aᵀ act(W_q q + W_k k), in the forms gat, gatv2 and bahdanau",
        &["kind", "slope"],
        r#"{ additive = { kind = "gatv2", slope = 0.2 } }"#,
    )
    .reading(&[
        "additive.a [H, F]",
        "additive.a-key [H, F], for gat",
        "additive.query and additive.key [H, F, D], if present",
    ]),
    part(
        "potential",
        "rotary",
        "another potential of nodes turned by their positions",
        &["base", "pairs", "potential"],
        r#"{ rotary = { base = 10000.0, potential = "dot" } }"#,
    ),
];

/// Mechanisms, their settings, and whether those of the engine are among them.
const MECHANISMS: &[(&str, &[&str], bool)] = &[
    ("hopfield", &["beta", "prior", "update"], true),
    (
        "mixture",
        &[
            "components",
            "covariance",
            "regularisation",
            "variance-floor",
            "seeding",
            "seed",
            "restarts",
            "steps",
            "tolerance",
            "memory",
        ],
        false,
    ),
    (
        "slots",
        &[
            "weights",
            "slots",
            "iterations",
            "heads",
            "head-width",
            "epsilon",
            "norm-epsilon",
            "seed",
        ],
        false,
    ),
    (
        "block-slots",
        &["weights", "blocks", "slots", "iterations", "epsilon", "norm-epsilon", "seed"],
        false,
    ),
    ("perceiver", &["weights", "depth", "cross-heads", "latent-heads", "norm-epsilon"], false),
    ("k-means", &["components", "seeding", "seed", "steps"], false),
    (
        "expanding",
        &["alpha", "beta", "potential", "inference", "lost", "first-keys", "query-offset"],
        false,
    ),
];

/// Settings of the fixed-point engine.
const ENGINE: &[&str] = &["steps", "tolerance", "energy-tolerance", "memory", "differentiation"];
const DIFFERENTIATIONS: &[&str] = &["implicit", "unrolled", "one-step"];
/// Updates and their settings.
const UPDATES: &[(&str, &[&str])] =
    &[("exact", &[]), ("descent", &["step"]), ("backtracking", &["step"])];
const COVARIANCES: &[&str] = &["diagonal", "spherical"];
const SEEDINGS: &[&str] = &["plus-plus", "points"];
const INFERENCES: &[(&str, &[&str])] = &[("exact", &[]), ("mean-field", ENGINE)];

const SECTIONS: &[&str] = &["structure", "prior", "potential", "value", "query-offset"];
const VALUES: &[&str] = &["gather", "average"];
const ADDITIVE_KINDS: &[&str] = &["gat", "gatv2", "bahdanau"];

/// Checks every name of a model and spells its shorthands out.
pub(super) fn check(model: &mut Value) -> Result<(), Error> {
    let Value::Object(sections) = model else {
        return Err(Error::value("model", "sections (structure, prior, potential …)", model));
    };
    known_keys("section", sections, SECTIONS)?;
    for kind in ["structure", "potential"] {
        match sections.get_mut(kind) {
            Some(part) => check_part(kind, part)?,
            None => {
                let usual = match kind {
                    "structure" => "each-query-picks-one",
                    _ => "dot",
                };
                let expected = format!(
                    "one of the model's parts: it has no default. That of a transformer's attention is \
                     `{kind} = \"{usual}\"`"
                );
                return Err(Error::value(kind, expected, "absent"));
            }
        }
    }
    if let Some(priors) = sections.get_mut("prior") {
        check_priors(priors)?;
    }
    if let Some(Value::String(value)) = sections.get("value") {
        known("value", value, VALUES)?;
    }
    Ok(())
}

fn check_priors(priors: &mut Value) -> Result<(), Error> {
    match priors {
        Value::Array(priors) => {
            priors.iter_mut().try_for_each(|prior| check_part("prior", prior))?;
        }
        // One prior may stand without a list.
        one => {
            check_part("prior", one)?;
            *one = Value::Array(vec![one.take()]);
        }
    }
    Ok(())
}

/// Checks every name of a mechanism and spells its shorthands out.
pub(super) fn check_mechanism(mechanism: &mut Value) -> Result<(), Error> {
    if let Value::String(name) = mechanism {
        *mechanism = serde_json::json!({ name.clone(): {} });
    }
    let Some((name, table)) = only_entry(mechanism) else {
        let expected = "a name, or one name with a table of settings";
        return Err(Error::value("mechanism", expected, mechanism));
    };
    let names: Vec<&str> = MECHANISMS.iter().map(|(name, _, _)| *name).collect();
    known("mechanism", name, &names)?;
    let Value::Object(table) = table else {
        return Err(Error::value(format!("mechanism.{name}"), "a table of settings", table));
    };
    let own = MECHANISMS.iter().find(|(known, _, _)| known == name);
    let (_, settings, engine) = own.expect("a known name");
    let engine = if *engine { ENGINE } else { &[] };
    known_keys("setting", table, &[settings, engine].concat())?;
    for (setting, value) in table.iter_mut() {
        match setting.as_str() {
            "prior" => check_priors(value)?,
            "potential" => check_part("potential", value)?,
            "update" => check_choice("update", UPDATES, value)?,
            "inference" => check_choice("inference", INFERENCES, value)?,
            "covariance" => check_name("covariance", COVARIANCES, value)?,
            "seeding" => check_name("seeding", SEEDINGS, value)?,
            _ => {}
        }
    }
    check_differentiation(table)
}

/// Refuses sections beside a mechanism, which has its parts inside.
pub(super) fn check_alone(file: &Value) -> Result<(), Error> {
    match file.as_object().and_then(|file| file.keys().find(|key| *key != "mechanism")) {
        None => Ok(()),
        Some(other) => Err(Error::value(
            other.as_str(),
            "nothing: a mechanism has its parts among its own settings",
            "a section beside `mechanism`",
        )),
    }
}

/// Checks a choice that is a name alone; what is no name is left to the reader.
fn check_name(kind: &'static str, names: &[&str], choice: &Value) -> Result<(), Error> {
    choice.as_str().map_or(Ok(()), |name| known(kind, name, names))
}

fn check_differentiation(table: &Map<String, Value>) -> Result<(), Error> {
    let how = table.get("differentiation");
    how.map_or(Ok(()), |how| check_name("differentiation", DIFFERENTIATIONS, how))
}

/// The entry of a table that has one alone.
fn only_entry(table: &mut Value) -> Option<(&String, &mut Value)> {
    match table {
        Value::Object(map) if map.len() == 1 => map.iter_mut().next(),
        _ => None,
    }
}

/// Checks one of several named choices, and spells `"name"` out where it has settings.
fn check_choice(
    kind: &'static str,
    choices: &[(&str, &[&str])],
    choice: &mut Value,
) -> Result<(), Error> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let settings = |name: &str| choices.iter().find(|(known, _)| *known == name).map(|c| c.1);
    if let Value::String(name) = choice {
        known(kind, name, &names)?;
        if settings(name).is_some_and(|all| !all.is_empty()) {
            *choice = serde_json::json!({ name.clone(): {} });
        }
        return Ok(());
    }
    let Some((name, table)) = only_entry(choice) else {
        return Err(Error::value(kind, "a name, or one name with a table of settings", choice));
    };
    known(kind, name, &names)?;
    let Value::Object(table) = table else { return Ok(()) };
    known_keys("setting", table, settings(name).unwrap_or(&[]))?;
    check_differentiation(table)
}

fn known(kind: &'static str, name: &str, all: &[&str]) -> Result<(), Error> {
    if all.contains(&name) { Ok(()) } else { Err(Error::unknown(kind, name, all)) }
}

fn known_keys(kind: &'static str, map: &Map<String, Value>, all: &[&str]) -> Result<(), Error> {
    map.keys().try_for_each(|key| known(kind, key, all))
}

fn check_part(kind: &'static str, part: &mut Value) -> Result<(), Error> {
    let parts = || PARTS.iter().filter(|part| part.kind == kind);
    let names: Vec<&str> = parts().map(|part| part.name).collect();
    let settings = |name: &str| parts().find(|part| part.name == name).map(|part| part.settings);
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
                    check_part("potential", inner)?;
                }
                if let Some(inner) = table.get_mut("step") {
                    check_part("structure", inner)?;
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
