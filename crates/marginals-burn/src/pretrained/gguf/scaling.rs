//! Scalings of rotary embeddings in GGUF files, as a `config.json` has them.
//!
//! A file says how its frequencies are scaled in its metadata, by factors of single frequencies in tensors,
//! or by both. What it leaves out is as llama.cpp has it: a factor without a type is linear.

use serde_json::{Value as Json, json};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::{GgufFile, Value};
use crate::error::ModelError;

/// Tensors that hold a divisor of each frequency: for all texts, for those longer than the original context
/// and for the others.
pub(super) const TENSORS: [&str; 3] =
    ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

const KEYS: [&str; 11] = [
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_log_multiplier",
];

/// Whether a key, without its architecture, is one of a scaling.
pub(super) fn reads(own: &str) -> bool {
    KEYS.contains(&own)
}

/// The `rope_scaling` of a file whose longest text is `context` and whose heads turn in so many pairs.
///
/// # Errors
/// [`ModelError`], where its parts make no sense together, or are not supported.
pub(super) fn read(
    file: &GgufFile,
    architecture: &str,
    context: usize,
    pairs: usize,
) -> Result<Json, ModelError> {
    let key = |own: &str| format!("{architecture}.rope.{own}");
    let number = |own: &str| -> Result<Option<f64>, ModelError> {
        let number = match file.metadata(&key(own)) {
            None => return Ok(None),
            Some(Value::Float(number)) => *number,
            Some(Value::Unsigned(number)) => *number as f64,
            Some(Value::Signed(number)) => *number as f64,
            Some(_) => f64::NAN,
        };
        match number.is_finite() {
            true => Ok(Some(number)),
            false => Err(file.damaged(format!("`{}` is not a number", key(own)))),
        }
    };
    let only = |own: &str, usual: f64| match number(own)? {
        Some(found) if found != usual => Err(file.unsupported(format!(
            "`{}` is {found}, which changes its rotary embedding; {usual} is supported",
            key(own)
        ))),
        _ => Ok(()),
    };
    // The older key counts where the newer is not there; 0 is no factor.
    let factor =
        number("scaling.factor")?.map_or_else(|| number("scale_linear"), |f| Ok(Some(f)))?;
    let factor = factor.filter(|factor| *factor != 0.0).unwrap_or(1.0);
    let magnitude = number("scaling.attn_factor")?.unwrap_or(1.0);
    let original = file.size(&key("scaling.original_context_length"))?.unwrap_or(context);
    let kind = file.text(&key("scaling.type")).unwrap_or("linear");

    if kind == "yarn" {
        if let Some(tensor) = TENSORS.into_iter().find(|name| file.shape(name).is_some()) {
            return Err(file.unsupported(format!(
                "its rotary embedding is scaled by YaRN and by `{tensor}`, and one of them is \
                 supported"
            )));
        }
        only("scaling.yarn_ext_factor", 1.0)?;
        only("scaling.attn_factor", 1.0)?;
        let mut scaling = json!({
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "beta_fast": number("scaling.yarn_beta_fast")?,
            "beta_slow": number("scaling.yarn_beta_slow")?,
        });
        if let Some(share) = number("scaling.yarn_log_multiplier")?.filter(|share| *share != 0.0) {
            scaling["mscale"] = json!(1.0);
            scaling["mscale_all_dim"] = json!(share);
        }
        return Ok(scaling);
    }
    only("scaling.yarn_ext_factor", 0.0)?;
    let factor = match kind {
        "none" => 1.0,
        "linear" | "longrope" => factor,
        other => {
            return Err(file.unsupported(format!(
                "`{}` is `{other}`; none, linear, yarn and longrope are read",
                key("scaling.type")
            )));
        }
    };
    // Both the factor and a tensor's divide the frequencies.
    let divisors = |name: &str| -> Result<Vec<f64>, ModelError> {
        let values = file.tensor(name, &[pairs])?;
        Ok(values.into_iter().map(|divisor| f64::from(divisor) * factor).collect())
    };
    let [every, long, short] = TENSORS;
    let has = |name: &str| file.shape(name).is_some();
    let (short, long) = match (has(every), has(short) || has(long)) {
        (true, _) => (divisors(every)?, divisors(every)?),
        (false, true) => (divisors(short)?, divisors(long)?),
        (false, false) => {
            only("scaling.attn_factor", 1.0)?;
            return Ok(match (kind, factor == 1.0) {
                ("longrope", _) => {
                    return Err(file.unsupported(format!(
                        "its rotary embedding is scaled by LongRoPE, and it has no `{short}`"
                    )));
                }
                (_, true) => Json::Null,
                (_, false) => json!({ "rope_type": "linear", "factor": factor }),
            });
        }
    };
    Ok(json!({
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "attention_factor": magnitude,
        "original_max_position_embeddings": original,
    }))
}
