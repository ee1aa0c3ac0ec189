//! The transformer that all published families are: words to vectors, layers of attention and a
//! feed-forward part, and for language models a head.
//!
//! A family is a [`TransformerConfig`] and the names of its tensors; see [`families`](super::families).

use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Tensor};
use marginals::part::Part;
use marginals::potential::{AnyPotential, Dot};
use marginals::prior::{AnyPrior, Bias};
use marginals::spec::{ModelSpec, Tensors};
use ndarray::{Array2, Array4};

use super::attend::{Attend, Layer};
use super::config::{LayerConfig, TransformerConfig};
use super::families::Description;
use super::names::{Inner, Names, Projections};
use super::norm::{Around, Norm, normalised};
use super::relative::RelativeScores;
use super::vocabulary::Vocabulary;
use crate::checkpoint::loader::Loader;
use crate::checkpoint::quantised::refuse_quantised;
use crate::checkpoint::{Asked, Checkpoint};
use crate::error::ModelError;
use crate::pretrained::tokens::Tokens;
use crate::tensors::{indices, into_values, merge_heads, split_heads};

/// A transformer of a published family.
#[derive(Debug)]
pub struct Published {
    config: TransformerConfig,
    words: Embedding,
    positions: Option<Embedding>,
    types: Option<Embedding>,
    embedding_norm: Option<Norm>,
    layers: Vec<PublishedLayer>,
    final_norm: Option<Norm>,
    head: Head,
}

#[derive(Debug)]
struct PublishedLayer {
    attention_norms: Around<Norm>,
    /// To queries, keys and values.
    projections: [Linear; 3],
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    /// Vectors of distances.
    relative: Option<Array2<f32>>,
    attended: Linear,
    inner_norms: Around<Norm>,
    inner: FeedForward,
}

#[derive(Debug)]
struct FeedForward {
    gate: Option<Linear>,
    widen: Linear,
    narrow: Linear,
}

/// From the last hidden state to scores of the next token.
#[derive(Debug)]
enum Head {
    /// The words' embedding.
    Tied,
    Own(Box<Linear>),
    /// The file is that of an encoder, or of a language model without its head.
    None,
}

/// Tensors that are no weights: indices, frequencies and masks, as some versions save them. A pooler comes
/// after the last layer.
const HARMLESS: [&str; 6] = [
    "position_ids",
    "token_type_ids",
    "rotary_emb.inv_freq",
    "pooler.dense.weight",
    "pooler.dense.bias",
    "lm_head.weight",
];

impl Published {
    /// Loads the weights that a description names.
    ///
    /// # Errors
    /// [`ModelError`] when a tensor is missing, has another shape or cannot be read, and when the file holds
    /// one more than the description has.
    pub(crate) fn load(
        Description { config, names }: Description,
        checkpoint: &dyn Checkpoint,
        device: &Device,
    ) -> Result<Self, ModelError> {
        refuse_quantised(checkpoint)?;
        let checkpoint = names.canonical(checkpoint)?;
        let asked = Asked::new(&checkpoint);
        let loader = Loader { checkpoint: &asked, device };
        let width = config.width;
        let full = |name: &str| format!("{}{name}", names.base);
        let embedding = |name: &str, rows: usize| {
            let weight = loader.matrix(&format!("{}.weight", full(name)), [rows, width])?;
            Ok::<_, ModelError>(Embedding { weight })
        };
        let optional = |name: Option<&str>, rows: Option<usize>| {
            name.zip(rows).map(|(name, rows)| embedding(name, rows)).transpose()
        };
        let norm =
            |name: &str| Norm::load(&loader, &full(name), width, (config.norm, config.epsilon));
        let mut layers = Vec::new();
        for index in 0..config.layers.len() {
            layers.push(PublishedLayer::load(&config, &names, index, &loader)?);
        }
        let head = match names.head {
            Some(_) if config.tied => Head::Tied,
            Some(name) if checkpoint.shape(&format!("{name}.weight")).is_some() => {
                Head::Own(Box::new(loader.linear(name, width, config.vocabulary)?))
            }
            _ => Head::None,
        };
        let published = Published {
            words: embedding(names.words, config.vocabulary)?,
            positions: optional(names.positions, config.positions.rows())?,
            types: optional(names.types, config.types)?,
            embedding_norm: names.embedding_norm.map(norm).transpose()?,
            layers,
            final_norm: names.final_norm.map(norm).transpose()?,
            head,
            config,
        };
        let harmless: Vec<&str> = HARMLESS.iter().chain(names.harmless).copied().collect();
        let reader = format!("a `{}` model", published.config.family);
        asked.refuse_rest(&reader, &[names.base], &harmless)?;
        Ok(published)
    }

