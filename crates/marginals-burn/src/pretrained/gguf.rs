//! Transformers in GGUF files, as models of the published families.
//!
//! A GGUF file holds what a `config.json` and its safetensors do, under other names and with some tensors
//! changed. Both are undone here, so that a family is read in one way: the settings become those of a
//! `config.json`, and the tensors go by their published names.

mod labels;
mod scaling;
mod tensors;

use serde_json::{Map, Value as Json, json};

pub(super) use self::tensors::Tensors;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::{GgufFile, Value};
use crate::error::ModelError;

/// Architecture of GGUF files.
#[derive(Debug)]
pub(super) struct Architecture {
    /// Its name in `general.architecture`, with which its keys begin.
    name: &'static str,
    /// The `model_type` of its family.
    pub family: &'static str,
    /// Keys without the architecture's name, and the settings that they are.
    settings: &'static [&'static [Renaming]],
    /// Keys of settings that a file must have.
    required: &'static [&'static str],
    /// Tensors outside the layers.
    outside: &'static [Renaming],
    /// The published name of the layers.
    layers: &'static str,
    /// Tensors of a layer.
    parts: &'static [Renaming],
    /// Those of them that some models of the architecture have and others have not.
    optional: &'static [&'static str],
    /// Linear maps that have a bias in every model.
    biased: &'static [&'static str],
    changed: Changed,
}

/// The name of a GGUF file, and the published one.
type Renaming = (&'static str, &'static str);

/// How the tensors of an architecture differ from those that were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    Nothing,
    /// The rows of queries and keys are in another order: coordinates that turn together are neighbours.
    Pairs,
    /// One has been added to the weights of norms.
    NormsAroundOne,
    /// Linear maps are the other way round.
    Transposed,
}

const SETTINGS: &[Renaming] = &[
    ("attention.causal", "is_causal"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("block_count", "num_hidden_layers"),
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("rope.freq_base", "rope_theta"),
];

const WINDOW: &str = "attention.sliding_window";
const WINDOWS: &[Renaming] = &[(WINDOW, "sliding_window")];

const CAPS: &[Renaming] = &[
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
];

const REQUIRED: &[&str] = &[
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
];

const OUTSIDE: &[Renaming] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

const PARTS: &[Renaming] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    // Not of every family; a loader refuses what it has no use for.
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
];

const NORMS_OF_HEADS: &[&str] = &["attn_q_norm", "attn_k_norm"];

const LLAMA: Architecture = Architecture {
    name: "llama",
    family: "llama",
    settings: &[SETTINGS],
    required: REQUIRED,
    outside: OUTSIDE,
    layers: "model.layers",
    parts: PARTS,
    optional: NORMS_OF_HEADS,
    biased: &[],
    changed: Changed::Pairs,
};

