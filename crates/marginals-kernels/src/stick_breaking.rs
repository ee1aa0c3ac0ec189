//! Choices offered one after the other: each is accepted or passed over on its own, and the first
//! accepted one ends the row. What is passed over is what is left of a stick of length 1.

use crate::math::{Elementary, exp_block, log_1p_of_fraction, zero};
use crate::simd::{Kernel, Simd, run};
use crate::{InstructionSet, Real, TileMut};

/// Running state of rows whose columns are offered from the last to the first, one entry per row.
///
/// Start from 0 in all of them.
#[derive(Debug)]
pub struct StickBreaking<'a, T> {
    /// log Π (1 − σ(θ)) over the columns so far: what is left of the stick.
    pub log_left: &'a mut [T],
    /// Σ p so far, if wanted. Then p is there to be summed, and once half of the mass is behind, p below
    /// 1e-30 (f32) or 1e-300 (f64) is 0: no sum would show it, and its products are slow subnormals.
    pub mass: Option<&'a mut [T]>,
    /// The entropy of the offers so far, each counted as often as it is reached, if wanted:
    /// Σ_j (Π_k>j (1 − σ_k)) H(σ_j), in nats.
    pub entropy: Option<&'a mut [T]>,
}

/// θ_j ← σ(θ_j) Π_k>j (1 − σ(θ_k)), the product over the columns behind, in this tile and those
/// before it: a tile is to be preceded by those on its right. The exponent is summed up from parts
/// that are rounded: p is within (20 + 12 |log p|) ε of itself over some hundred columns, down to
/// where the exponential is flushed to 0.
///
/// An impossible edge (θ = −∞) becomes 0 and is passed over with probability 1. NaN stays, and goes
/// to every column in front of it.
pub fn stick_breaking_rows<T: Real>(
    set: InstructionSet,
    tile: TileMut<'_, T>,
    state: StickBreaking<'_, T>,
) {
    match state.entropy {
        Some(_) => run(set, Rows::<T, true> { tile, state }),
        None => run(set, Rows::<T, false> { tile, state }),
    }
}

/// Some offers: log σ(θ), −log(1 − σ(θ)), and what they are made of.
struct Offers<V, const N: usize> {
    log_accepted: [V; N],
    softplus: [V; N],
    /// e^−|θ|.
    fraction: [V; N],
    /// log(1 + e^−|θ|).
    log_1p: [V; N],
}

impl<V: Copy, const N: usize> Offers<V, N> {
    #[inline(always)]
    fn new<S: Simd<Vector = V>>(simd: S, score: [V; N]) -> Self {
        let zero = simd.splat(zero::<S>());
        let mut fraction = score;
        for k in 0..N {
            // The order of the operands matters, here and below: NaN must stay.
            fraction[k] = simd.min(score[k], simd.sub(zero, score[k]));
        }
        let (fraction, _) = exp_block(simd, fraction);
        let (mut log_1p, mut log_accepted, mut softplus) = (score, score, score);
        for k in 0..N {
            log_1p[k] = log_1p_of_fraction(simd, fraction[k]);
            log_accepted[k] = simd.sub(simd.min(zero, score[k]), log_1p[k]);
            softplus[k] = simd.add(simd.max(zero, score[k]), log_1p[k]);
        }
        Self { log_accepted, softplus, fraction, log_1p }
    }

    /// log of what is left before each offer; moves `log_left` in front of all of them.
    #[inline(always)]
    fn log_before<S: Simd<Vector = V>>(&self, simd: S, log_left: &mut V) -> [V; N] {
        let mut before = self.softplus;
        for k in (0..N).rev() {
            let behind = simd.sums_behind(self.softplus[k]);
            before[k] = simd.sub(*log_left, behind);
            *log_left = simd.sub(*log_left, simd.first(simd.add(behind, self.softplus[k])));
        }
        before
    }
}

