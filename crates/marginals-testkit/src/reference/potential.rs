//! log ψ(q, k) of every potential.

use ndarray::{Array2, Array3, ArrayView2};

use super::{Rotary, per_head};

/// How well the content of two nodes fits.
///
/// Weights come once for all heads or per head: the first axis of a matrix of weights is 1 or H,
/// or 1 or H_k for the weights that keys meet (`key_…`).
#[derive(Clone, Debug)]
pub enum Potential {
    /// s = scale · q·k; with a softcap c, c · tanh(s / c).
    Dot {
        /// Once or per head.
        scale: Vec<f64>,
        /// c.
        softcap: Option<f64>,
    },
    /// scale · q·k / (‖q‖ ‖k‖).
    Cosine {
        /// Once or per head.
        scale: Vec<f64>,
    },
    /// −½ Σ_t λ_t (q_t − k_t)².
    Gaussian {
        /// λ, (1 or H) × (1 or D).
        precision: Array2<f64>,
    },
    /// LeakyReLU(a_q · W_q q + a_k · W_k k) (Veličković et al. 2018, arXiv 1710.10903, eq. 3).
    Gat {
        /// W_q, · × F × D.
        query_weight: Array3<f64>,
        /// W_k, · × F × D.
        key_weight: Array3<f64>,
        /// a_q, · × F.
        query_vector: Array2<f64>,
        /// a_k, · × F.
        key_vector: Array2<f64>,
        /// Of the LeakyReLU below zero.
        slope: f64,
    },
    /// a · LeakyReLU(W_q q + W_k k) (Brody et al. 2022, arXiv 2105.14491, eq. 7).
    GatV2 {
        /// W_q, · × F × D.
        query_weight: Array3<f64>,
        /// W_k, · × F × D.
        key_weight: Array3<f64>,
        /// a, · × F.
        vector: Array2<f64>,
        /// Of the LeakyReLU below zero.
        slope: f64,
    },
    /// a · tanh(W_q q + W_k k) (Bahdanau et al. 2015, arXiv 1409.0473, §A.1.2).
    Bahdanau {
        /// W_q, · × F × D.
        query_weight: Array3<f64>,
        /// W_k, · × F × D.
        key_weight: Array3<f64>,
        /// a, · × F.
        vector: Array2<f64>,
    },
    /// Another potential of q turned to its position and k to its own.
    Rotated(Rotary, Box<Potential>),
}