const PHI_3: Architecture = Architecture {
    name: "phi3",
    family: "phi3",
    settings: &[SETTINGS, WINDOWS],
    parts: &[
        ("attn_norm", "input_layernorm"),
        ("attn_qkv", "self_attn.qkv_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_up", "mlp.gate_up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ],
    optional: &[],
    changed: Changed::Nothing,
    ..LLAMA
};

const GEMMA_2: Architecture = Architecture {
    name: "gemma2",
    family: "gemma2",
    settings: &[SETTINGS, WINDOWS, CAPS],
    parts: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("attn_output", "self_attn.o_proj"),
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_norm", "pre_feedforward_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("post_ffw_norm", "post_feedforward_layernorm"),
    ],
    changed: Changed::NormsAroundOne,
    ..LLAMA
};

const GEMMA_3: Architecture = Architecture {
    name: "gemma3",
    family: "gemma3_text",
    settings: &[
        SETTINGS,
        WINDOWS,
        &[
            ("attention.sliding_window_pattern", "sliding_window_pattern"),
            ("final_logit_softcapping", "final_logit_softcapping"),
            ("rope.freq_base_swa", "rope_local_base_freq"),
        ],
    ],
    optional: &[],
    ..GEMMA_2
};

const GPT_2: Architecture = Architecture {
    name: "gpt2",
    family: "gpt2",
    settings: &[&[
        ("attention.causal", "is_causal"),
        ("attention.head_count", "n_head"),
        ("attention.layer_norm_epsilon", "layer_norm_epsilon"),
        ("block_count", "n_layer"),
        ("context_length", "n_positions"),
        ("embedding_length", "n_embd"),
        ("feed_forward_length", "n_inner"),
    ]],
    required: &[
        "attention.head_count",
        "attention.layer_norm_epsilon",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
    ],
    outside: &[
        ("token_embd", "transformer.wte"),
        ("position_embd", "transformer.wpe"),
        ("output_norm", "transformer.ln_f"),
        ("output", "lm_head"),
    ],
    layers: "transformer.h",
    parts: &[
        ("attn_norm", "ln_1"),
        ("attn_qkv", "attn.c_attn"),
        ("attn_output", "attn.c_proj"),
        ("ffn_norm", "ln_2"),
        ("ffn_up", "mlp.c_fc"),
        ("ffn_down", "mlp.c_proj"),
    ],
    optional: &[],
    biased: &["attn_qkv", "attn_output", "ffn_up", "ffn_down"],
    changed: Changed::Transposed,
};

const QWEN_2: Architecture = Architecture {
    name: "qwen2",
    family: "qwen2",
    // Without them it is a Llama, whose rows are in another order.
    biased: &["attn_q", "attn_k", "attn_v"],
    changed: Changed::Nothing,
    ..LLAMA
};

const QWEN_3: Architecture = Architecture {
    name: "qwen3",
    family: "qwen3",
    optional: &[],
    changed: Changed::Nothing,
    ..LLAMA
};

const ARCHITECTURES: [Architecture; 7] = [GEMMA_2, GEMMA_3, GPT_2, LLAMA, PHI_3, QWEN_2, QWEN_3];

/// Keys that change nothing here: sizes that the tensors have, notes on how the file was made, and what
/// comes after the last layer.
const HARMLESS: [&str; 6] = [
    "attention.layer_norm_epsilon",
    "attention.value_length",
    "pooling_type",
    "rope.dimension_count",
    "tensor_data_layout",
    "vocab_size",
];

/// Layers of the two models, Gemma 2 and 3 of 27 billion weights, whose scores are scaled by the width of
/// the model per head and not by that of a head. Their files do not say so.
const SCALED_BY_MODEL: [(&str, usize); 2] = [("gemma2", 46), ("gemma3", 62)];

impl Architecture {
    /// The architecture of a file.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`], where it is none of these, has experts, or has another's tensors;
    /// [`ModelError::Damaged`], where tensors are missing.
    pub fn of(file: &GgufFile) -> Result<&'static Self, ModelError> {
        let name = file.text("general.architecture").unwrap_or("(not given)");
        let found = ARCHITECTURES.iter().find(|one| one.name == name);
        let architecture = found.ok_or_else(|| {
            let read: Vec<String> =
                ARCHITECTURES.iter().map(|one| format!("`{}`", one.name)).collect();
            file.unsupported(format!("its architecture is `{name}`; {} are read", read.join(", ")))
        })?;
        match file.size(&architecture.key("expert_count"))? {
            Some(experts) if experts > 0 => Err(file.unsupported(format!(
                "it has {experts} experts in each layer (`{name}.expert_count`); models without \
                 experts are read"
            ))),
            _ => {
                architecture.refuse_tensors_of_others(file)?;
                Ok(architecture)
            }
        }
    }

    fn key(&self, own: &str) -> String {
        format!("{}.{own}", self.name)
    }

    fn size(&self, file: &GgufFile, own: &str) -> Result<usize, ModelError> {
        let key = self.key(own);
        match alike(file.metadata(&key)) {
            Some(Value::Unsigned(size)) => usize::try_from(*size).ok(),
            Some(Value::Signed(size)) => usize::try_from(*size).ok(),
            // One for each layer.
            Some(Value::Integers(sizes)) => {
                sizes.first().and_then(|size| usize::try_from(*size).ok())
            }
            _ => None,
        }
        .filter(|size| *size > 0)
        .ok_or_else(|| file.damaged(format!("the metadata `{key}` is missing, or no size")))
    }

    fn heads(&self, file: &GgufFile) -> Result<usize, ModelError> {
        self.size(file, "attention.head_count")
    }

    /// Key and value heads; without a word of them, as many as query heads.
    fn key_heads(&self, file: &GgufFile) -> Result<usize, ModelError> {
        let own = "attention.head_count_kv";
        match file.metadata(&self.key(own)) {
            Some(_) => self.size(file, own),
            None => self.heads(file),
        }
    }

    fn head_width(&self, file: &GgufFile) -> Result<usize, ModelError> {
        let own = "attention.key_length";
        match file.metadata(&self.key(own)) {
            Some(_) => self.size(file, own),
            None => Ok(self.size(file, "embedding_length")? / self.heads(file)?),
        }
    }

    /// The settings of a file, as the `config.json` of its family has them.
    ///
    /// # Errors
    /// [`ModelError::Damaged`], where one is missing; [`ModelError::Unsupported`], naming it, where one is
    /// not known.
    pub fn config(&self, file: &GgufFile) -> Result<Map<String, Json>, ModelError> {
        for own in self.required {
            if file.metadata(&self.key(own)).is_none() {
                return Err(file.damaged(format!("the metadata `{}` is missing", self.key(own))));
            }
        }
        let context = self.size(file, "context_length")?;
        let mut config = Map::new();
        for (key, value) in file.own_metadata(self.name) {
            let own = &key[self.name.len() + 1..];
            let mut known = self.settings.iter().copied().flatten();
            let setting = known.find(|(known, _)| *known == own);
            match (setting, is_off(value)) {
                // What is switched off by a 0 is null.
                (Some((_, setting)), true) if *setting != "is_causal" => {
                    config.insert((*setting).to_owned(), Json::Null);
                }
                (Some((_, setting)), _) => {
                    let value = alike(Some(value)).and_then(as_json).ok_or_else(|| {
                        file.unsupported(format!(
                            "`{key}` differs between layers, and layers of the same sizes are read"
                        ))
                    })?;
                    config.insert((*setting).to_owned(), value);
                }
                (None, true) => {}
                (None, false) if HARMLESS.contains(&own) || scaling::reads(own) => {}
                (None, false) if own == WINDOW && file.size(key)? >= Some(context) => {}
                (None, false) => {
                    return Err(file.unsupported(format!(
                        "it has the setting `{key}`, which may make another model of it and is not \
                         read for `{}`",
                        self.name
                    )));
                }
            }
        }
        let words = file.shape("token_embd.weight").and_then(|shape| shape.first().copied());
        let vocabulary = words
            .ok_or_else(|| file.damaged("the tensor `token_embd.weight` is missing".into()))?;
        config.insert("vocab_size".into(), json!(vocabulary));
        let tied = file.shape("output.weight").is_none();
        config.insert("tie_word_embeddings".into(), json!(tied));
        if self.name != GPT_2.name {
            self.add_decoder_settings(file, &mut config)?;
        }
        Ok(config)
    }

    /// Adds what every architecture but GPT-2's has beside plain settings.
    fn add_decoder_settings(
        &self,
        file: &GgufFile,
        config: &mut Map<String, Json>,
    ) -> Result<(), ModelError> {
        let head_width = self.head_width(file)?;
        let value_width = file.size(&self.key("attention.value_length"))?.unwrap_or(head_width);
        if value_width != head_width {
            return Err(file.unsupported(format!(
                "its values are {value_width} wide and its keys {head_width}; heads of one width \
                 are read"
            )));
        }
        // Llama.cpp's defaults, where a family's are others.
        config.insert("head_dim".into(), json!(head_width));
        config.insert("num_key_value_heads".into(), json!(self.key_heads(file)?));
        config.entry("rope_theta").or_insert(json!(10_000.0));
        let turned = file.size(&self.key("rope.dimension_count"))?.unwrap_or(head_width);
        if turned != head_width {
            config.insert("partial_rotary_factor".into(), json!(share(turned, head_width)));
        }
        let context = self.size(file, "context_length")?;
        let scaling = scaling::read(file, self.name, context, turned / 2)?;
        config.insert("rope_scaling".into(), scaling);
        match self.name {
            "gemma2" | "gemma3" => {
                let layers = self.size(file, "block_count")?;
                let scale = match SCALED_BY_MODEL.contains(&(self.name, layers)) {
                    true => self.size(file, "embedding_length")? / self.heads(file)?,
                    false => head_width,
                };
                config.insert("query_pre_attn_scalar".into(), json!(scale));
                if self.name == "gemma3" {
                    config.entry("sliding_window").or_insert(Json::Null);
                }
            }
            // Its files have no window, even of the models that were published with the size of one.
            "qwen2" | "qwen3" => {
                config.insert("use_sliding_window".into(), json!(false));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a value says that there is nothing of its kind.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Unsigned(number) => *number == 0,
        Value::Signed(number) => *number == 0,
        Value::Float(number) => *number == 0.0,
        Value::Bool(truth) => !truth,
        _ => false,
    }
}

/// A value, or that which is the same for every layer.
fn alike(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| match value {
        Value::Integers(numbers) => numbers.windows(2).all(|pair| pair[0] == pair[1]),
        _ => true,
    })
}

fn as_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Unsigned(number) => json!(number),
        Value::Signed(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Bool(truth) => json!(truth),
        Value::Text(text) => json!(text),
        Value::Integers(numbers) => json!(numbers.first()?),
        _ => return None,
    })
}

/// The share of a head's coordinates that turn, so that it gives their number back when it is rounded down.
fn share(turned: usize, head_width: usize) -> f64 {
    let share = turned as f64 / head_width as f64;
    match (head_width as f64 * share) as usize == turned {
        true => share,
        false => share.next_up(),
    }
}
