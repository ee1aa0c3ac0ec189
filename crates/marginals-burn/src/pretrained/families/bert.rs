//! BERT: encoders with learned positions and layer normalisation after each part.
//!
//! Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers* (2019).

use super::super::activation::Activation;
use super::super::attend::Visible;
use super::super::config::{LayerConfig, Positions, TransformerConfig};
use super::super::names::{Inner, Names, Projections};
use super::super::norm::{Around, NormKind};
use super::super::relative::RelativeScores;
use super::super::settings::Settings;
use super::Description;
use crate::checkpoint::loader::Layout;
use crate::error::ModelError;

/// Names of Hugging Face's `BertModel` within a model of a task.
pub(super) const NAMES: Names = Names {
    base: "bert.",
    words: "embeddings.word_embeddings",
    positions: Some("embeddings.position_embeddings"),
    types: Some("embeddings.token_type_embeddings"),
    embedding_norm: Some("embeddings.LayerNorm"),
    layers: "encoder.layer",
    attention_norms: Around { after: Some("attention.output.LayerNorm"), ..Around::NONE },
    first_enters_as_is: false,
    projections: Projections::Apart([
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    ]),
    query_norm: None,
    key_norm: None,
    relative: Some("attention.self.distance_embedding"),
    attended: "attention.output.dense",
    inner_norms: Around { after: Some("output.LayerNorm"), ..Around::NONE },
    inner: Inner::Plain { widen: "intermediate.dense", narrow: "output.dense" },
    final_norm: None,
    head: None,
    layout: Layout::OutputsInputs,
    biased: true,
    harmless: &[],
};

pub(super) fn read(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    let mut config = encoder(settings, family)?;
    let mut names = NAMES;
    // Files leave out what was the only choice in their time; the defaults are those of transformers.
    let relative = match settings.text("position_embedding_type")? {
        None | Some("absolute") => return Ok(Description { config, names }),
        Some("relative_key") => RelativeScores::Query,
        Some("relative_key_query") => RelativeScores::QueryAndKey,
        Some(other) => {
            return Err(settings.unsupported(format!(
                "`position_embedding_type` is `{other}`; absolute, relative_key and \
                 relative_key_query are read"
            )));
        }
    };
    // Its file holds vectors of positions as well, which are not added.
    config.positions = Positions::None;
    names.harmless = &["embeddings.position_embeddings.weight"];
    config.relative = Some(relative);
    Ok(Description { config, names })
}

/// Settings of encoders in the manner of BERT.
pub(super) fn encoder(
    settings: &Settings,
    family: &'static str,
) -> Result<TransformerConfig, ModelError> {
    let (width, heads) = (settings.size("hidden_size")?, settings.size("num_attention_heads")?);
    if !width.is_multiple_of(heads) {
        return Err(settings.damaged(format!(
            "`num_attention_heads` is {heads}, which does not divide `hidden_size`, {width}"
        )));
    }
    let rows = settings.size_or("max_position_embeddings", 512)?;
    let causal = settings.flag_or("is_decoder", false)? && settings.flag_or("is_causal", true)?;
    // An encoder sees both ways, whether or not its file says so.
    settings.get("is_causal");
    let layer = LayerConfig {
        visible: if causal { Visible::Before } else { Visible::All },
        scale: ((width / heads) as f64).sqrt().recip(),
        rotary: None,
    };
    Ok(TransformerConfig {
        family,
        vocabulary: settings.size("vocab_size")?,
        width,
        heads,
        key_heads: heads,
        head_width: width / heads,
        inner_width: settings.size("intermediate_size")?,
        context: rows,
        positions: Positions::FromZero { rows },
        types: Some(settings.size_or("type_vocab_size", 2)?),
        embedding_scale: 1.0,
        norm: NormKind::Layer,
        epsilon: settings.number_or("layer_norm_eps", 1e-12)?,
        activation: settings.activation("hidden_act", Activation::Gelu)?,
        score_cap: None,
        relative: None,
        tied: false,
        logit_cap: None,
        layers: vec![layer; settings.layers("num_hidden_layers")?],
    })
}
