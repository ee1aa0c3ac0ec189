//! Questions about one posterior.

use marginals::spec::ModelSpec;
use marginals::{Element, Error, Real};
use ndarray::Array4;

use super::questions::Questions;
use super::tensors::{Inputs, Output};
use super::upstream::UpstreamTensors;
use super::walk;

/// The nodes a model is asked about.
pub struct Nodes<T> {
    /// Queries, [B, H, N, D].
    pub q: Array4<T>,
    /// Keys, [B, Hk, M, D].
    pub k: Array4<T>,
    /// Values, [B, Hk, M, D_v], where a question averages them.
    pub v: Option<Array4<T>>,
}

/// Answers the questions, and gives the gradients of what has an upstream gradient.
pub fn answer<T: Real + Element<Real = T>>(
    spec: &ModelSpec,
    questions: &Questions,
    mut inputs: Inputs<T>,
    check: bool,
) -> Result<Output<T>, Error> {
    let q = inputs.take("q", "the queries, [B, H, N, D]")?;
    let k = inputs.take("k", "the keys, [B, Hk, M, D]")?;
    let upstream = UpstreamTensors::take(&mut inputs)?;
    let averaging = questions.average_values() || upstream.average_values();
    let v = match averaging {
        true => Some(inputs.take("v", "the values, [B, Hk, M, D_v], for the questions asked")?),
        false => None,
    };
    let nodes = Nodes { q, k, v };
    if check {
        for (name, tensor) in
            [("q", Some(&nodes.q)), ("k", Some(&nodes.k)), ("v", nodes.v.as_ref())]
        {
            if let Some(tensor) = tensor {
                marginals::refuse_nan(name, &tensor.view()).map_err(Error::of_a_check)?;
            }
        }
    }
    let named = inputs.into_named();
    spec.reads().refuse_mistaken(&named)?;
    if let Some(walk) = spec.walk(&named)? {
        return walk::answer(spec, &walk, questions, &nodes, &upstream, &named);
    }
    let model = spec.build::<T>(nodes.q.dim().1, nodes.q.dim().3, &named)?;
    let posterior = model.posterior(nodes.q.view(), nodes.k.view())?;

    let mut output = Output::default();
    let values = upstream.average_values();
    let pass = questions.ask(&posterior, nodes.v.as_ref(), values, &mut output)?;
    if let Some(upstream) = upstream.views() {
        output.gradients(pass.backward(&upstream)?);
    }
    Ok(output)
}
