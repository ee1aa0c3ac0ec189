//! Priors over distances that are learned or come from the content.
//!
//! They stand beside [`Prior`] and not among its variants so that matches over those stay complete.

use ndarray::{Array2, Array3};

use super::{Inputs, Place, Prior, per_head};

/// How far behind a query a key lies. Only the index also says how far ahead: by the others a query
/// picks no key ahead of it.
#[derive(Clone, Debug)]
pub enum Distance {
    /// |position − j|.
    Index,
    /// −Σ_{l = j+1..=position} log f_l ≥ 0. Nothing is forgotten beyond the last key.
    Survival {
        /// log f of every key, ≤ 0; each axis of B × H full or 1, × M.
        log_gates: Array3<f64>,
    },
    /// Σ_{l = j..=position} σ(scale · q_i·k_l), the key's own gate included (Golovneva et al., arXiv
    /// 2405.18719, eqs. 3 and 4). Keys that the other priors hide from the query are not passed: their
    /// gate is 0, as in the code of the paper, which masks before it gates.
    Contextual {
        /// Once or per head.
        scale: Vec<f64>,
    },
}

/// More about edges before looking at the content of the nodes.
#[derive(Clone, Debug)]
pub enum FurtherPrior {
    /// Σ_{l = j+1..=position} log f_l for keys at or behind the query, −∞ for keys ahead (Lin et al.,
    /// arXiv 2503.02130, eq. 5). Nothing is forgotten beyond the last key.
    Survival {
        /// log f of every key, ≤ 0; each axis of B × H full or 1, × M.
        log_gates: Array3<f64>,
    },
    /// A prior of distance over a distance of any kind.
    OverDistance {
        /// One of those that are functions of the distance.
        prior: Prior,
        /// What it is a function of.
        distance: Distance,
    },
}

impl FurtherPrior {
    /// Whether log w depends on which keys the other priors hide.
    pub(super) fn reads_masks(&self) -> bool {
        matches!(self, Self::OverDistance { distance: Distance::Contextual { .. }, .. })
    }

    /// log w of every edge as matrices, N × M, whose sum it is. `allowed` tells the edges that the
    /// other priors allow.
    pub(super) fn terms(
        &self,
        place: &Place,
        inputs: &Inputs,
        allowed: impl Fn(usize, usize) -> bool,
    ) -> Vec<Array2<f64>> {
        let survival = |gates: &Array3<f64>, i: usize| forgotten(gates, place, i);
        match self {
            Self::Survival { log_gates } => {
                vec![behind(place, |i| survival(log_gates, i), |distance| -distance)]
            }
            Self::OverDistance { prior, distance: Distance::Index } => prior.terms(place),
            Self::OverDistance { prior, distance } => {
                let decay = prior.decay(place.head).expect("a prior of distance");
                let at = |distance: f64| decay.at(-distance);
                vec![match distance {
                    Distance::Survival { log_gates } => {
                        behind(place, |i| survival(log_gates, i), at)
                    }
                    Distance::Contextual { scale } => {
                        let scale = per_head(scale, place.head);
                        let gates = |i| passed(scale, place, inputs, i, |j| allowed(i, j));
                        behind(place, gates, at)
                    }
                    Distance::Index => unreachable!("matched above"),
                }]
            }
        }
    }

    /// The learnable parameters by name.
    pub(super) fn parameters_mut(&mut self) -> Vec<(&'static str, &mut [f64])> {
        const CONTIGUOUS: &str = "parameters are owned and in standard layout";
        let gates = |gates| -> (&'static str, &mut [f64]) {
            let gates: &mut Array3<f64> = gates;
            ("survival.log-gates", gates.as_slice_mut().expect(CONTIGUOUS))
        };
        match self {
            Self::Survival { log_gates } => vec![gates(log_gates)],
            Self::OverDistance { prior, distance } => {
                let mut out = prior.parameters_mut();
                match distance {
                    Distance::Index => {}
                    Distance::Survival { log_gates } => out.push(gates(log_gates)),
                    Distance::Contextual { scale } => out.push(("contextual.scale", scale)),
                }
                out
            }
        }
    }
}

