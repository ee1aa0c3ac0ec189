//! Activations of feed-forward parts, by the names that configurations of Hugging Face's models have for
//! them.

use burn::tensor::{Tensor, activation};
use marginals_kernels::{InstructionSet, TileMut, logistic_rows};
use serde::Deserialize;

/// A non-linearity without weights of its own, by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x Φ(x), exactly.
    #[serde(alias = "gelu_python")]
    Gelu,
    /// x Φ(x), cut off at ±10.
    #[serde(rename = "gelu_10")]
    GeluTen,
    /// x Φ(x) by a hyperbolic tangent.
    #[serde(
        rename = "gelu_new",
        alias = "gelu_pytorch_tanh",
        alias = "gelu_python_tanh",
        alias = "gelu_fast",
        alias = "gelu_accurate"
    )]
    GeluTanh,
    /// x σ(1.702 x).
    QuickGelu,
    /// x min(max(0, x + 3), 6)/6.
    #[serde(rename = "hardswish")]
    HardSwish,
    /// The distribution function of a normal around 0.707107, of deviation 0.282095.
    Laplace,
    /// x, and 0.01 x where x < 0.
    LeakyRelu,
    /// x.
    Linear,
    /// x tanh(log(1 + e^x)).
    Mish,
    /// max(0, x).
    Relu,
    /// max(0, x)².
    Relu2,
    /// min(max(0, x), 6).
    Relu6,
    /// σ(x) = 1/(1 + e^−x).
    Sigmoid,
    /// x σ(x).
    #[serde(alias = "swish")]
    Silu,
    /// √log(1 + e^x).
    #[serde(rename = "sqrtsoftplus")]
    SqrtSoftplus,
    /// tanh(x).
    Tanh,
}

impl Activation {
    /// The non-linearity of every element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => activation::gelu(x),
            Self::GeluTen => activation::gelu(x).clamp(-10.0, 10.0),
            Self::GeluTanh => activation::gelu_approximate(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
            Self::HardSwish => x.clone() * activation::relu6(x + 3.0) / 6.0,
            Self::Laplace => {
                #[expect(clippy::approx_constant, reason = "six digits are the definition")]
                let centre = 0.707107;
                let deviations = (x - centre) / (0.282095 * std::f64::consts::SQRT_2);
                (deviations.erf() + 1.0) * 0.5
            }
            Self::LeakyRelu => activation::leaky_relu(x, 0.01),
            Self::Linear => x,
            Self::Mish => activation::mish(x),
            Self::Relu => activation::relu(x),
            Self::Relu2 => activation::relu(x).square(),
            Self::Relu6 => activation::relu6(x),
            Self::Sigmoid => activation::sigmoid(x),
            Self::Silu => silu(x),
            Self::SqrtSoftplus => activation::softplus(x, 1.0).sqrt(),
            Self::Tanh => activation::tanh(x),
        }
    }
}

