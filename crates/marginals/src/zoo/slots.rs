//! Slot attention without weights, and what it minimises.
//!
//! Slot attention (Locatello et al. 2020, Algorithm 1) with projections that are the identity and
//! without GRU and MLP is
//!
//! ```text
//! z_i = N(s_i),   p_ij = softmax over i of (β z_i · x_j),   s_i ← Σ_j (p_ij + ε) x_j / Σ_j (p_ij + ε),
//! ```
//!
//! N(s) = (s − mean s) / √(var s) being layer normalisation. N puts every slot on one sphere, the z
//! with Σ_d z_d = 0 and ‖z‖² = D, and forgets how long s was. With slots there, uniform beforehand,
//! and inputs that each pick one of them, the free energy is
//!
//! ```text
//! F(s) = − Σ_j log Σ_i exp(β z_i · x_j) − ε β Σ_i z_i · Σ_j x_j,      z_i = N(s_i).
//! ```
//!
//! −log Σ exp is concave in z, so its tangent at the present z lies above it: F(z') ≤ F(z) −
//! β Σ_i g_i · (z'_i − z_i) with g_i = Σ_j (p_ij + ε) x_j. The z' on the sphere that makes the most of
//! g_i is N(g_i), which is N of the mean, for N forgets lengths. So **the plain step never raises F**:
//! it is EM for a mixture on the sphere with equal weights and concentration β.
//!
//! It takes the normalisation. Without it (z = s) the step follows Σ_j p_ij (x_j − z_i), a field
//! whose Jacobian is not symmetric as soon as there are two slots: it is the gradient of nothing. With
//! learned projections W_qᵀ W_k ≠ W_v, a GRU and an MLP nothing is guaranteed either; that one lives
//! in `marginals_burn::SlotAttention`.

use marginals_kernels::InstructionSet;
use ndarray::{Array3, Array4, ArrayView1, ArrayView2, ArrayView3, ArrayView4, Axis, s};

use super::Mechanism;
use crate::infer::collapsed::{Evaluation, InputGradients, Latent, Maximise};
use crate::potential::Dot;
use crate::prior::Uniform;
use crate::question::{LogPartition, Mean, QueryMass};
use crate::structure::EachKeyPicksOne;
use crate::{Error, Model, Real, Value};

