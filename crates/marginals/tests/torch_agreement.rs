//! Agreement with PyTorch in `f64`: answers and gradients to 1e-9.
//!
//! The file is written by `tools/reference/torch_agreement.py`, which says how.

use marginals::infer::exact::Upstream;
use marginals::potential::Dot;
use marginals::prior::{Alibi, Bias, Causal, Prior, Product, Uniform, Window};
use marginals::question::{Entropy, LogPartition, Mean};
use marginals::structure::EachQueryPicksOne;
use marginals::{Model, Pass};
use marginals_testkit::compare::{Tolerance, assert_close};
use ndarray::{ArrayD, ArrayViewD, Dimension, IxDyn};
use safetensors::{Dtype, SafeTensors};

const FILE: &[u8] = include_bytes!("data/torch_agreement.safetensors");

/// One case of the file.
struct Case<'a> {
    file: &'a SafeTensors<'a>,
    name: &'static str,
}

impl Case<'_> {
    fn get<D: Dimension>(&self, tensor: &str) -> ndarray::Array<f64, D> {
        let name = format!("{}.{tensor}", self.name);
        let view = self.file.tensor(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(view.dtype(), Dtype::F64, "{name}");
        let (bytes, _) = view.data().as_chunks::<8>();
        let numbers = bytes.iter().map(|b| f64::from_le_bytes(*b)).collect();
        ArrayD::from_shape_vec(IxDyn(view.shape()), numbers)
            .expect("as many numbers as the shape says")
            .into_dimensionality()
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn close<D: Dimension>(&self, tensor: &str, actual: &ndarray::Array<f64, D>) {
        let expected: ArrayD<f64> = self.get(tensor);
        let actual: ArrayViewD<'_, f64> = actual.view().into_dyn();
        assert_eq!(actual.shape(), expected.shape(), "{}.{tensor}", self.name);
        let name = format!("{}.{tensor}", self.name);
        assert_close(name, actual.iter(), &expected, Tolerance::mixed(1e-9));
    }

    /// Answers and gradients under the prior `prior`, queries starting at position `offset`.
    fn check<P: Prior<f64>>(&self, prior: P, offset: i64) {
        let (q, k, v) = (self.get("q"), self.get("k"), self.get("v"));
        let width: usize = q.shape()[3];
        let model =
            Model::new(EachQueryPicksOne, prior, Dot::scaled(width)).with_query_offset(offset);
        let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
        let questions = (Mean(v.view()), LogPartition, Entropy);
        let pass: Pass<'_, '_, '_, f64> = posterior.pass(&questions).expect("a pass");
        let (mean, log_partition, entropy) = pass.answer(&questions).expect("answers");
        self.close("mean", &mean);
        self.close("log-partition", &log_partition);
        self.close("entropy", &entropy);

        let (of_mean, of_log_partition, of_entropy) = (
            self.get("upstream.mean"),
            self.get("upstream.log-partition"),
            self.get("upstream.entropy"),
        );
        let gradients = pass
            .backward(&Upstream {
                mean: Some(of_mean.view()),
                log_partition: Some(of_log_partition.view()),
                entropy: Some(of_entropy.view()),
                ..Upstream::default()
            })
            .expect("gradients");
        self.close("grad.q", &gradients.q);
        self.close("grad.k", &gradients.k);
        self.close("grad.v", gradients.v.as_ref().expect("the mean has values"));
        if self.file.tensor(&format!("{}.grad.bias", self.name)).is_ok() {
            self.close("grad.bias", gradients.parameter("bias").expect("the bias learns"));
        }
    }
}

fn with_case(name: &'static str, check: impl FnOnce(&Case<'_>)) {
    let file = SafeTensors::deserialize(FILE).expect("the reference file");
    check(&Case { file: &file, name });
}

#[test]
fn dot() {
    with_case("dot", |case| case.check(Uniform, 0));
    with_case("tiles", |case| case.check(Uniform, 0));
}

#[test]
fn causal() {
    with_case("causal", |case| case.check(Causal, 2));
}

#[test]
fn alibi() {
    with_case("alibi", |case| {
        case.check(Product(vec![Box::new(Causal), Box::new(Alibi::standard(4))]), 2);
    });
}

#[test]
fn window() {
    with_case("window", |case| case.check(Window { left: 3, right: 2 }, 3));
}

#[test]
fn bias() {
    for name in ["bias", "bias-per-key"] {
        with_case(name, |case| {
            let bias: ndarray::Array4<f64> = case.get("bias");
            case.check(Bias::new(bias.view()), 0);
        });
    }
}

#[test]
fn grouped_heads() {
    with_case("grouped", |case| case.check(Causal, 0));
}