/// p, and 0 where the score is −∞: what is impossible is so whatever came before.
#[inline(always)]
fn possible_only<S: Simd>(simd: S, score: S::Vector, p: S::Vector) -> S::Vector {
    let impossible = simd.splat(num_traits::Float::neg_infinity());
    simd.select(simd.equal(score, impossible), simd.splat(zero::<S>()), p)
}

/// p x, where p = 0 leaves nothing whatever x is.
#[inline(always)]
fn times<S: Simd>(simd: S, p: S::Vector, x: S::Vector) -> S::Vector {
    simd.select(simd.equal(p, simd.splat(zero::<S>())), p, simd.mul(p, x))
}

struct Rows<'a, T, const ENTROPY: bool> {
    tile: TileMut<'a, T>,
    state: StickBreaking<'a, T>,
}

/// Running state of a row.
struct Running<V> {
    log_left: V,
    mass: V,
    entropy: V,
    /// log p that is too small to be summed beside half of the mass; −∞ where nothing is summed.
    negligible: V,
}

impl<V: Copy> Running<V> {
    /// The probabilities of some offers.
    #[inline(always)]
    fn step<S: Simd<Vector = V>, const N: usize, const ENTROPY: bool>(
        &mut self,
        simd: S,
        score: [V; N],
    ) -> [V; N] {
        let offers = Offers::new(simd, score);
        let before = offers.log_before(simd, &mut self.log_left);
        let mut log_p = before;
        for k in 0..N {
            log_p[k] = simd.add(before[k], offers.log_accepted[k]);
        }
        let (mut p, _) = exp_block(simd, log_p);
        let zero = simd.splat(zero::<S>());
        let half = simd.splat(S::Element::MINUS_LN_2_HIGH);
        for k in 0..N {
            p[k] = possible_only(simd, score[k], p[k]);
            // NaN is not less, and a maximum is its second operand where one of them is NaN.
            let (left, own) = (simd.sub(before[k], half), simd.sub(log_p[k], self.negligible));
            p[k] = simd.select(simd.not_less(simd.max(left, own), zero), p[k], zero);
            self.mass = simd.add(self.mass, p[k]);
        }
        if ENTROPY {
            let one = simd.splat(num_traits::One::one());
            let (reached, _) = exp_block(simd, before);
            for k in 0..N {
                // H(σ(θ)) = log(1 + e) + |θ| e/(1 + e) with e = e^−|θ|, a sum of positive terms.
                let size = simd.max(simd.sub(zero, score[k]), score[k]);
                let e = offers.fraction[k];
                let term = simd.div(simd.mul(size, e), simd.add(one, e));
                // Of an infinite size nothing is uncertain.
                let term = simd.select(simd.equal(e, zero), zero, term);
                let entropy = simd.mul(reached[k], simd.add(offers.log_1p[k], term));
                self.entropy = simd.add(self.entropy, entropy);
            }
        }
        p
    }

    /// One whole row, vector by vector.
    #[inline(always)]
    fn row<S: Simd<Vector = V>, const N: usize, const ENTROPY: bool>(
        &mut self,
        simd: S,
        row: &mut [S::Element],
    ) {
        let impossible = simd.splat(num_traits::Float::neg_infinity());
        let whole = row.len() / (N * S::LANES) * (N * S::LANES);
        let (blocks, tail) = row.split_at_mut(whole);
        for x in tail.chunks_mut(S::LANES).rev() {
            let [p] = self.step::<S, 1, ENTROPY>(simd, [simd.read(x, impossible)]);
            simd.write(x, p);
        }
        for block in blocks.chunks_exact_mut(N * S::LANES).rev() {
            let mut score = [impossible; N];
            for k in 0..N {
                score[k] = simd.read(&block[k * S::LANES..], impossible);
            }
            let p = self.step::<S, N, ENTROPY>(simd, score);
            for k in 0..N {
                simd.write(&mut block[k * S::LANES..], p[k]);
            }
        }
    }
}

