//! Scalings of rotary embeddings: how models read texts longer than those they began with.
//!
//! A pair i of coordinates turns by position · f_i. Without a scaling f_i = θ^(−2i/width); every scaling is
//! other frequencies, and some a factor a of the turned rows, which multiplies scores by a².

use serde_json::{Map, Value as Json};

/// How the frequencies of a rotary embedding are made from its base.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// As they are.
    None,
    /// Divided by a factor: positions closer together (Chen et al., arXiv 2306.15595).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// A base that grows with the text, once it is longer than `original`.
    Dynamic {
        /// Times `original`, the longest text.
        factor: f64,
        /// Longest text of the base as it is.
        original: usize,
    },
    /// Fast pairs as they are, slow ones divided, and a ramp between (Peng et al., *YaRN*, arXiv 2309.00071).
    Yarn {
        /// The divisor.
        factor: f64,
        /// Longest text before.
        original: usize,
        /// Turns over `original` from which on pairs are left, and up to which they are divided.
        turns: [f64; 2],
        /// Whether the ramp begins and ends at whole pairs.
        whole: bool,
        /// Factor of the turned rows.
        magnitude: f64,
    },
    /// Short waves as they are, long ones divided, and a ramp between (Llama 3.1).
    Llama3 {
        /// The divisor.
        factor: f64,
        /// Longest text before.
        original: usize,
        /// Waves in `original` up to which pairs are divided, and from which on they are left.
        waves: [f64; 2],
    },
    /// A divisor for each pair, one for texts up to `original` and one for longer ones (Ding et al.,
    /// *LongRoPE*, arXiv 2402.13753).
    LongRope {
        /// Longest text of the short divisors.
        original: usize,
        /// Divisors of texts up to there.
        short: Vec<f64>,
        /// Divisors of longer ones.
        long: Vec<f64>,
        /// Factor of the turned rows.
        magnitude: f64,
    },
}

/// Settings of a scaling, read by name.
struct Settings<'j> {
    all: &'j Map<String, Json>,
    context: usize,
}

impl Settings<'_> {
    fn optional(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.all.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("`{key}` of its rotary scaling is {value}, not a number above 0")),
        }
    }

    fn number(&self, key: &str) -> Result<f64, String> {
        let missing = || format!("its rotary scaling has no `{key}`");
        self.optional(key)?.ok_or_else(missing)
    }

    fn factor(&self) -> Result<f64, String> {
        match self.number("factor")? {
            factor if factor >= 1.0 => Ok(factor),
            factor => Err(format!("`factor` of its rotary scaling is {factor}, less than 1")),
        }
    }

    fn original(&self) -> Result<usize, String> {
        let key = "original_max_position_embeddings";
        match self.all.get(key).filter(|value| !value.is_null()) {
            None => Ok(self.context),
            Some(value) => value
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| *count > 0)
                .ok_or_else(|| format!("`{key}` is {value}, not a whole number above 0")),
        }
    }

    fn list(&self, key: &str, pairs: usize) -> Result<Vec<f64>, String> {
        let values = self.all.get(key).and_then(Json::as_array);
        let numbers: Option<Vec<f64>> =
            values.and_then(|values| values.iter().map(Json::as_f64).collect());
        let good = |numbers: &Vec<f64>| numbers.len() == pairs && numbers.iter().all(|x| *x > 0.0);
        numbers.filter(good).ok_or_else(|| {
            format!("`{key}` of its rotary scaling is not a list of {pairs} numbers above 0")
        })
    }
}

impl Scaling {
    /// Reads `rope_scaling`, or what newer files keep in `rope_parameters`; `context` is the longest text
    /// and `pairs` half of a head's width.
    ///
    /// `Err` is a reason: the inner one where there is no such scaling here, the outer where a setting of it
    /// makes no sense.
    pub(crate) fn read(
        settings: &Map<String, Json>,
        context: usize,
        pairs: usize,
    ) -> Result<Result<Self, String>, String> {
        let get = Settings { all: settings, context };
        let kind = settings.get("rope_type").or_else(|| settings.get("type"));
        let kind = match kind.filter(|kind| !kind.is_null()) {
            None => "default",
            Some(Json::String(kind)) => kind,
            Some(other) => return Err(format!("the kind of its rotary scaling is {other}")),
        };
        let kind = match kind {
            // Older names, of the first files of Phi-3.
            "su" => "longrope",
            "yarn" if settings.contains_key("short_factor") => "longrope",
            kind => kind,
        };
        Ok(Ok(match kind {
            "default" => Self::None,
            "linear" => Self::Linear { factor: get.factor()? },
            "dynamic" => Self::Dynamic { factor: get.factor()?, original: context },
            "longrope" => {
                let original = get.original()?;
                let factor = get.optional("factor")?;
                let factor = factor.unwrap_or(context as f64 / original as f64);
                let magnitude = match get.optional("attention_factor")? {
                    Some(magnitude) => magnitude,
                    None if factor <= 1.0 => 1.0,
                    None => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
                };
                let short = get.list("short_factor", pairs)?;
                Self::LongRope { original, short, long: get.list("long_factor", pairs)?, magnitude }
            }
            "yarn" => {
                let (factor, original) = (get.factor()?, get.original()?);
                let grown = |share: f64| 0.1 * share * factor.ln() + 1.0;
                let shares = (get.optional("mscale")?, get.optional("mscale_all_dim")?);
                let magnitude = match (get.optional("attention_factor")?, shares) {
                    (Some(magnitude), _) => magnitude,
                    (None, (Some(share), Some(of_all))) => grown(share) / grown(of_all),
                    (None, _) => grown(1.0),
                };
                let turns = [
                    get.optional("beta_fast")?.unwrap_or(32.0),
                    get.optional("beta_slow")?.unwrap_or(1.0),
                ];
                let whole = settings.get("truncate") != Some(&Json::Bool(false));
                Self::Yarn { factor, original, turns, whole, magnitude }
            }
            "llama3" => {
                let waves = [get.number("low_freq_factor")?, get.number("high_freq_factor")?];
                if waves[0] >= waves[1] {
                    return Err("`low_freq_factor` of its rotary scaling is not less than \
                                `high_freq_factor`"
                        .to_owned());
                }
                Self::Llama3 { factor: get.factor()?, original: get.original()?, waves }
            }
            other => {
                return Ok(Err(format!(
                    "`rope_type` is `{other}`; default, linear, dynamic, yarn, llama3 and longrope \
                     are read"
                )));
            }
        }))
    }

