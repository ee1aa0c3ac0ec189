//! The posterior that a module of several ended with.

use marginals::Error;
use marginals::spec::ModelSpec;

use crate::ops::{Answers, Nodes, Parameters, Posterior};

/// Posterior of the attention that a module of several ended with: which slot every input picked in the last
/// iteration, or which inputs every latent looked at in the last layer.
///
/// Questions that have gradients are answered on Burn's tape by [`Self::ask`]; of all others (`marginals`,
/// `map`, `samples` …) the nodes and the model are what `marginals::ask::ask` takes.
#[derive(Clone, Debug)]
pub struct LastPosterior {
    /// Queries (slots or latents), keys and values (inputs), by head.
    pub nodes: Nodes,
    /// Model of it.
    pub model: ModelSpec,
}

impl LastPosterior {
    /// Answers to the questions, all in one pass; `mean` is that of the values under the posterior as it is,
    /// without the ε of slots.
    ///
    /// # Errors
    /// As [`Posterior::ask`].
    pub fn ask(&self, questions: &[&str]) -> Result<Answers, Error> {
        Posterior::new(self.model.clone()).ask(&self.nodes, &Parameters::none(), questions)
    }
}