/// Slot attention.
pub const MECHANISM: Mechanism = Mechanism {
    name: "slots",
    title: "Slot attention: slots compete for inputs and are refined by what they win",
    structure: "each-key-picks-one",
    prior: "uniform",
    potential: "dot, of layer-normalised slots and inputs, 1/√d",
    value: "average, of marginals with ε added",
    inference: "exact for the edges, collapsed for the slots; a fixed number of steps",
    update: Some(
        "learned (GRU, then residual MLP; no guarantee), or plain: the average itself, which never \
         raises F where projections are the identity",
    ),
    equations: &[
        "p_ij = softmax over i of (W_q LN(s_i) · W_k LN(x_j) / √d)",
        "u_i = Σ_j (p_ij + ε) W_v LN(x_j) / Σ_j (p_ij + ε)",
        "s_i ← GRU(s_i, u_i), then s_i ← s_i + MLP(LN(s_i))",
        "plain: s_i ← u_i; F = − Σ_j log Σ_i exp(β LN(s_i) · x_j) − ε β Σ_i LN(s_i) · Σ_j x_j",
    ],
    sources: &[
        "Locatello et al. 2020, Object-Centric Learning with Slot Attention, arXiv 2006.15055, Algorithm 1",
    ],
    path: "marginals_burn::SlotAttention; plain: marginals::zoo::slots::PlainSlots",
    model: "\
# the input holds inputs [B, M, D] and, to start from, start [B, N, S]; without weights in a file
# it holds them too, as weights.NAME
mechanism = { slots = { weights = \"slots.safetensors\", slots = 7, iterations = 3 } }
",
};

/// The slots of some inputs, as a latent model: z is B problems of `slots` × D numbers, the slots s.
///
/// A slot that is constant has no direction: N of it is 0. Cost of a step: one pass, O(B (N + M) D)
/// memory.
#[derive(Clone, Debug)]
pub struct PlainSlots<'x, T> {
    x: ArrayView4<'x, T>,
    slots: usize,
    epsilon: T,
    beta: T,
    model: Model<EachKeyPicksOne, Uniform, Dot>,
}

impl<'x, T: Real> PlainSlots<'x, T> {
    /// Slots for inputs `x` [B, M, D] with concentration `beta` (slot attention's is 1/√D) and
    /// `epsilon` added to the marginals.
    ///
    /// # Errors
    /// [`Error::Value`] where there are no slots, β is not positive or ε negative.
    pub fn new(x: ArrayView3<'x, T>, slots: usize, beta: f64, epsilon: f64) -> Result<Self, Error> {
        if slots == 0 {
            return Err(Error::value("slots", "at least 1", 0));
        }
        crate::model::check_positive("beta", &[beta])?;
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return Err(Error::value("epsilon", "a finite number of at least 0", epsilon));
        }
        let model = Model::new(EachKeyPicksOne, Uniform, Dot::new(beta)).with_value(Value::Average);
        let x = x.insert_axis(Axis(1));
        Ok(Self { x, slots, epsilon: T::of(epsilon), beta: T::of(beta), model })
    }

    /// The slots as [B, N, D], from the engine's flat z.
    pub fn slots<'z>(&self, z: &'z [T]) -> Result<ArrayView3<'z, T>, Error> {
        let (batch, _, _, width) = self.x.dim();
        ArrayView3::from_shape((batch, self.slots, width), z).map_err(|_| {
            Error::shape(
                "z",
                format!("[{}], {batch} × {} × {width}", batch * self.slots * width, self.slots),
                &[z.len()],
                "Give the slots of every batch entry one after the other.",
            )
        })
    }

    /// N(s) as queries [B, 1, N, D].
    fn normalised(&self, z: &[T]) -> Result<Array4<T>, Error> {
        let mut normalised = self.slots(z)?.to_owned().insert_axis(Axis(1));
        for mut row in normalised.rows_mut() {
            let scale = centre(&mut row);
            row.mapv_inplace(|x| x * scale);
        }
        Ok(normalised)
    }

    /// F from the log-partitions of the inputs, [B, 1, M].
    fn energy(&self, normalised: &Array4<T>, log_partition: &Array3<T>) -> Vec<T> {
        let energy = |b: usize| {
            let explained: T = log_partition.slice(s![b, 0, ..]).iter().copied().sum();
            let (all_slots, all_inputs) = (
                normalised.slice(s![b, 0, .., ..]).sum_axis(Axis(0)),
                self.x.slice(s![b, 0, .., ..]).sum_axis(Axis(0)),
            );
            -explained - self.epsilon * self.beta * dot(all_slots.view(), all_inputs.view())
        };
        (0..self.x.dim().0).map(energy).collect()
    }
}

fn dot<T: Real>(a: ArrayView1<'_, T>, b: ArrayView1<'_, T>) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// Takes the mean off a row; returns what then makes its mean square 1, and 0 for a row of zeros.
fn centre<T: Real>(row: &mut ndarray::ArrayViewMut1<'_, T>) -> T {
    let count = T::of(row.len() as f64);
    let mean = row.iter().copied().sum::<T>() / count;
    row.mapv_inplace(|x| x - mean);
    let square = row.iter().map(|&x| x * x).sum::<T>() / count;
    if square > T::zero() { square.sqrt().recip() } else { T::zero() }
}