    /// Configuration of the model.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Whether there is a head, from the last hidden state to scores of the next token.
    pub fn has_head(&self) -> bool {
        !matches!(self.head, Head::None)
    }

    /// The hidden state before the first layer, `[N, width]`.
    ///
    /// # Errors
    /// [`ModelError::TextTooLong`] or [`ModelError::TokenOutsideVocabulary`].
    pub fn embed(&self, tokens: &Tokens) -> Result<Tensor<2>, ModelError> {
        let config = &self.config;
        tokens.check(config.context, config.vocabulary)?;
        let device = self.words.weight.val().device();
        let mut embedded = self.words.forward(indices(&tokens.ids, &device));
        if config.embedding_scale != 1.0 {
            embedded = embedded * config.embedding_scale;
        }
        if let Some(positions) = &self.positions {
            let rows = config.positions.of(&tokens.ids);
            embedded = embedded + positions.forward(indices(&rows, &device));
        }
        if let (Some(types), Some(rows)) = (&self.types, config.types) {
            if let Some(&id) = tokens.type_ids.iter().find(|&&id| id as usize >= rows) {
                return Err(ModelError::TokenOutsideVocabulary { id, vocabulary: rows });
            }
            embedded = embedded + types.forward(indices(&tokens.type_ids, &device));
        }
        let embedded = embedded.reshape([tokens.len(), config.width]);
        Ok(normalised(self.embedding_norm.as_ref(), embedded))
    }

    /// The hidden state after a layer, of that before it.
    ///
    /// # Errors
    /// [`ModelError::Attention`] with what `attend` reports.
    ///
    /// # Panics
    /// If there is no layer `index`.
    pub fn layer(
        &self,
        index: usize,
        hidden: Tensor<2>,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        self.layer_of_texts(index, hidden, 1, attend)
    }

    /// The hidden state after a layer of several texts of the same length, one after the other.
    ///
    /// # Errors
    /// As [`Self::layer`].
    pub(crate) fn layer_of_texts(
        &self,
        index: usize,
        hidden: Tensor<2>,
        texts: usize,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        let layer = &self.layers[index];
        let normal = layer.attention_norms.enter(hidden.clone());
        let context = layer.context(&self.config, index, normal, texts, attend)?;
        Ok(self.after_attention(index, hidden, &context))
    }

    /// The hidden state after a layer, of that before it and of what its attention answers.
    pub(crate) fn after_attention(
        &self,
        index: usize,
        hidden: Tensor<2>,
        context: &Array4<f32>,
    ) -> Tensor<2> {
        let layer = &self.layers[index];
        let attended = layer.attended.forward(merge_heads(context, &hidden.device()));
        let hidden = layer.attention_norms.leave(hidden, attended);
        let normal = layer.inner_norms.enter(hidden.clone());
        let inner = layer.inner.forward(normal, &self.config);
        layer.inner_norms.leave(hidden, inner)
    }

    /// The hidden state after the last layer as the model hands it on: normalised, where the family does so.
    pub fn finish(&self, hidden: Tensor<2>) -> Tensor<2> {
        normalised(self.final_norm.as_ref(), hidden)
    }

