//! Patterns without what they have in common.

use ndarray::{Array1, Array3, Array4, ArrayView1, ArrayView2, ArrayView4, ArrayViewMut1, Axis, s};

use crate::Real;
use crate::zoo::mixture::origin;

/// Stored patterns counted from an origin o of each memory, y_i = x_i − o.
///
/// With u = z − o, and the constants that all patterns of a memory share left out,
///
/// ```text
/// x_iᵀz = y_iᵀu + b_i + (oᵀz + s),      b_i = y_iᵀo − s,      s = max_i (y_iᵀo + ½ y_iᵀy_i) = ½ M² − ½ oᵀo
/// E(z)  = −lse(β, Yu + b) + ½ uᵀu + β⁻¹ log N
/// ```
///
/// so that neither the scores nor E have terms of the size of oᵀo. A score is one product still: states
/// get a coordinate of 1 beside u, and patterns one of b_i beside y_i.
pub(super) struct Centred<T> {
    /// o, [B, Hk, D].
    origin: Array3<T>,
    /// y_i and b_i, [B, Hk, M, D + 1].
    keys: Array4<T>,
}

impl<T: Real> Centred<T> {
    /// `None` where the patterns have nothing in common that would cost digits.
    pub fn new(patterns: &ArrayView4<'_, T>) -> Option<Self> {
        let origin = origin::of(patterns);
        if origin.iter().all(|o| o.is_zero()) {
            return None;
        }
        let apart = origin::counted(patterns.reborrow(), &origin);
        let (batch, heads, count, width) = patterns.dim();
        let mut keys = Array4::zeros((batch, heads, count, width + 1));
        keys.slice_mut(s![.., .., .., ..width]).assign(&apart);
        for b in 0..batch {
            for h in 0..heads {
                let (apart, origin) = (apart.slice(s![b, h, .., ..]), origin.slice(s![b, h, ..]));
                keys.slice_mut(s![b, h, .., width]).assign(&offsets(apart, origin));
            }
        }
        Some(Self { origin, keys })
    }

    /// y_i and b_i, [B, Hk, M, D + 1].
    pub fn keys(&self) -> ArrayView4<'_, T> {
        self.keys.view()
    }

    /// y_i, [B, Hk, M, D].
    pub fn values(&self) -> ArrayView4<'_, T> {
        self.keys.slice(s![.., .., .., ..-1])
    }

    /// u and 1 for `states` [B, H, N, D].
    pub fn queries(&self, states: &ArrayView4<'_, T>) -> Array4<T> {
        let (batch, heads, count, width) = states.dim();
        let mut queries = Array4::ones((batch, heads, count, width + 1));
        queries.slice_mut(s![.., .., .., ..width]).assign(states);
        self.each_row(&mut queries, |_, row, origin| {
            row.into_iter().zip(origin).for_each(|(x, &o)| *x -= o);
        });
        queries
    }

    /// Turns averages of y_i into averages of x_i, of those states that have one.
    pub fn restore(&self, means: &mut Array4<T>, has_one: impl Fn(usize) -> bool) {
        self.each_row(means, |state, row, origin| {
            if has_one(state) {
                row.into_iter().zip(origin).for_each(|(x, &o)| *x += o);
            }
        });
    }

    /// ½‖u‖² of every state, flat.
    pub fn half_squares(&self, states: &ArrayView4<'_, T>) -> Vec<T> {
        let queries = self.queries(states);
        let of = |row: ArrayView1<'_, T>| row.iter().map(|&x| x * x).sum::<T>() * T::of(0.5);
        queries.slice(s![.., .., .., ..-1]).rows().into_iter().map(of).collect()
    }

    /// The gradient in states, from that in what they are compared by.
    pub fn of_states(&self, gradient: &Array4<T>) -> Array4<T> {
        gradient.slice(s![.., .., .., ..-1]).to_owned()
    }

    /// The gradient in patterns, from that in what they are compared by: b_i has slope o. That s moves
    /// all scores of a state alike.
    pub fn of_patterns(&self, gradient: &Array4<T>) -> Array4<T> {
        let width = self.origin.dim().2;
        let further = gradient.slice(s![.., .., .., width..]);
        &further * &self.origin.view().insert_axis(Axis(2))
            + gradient.slice(s![.., .., .., ..width])
    }

    /// Calls `f` with every row of states and the origin of its memory.
    fn each_row(
        &self,
        states: &mut Array4<T>,
        f: impl Fn(usize, ArrayViewMut1<'_, T>, ArrayView1<'_, T>),
    ) {
        let (_, heads, count, _) = states.dim();
        let memories = self.origin.dim().1;
        for (state, row) in states.rows_mut().into_iter().enumerate() {
            let (batch, head) = (state / (heads * count), state / count % heads);
            f(state, row, self.origin.slice(s![batch, head * memories / heads, ..]));
        }
    }
}

/// b_i of one memory.
fn offsets<T: Real>(apart: ArrayView2<'_, T>, origin: ArrayView1<'_, T>) -> Array1<T> {
    let product = |y: ArrayView1<'_, T>, other: ArrayView1<'_, T>| -> f64 {
        y.iter().zip(other).map(|(y, other)| y.f64() * other.f64()).sum()
    };
    let along: Vec<f64> = apart.rows().into_iter().map(|y| product(y, origin)).collect();
    let rows = apart.rows().into_iter().zip(&along);
    let largest = rows.map(|(y, along)| along + 0.5 * product(y, y));
    let largest = largest.fold(f64::NEG_INFINITY, f64::max);
    along.into_iter().map(|along| T::of(along - largest)).collect()
}
