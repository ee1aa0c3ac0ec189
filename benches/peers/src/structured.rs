//! Our side where edges depend on each other: scores given as they are.

use anyhow::Result;
use marginals::Model;
use marginals::infer::Entropic;
use marginals::potential::{Dot, Scores};
use marginals::prior::Uniform;
use marginals::question::{LogPartition, Marginals, Mean};
use marginals::structure::{
    Arborescence, Chain, EachQueryPicksK, Matching, ProjectiveArborescence, RootEdges, Structure,
};
use ndarray::Array4;

use crate::inputs::Inputs;
use crate::side::{Answers, real};
use crate::work::Structured;

/// The tensor that a chain reads beside the scores, by keys.
pub fn weights(of: Structured, keys: usize) -> Vec<(&'static str, Vec<usize>)> {
    match of {
        Structured::Chain => vec![("transitions", vec![keys, keys])],
        Structured::ProjectiveTrees | Structured::Trees | Structured::Subsets(_) => Vec::new(),
    }
}

/// Log-partition and marginals, and where `differentiates` the gradient of \<marginals, upstream\>.
pub fn answers(
    of: Structured,
    differentiates: bool,
    inputs: &Inputs,
) -> Box<dyn Fn() -> Result<Answers> + Sync + '_> {
    Box::new(move || {
        let structure: Box<dyn Structure<f32>> = match of {
            Structured::Chain => {
                let transitions = inputs.weights["transitions"].mapv(f64::from);
                Box::new(Chain::new().with_transitions(transitions)?)
            }
            Structured::Trees => Box::new(Arborescence::new(0, RootEdges::Any)),
            Structured::ProjectiveTrees => Box::new(ProjectiveArborescence::new(RootEdges::Any)),
            Structured::Subsets(k) => Box::new(EachQueryPicksK::exactly(k)),
        };
        let (batch, heads, _, keys) = inputs.bias.dim();
        let keys = Array4::zeros((batch, heads, keys, 0));
        let model = Model::new(structure, Uniform, Scores);
        let posterior = model.posterior(inputs.bias.view(), keys.view())?;
        if !differentiates {
            let (log_partition, marginals) = posterior.ask((LogPartition, Marginals))?;
            return Ok(vec![real("log-partition", log_partition), real("marginals", marginals)]);
        }
        let pass = posterior.pass((LogPartition, Marginals))?;
        let (log_partition, marginals) = pass.answer()?;
        // The scores of a head have been drawn twice: here they are what comes from upstream.
        let upstream = inputs.bias.slice(ndarray::s![.., ..;-1, .., ..]);
        let gradients = pass.backward((None, upstream))?;
        Ok(vec![
            real("log-partition", log_partition),
            real("marginals", marginals),
            real("grad.scores", gradients.q),
        ])
    })
}

/// Σ |mass of a key − 1| over their number at which both sides stop.
pub const TOLERANCE: f64 = 1e-5;

/// Mean and log-partition of matchings by the entropic dual, of scores so many times q·k / √D.
pub fn transport(times: u8, inputs: &Inputs) -> Box<dyn Fn() -> Result<Answers> + Sync + '_> {
    let scale = f64::from(times) / (inputs.q.dim().3 as f64).sqrt();
    let model = Model::new(Matching::new(), Uniform, Dot::new(scale))
        .with_inference(Entropic::within(TOLERANCE));
    Box::new(move || {
        let posterior = model.posterior(inputs.q.view(), inputs.k.view())?;
        let (mean, log_partition) = posterior.ask((Mean(inputs.v.view()), LogPartition))?;
        Ok(vec![real("mean", mean), real("log-partition", log_partition)])
    })
}