/// log w as a function of the distances of the keys at or behind each query; −∞ for those ahead.
fn behind(
    place: &Place,
    distances: impl Fn(usize) -> Vec<f64>,
    log_weight: impl Fn(f64) -> f64,
) -> Array2<f64> {
    let mut out = Array2::from_elem((place.queries, place.keys), f64::NEG_INFINITY);
    for i in 0..place.queries {
        for (j, distance) in distances(i).into_iter().enumerate() {
            out[[i, j]] = log_weight(distance);
        }
    }
    out
}

/// How many keys lie at or behind a query.
fn reached(place: &Place, query: usize) -> usize {
    let position = query as i64 + place.query_offset;
    usize::try_from(position + 1).map_or(0, |count| count.min(place.keys))
}

/// Σ_{l = j+1..=position} −log f_l of every key j at or behind the query, from the nearest to the
/// farthest.
fn forgotten(log_gates: &Array3<f64>, place: &Place, query: usize) -> Vec<f64> {
    let (b, h, _) = log_gates.dim();
    let full = |size: usize, index: usize| if size == 1 { 0 } else { index };
    let mut out = vec![0.0; reached(place, query)];
    for j in (1..out.len()).rev() {
        out[j - 1] = out[j] - log_gates[[full(b, place.batch), full(h, place.head), j]];
    }
    out
}