    /// Scores of the token after each, log-probabilities up to a constant of the row, `[N, vocabulary]`, of
    /// the hidden state after the last layer; `None` where there is no head.
    pub fn logits(&self, hidden: Tensor<2>) -> Option<Tensor<2>> {
        let logits = match &self.head {
            Head::Tied => self.finish(hidden).matmul(self.words.weight.val().transpose()),
            Head::Own(head) => head.forward(self.finish(hidden)),
            Head::None => return None,
        };
        Some(match self.config.logit_cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        })
    }

    /// Vectors of the tokens that may come next; `None` where there is no head.
    pub(crate) fn vocabulary(&self) -> Option<Vocabulary> {
        let (vectors, bias) = match &self.head {
            Head::Tied => (self.words.weight.val(), None),
            Head::Own(head) => {
                let bias = head.bias.as_ref().map(|bias| into_values(bias.val()));
                (head.weight.val().transpose(), bias)
            }
            Head::None => return None,
        };
        Some(Vocabulary::new(vectors, bias, self.config.logit_cap))
    }

    /// The last hidden state as the model hands it on, `[N, width]`.
    ///
    /// # Errors
    /// As [`Self::embed`] and [`Self::layer`].
    pub fn forward(
        &self,
        tokens: &Tokens,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        let mut hidden = self.embed(tokens)?;
        for index in 0..self.layers.len() {
            hidden = self.layer(index, hidden, attend)?;
        }
        Ok(self.finish(hidden))
    }

    /// The sentence embedding: the mean of the last hidden state over all tokens, scaled to
    /// length 1 (Reimers & Gurevych, *Sentence-BERT*, 2019).
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn sentence_embedding(
        &self,
        tokens: &Tokens,
        attend: &mut dyn Attend,
    ) -> Result<Vec<f32>, ModelError> {
        let mean = into_values(self.forward(tokens, attend)?.mean_dim(0));
        let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        // The floor PyTorch's `normalize` uses: a zero vector stays zero.
        let length = length.max(1e-12);
        Ok(mean.into_iter().map(|x| x / length).collect())
    }
}

impl PublishedLayer {
    fn load(
        config: &TransformerConfig,
        names: &Names,
        index: usize,
        loader: &Loader<'_>,
    ) -> Result<Self, ModelError> {
        let (width, inner_width) = (config.width, config.inner_width);
        let of_queries = config.heads * config.head_width;
        let of_keys = config.key_heads * config.head_width;
        let full = |name: &str| format!("{}{}.{index}.{name}", names.base, names.layers);
        let kind = (config.norm, config.epsilon);
        let norm = |name: &str| Norm::load(loader, &full(name), width, kind);
        let of_heads = |name: &str| Norm::load(loader, &full(name), config.head_width, kind);
        let maps = |name: &str, inputs: usize, outputs: &[usize]| {
            let maps = loader.linears(&full(name), inputs, outputs, names.layout)?;
            match names.biased && maps[0].bias.is_none() {
                true => Err(loader.missing(&format!("{}.bias", full(name)))),
                false => Ok(maps),
            }
        };
        let map = |name: &str, inputs: usize, outputs: usize| {
            Ok::<_, ModelError>(maps(name, inputs, &[outputs])?.remove(0))
        };
        let mut attention_norms = names.attention_norms;
        if index == 0 && names.first_enters_as_is {
            attention_norms.before = None;
        }
        let projections = match names.projections {
            Projections::Fused(name) => maps(name, width, &[of_queries, of_keys, of_keys])?,
            Projections::Apart([query, key, value]) => vec![
                map(query, width, of_queries)?,
                map(key, width, of_keys)?,
                map(value, width, of_keys)?,
            ],
        };
        let relative = match (config.relative, names.relative) {
            (Some(_), Some(name)) => {
                let shape = [RelativeScores::rows(config.context), config.head_width];
                let values = loader.checkpoint.tensor(&format!("{}.weight", full(name)), &shape)?;
                Some(Array2::from_shape_vec(shape, values).expect("its shape was checked"))
            }
            _ => None,
        };
        let (gate, widen, narrow) = match names.inner {
            Inner::Plain { widen, narrow } => (None, map(widen, width, inner_width)?, narrow),
            Inner::Gated { gate, widen, narrow } => {
                let gate = map(gate, width, inner_width)?;
                (Some(gate), map(widen, width, inner_width)?, narrow)
            }
            Inner::GatedFused { both, narrow } => {
                let mut both = maps(both, width, &[inner_width; 2])?;
                let widen = both.remove(1);
                (both.pop(), widen, narrow)
            }
        };
        Ok(PublishedLayer {
            attention_norms: attention_norms.load(norm)?,
            projections: projections.try_into().expect("three maps"),
            query_norm: names.query_norm.map(of_heads).transpose()?,
            key_norm: names.key_norm.map(of_heads).transpose()?,
            relative,
            attended: map(names.attended, of_queries, width)?,
            inner_norms: names.inner_norms.load(norm)?,
            inner: FeedForward { gate, widen, narrow: map(narrow, inner_width, width)? },
        })
    }

