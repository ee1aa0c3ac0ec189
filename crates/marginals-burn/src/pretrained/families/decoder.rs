//! Settings and names that decoders in the manner of Llama share.

use super::super::activation::Activation;
use super::super::attend::Visible;
use super::super::config::{LayerConfig, Positions, TransformerConfig};
use super::super::names::{Inner, Names, Projections};
use super::super::norm::{Around, NormKind};
use super::super::rotary::{RotaryConfig, RotaryDefaults};
use super::super::settings::Settings;
use crate::checkpoint::loader::Layout;
use crate::error::ModelError;

/// Names of Hugging Face's `LlamaForCausalLM`.
pub(super) const NAMES: Names = Names {
    base: "model.",
    words: "embed_tokens",
    positions: None,
    types: None,
    embedding_norm: None,
    layers: "layers",
    attention_norms: Around { before: Some("input_layernorm"), ..Around::NONE },
    first_enters_as_is: false,
    projections: Projections::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    query_norm: None,
    key_norm: None,
    relative: None,
    attended: "self_attn.o_proj",
    inner_norms: Around { before: Some("post_attention_layernorm"), ..Around::NONE },
    inner: Inner::Gated { gate: "mlp.gate_proj", widen: "mlp.up_proj", narrow: "mlp.down_proj" },
    final_norm: Some("norm"),
    head: Some("lm_head"),
    layout: Layout::OutputsInputs,
    biased: false,
    harmless: &[],
};

/// Values of settings that a file may leave out, and what a family alone decides.
pub(super) struct Defaults {
    pub context: usize,
    /// Key heads; without, as many as query heads.
    pub key_heads: Option<usize>,
    /// Width of a head; without, the width of the model shared out among the heads.
    pub head_width: Option<usize>,
    pub epsilon: f64,
    pub norm: NormKind,
    /// Name of the setting that names the activation, and its value.
    pub activation: (&'static str, Activation),
    pub tied: bool,
    /// θ of the rotary embedding.
    pub base: f64,
    /// Whether the rotary embedding may turn a part of each head.
    pub partial_rotary: bool,
}

/// Defaults of Llama, from which those of others differ in a few.
pub(super) const DEFAULTS: Defaults = Defaults {
    context: 2048,
    key_heads: None,
    head_width: None,
    epsilon: 1e-6,
    norm: NormKind::Rms,
    activation: ("hidden_act", Activation::Silu),
    tied: false,
    base: 10_000.0,
    partial_rotary: false,
};

/// Name of the layers that see every key, in `layer_types`.
pub(super) const FULL: &str = "full_attention";

/// Name of those that see the keys of a window.
pub(super) const SLIDING: &str = "sliding_attention";

impl Defaults {
    /// Reads a decoder, all its layers alike.
    pub fn read(
        &self,
        settings: &Settings,
        family: &'static str,
    ) -> Result<TransformerConfig, ModelError> {
        // A decoder is one, whether or not its file says so.
        settings.get("is_decoder");
        let (width, heads) = (settings.size("hidden_size")?, settings.size("num_attention_heads")?);
        let shared_out = self.head_width.unwrap_or(width / heads);
        let head_width = settings.size_or("head_dim", shared_out)?;
        let context = settings.size_or("max_position_embeddings", self.context)?;
        let defaults = self.rotary(head_width, context);
        let rotary = RotaryConfig::read(settings, FULL, &defaults)?;
        let context = rotary.scaling.context(context);
        let layer = LayerConfig {
            visible: visible(settings, None)?,
            scale: (head_width as f64).sqrt().recip(),
            rotary: Some(rotary),
        };
        Ok(TransformerConfig {
            family,
            vocabulary: settings.size("vocab_size")?,
            width,
            heads,
            key_heads: settings.size_or("num_key_value_heads", self.key_heads.unwrap_or(heads))?,
            head_width,
            inner_width: settings.size("intermediate_size")?,
            context,
            positions: Positions::None,
            types: None,
            embedding_scale: 1.0,
            norm: self.norm,
            epsilon: settings.number_or("rms_norm_eps", self.epsilon)?,
            activation: settings.activation(self.activation.0, self.activation.1)?,
            score_cap: None,
            relative: None,
            tied: settings.flag_or("tie_word_embeddings", self.tied)?,
            logit_cap: None,
            layers: vec![layer; settings.layers("num_hidden_layers")?],
        })
    }

    /// Sizes that the rotary embedding is read with.
    pub fn rotary(&self, head_width: usize, context: usize) -> RotaryDefaults {
        RotaryDefaults { head_width, context, base: self.base, partial: self.partial_rotary }
    }
}

/// Keys that a query of a layer may pick, with a window or without: a decoder's window holds as many keys
/// as it says, the query's own among them.
pub(super) fn visible(settings: &Settings, window: Option<usize>) -> Result<Visible, ModelError> {
    Ok(match (settings.flag_or("is_causal", true)?, window) {
        (true, None) => Visible::Before,
        (true, Some(window)) => Visible::Window { left: window - 1, right: 0 },
        (false, None) => Visible::All,
        // Where a decoder is read as an encoder, so far to both sides.
        (false, Some(window)) => Visible::Window { left: window, right: window },
    })
}

/// Which layers have a window: those that `layer_types` says or, without, those of a rule.
pub(super) fn sliding(
    settings: &Settings,
    layers: usize,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, ModelError> {
    let Some(kinds) = settings.texts("layer_types")? else {
        return Ok((0..layers).map(rule).collect());
    };
    if kinds.len() < layers {
        return Err(settings
            .damaged(format!("`layer_types` has {} entries for {layers} layers", kinds.len())));
    }
    let kind = |kind: &str| match kind {
        FULL => Ok(false),
        SLIDING => Ok(true),
        other => Err(settings.unsupported(format!(
            "`layer_types` holds `{other}`; `{FULL}` and `{SLIDING}` are read"
        ))),
    };
    kinds.into_iter().take(layers).map(kind).collect()
}

/// Gives the layers that have one their window.
pub(super) fn set_windows(
    config: &mut TransformerConfig,
    settings: &Settings,
    window: Option<usize>,
    rule: impl Fn(usize) -> bool,
) -> Result<(), ModelError> {
    let sliding = sliding(settings, config.layers.len(), rule)?;
    for (layer, sliding) in config.layers.iter_mut().zip(sliding) {
        if sliding && window.is_none() {
            return Err(settings.damaged(format!(
                "`layer_types` holds `{SLIDING}`, and there is no `sliding_window`"
            )));
        }
        layer.visible = visible(settings, window.filter(|_| sliding))?;
    }
    Ok(())
}
