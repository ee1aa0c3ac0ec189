//! Questions about walks.

use marginals::infer::walk::{Event, WalkPass, WalkPosterior, WalkQuestion, WalkRequest};
use marginals::question::{Entropy, ExpectedDistance, Kl, Mean};
use marginals::spec::{ModelSpec, Tensors};
use marginals::structure::Walk;
use marginals::{Element, Error, Real, Shape};
use ndarray::{ArrayD, Ix2};

use super::posterior::Nodes;
use super::questions::Questions;
use super::tensors::Output;
use super::upstream::UpstreamTensors;

/// The questions answered together, by name.
const TOGETHER: &[&str] = &["mean", "entropy", "kl", "expected-distance"];

/// Those of a walk's questions that share its passes.
struct Together<'v, T> {
    mean: Option<Mean<'v, T>>,
    asked: Vec<&'static str>,
}

impl<'v, T: Real + Element<Real = T>> WalkQuestion<'v, T> for Together<'v, T> {
    type Answer = Vec<(&'static str, ArrayD<T>)>;

    fn request(&self, shape: &Shape, request: &mut WalkRequest<'v, T>) -> Result<(), Error> {
        if let Some(mean) = &self.mean {
            mean.request(shape, request)?;
        }
        for name in &self.asked {
            match *name {
                "entropy" => Entropy.request(shape, request)?,
                "kl" => Kl.request(shape, request)?,
                "expected-distance" => ExpectedDistance.request(shape, request)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&self, pass: &WalkPass<'_, '_, 'v, T>) -> Result<Self::Answer, Error> {
        let answer = |name: &&'static str| -> Result<_, Error> {
            let tensor = match (*name, &self.mean) {
                ("mean", Some(mean)) => mean.answer(pass)?.into_dyn(),
                ("entropy", _) => Entropy.answer(pass)?.into_dyn(),
                ("kl", _) => Kl.answer(pass)?.into_dyn(),
                _ => ExpectedDistance.answer(pass)?.into_dyn(),
            };
            Ok((*name, tensor))
        };
        self.asked.iter().map(answer).collect()
    }
}

/// Answers the questions about the walks of a one-step model.
pub fn answer<T: Real + Element<Real = T>>(
    spec: &ModelSpec,
    walk: &Walk,
    questions: &Questions,
    nodes: &Nodes<T>,
    upstream: &UpstreamTensors<T>,
    named: &Tensors<'_, T>,
) -> Result<Output<T>, Error> {
    let model = spec.build::<T>(nodes.q.dim().1, nodes.q.dim().3, named)?;
    let posterior = walk.posterior(&model, nodes.q.view(), nodes.k.view())?;
    let mut output = Output::default();
    for name in questions.names() {
        match name {
            "hops" => output.real("hops", posterior.hops(&Event::any().arriving())?.into_dyn()),
            "paths" => output.real("paths", paths(&posterior, named)?.into_dyn()),
            name if TOGETHER.contains(&name) => {}
            other => {
                return Err(Error::NotAnswerable {
                    question: other.into(),
                    why: "the structure `walk` couples the picks of a path".into(),
                    instead: format!("A walk answers {}, hops and paths.", TOGETHER.join(", ")),
                });
            }
        }
    }
    let asked: Vec<&str> = questions.names().filter(|name| TOGETHER.contains(name)).collect();
    let together = Together { mean: nodes.v.as_ref().map(|v| Mean(v.view())), asked };
    let Some(upstream) = upstream.views() else {
        for (name, tensor) in posterior.ask(together)? {
            output.real(name, tensor);
        }
        return Ok(output);
    };
    let pass = posterior.pass(&together)?;
    for (name, tensor) in pass.answer(&together)? {
        output.real(name, tensor);
    }
    output.gradients(pass.backward(&upstream)?);
    Ok(output)
}

/// log p of the rows of the tensor `paths`, whose nodes end at the first −1 and do not go on after it.
fn paths<T: Real>(
    posterior: &WalkPosterior<'_, T>,
    named: &Tensors<'_, T>,
) -> Result<ndarray::Array3<T>, Error> {
    let Some(rows) = named.integer.get("paths") else {
        if named.real.contains_key("paths") {
            return Err(Error::entries("paths", "whole numbers", "real numbers"));
        }
        return Err(Error::MissingTensor {
            name: "paths".into(),
            why: "whole numbers [paths, nodes], −1 after the last node, for the question `paths`"
                .into(),
            present: named.real.keys().chain(named.integer.keys()).cloned().collect(),
        });
    };
    let Ok(rows) = rows.view().into_dimensionality::<Ix2>() else {
        let advice = "A path is a row of nodes; fill the shorter ones up with −1.";
        return Err(Error::shape("paths", "[paths, nodes]", rows.shape(), advice));
    };
    if rows.ncols() == 0 && rows.nrows() > 0 {
        let advice = "A path has at least the node it starts from.";
        return Err(Error::shape("paths", "[paths, nodes], nodes at least 1", rows.shape(), advice));
    }
    let paths: Result<Vec<Vec<usize>>, Error> = rows
        .outer_iter()
        .enumerate()
        .map(|(index, row)| path(index, &row.iter().copied().collect::<Vec<i64>>()))
        .collect();
    let paths = paths?;
    posterior.path_log_probability(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// The nodes of a row of `paths`.
fn path(index: usize, row: &[i64]) -> Result<Vec<usize>, Error> {
    let end = row.iter().position(|&x| x == -1).unwrap_or(row.len());
    let wrong = |expected: &str| {
        let found = format!("{row:?} in row {index}");
        Err(Error::value("paths", expected, found))
    };
    if row[end..].iter().any(|&x| x != -1) {
        return wrong("nothing but −1 after the first −1: a path that has ended does not go on");
    }
    match row[..end].iter().map(|&x| usize::try_from(x)).collect() {
        Ok(nodes) => Ok(nodes),
        Err(_) => wrong("nodes counted from 0, and −1 after the last"),
    }
}