/// x σ(x) by the engine's exponentials, a vector at a time; Burn's are taken one by one.
fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    const PIECE: usize = 1024;
    let device = x.device();
    let mut data = x.into_data();
    let values = data.as_mut_slice::<f32>().expect("the models hold f32 tensors only");
    let mut logistic = [0.0; PIECE];
    for piece in values.chunks_mut(PIECE) {
        let logistic = &mut logistic[..piece.len()];
        logistic.copy_from_slice(piece);
        let tile = TileMut::new(logistic, 1, piece.len(), PIECE);
        logistic_rows(InstructionSet::detect(), tile, &mut [0.0]);
        piece.iter_mut().zip(logistic).for_each(|(x, s)| *x *= *s);
    }
    Tensor::from_data(data, &device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::tensors::into_values;

    /// At −3, −0.5, 0, 0.5, 3 and 12, by `transformers.activations.ACT2FN` in float64.
    const EXPECTED: &[(&str, [f64; 6])] = &[
        (
            "gelu",
            [
                -0.00404969409489031,
                -0.15426876936299344,
                0.0,
                0.34573123063700656,
                2.99595030590511,
                12.0,
            ],
        ),
        (
            "gelu_10",
            [
                -0.00404969409489031,
                -0.15426876936299344,
                0.0,
                0.34573123063700656,
                2.99595030590511,
                10.0,
            ],
        ),
        (
            "gelu_accurate",
            [
                -0.0036373920817729943,
                -0.15428599017485606,
                0.0,
                0.34571400982514394,
                2.996362607918227,
                12.0,
            ],
        ),
        (
            "gelu_fast",
            [
                -0.003637392081860591,
                -0.15428599017516514,
                0.0,
                0.34571400982483486,
                2.9963626079181394,
                12.0,
            ],
        ),
        (
            "gelu_new",
            [
                -0.0036373920817729943,
                -0.15428599017485606,
                0.0,
                0.34571400982514394,
                2.996362607918227,
                12.0,
            ],
        ),
        (
            "gelu_python",
            [
                -0.00404969409489031,
                -0.15426876936299344,
                0.0,
                0.34573123063700656,
                2.99595030590511,
                12.0,
            ],
        ),
        (
            "gelu_python_tanh",
            [
                -0.0036373920817729943,
                -0.15428599017485606,
                0.0,
                0.34571400982514394,
                2.996362607918227,
                12.0,
            ],
        ),
        (
            "gelu_pytorch_tanh",
            [
                -0.0036373920817729943,
                -0.15428599017485606,
                0.0,
                0.34571400982514394,
                2.996362607918227,
                12.0,
            ],
        ),
        ("hardswish", [-0.0, -0.20833333333333334, 0.0, 0.2916666666666667, 3.0, 12.0]),
        (
            "laplace",
            [
                0.0,
                9.383381167682447e-06,
                0.006094459617935588,
                0.23142114841057387,
                0.9999999999999998,
                1.0,
            ],
        ),
        ("leaky_relu", [-0.03, -0.005, 0.0, 0.5, 3.0, 12.0]),
        ("linear", [-3.0, -0.5, 0.0, 0.5, 3.0, 12.0]),
        (
            "mish",
            [
                -0.1456474612756246,
                -0.22074377465173,
                0.0,
                0.3752452113048951,
                2.9865350049679575,
                11.99999999909398,
            ],
        ),
        (
            "quick_gelu",
            [
                -0.01807130970778597,
                -0.1496115633936199,
                0.0,
                0.35038843660638014,
                2.981928690292214,
                11.999999983813582,
            ],
        ),
        ("relu", [0.0, 0.0, 0.0, 0.5, 3.0, 12.0]),
        ("relu2", [0.0, 0.0, 0.0, 0.25, 9.0, 144.0]),
        ("relu6", [0.0, 0.0, 0.0, 0.5, 3.0, 6.0]),
        (
            "sigmoid",
            [
                0.04742587317756678,
                0.3775406687981454,
                0.5,
                0.6224593312018546,
                0.9525741268224334,
                0.9999938558253978,
            ],
        ),
        (
            "silu",
            [
                -0.14227761953270035,
                -0.1887703343990727,
                0.0,
                0.3112296656009273,
                2.8577223804672998,
                11.999926269904773,
            ],
        ),
        (
            "sqrtsoftplus",
            [
                0.2204253877704246,
                0.6885324859293908,
                0.8325546111576977,
                0.9869533850086876,
                1.7460204327480655,
                3.4641025019755807,
            ],
        ),
        (
            "swish",
            [
                -0.14227761953270035,
                -0.1887703343990727,
                0.0,
                0.3112296656009273,
                2.8577223804672998,
                11.999926269904773,
            ],
        ),
        (
            "tanh",
            [
                -0.9950547536867305,
                -0.4621171572600098,
                0.0,
                0.4621171572600098,
                0.9950547536867305,
                0.9999999999244973,
            ],
        ),
    ];

    #[test]
    fn every_name_is_what_transformers_computes() {
        let points = [-3.0f32, -0.5, 0.0, 0.5, 3.0, 12.0];
        for (name, expected) in EXPECTED {
            let named: Activation = serde_json::from_value((*name).into()).expect(name);
            let x: Tensor<1> =
                Tensor::from_data(TensorData::new(points.to_vec(), [6]), &Device::flex());
            let found = into_values(named.forward(x));
            for ((found, expected), x) in found.iter().zip(expected).zip(points) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 2e-6 * (1.0 + expected.abs()), "{name}({x}): {found}, {expected}");
            }
        }
        assert!(serde_json::from_value::<Activation>("prelu".into()).is_err());
    }
}