impl<T: Real> Latent<T> for PlainSlots<'_, T> {
    fn problems(&self) -> usize {
        self.x.dim().0
    }
    fn width(&self) -> usize {
        self.slots * self.x.dim().3
    }
    fn inputs(&self) -> InputGradients<T> {
        let (batch, _, keys, width) = self.x.dim();
        InputGradients::zeros([("x", &[batch, keys, width][..])])
    }
    fn free_energy(&self, z: &[T]) -> Result<Vec<T>, Error> {
        let normalised = self.normalised(z)?;
        let found = self.model.posterior(normalised.view(), self.x)?.ask(LogPartition)?;
        Ok(self.energy(&normalised, &found))
    }
}

impl<T: Real> Maximise<T> for PlainSlots<'_, T> {
    fn maximise(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        let normalised = self.normalised(z)?;
        let posterior = self.model.posterior(normalised.view(), self.x)?;
        let (mut mean, mass, log_partition) =
            posterior.ask((Mean(self.x), QueryMass, LogPartition))?;
        Smoothing::new(self.epsilon, &self.x).apply(&mass, &mut mean);
        let free_energy = self.energy(&normalised, &log_partition);
        Ok(Evaluation { free_energy, next: mean.into_iter().collect() })
    }

    fn maximise_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        let normalised = self.normalised(z)?;
        let upstream = self.slots(upstream)?.insert_axis(Axis(1));
        let posterior = self.model.posterior(normalised.view(), self.x)?;
        let pass = posterior.pass((Mean(self.x), QueryMass))?;
        let (mean, mass) = pass.answer()?;
        let through = Smoothing::new(self.epsilon, &self.x).backward(&mass, &mean, upstream);
        let found = pass.backward_shared((&through.mean, &through.mass))?;
        let mut dx = found.k;
        through.add_to_values(&mut dx);
        inputs.add("x", &dx.index_axis(Axis(1), 0))?;
        // ∂N: along z the length is forgotten, along 1 the mean.
        let mut gradient = found.q;
        let mut slots = self.slots(z)?.to_owned();
        for ((mut g, z), mut s) in
            gradient.rows_mut().into_iter().zip(normalised.rows()).zip(slots.rows_mut())
        {
            let scale = centre(&mut s);
            let count = T::of(g.len() as f64);
            let (mean, along) = (g.sum() / count, dot(g.view(), z) / count);
            g.zip_mut_with(&z, |g, &z| *g = scale * (*g - mean - z * along));
        }
        Ok(gradient.into_iter().collect())
    }
}

/// Averages under marginals that have had ε added, from averages under the marginals themselves:
///
/// ```text
/// out_i = Σ_j (p_ij + ε) v_j / Σ_j (p_ij + ε) = (m_i a_i + ε Σ_j v_j) / (m_i + ε M),
/// ```
///
/// with m_i = Σ_j p_ij ([`QueryMass`]) and a_i the [`Mean`] of a model that averages. A closed form,
/// so it takes no N × M matrix, and neither do its gradients.
#[derive(Clone, Debug)]
pub struct Smoothing<T> {
    epsilon: T,
    /// ε M.
    floor: T,
    /// ε Σ_j v_j, [B, Hk, 1, D_v].
    total: Array4<T>,
}

/// Every batch entry and head.
fn places(batch: usize, heads: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..batch).flat_map(move |b| (0..heads).map(move |h| (b, h)))
}

/// Adds every row to `sum`, by runs of rows: one long running sum would round each row to the size of
/// all before it.
fn add_rows<T: Real>(sum: &mut [T], rows: ArrayView2<'_, T>) {
    const RUN: usize = 64;
    for run in rows.axis_chunks_iter(Axis(0), RUN) {
        let mut part = vec![T::zero(); sum.len()];
        for row in run.rows() {
            match row.to_slice() {
                Some(row) => InstructionSet::detect().run(
                    #[inline(always)]
                    || part.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x),
                ),
                None => part.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x),
            }
        }
        sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
}

/// Upstream gradients of what was smoothed.
#[derive(Clone, Debug)]
pub struct Unsmoothed<T> {
    /// Of the plain average a, [B, H, N, D_v].
    pub mean: Array4<T>,
    /// Of the mass m, [B, H, N].
    pub mass: Array3<T>,
    /// Of every value alike, [B, Hk, 1, D_v].
    pub every_value: Array4<T>,
}