impl<T: Real, const ENTROPY: bool> Kernel<T> for Rows<'_, T, ENTROPY> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut tile, state: StickBreaking { log_left, mut mass, mut entropy } } = self;
        let zero = simd.splat(T::zero());
        let negligible = simd.splat(match mass {
            Some(_) => T::EXP_LOWEST * T::of(0.8),
            None => T::neg_infinity(),
        });
        for (i, log_left) in log_left[..tile.rows].iter_mut().enumerate() {
            let log_left_of_row = simd.splat(*log_left);
            let mut running =
                Running { log_left: log_left_of_row, mass: zero, entropy: zero, negligible };
            let row = tile.row_mut(i);
            match S::INTERLEAVED {
                4 => running.row::<S, 4, ENTROPY>(simd, row),
                _ => running.row::<S, 2, ENTROPY>(simd, row),
            }
            *log_left = first_lane(simd, running.log_left);
            if let Some(mass) = mass.as_deref_mut() {
                mass[i] += simd.reduce_add(running.mass);
            }
            if ENTROPY && let Some(entropy) = entropy.as_deref_mut() {
                entropy[i] += simd.reduce_add(running.entropy);
            }
        }
    }
}

/// One lane of a vector whose lanes are all the same.
#[inline(always)]
fn first_lane<S: Simd>(simd: S, x: S::Vector) -> S::Element {
    let mut lane = [zero::<S>()];
    simd.store_part(&mut lane, x);
    lane[0]
}

/// State and slopes of the rows that [`stick_breaking_backward`] differentiates, by row.
#[derive(Debug)]
pub struct StickBreakingBackward<'a, T> {
    /// As in [`StickBreaking`].
    pub log_left: &'a mut [T],
    /// Σ p f over the columns so far; start from 0.
    pub seen: &'a mut [T],
    /// Σ p f over all columns and what is left after all of them, the terms in log p included.
    pub expected: &'a [T],
    /// ∂L/∂log of what is left after all columns.
    pub of_left: &'a [T],
    /// Weights of log p in f; absent where it has none.
    pub score_weight: Option<&'a [T]>,
}

/// The backward step of [`stick_breaking_rows`] on one tile; tiles come in the same order.
///
/// On entry `score` holds θ and `quantity` holds f, the upstream-weighted quantity averaged, less
/// its terms in log p; on return `quantity` holds p and `score` holds
///
/// ```text
/// ∂L/∂θ_j = (1 − σ_j) p_j f_j − σ_j (expected − Σ_k≥j p_k f_k + of_left),
/// ```
///
/// where the difference is what is offered after j. Impossible edges give exactly 0 in both.
pub fn stick_breaking_backward<T: Real>(
    set: InstructionSet,
    score: TileMut<'_, T>,
    quantity: TileMut<'_, T>,
    state: StickBreakingBackward<'_, T>,
) {
    let same = quantity.rows == score.rows && quantity.columns == score.columns;
    assert!(same, "shape of the quantity");
    match state.score_weight {
        Some(_) => run(set, Backward::<T, true> { score, quantity, state }),
        None => run(set, Backward::<T, false> { score, quantity, state }),
    }
}

struct Backward<'a, T, const WEIGHTED: bool> {
    score: TileMut<'a, T>,
    quantity: TileMut<'a, T>,
    state: StickBreakingBackward<'a, T>,
}

/// Running state of a row on the way back, and what its entries share.
struct Returning<V> {
    log_left: V,
    seen: V,
    expected: V,
    of_left: V,
    weight: V,
}