impl Potential {
    /// log ψ, N × M, of one (query head, key head): q is N × D, k is M × D.
    pub fn matrix(
        &self,
        heads: (usize, usize),
        q: ArrayView2<'_, f64>,
        k: ArrayView2<'_, f64>,
        query_offset: i64,
    ) -> Array2<f64> {
        if let Self::Rotated(rotary, inner) = self {
            let turn = |x: ArrayView2<'_, f64>, offset: i64| {
                let mut out = x.to_owned();
                for (i, mut row) in out.rows_mut().into_iter().enumerate() {
                    let turned = rotary.turn(&x.row(i).to_vec(), i as i64 + offset);
                    row.iter_mut().zip(turned).for_each(|(a, b)| *a = b);
                }
                out
            };
            let (q, k) = (turn(q, query_offset), turn(k, 0));
            return inner.matrix(heads, q.view(), k.view(), query_offset);
        }
        let rows = |x: ArrayView2<'_, f64>| -> Vec<Vec<f64>> {
            x.rows().into_iter().map(|row| row.to_vec()).collect()
        };
        let (q, k) = (rows(q), rows(k));
        Array2::from_shape_fn((q.len(), k.len()), |(i, j)| self.log_potential(heads, &q[i], &k[j]))
    }

    /// log ψ of one pair of vectors.
    fn log_potential(&self, (head, key_head): (usize, usize), q: &[f64], k: &[f64]) -> f64 {
        match self {
            Self::Dot { scale, softcap } => {
                let s = per_head(scale, head) * dot(q, k);
                softcap.map_or(s, |c| c * (s / c).tanh())
            }
            Self::Cosine { scale } => {
                // A zero vector has no direction: it fits everything equally.
                let norms = dot(q, q).sqrt() * dot(k, k).sqrt();
                if norms == 0.0 { 0.0 } else { per_head(scale, head) * dot(q, k) / norms }
            }
            Self::Gaussian { precision } => {
                let row = row_of(precision, head);
                -0.5 * (0..q.len()).map(|t| per_head(&row, t) * (q[t] - k[t]).powi(2)).sum::<f64>()
            }
            Self::Gat { query_weight, key_weight, query_vector, key_vector, slope } => leaky_relu(
                dot(&row_of(query_vector, head), &project(query_weight, head, q))
                    + dot(&row_of(key_vector, key_head), &project(key_weight, key_head, k)),
                *slope,
            ),
            Self::GatV2 { query_weight, key_weight, vector, slope } => {
                let (a, b) = (project(query_weight, head, q), project(key_weight, key_head, k));
                let hidden: Vec<f64> =
                    a.iter().zip(&b).map(|(a, b)| leaky_relu(a + b, *slope)).collect();
                dot(&row_of(vector, head), &hidden)
            }
            Self::Bahdanau { query_weight, key_weight, vector } => {
                let (a, b) = (project(query_weight, head, q), project(key_weight, key_head, k));
                let hidden: Vec<f64> = a.iter().zip(&b).map(|(a, b)| (a + b).tanh()).collect();
                dot(&row_of(vector, head), &hidden)
            }
            Self::Rotated(..) => unreachable!("matrix() turns the vectors, which needs positions"),
        }
    }

    /// The learnable parameters by name.
    pub(crate) fn parameters_mut(&mut self) -> Vec<(&'static str, &mut [f64])> {
        fn flat<D: ndarray::Dimension>(x: &mut ndarray::Array<f64, D>) -> &mut [f64] {
            x.as_slice_mut().expect("parameters are owned and in standard layout")
        }
        match self {
            Self::Dot { scale, .. } => vec![("dot.scale", &mut scale[..])],
            Self::Cosine { scale } => vec![("cosine.scale", &mut scale[..])],
            Self::Gaussian { precision } => vec![("gaussian.precision", flat(precision))],
            Self::Gat { query_weight, key_weight, query_vector, key_vector, .. } => vec![
                ("additive.query", flat(query_weight)),
                ("additive.key", flat(key_weight)),
                ("additive.a", flat(query_vector)),
                ("additive.a-key", flat(key_vector)),
            ],
            Self::GatV2 { query_weight, key_weight, vector, .. }
            | Self::Bahdanau { query_weight, key_weight, vector } => vec![
                ("additive.query", flat(query_weight)),
                ("additive.key", flat(key_weight)),
                ("additive.a", flat(vector)),
            ],
            Self::Rotated(_, inner) => inner.parameters_mut(),
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn leaky_relu(x: f64, slope: f64) -> f64 {
    if x >= 0.0 { x } else { slope * x }
}

fn row_of(per_head: &Array2<f64>, head: usize) -> Vec<f64> {
    per_head.row(if per_head.nrows() == 1 { 0 } else { head }).to_vec()
}

/// W x.
fn project(weight: &Array3<f64>, head: usize, x: &[f64]) -> Vec<f64> {
    let (heads, rows, columns) = weight.dim();
    let head = if heads == 1 { 0 } else { head };
    (0..rows).map(|r| (0..columns).map(|c| weight[[head, r, c]] * x[c]).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{array, aview2};

    fn one(potential: &Potential, q: &[f64; 2], k: &[f64; 2]) -> f64 {
        potential.matrix((0, 0), aview2(&[*q]), aview2(&[*k]), 0)[[0, 0]]
    }

    /// Each formula on numbers small enough to do by hand.
    #[test]
    fn by_hand() {
        let (q, k) = ([1.0, 2.0], [3.0, -1.0]);
        let scale = vec![0.5];
        assert_eq!(one(&Potential::Dot { scale: scale.clone(), softcap: None }, &q, &k), 0.5);
        let capped = one(&Potential::Dot { scale: scale.clone(), softcap: Some(2.0) }, &q, &k);
        assert!((capped - 2.0 * 0.25f64.tanh()).abs() < 1e-15);
        let cosine = one(&Potential::Cosine { scale }, &q, &k);
        assert!((cosine - 0.5 / 50f64.sqrt()).abs() < 1e-15);
        let gaussian = Potential::Gaussian { precision: array![[2.0, 1.0]] };
        assert_eq!(one(&gaussian, &q, &k), -0.5 * (2.0 * 4.0 + 9.0));
        let identity = array![[[1.0, 0.0], [0.0, 1.0]]];
        let gat = Potential::Gat {
            query_weight: identity.clone(),
            key_weight: identity.clone(),
            query_vector: array![[1.0, 1.0]],
            key_vector: array![[-2.0, 0.0]],
            slope: 0.2,
        };
        assert!((one(&gat, &q, &k) + 0.2 * 3.0).abs() < 1e-15);
        let gat_v2 = Potential::GatV2 {
            query_weight: identity.clone(),
            key_weight: array![[[-1.0, 0.0], [0.0, 1.0]]],
            vector: array![[1.0, 10.0]],
            slope: 0.2,
        };
        assert!((one(&gat_v2, &q, &k) - (-0.4 + 10.0)).abs() < 1e-15);
        let bahdanau = Potential::Bahdanau {
            query_weight: identity.clone(),
            key_weight: identity,
            vector: array![[1.0, 3.0]],
        };
        assert!((one(&bahdanau, &q, &k) - (4f64.tanh() + 3.0 * 1f64.tanh())).abs() < 1e-15);
    }
}