/// Σ_{l = j..=position} of the gates between the query and every key j at or behind it, from the
/// nearest to the farthest.
fn passed(
    scale: f64,
    place: &Place,
    inputs: &Inputs,
    query: usize,
    allowed: impl Fn(usize) -> bool,
) -> Vec<f64> {
    let mut out = vec![0.0; reached(place, query)];
    let mut sum = 0.0;
    for j in (0..out.len()).rev() {
        if allowed(j) {
            let score = scale * inputs.inner_product(place.batch, place.head, query, j);
            sum += 1.0 / (1.0 + (-score).exp());
        }
        out[j] = sum;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array4, array};

    fn place(queries: usize, keys: usize, query_offset: i64) -> Place {
        Place { batch: 0, head: 0, queries, keys, query_offset }
    }

    fn inputs() -> Inputs {
        Inputs {
            q: array![[[[1.0], [2.0]]]],
            k: array![[[[0.0], [1.0], [-1.0]]]],
            v: Array4::zeros((1, 1, 3, 1)),
        }
    }

    const LOG_GATES: [f64; 3] = [-100.0, -0.5, -2.0];

    fn survival() -> FurtherPrior {
        FurtherPrior::Survival { log_gates: Array3::from_shape_fn((1, 1, 3), |x| LOG_GATES[x.2]) }
    }

    /// c_i − c_j with c the running sum of the log gates; a query past the last key forgets no more.
    #[test]
    fn survival_by_hand() {
        let dead = f64::NEG_INFINITY;
        let terms = survival().terms(&place(4, 3, 0), &inputs(), |_, _| true);
        let expected =
            array![[0.0, dead, dead], [-0.5, 0.0, dead], [-2.5, -2.0, 0.0], [-2.5, -2.0, 0.0]];
        assert_eq!(terms[0], expected);
        let over = FurtherPrior::OverDistance {
            prior: Prior::Alibi { slopes: vec![1.0] },
            distance: Distance::Survival {
                log_gates: Array3::from_shape_fn((1, 1, 3), |x| LOG_GATES[x.2]),
            },
        };
        assert_eq!(over.terms(&place(4, 3, 0), &inputs(), |_, _| true)[0], expected);
        let before = survival().terms(&place(1, 3, -1), &inputs(), |_, _| true);
        assert_eq!(before, [array![[dead, dead, dead]]]);
    }

    /// Gates σ(q·k) of 1, 2 times 0, 1, −1, summed from the key to the query; a hidden key is passed
    /// for nothing, whatever it holds.
    #[test]
    fn contextual_by_hand() {
        let over = FurtherPrior::OverDistance {
            prior: Prior::Laplace { scale: vec![1.0] },
            distance: Distance::Contextual { scale: vec![1.0] },
        };
        let gate = |x: f64| 1.0 / (1.0 + (-x).exp());
        let found = &over.terms(&place(2, 3, 1), &inputs(), |_, _| true)[0];
        let expected = [
            [gate(0.0) + gate(1.0), gate(1.0), f64::INFINITY],
            [gate(0.0) + gate(2.0) + gate(-2.0), gate(2.0) + gate(-2.0), gate(-2.0)],
        ];
        for (found, expected) in found.iter().zip(expected.as_flattened()) {
            assert!(found == &-expected || (found + expected).abs() < 1e-15, "{found} {expected}");
        }
        let mut garbage = inputs();
        garbage.k[[0, 0, 1, 0]] = f64::NAN;
        let hidden = &over.terms(&place(2, 3, 1), &garbage, |_, j| j != 1)[0];
        assert!((hidden[[1, 0]] + gate(0.0) + gate(-2.0)).abs() < 1e-15);
    }

    /// Every prior of distance is the same over gates of e⁻¹, which forget one a key, and over contextual
    /// gates of 1 one step further out, as by the index behind a causal mask.
    #[test]
    fn every_decay_over_every_distance() {
        let inputs = Inputs {
            q: Array4::from_elem((1, 1, 5, 1), 1e3),
            k: Array4::ones((1, 1, 4, 1)),
            v: Array4::zeros((1, 1, 4, 1)),
        };
        let decays = [
            Prior::Geometric { rho: vec![0.3] },
            Prior::Alibi { slopes: vec![0.7] },
            Prior::Laplace { scale: vec![2.5] },
            Prior::GeneralizedGaussian { scale: vec![3.0], shape: vec![1.7] },
            Prior::BetaGeometric { alpha: vec![1.5], beta: vec![0.6] },
            Prior::RelativeBuckets {
                table: array![[0.5], [-1.0], [2.0], [0.25], [3.0], [-0.5], [1.0], [4.0]],
                max_distance: 6,
                bidirectional: true,
            },
        ];
        // No query has a position past the last key, where the index goes on and gates do not.
        let place = |query_offset| place(4, 4, query_offset);
        let sum = |terms: Vec<Array2<f64>>| terms.into_iter().reduce(|a, b| a + b).expect("a term");
        for prior in decays {
            let over = |distance| FurtherPrior::OverDistance { prior: prior.clone(), distance };
            let terms =
                |distance, offset| sum(over(distance).terms(&place(offset), &inputs, |_, _| true));
            let gates = Array3::from_elem((1, 1, 4), -1.0);
            let survival = terms(Distance::Survival { log_gates: gates }, 0);
            let contextual = terms(Distance::Contextual { scale: vec![1.0] }, 0);
            let (index, further) = (terms(Distance::Index, 0), terms(Distance::Index, 1));
            for ((i, j), &by_index) in index.indexed_iter() {
                let pairs = [(survival[[i, j]], by_index), (contextual[[i, j]], further[[i, j]])];
                for (found, expected) in pairs {
                    let expected = if j > i { f64::NEG_INFINITY } else { expected };
                    let same = found == expected || (found - expected).abs() < 1e-13;
                    assert!(same, "{prior:?} {i} {j}: {found} {expected}");
                }
            }
        }
    }

    /// Halfway between two distances lies halfway between their values.
    #[test]
    fn buckets_of_real_distances() {
        let over = FurtherPrior::OverDistance {
            prior: Prior::RelativeBuckets {
                table: array![[1.0], [3.0], [7.0], [20.0]],
                max_distance: 4,
                bidirectional: false,
            },
            distance: Distance::Survival { log_gates: array![[[0.0, -0.25, -1.0, -1.5, -100.0]]] },
        };
        let found = &over.terms(&place(1, 5, 3), &inputs(), |_, _| true)[0];
        // Distances 2.75, 2.5, 1.5, 0 and a key ahead; 0, 1, 2 and 3 have a bucket each.
        assert_eq!(found.row(0).to_vec(), [16.75, 13.5, 5.0, 1.0, f64::NEG_INFINITY]);
    }
}