impl<V: Copy> Returning<V> {
    /// The probabilities of some offers and the gradients of their scores.
    #[inline(always)]
    fn step<S: Simd<Vector = V>, const N: usize, const WEIGHTED: bool>(
        &mut self,
        simd: S,
        score: [V; N],
        quantity: [V; N],
    ) -> ([V; N], [V; N]) {
        let (zero, one) = (simd.splat(zero::<S>()), simd.splat(num_traits::One::one()));
        let offers = Offers::new(simd, score);
        let mut log_p = offers.log_before(simd, &mut self.log_left);
        for k in 0..N {
            log_p[k] = simd.add(log_p[k], offers.log_accepted[k]);
        }
        let (mut p, _) = exp_block(simd, log_p);
        let mut own = quantity;
        for k in 0..N {
            if WEIGHTED {
                own[k] = simd.mul_add(self.weight, log_p[k], own[k]);
            }
            p[k] = possible_only(simd, score[k], p[k]);
            own[k] = times(simd, p[k], own[k]);
        }
        let mut gradient = own;
        for k in (0..N).rev() {
            let seen = simd.add(simd.sums_behind(own[k]), own[k]);
            let later = simd.sub(simd.sub(self.expected, self.seen), seen);
            self.seen = simd.add(self.seen, simd.first(seen));
            let (e, larger) =
                (offers.fraction[k], simd.div(one, simd.add(one, offers.fraction[k])));
            let (smaller, positive) = (simd.mul(e, larger), simd.not_less(score[k], zero));
            let accepted = simd.select(positive, larger, smaller);
            let passed = simd.select(positive, smaller, larger);
            let later = times(simd, accepted, simd.add(later, self.of_left));
            gradient[k] = simd.sub(times(simd, passed, own[k]), later);
        }
        (p, gradient)
    }

    /// One whole row, vector by vector.
    #[inline(always)]
    fn row<S: Simd<Vector = V>, const N: usize, const WEIGHTED: bool>(
        &mut self,
        simd: S,
        scores: &mut [S::Element],
        quantities: &mut [S::Element],
    ) {
        let (zero, impossible) =
            (simd.splat(zero::<S>()), simd.splat(num_traits::Float::neg_infinity()));
        let whole = scores.len() / (N * S::LANES) * (N * S::LANES);
        let (scores, scores_tail) = scores.split_at_mut(whole);
        let (quantities, quantities_tail) = quantities.split_at_mut(whole);
        let tails = scores_tail.chunks_mut(S::LANES).zip(quantities_tail.chunks_mut(S::LANES));
        for (score, quantity) in tails.rev() {
            let x = [simd.read(score, impossible)];
            let f = [simd.read(quantity, zero)];
            let ([p], [gradient]) = self.step::<S, 1, WEIGHTED>(simd, x, f);
            simd.write(score, gradient);
            simd.write(quantity, p);
        }
        let scores = scores.chunks_exact_mut(N * S::LANES);
        let blocks = scores.zip(quantities.chunks_exact_mut(N * S::LANES));
        for (score, quantity) in blocks.rev() {
            let (mut x, mut f) = ([impossible; N], [zero; N]);
            for k in 0..N {
                x[k] = simd.read(&score[k * S::LANES..], impossible);
                f[k] = simd.read(&quantity[k * S::LANES..], zero);
            }
            let (p, gradient) = self.step::<S, N, WEIGHTED>(simd, x, f);
            for k in 0..N {
                simd.write(&mut score[k * S::LANES..], gradient[k]);
                simd.write(&mut quantity[k * S::LANES..], p[k]);
            }
        }
    }
}

impl<T: Real, const WEIGHTED: bool> Kernel<T> for Backward<'_, T, WEIGHTED> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<Element = T>>(self, simd: S) {
        let Self { mut score, mut quantity, state } = self;
        let StickBreakingBackward { log_left, seen, expected, of_left, score_weight } = state;
        for i in 0..score.rows {
            let mut returning = Returning {
                log_left: simd.splat(log_left[i]),
                seen: simd.splat(seen[i]),
                expected: simd.splat(expected[i]),
                of_left: simd.splat(of_left[i]),
                weight: simd.splat(score_weight.map_or(T::zero(), |weight| weight[i])),
            };
            let (scores, quantities) = (score.row_mut(i), quantity.row_mut(i));
            match S::INTERLEAVED {
                4 => returning.row::<S, 4, WEIGHTED>(simd, scores, quantities),
                _ => returning.row::<S, 2, WEIGHTED>(simd, scores, quantities),
            }
            log_left[i] = first_lane(simd, returning.log_left);
            seen[i] = first_lane(simd, returning.seen);
        }
    }
}