    /// The longest text, where the file says `context`.
    pub(crate) fn context(&self, context: usize) -> usize {
        match self {
            Self::Dynamic { factor, .. } => (context as f64 * factor) as usize,
            _ => context,
        }
    }

    /// The angle by which each of `pairs` pairs turns from one position to the next, in a text of `nodes`
    /// tokens, and the factor of the turned rows.
    pub(crate) fn frequencies(&self, base: f64, pairs: usize, nodes: usize) -> (Vec<f64>, f64) {
        let width = 2.0 * pairs as f64;
        let plain = |base: f64| -> Vec<f64> {
            (0..pairs).map(|pair| base.powf(-2.0 * pair as f64 / width)).collect()
        };
        let ramped = |share: &dyn Fn(usize, f64) -> f64, factor: f64| -> Vec<f64> {
            let mixed = |(pair, f): (usize, f64)| {
                let kept = share(pair, f);
                kept * f + (1.0 - kept) * (f / factor)
            };
            plain(base).into_iter().enumerate().map(mixed).collect()
        };
        match self {
            Self::None => (plain(base), 1.0),
            Self::Linear { factor } => (plain(base).iter().map(|f| f / factor).collect(), 1.0),
            Self::Dynamic { factor, original } => {
                let longer = nodes.max(*original) as f64 / *original as f64;
                let grown = (factor * longer - (factor - 1.0)).powf(width / (width - 2.0));
                // A single pair does not turn by the base at all.
                (plain(if pairs > 1 { base * grown } else { base }), 1.0)
            }
            Self::Yarn { factor, original, turns, whole, magnitude } => {
                // The pair that turns so often over the original text.
                let pair_of = |turns: f64| {
                    let waves = *original as f64 / (turns * std::f64::consts::TAU);
                    width * waves.ln() / (2.0 * base.ln())
                };
                let [low, high] = turns.map(pair_of);
                let (low, high) = match whole {
                    true => (low.floor(), high.ceil()),
                    false => (low, high),
                };
                let (low, high) = (low.max(0.0), high.min(width - 1.0));
                let high = if low == high { high + 0.001 } else { high };
                let kept =
                    |pair: usize, _| 1.0 - ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                (ramped(&kept, *factor), *magnitude)
            }
            Self::Llama3 { factor, original, waves: [low, high] } => {
                let kept = |_, f: f64| {
                    let waves = *original as f64 * f / std::f64::consts::TAU;
                    ((waves - low) / (high - low)).clamp(0.0, 1.0)
                };
                (ramped(&kept, *factor), 1.0)
            }
            Self::LongRope { original, short, long, magnitude } => {
                let divisors = if nodes > *original { long } else { short };
                let pairs = plain(base).into_iter().zip(divisors);
                (pairs.map(|(f, divisor)| f / divisor).collect(), *magnitude)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Frequencies that transformers makes of some settings; see `tools/reference/rope_scaling.py`.
    #[derive(Deserialize)]
    struct Recorded {
        settings: Map<String, Json>,
        base: f64,
        context: usize,
        nodes: usize,
        frequencies: Vec<f64>,
        magnitude: f64,
    }

    #[test]
    fn frequencies_are_those_of_transformers() {
        let recorded = include_str!("../../../tests/data/rope_scaling.json");
        let recorded: Vec<Recorded> = serde_json::from_str(recorded).unwrap();
        assert!(recorded.len() >= 12);
        for case in recorded {
            let pairs = case.frequencies.len();
            let scaling = Scaling::read(&case.settings, case.context, pairs).unwrap().unwrap();
            let (found, magnitude) = scaling.frequencies(case.base, pairs, case.nodes);
            for (found, expected) in found.iter().zip(&case.frequencies) {
                // It computes in single precision.
                let error = (found - expected).abs();
                assert!(error <= 1e-6 * expected, "{:?}: {found}, {expected}", case.settings);
            }
            assert!((magnitude - case.magnitude).abs() < 1e-12, "{:?}", case.settings);
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let read = |json: Json| Scaling::read(json.as_object().unwrap(), 64, 4);
        let fault = |json| read(json).unwrap_err();
        use serde_json::json;
        assert!(fault(json!({ "rope_type": "linear" })).contains("no `factor`"));
        assert!(fault(json!({ "rope_type": "linear", "factor": -1 })).contains("`factor`"));
        assert!(fault(json!({ "type": "yarn", "factor": 0.5 })).contains("less than 1"));
        let lists = json!({ "type": "longrope", "short_factor": [1.0], "long_factor": [1.0] });
        assert!(fault(lists).contains("list of 4"));
        let unknown = read(json!({ "rope_type": "axial" })).unwrap().unwrap_err();
        assert!(unknown.contains("`axial`") && unknown.contains("longrope"), "{unknown}");
        assert_eq!(read(json!({ "type": null })).unwrap(), Ok(Scaling::None));
    }
}
