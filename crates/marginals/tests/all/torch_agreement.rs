//! Agreement with PyTorch in `f64`: answers and gradients to 1e-9.
//!
//! The file is written by `tools/reference/torch_agreement.py`, which says how.

use crate::recorded::Case;
use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::{Alibi, Bias, Causal, Prior, Product, Uniform, Window};
use marginals::question::{Entropy, LogPartition, Mean};
use marginals::structure::EachQueryPicksOne;
use ndarray::{Array3, Array4};

const FILE: &[u8] = include_bytes!("data/torch_agreement.safetensors");

/// Answers and gradients under the prior `prior`, queries starting at position `offset`.
fn check<P: Prior<f64>>(case: &Case<'_>, prior: P, offset: i64) {
    let (q, k, v) = (case.get("q"), case.get("k"), case.get("v"));
    let width: usize = q.shape()[3];
    let model = Model::new(EachQueryPicksOne, prior, Dot::scaled(width)).with_query_offset(offset);
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    let questions = (Mean(v.view()), LogPartition, Entropy);
    let pass = posterior.pass(questions).expect("a pass");
    let (mean, log_partition, entropy) = pass.answer().expect("answers");
    case.close("mean", &mean);
    case.close("log-partition", &log_partition);
    case.close("entropy", &entropy);

    let of_mean: Array4<f64> = case.get("upstream.mean");
    let [of_log_partition, of_entropy]: [Array3<f64>; 2] =
        ["upstream.log-partition", "upstream.entropy"].map(|name| case.get(name));
    let gradients = pass.backward((&of_mean, &of_log_partition, &of_entropy)).expect("gradients");
    case.close("grad.q", &gradients.q);
    case.close("grad.k", &gradients.k);
    case.close("grad.v", gradients.v().expect("the mean has values"));
    if case.holds("grad.bias") {
        case.close("grad.bias", gradients.parameter("bias").expect("the bias learns"));
    }
}
fn case(name: &'static str) -> Case<'static> {
    Case::new(FILE, name)
}

#[test]
fn dot() {
    check(&case("dot"), Uniform, 0);
    check(&case("tiles"), Uniform, 0);
}

#[test]
fn causal() {
    check(&case("causal"), Causal, 2);
}

#[test]
fn alibi() {
    let prior = Product(vec![Box::new(Causal), Box::new(Alibi::standard(4))]);
    check(&case("alibi"), prior, 2);
}

#[test]
fn window() {
    check(&case("window"), Window { left: 3, right: 2 }, 3);
}

#[test]
fn bias() {
    for name in ["bias", "bias-per-key"] {
        let bias: ndarray::Array4<f64> = case(name).get("bias");
        check(&case(name), Bias::new(bias.view()), 0);
    }
}

#[test]
fn grouped_heads() {
    check(&case("grouped"), Causal, 0);
}
