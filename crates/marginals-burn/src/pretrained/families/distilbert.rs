//! DistilBERT: half of BERT's layers, and no types of sentences.
//!
//! Sanh et al., *DistilBERT, a distilled version of BERT* (2019).

use super::super::activation::Activation;
use super::super::attend::Visible;
use super::super::config::{LayerConfig, Positions, TransformerConfig};
use super::super::names::{Inner, Names, Projections};
use super::super::norm::{Around, NormKind};
use super::super::settings::Settings;
use super::{Description, bert};
use crate::error::ModelError;

const NAMES: Names = Names {
    base: "distilbert.",
    types: None,
    layers: "transformer.layer",
    attention_norms: Around { after: Some("sa_layer_norm"), ..Around::NONE },
    projections: Projections::Apart(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
    relative: None,
    attended: "attention.out_lin",
    inner_norms: Around { after: Some("output_layer_norm"), ..Around::NONE },
    inner: Inner::Plain { widen: "ffn.lin1", narrow: "ffn.lin2" },
    ..bert::NAMES
};

pub(super) fn read(settings: &Settings, family: &'static str) -> Result<Description, ModelError> {
    let (width, heads) = (settings.size("dim")?, settings.size("n_heads")?);
    if !width.is_multiple_of(heads) {
        return Err(
            settings.damaged(format!("`n_heads` is {heads}, which does not divide {width}"))
        );
    }
    let rows = settings.size_or("max_position_embeddings", 512)?;
    let layer = LayerConfig {
        visible: Visible::All,
        scale: ((width / heads) as f64).sqrt().recip(),
        rotary: None,
    };
    // An encoder sees both ways, whether or not its file says so.
    settings.get("is_causal");
    let config = TransformerConfig {
        family,
        vocabulary: settings.size("vocab_size")?,
        width,
        heads,
        key_heads: heads,
        head_width: width / heads,
        inner_width: settings.size("hidden_dim")?,
        context: rows,
        positions: Positions::FromZero { rows },
        types: None,
        embedding_scale: 1.0,
        norm: NormKind::Layer,
        epsilon: 1e-12,
        activation: settings.activation("activation", Activation::Gelu)?,
        score_cap: None,
        relative: None,
        tied: false,
        logit_cap: None,
        layers: vec![layer; settings.layers("n_layers")?],
    };
    Ok(Description { config, names: NAMES })
}
