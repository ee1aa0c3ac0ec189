//! Log-potentials as dense tensors.

use burn::tensor::{Tensor, activation};
use marginals::potential::{Additive, AdditiveForm, AnyPotential, Dot, Rotary, RotaryPairs};

use super::{Parts, by_query_head};

/// LeakyReLU's slope where the model gives none.
const USUAL_SLOPE: f64 = 0.2;

/// log ψ, `[B, H, N, M]`.
pub(super) fn log_potential(parts: &mut Parts<'_>, potential: &AnyPotential) -> Tensor<4> {
    of(parts, potential, parts.model.q.clone(), parts.model.k.clone())
}

fn of(parts: &mut Parts<'_>, potential: &AnyPotential, q: Tensor<4>, k: Tensor<4>) -> Tensor<4> {
    let heads = parts.heads;
    match potential {
        AnyPotential::Dot(Dot { softcap, .. }) => {
            let scores = q.matmul(by_query_head(k, heads).transpose()) * parts.per_head();
            match softcap {
                Some(cap) => (scores / *cap).tanh() * *cap,
                None => scores,
            }
        }
        AnyPotential::Cosine(_) => {
            let direction = |x: Tensor<4>| {
                let square = (x.clone() * x.clone()).sum_dim(3);
                // A node of length 0 has no direction, and none to gain.
                let nowhere = square.clone().equal_elem(0.0);
                let unit = x.clone() / square.mask_fill(nowhere.clone(), 1.0).sqrt();
                unit.mask_fill(nowhere.expand(x.dims()), 0.0)
            };
            let scores = direction(q).matmul(by_query_head(direction(k), heads).transpose());
            scores * parts.per_head()
        }
        AnyPotential::Gaussian(_) => {
            let (precision, shape) = parts.next();
            let (rows, columns) = match shape.as_slice() {
                [] => (1, 1),
                [columns] => (1, *columns),
                [rows, columns, ..] => (*rows, *columns),
            };
            let precision = precision.reshape([1, rows, 1, 1, columns]);
            let q: Tensor<5> = q.unsqueeze_dim(3);
            let k: Tensor<5> = by_query_head(k, heads).unsqueeze_dim(2);
            let apart = q - k;
            let square = (apart.clone() * apart * precision).sum_dim(4);
            square.squeeze_dim::<4>(4) * -0.5
        }
        AnyPotential::Additive(Additive { form, slope, .. }) => {
            additive(parts, *form, slope.unwrap_or(USUAL_SLOPE), q, k)
        }
        // A query is the row of its scores.
        AnyPotential::Scores(_) => q,
        AnyPotential::Rotary(Rotary { base, pairs, potential }) => {
            let offset = parts.model.spec.query_offset;
            let turned_q = turn(parts, q, offset, *base, *pairs);
            let turned_k = turn(parts, k, 0, *base, *pairs);
            of(parts, potential, turned_q, turned_k)
        }
    }
}

fn leaky(x: Tensor<5>, slope: f64) -> Tensor<5> {
    activation::relu(x.clone()) - activation::relu(-x) * slope
}

fn additive(
    parts: &Parts<'_>,
    kind: AdditiveForm,
    slope: f64,
    q: Tensor<4>,
    k: Tensor<4>,
) -> Tensor<4> {
    let project = |x: Tensor<4>, name: &str| -> Tensor<4> {
        if !parts.model.parameters.contains_key(name) {
            return x;
        }
        let weights: Tensor<3> = parts.tensor(name);
        let [heads, features, width] = weights.dims();
        x.matmul(weights.reshape([1, heads, features, width]).transpose())
    };
    let vector = |name: &str| -> Tensor<4> {
        let vector: Tensor<2> = parts.tensor(name);
        let [heads, features] = vector.dims();
        vector.reshape([1, heads, 1, features])
    };
    let (q, k) = (project(q, "additive.query"), project(k, "additive.key"));
    let heads = parts.heads;
    if kind == AdditiveForm::Gat {
        let q = (q * vector("additive.a")).sum_dim(3);
        let k = by_query_head((k * vector("additive.a-key")).sum_dim(3), heads);
        let sum: Tensor<5> = (q + k.transpose()).unsqueeze_dim(4);
        return leaky(sum, slope).squeeze_dim(4);
    }
    let q: Tensor<5> = q.unsqueeze_dim(3);
    let k: Tensor<5> = by_query_head(k, heads).unsqueeze_dim(2);
    let active = match kind {
        AdditiveForm::Bahdanau => (q + k).tanh(),
        _ => leaky(q + k, slope),
    };
    let a: Tensor<5> = vector("additive.a").unsqueeze_dim(2);
    (active * a).sum_dim(4).squeeze_dim(4)
}

/// Rows turned by their positions, the first at `first`.
fn turn(
    parts: &Parts<'_>,
    rows: Tensor<4>,
    first: i64,
    base: f64,
    pairs: RotaryPairs,
) -> Tensor<4> {
    let [batch, heads, nodes, width] = rows.dims();
    let half = width / 2;
    let frequency = |c: usize| base.powf(-2.0 * c as f64 / width as f64);
    let angles: Vec<f64> = (0..nodes)
        .flat_map(|row| (0..half).map(move |c| (row as i64 + first) as f64 * frequency(c)))
        .collect();
    let cos = angles.iter().map(|angle| angle.cos()).collect();
    let sin = angles.iter().map(|angle| angle.sin()).collect();
    // The pair is its own axis: before the coordinates within halves, after them for neighbours.
    let (shape, axis) = match pairs {
        RotaryPairs::HalfSplit => ([batch, heads, nodes, 2, half], 3),
        RotaryPairs::Interleaved => ([batch, heads, nodes, half, 2], 4),
    };
    let table = match pairs {
        RotaryPairs::HalfSplit => [1, 1, nodes, 1, half],
        RotaryPairs::Interleaved => [1, 1, nodes, half, 1],
    };
    let (cos, sin): (Tensor<5>, Tensor<5>) =
        (parts.constant(cos, table), parts.constant(sin, table));
    let paired = rows.reshape(shape);
    let (x, y) = (paired.clone().narrow(axis, 0, 1), paired.narrow(axis, 1, 1));
    let turned_x = x.clone() * cos.clone() - y.clone() * sin.clone();
    let turned_y = x * sin + y * cos;
    Tensor::cat(vec![turned_x, turned_y], axis).reshape([batch, heads, nodes, width])
}
