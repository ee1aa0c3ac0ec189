//! Structures over the edges of a sentence: what is learned under each, and the heads it predicts.

use std::collections::BTreeMap;

use burn::tensor::{Bool, Int, Tensor, TensorData};
use marginals::ask::{Input, Settings, ask};
use marginals::question::{Named, Tensor as Answer};
use marginals::spec::{ModelFile, ModelSpec};
use marginals_burn::ops::{Nodes, Parameters, Posterior};
use ndarray::{Array2, ArrayD, Axis};
use serde::{Deserialize, Serialize};

use super::metrics::is_projective;
use crate::Outcome;

/// Which sets of edges are possible; node 0 is the root, and every word has one edge, to its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Structure {
    /// Every word picks a head on its own.
    EachQueryPicksOne,
    /// Trees with one edge into the root.
    Arborescence,
    /// Those of them without crossing edges.
    ProjectiveArborescence,
}

impl Structure {
    pub const ALL: [Self; 3] =
        [Self::EachQueryPicksOne, Self::Arborescence, Self::ProjectiveArborescence];

    pub fn name(self) -> &'static str {
        match self {
            Self::EachQueryPicksOne => "each-query-picks-one",
            Self::Arborescence => "arborescence",
            Self::ProjectiveArborescence => "projective-arborescence",
        }
    }

    /// The library's model: this structure over scores that the network gives.
    fn spec(self) -> Outcome<ModelSpec> {
        let name = self.name();
        let structure = match self {
            Self::EachQueryPicksOne => format!("\"{name}\""),
            _ => format!("{{ {name} = {{ root-edges = \"one\" }} }}"),
        };
        let text = format!("structure = {structure}\npotential = \"scores\"");
        Ok(ModelSpec::from_toml(&text)?)
    }
}

/// Trees of a batch, shorter ones filled up.
pub struct Gold {
    /// Nodes of every sentence, the root among them.
    pub lengths: Vec<usize>,
    /// Heads of its words.
    pub heads: Vec<Vec<usize>>,
}

impl Gold {
    fn words(&self) -> usize {
        self.heads.iter().map(Vec::len).sum()
    }
}

/// Mean over words of −log p(tree) = log Z − Σ_i θ_{i, head(i)}, in nats.
///
/// # Shapes
/// - scores: `[B, 1, N, N]`, of dependents (rows) and heads
pub fn loss(structure: Structure, scores: Tensor<4>, gold: &Gold) -> Outcome<Tensor<1>> {
    let ([batch, _, nodes, _], device) = (scores.dims(), scores.device());
    let words: Vec<f32> = (0..batch * nodes)
        .map(|place| (place / nodes, place % nodes))
        .map(|(sentence, node)| f32::from(node > 0 && node < gold.lengths[sentence]))
        .collect();
    let options = (&device, scores.dtype());
    let is_word = Tensor::<3>::from_data(TensorData::new(words, [batch, 1, nodes]), options);

    let heads = gold.heads.iter().flat_map(|heads| {
        // The root has no head, and neither has what a sentence is filled up with.
        let heads = [0].into_iter().chain(heads.iter().copied()).chain(std::iter::repeat(0));
        heads.take(nodes).map(|head| head as i64)
    });
    let heads = TensorData::new(heads.collect::<Vec<_>>(), [batch, 1, nodes, 1]);
    let heads = Tensor::<4, Int>::from_data(heads, &device);
    let of_heads = scores.clone().gather(3, heads).squeeze_dim::<3>(3);
    let of_trees = (of_heads * is_word.clone()).sum();

    let k = Tensor::<4>::zeros([batch, 1, nodes, 0], options);
    let posterior = Posterior::new(structure.spec()?);
    let ask = |posterior: Posterior, q: Tensor<4>| -> Outcome<Tensor<3>> {
        let nodes = Nodes { q, k, v: None };
        let answers = posterior.ask(&nodes, &Parameters::none(), &["log-partition"])?;
        Ok(answers.get::<3>("log-partition")?)
    };
    let log_partition = match structure {
        Structure::EachQueryPicksOne => {
            // Neither itself nor what a sentence is filled up with is the head of a word.
            let impossible: Vec<bool> = (0..batch * nodes * nodes)
                .map(|place| (place / (nodes * nodes), place / nodes % nodes, place % nodes))
                .map(|(sentence, i, j)| i == j || j >= gold.lengths[sentence])
                .collect();
            let impossible = TensorData::new(impossible, [batch, 1, nodes, nodes]);
            let impossible = Tensor::<4, Bool>::from_data(impossible, &device);
            let scores = scores.mask_fill(impossible, f32::NEG_INFINITY);
            ask(posterior, scores)? * is_word
        }
        _ => {
            let lengths = gold.lengths.iter().map(|&length| length as i64).collect();
            let lengths = ArrayD::from_shape_vec(vec![batch], lengths)?;
            ask(posterior.with_integers("lengths", lengths), scores)?
        }
    };
    Ok((log_partition.sum() - of_trees) / gold.words() as f32)
}

/// Posterior of one sentence under a structure.
pub struct Decoded {
    /// Heads of the words in the most probable edge set.
    pub heads: Vec<usize>,
    /// P(φ_ij = 1), [nodes, nodes].
    pub marginals: Array2<f64>,
    /// log p(tree) of the true heads, in nats; −∞ where they are no possible edge set.
    pub log_probability: f64,
}

/// The most probable edge set and the marginals of every edge, from scores [nodes, nodes].
pub fn decode(structure: Structure, scores: &Array2<f64>, gold: &[usize]) -> Outcome<Decoded> {
    let nodes = scores.nrows();
    let mut scores = scores.clone();
    scores.diag_mut().fill(f64::NEG_INFINITY);
    let possible = structure != Structure::ProjectiveArborescence || is_projective(gold);
    let of_tree = match possible {
        true => gold.iter().zip(1..).map(|(&head, word)| scores[[word, head]]).sum(),
        false => f64::NEG_INFINITY,
    };
    let input = scores.insert_axis(Axis(0)).insert_axis(Axis(0)).into_dyn();
    let inputs: BTreeMap<String, Input<'_, f64>> = [("scores".to_owned(), input.into())].into();
    let names = ["map", "marginals", "log-partition"];
    let named = names.iter().map(|name| Named::parse(name)).collect::<Result<Vec<_>, _>>()?;
    let file = ModelFile::Posterior(structure.spec()?);
    let mut answers = ask(&file, &named, &inputs, Settings::default())?.into_tensors();
    let mut take = |name: &str| {
        answers.remove(name).ok_or_else(|| format!("{} has no {name}", structure.name()))
    };
    let Answer::Index(map) = take("map")? else { return Err("map has no indices".into()) };
    let marginals = take("marginals")?.real().ok_or("marginals are no numbers")?;
    let log_partition = take("log-partition")?.real().ok_or("log-partition is no number")?;
    // Where words pick on their own there is one for each node, the root's being nobody's.
    let log_partition = match structure {
        Structure::EachQueryPicksOne => log_partition.iter().skip(1).sum::<f64>(),
        _ => log_partition.sum(),
    };
    let heads = map.iter().skip(1).map(|&head| usize::try_from(head));
    Ok(Decoded {
        heads: heads.collect::<Result<_, _>>().map_err(|_| "a word has no possible head")?,
        marginals: marginals.into_shape_with_order((nodes, nodes))?,
        log_probability: of_tree - log_partition,
    })
}