    /// Answer of the attention of some texts, `[B, H, N, D]`.
    fn context(
        &self,
        config: &TransformerConfig,
        index: usize,
        normal: Tensor<2>,
        texts: usize,
        attend: &mut dyn Attend,
    ) -> Result<Array4<f32>, ModelError> {
        let own = &config.layers[index];
        let nodes = normal.dims()[0] / texts;
        let [queries, keys, values] =
            self.projections.each_ref().map(|projection| projection.forward(normal.clone()));
        let by_head = |norm: Option<&Norm>, rows: Tensor<2>, heads: usize| match norm {
            Some(norm) => norm.heads(rows, heads),
            None => rows,
        };
        let queries = by_head(self.query_norm.as_ref(), queries, config.heads);
        let keys = by_head(self.key_norm.as_ref(), keys, config.key_heads);
        let [mut queries, mut keys, values] = [queries, keys, values].map(into_values);
        if let Some(rotary) = &own.rotary {
            let rotary = rotary.of_text(nodes);
            for rows in [&mut queries, &mut keys] {
                let text = rows.len() / texts;
                let texts = rows.chunks_exact_mut(text);
                texts.for_each(|rows| rotary.turn(rows, nodes, config.head_width));
            }
        }
        let queries = split_heads(&queries, texts, nodes, config.heads);
        let keys = split_heads(&keys, texts, nodes, config.key_heads);
        let mut model = own.model(config);
        let mut tensors = Tensors::default();
        if let (Some(relative), Some(vectors)) = (config.relative, &self.relative) {
            let scores = relative.scores(vectors.view(), queries, keys, own.scale);
            model.prior.push(AnyPrior::Bias(Bias::default()));
            tensors.real.insert(Bias::NAME.to_owned(), scores.into_dyn().into());
        }
        attend
            .attend(&Layer {
                index,
                queries,
                keys,
                values: split_heads(&values, texts, nodes, config.key_heads),
                model: &model,
                tensors: &tensors,
            })
            .map_err(|reason| ModelError::Attention { layer: index, reason })
    }
}

impl LayerConfig {
    /// The model of a layer's edges, but for scores of relative positions.
    fn model(&self, config: &TransformerConfig) -> ModelSpec {
        let dot = Dot { softcap: config.score_cap, ..Dot::new(self.scale) };
        ModelSpec { potential: AnyPotential::Dot(dot), ..self.visible.model(self.scale) }
    }
}

impl FeedForward {
    fn forward(&self, x: Tensor<2>, config: &TransformerConfig) -> Tensor<2> {
        let inner = match &self.gate {
            Some(gate) => {
                config.activation.forward(gate.forward(x.clone())) * self.widen.forward(x)
            }
            None => config.activation.forward(self.widen.forward(x)),
        };
        self.narrow.forward(inner)
    }
}