impl<T: Real> Smoothing<T> {
    /// For the values `v` [B, Hk, M, D_v].
    pub fn new(epsilon: T, v: &ArrayView4<'_, T>) -> Self {
        let (batch, heads, keys, width) = v.dim();
        let mut total = Array4::zeros((batch, heads, 1, width));
        for ((b, h), mut sum) in places(batch, heads).zip(total.rows_mut()) {
            let sum = sum.as_slice_mut().expect("just made");
            add_rows(sum, v.slice(s![b, h, .., ..]));
            sum.iter_mut().for_each(|x| *x *= epsilon);
        }
        Self { epsilon, floor: epsilon * T::of(keys as f64), total }
    }

    /// Index of the values that query head `head` of `heads` reads.
    fn key_head(&self, head: usize, heads: usize) -> usize {
        head / (heads / self.total.dim().1)
    }

    /// Turns the plain averages `mean` [B, H, N, D_v] of queries with `mass` [B, H, N] into smoothed
    /// ones. Where neither mass nor ε M is above 0 they stay what they are.
    pub fn apply(&self, mass: &Array3<T>, mean: &mut Array4<T>) {
        let heads = mass.dim().1;
        for ((b, h, i), &m) in mass.indexed_iter() {
            let whole = m + self.floor;
            if whole == T::zero() {
                continue;
            }
            let total = self.total.slice(s![b, self.key_head(h, heads), 0, ..]);
            let mut row = mean.slice_mut(s![b, h, i, ..]);
            row.zip_mut_with(&total, |a, &v| *a = (m * *a + v) / whole);
        }
    }

    /// With u upstream and w = m + ε M: u m / w to a, u · (a − out) / w to m, ε Σ_i u_i / w_i to every v.
    pub fn backward(
        &self,
        mass: &Array3<T>,
        mean: &Array4<T>,
        upstream: ArrayView4<'_, T>,
    ) -> Unsmoothed<T> {
        let mut smoothed = mean.clone();
        self.apply(mass, &mut smoothed);
        let mut out = Unsmoothed {
            mean: upstream.to_owned(),
            mass: Array3::zeros(mass.raw_dim()),
            every_value: Array4::zeros(self.total.raw_dim()),
        };
        let (_, heads, _, width) = mean.dim();
        for ((b, h, i), &m) in mass.indexed_iter() {
            let whole = m + self.floor;
            if whole == T::zero() {
                continue;
            }
            let key_head = self.key_head(h, heads);
            let mut to_mass = T::zero();
            for c in 0..width {
                let u = upstream[[b, h, i, c]] / whole;
                out.mean[[b, h, i, c]] = u * m;
                to_mass += u * (mean[[b, h, i, c]] - smoothed[[b, h, i, c]]);
                out.every_value[[b, key_head, 0, c]] += self.epsilon * u;
            }
            out.mass[[b, h, i]] = to_mass;
        }
        out
    }
}

impl<T: Real> Unsmoothed<T> {
    /// Adds what every value gets to the gradient of the values [B, Hk, M, D_v].
    ///
    /// # Panics
    /// Where the sizes differ, or the gradient does not lie in row-major order.
    pub fn add_to_values(&self, gradient: &mut Array4<T>) {
        let (batch, heads, _, width) = gradient.dim();
        for (b, h) in places(batch, heads) {
            let every = self.every_value.slice(s![b, h, 0, ..]);
            let every = every.as_slice().expect("made in row-major order");
            let mut own = gradient.slice_mut(s![b, h, .., ..]);
            let rows = own.as_slice_mut().expect("gradients are made in row-major order");
            InstructionSet::detect().run(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact_mut(width.max(1)) {
                        row.iter_mut().zip(every).for_each(|(x, &y)| *x += y);
                    }
                },
            );
        }
    }
}
