//! Best prior of distance of a head: how much of its posterior is explained by how far the keys are.
//!
//! A prior of distance gives query i the distribution π_ij ∝ exp(−θ t(d_ij)) over the keys it may pick,
//! d_ij = |i − j|, θ ≥ 0. The families are t(d) = d (geometric, ALiBi), log(1 + d) (power law) and
//! 1[d > w] (window of w tokens). The mean KL of a posterior from such a prior,
//!
//! ```text
//! (1/N) Σ_i ( −H_i + Σ_j p_ij θ t(d_ij) + log Σ_j exp(−θ t(d_ij)) ),
//! ```
//!
//! needs of the posterior its entropies and the one number T = Σ_ij p_ij t(d_ij). It is convex in θ:
//! the smallest is found by Newton's method, exactly and without the matrix. Of the windows that were
//! asked about the one is fitted of which the mass inside tells most, by the KL of one Bernoulli variable
//! from another, (mass inside, mass outside) from what a flat prior would give.
//!
//! With a **sink** the prior has a weight e^β ≥ 1 of its own for one key, as
//! [`KeyBias`](marginals::prior::KeyBias) has; the mass of that key is the second number. Where a query may
//! pick no key at all, the priors are of the key given that there is one, and queries count by the
//! probability that there is.

use std::ops::Range;

use marginals_burn::Visible;

/// Prior of distance that was fitted to a head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DistancePrior {
    /// Every key alike: no distance explains anything.
    Flat,
    /// w_ij = (1 − ρ)^d.
    Geometric {
        /// Share of the weight that is lost per token.
        rho: f64,
    },
    /// w_ij = (1 + d)^−α.
    PowerLaw {
        /// The exponent α.
        exponent: f64,
    },
    /// w_ij = 1 within a number of tokens, ε beyond.
    Window {
        /// The number of tokens.
        reach: usize,
        /// The weight ε.
        outside: f64,
    },
}

impl DistancePrior {
    /// Name of the family.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Geometric { .. } => "geometric",
            Self::PowerLaw { .. } => "power-law",
            Self::Window { .. } => "window",
        }
    }

    /// The family that most texts have, with the median of its numbers; of two the earlier in the
    /// order above.
    pub fn commonest(texts: impl Iterator<Item = Option<Self>>) -> Option<Self> {
        let fitted: Vec<Self> = texts.flatten().collect();
        let named = |name: &str| -> Vec<Self> {
            fitted.iter().filter(|prior| prior.name() == name).copied().collect()
        };
        let families = ["window", "power-law", "geometric", "flat"].map(named);
        let mut texts = families.into_iter().max_by_key(Vec::len)?;
        let size = |prior: &Self| match *prior {
            Self::Flat => 0.0,
            Self::Geometric { rho } => rho,
            Self::PowerLaw { exponent } => exponent,
            Self::Window { reach, .. } => reach as f64,
        };
        texts.sort_by(|a, b| size(a).total_cmp(&size(b)));
        texts.get(texts.len().saturating_sub(1) / 2).copied()
    }
}

/// Distances that the queries of one text see, and what is fitted at them.
#[derive(Debug)]
pub struct Distances {
    nodes: usize,
    /// Keys that a query may pick.
    pub visible: Visible,
    /// log(1 + d) of every distance.
    logarithms: Vec<f64>,
    /// Reaches w of the windows that are asked about: 0 and the powers of two below N.
    reaches: Vec<usize>,
}

/// Evidence of a posterior on one head's distances; sums are over queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Σ_j p_ij of every query.
    pub mass: Vec<f64>,
    /// Σ_i H of the key of query i, given that there is one, times its mass.
    pub entropy: f64,
    /// Σ p d.
    pub distance: f64,
    /// Σ p log(1 + d).
    pub logarithm: f64,
    /// Σ p 1[d ≤ w] of every reach w.
    pub within: Vec<f64>,
    /// The heaviest key.
    pub sink: usize,
    /// Σ_i p_ij of that key.
    pub sink_mass: f64,
}

/// Outcome of fitting the priors to one head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Best prior of distance without a sink.
    pub prior: DistancePrior,
    /// Mean KL from the flat prior.
    pub flat_kl: f64,
    /// Mean KL from the best prior of distance.
    pub distance_kl: f64,
    /// Mean KL from the best one with a sink.
    pub sink_kl: f64,
}

/// θ and β stay below this: e^−50 of the mass is nothing.
const LARGEST: f64 = 50.0;
const MOST_STEPS: usize = 60;
/// Nats per query that Newton's step must promise for it to be taken: a millionth in θ.
const SMALLEST_GAIN: f64 = 1e-12;
/// Nats per query by which a family must better another, or the flat prior, to be told from it: the digits
/// that answers in `f32` have.
const TELLING_GAIN: f64 = 1e-7;
/// Weights below e^−120 are 0: beside that of the query itself, which is 1, they are nothing, even with
/// the largest weight of a sink.
const SMALLEST_EXPONENT: f64 = -120.0;

impl Distances {
    /// Of a text of this many tokens.
    pub fn new(nodes: usize, visible: Visible) -> Self {
        let powers = (0..usize::BITS).map(|power| 1usize << power);
        Self {
            nodes,
            visible,
            logarithms: (0..nodes).map(|distance| (distance as f64).ln_1p()).collect(),
            reaches: std::iter::once(0).chain(powers.take_while(|&reach| reach < nodes)).collect(),
        }
    }

    /// Reaches w of the windows whose mass the evidence must have.
    pub fn reaches(&self) -> &[usize] {
        &self.reaches
    }

    /// log(1 + d) by distance.
    pub fn logarithms(&self) -> &[f64] {
        &self.logarithms
    }

    /// Keys that a query may pick.
    pub fn visible(&self, query: usize) -> Range<usize> {
        self.visible.keys(query, self.nodes)
    }

    /// Fits every family, with a sink and without. `None` where the evidence is not finite, or there is
    /// no mass.
    pub fn fit(&self, evidence: &Evidence) -> Option<Fit> {
        let mass: f64 = evidence.mass.iter().sum();
        let counts = [evidence.entropy, evidence.distance, evidence.logarithm, evidence.sink_mass];
        if !(mass > 0.0 && counts.iter().chain([&mass]).all(|number| number.is_finite())) {
            return None;
        }
        let (place, window_guess) = self.telling_window(evidence, mass);
        let candidates = [
            // θ as it would be without an end of the text.
            (Family::Geometric, evidence.distance, (mass / evidence.distance).ln_1p()),
            (Family::PowerLaw, evidence.logarithm, 1.0),
            (Family::Window(self.reaches[place]), mass - evidence.within[place], window_guess),
        ];
        let visible = |query: usize| (self.visible(query).len() as f64).ln();
        let flat = evidence.mass.iter().enumerate().map(|(query, mass)| mass * visible(query));
        let flat: f64 = flat.sum();
        let mut best = (flat, DistancePrior::Flat);
        let mut best_with_sink = f64::INFINITY;
        for (family, total, guess) in candidates {
            let problem = Problem { distances: self, family, total, evidence };
            let start = [guess.clamp(0.0, LARGEST), 0.0];
            let alone = problem.smallest(start, [true, false], mass);
            // Distances that explain nothing leave θ at 0, where the flat prior is.
            if alone.loss.value < best.0 - TELLING_GAIN * mass {
                best = (alone.loss.value, family.prior(alone.at[0]));
            }
            let start = [alone.at[0], alone.loss.sink_guess(evidence.sink_mass / mass, mass)];
            let with_sink = problem.smallest(start, [true, true], mass);
            best_with_sink = best_with_sink.min(with_sink.loss.value.min(alone.loss.value));
        }
        let kl = |loss: f64| ((loss - evidence.entropy) / mass).max(0.0);
        let (loss, prior) = best;
        Some(Fit {
            prior,
            flat_kl: kl(flat),
            distance_kl: kl(loss),
            sink_kl: kl(best_with_sink.min(loss)),
        })
    }

    /// Place of the window of which the mass inside tells most, and θ as it would be if every query saw
    /// the same share of keys inside.
    fn telling_window(&self, evidence: &Evidence, mass: f64) -> (usize, f64) {
        let mut best = (0, 0.0);
        let mut most = 0.0;
        for (place, &reach) in self.reaches.iter().enumerate() {
            let flat = (0..self.nodes).map(|query| {
                let visible = self.visible(query);
                let first = visible.start.max(query.saturating_sub(reach));
                let near = visible.end.min(query + reach + 1) - first;
                evidence.mass[query] * near as f64 / visible.len() as f64
            });
            let (inside, flat) = (evidence.within[place] / mass, flat.sum::<f64>() / mass);
            let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
            let gain = part(inside, flat) + part(1.0 - inside, 1.0 - flat);
            if inside > flat && flat < 1.0 && gain > most {
                most = gain;
                best = (place, log_odds(inside) - log_odds(flat));
            }
        }
        best
    }
}

/// log(p / (1 − p)).
fn log_odds(p: f64) -> f64 {
    p.ln() - (-p).ln_1p()
}

/// A family of priors of distance: its t(d).
#[derive(Clone, Copy, Debug)]
enum Family {
    Geometric,
    PowerLaw,
    Window(usize),
}

impl Family {
    fn prior(self, theta: f64) -> DistancePrior {
        match self {
            Self::Geometric => DistancePrior::Geometric { rho: -(-theta).exp_m1() },
            Self::PowerLaw => DistancePrior::PowerLaw { exponent: theta },
            Self::Window(reach) => DistancePrior::Window { reach, outside: (-theta).exp() },
        }
    }
}

/// Smallest of Σ_i m_i log Z_i + θ T − β c, over θ and β.
struct Problem<'a> {
    distances: &'a Distances,
    family: Family,
    /// T = Σ p t(d).
    total: f64,
    evidence: &'a Evidence,
}

/// Loss that is minimised, its gradient and its second derivatives (θθ, θβ, ββ).
struct Loss {
    value: f64,
    gradient: [f64; 2],
    curvature: [f64; 3],
}

impl Loss {
    /// β of a sink with this share of the mass, if every query gave it what they give it on average
    /// without one, where this loss is.
    fn sink_guess(&self, share: f64, mass: f64) -> f64 {
        let without = self.gradient[1] / mass + share;
        match log_odds(share) - log_odds(without) {
            guess if guess.is_nan() => 0.0,
            guess => guess.clamp(0.0, LARGEST),
        }
    }
}

/// Where a loss is smallest.
struct Smallest {
    at: [f64; 2],
    loss: Loss,
}

impl Problem<'_> {
    fn statistic(&self, distance: usize) -> f64 {
        match self.family {
            Family::Geometric => distance as f64,
            Family::PowerLaw => self.distances.logarithms[distance],
            Family::Window(reach) => f64::from(u8::from(distance > reach)),
        }
    }

    fn loss(&self, [theta, beta]: [f64; 2]) -> Loss {
        let nodes = self.distances.nodes;
        let sink = self.evidence.sink;
        // Sums of exp(−θ t), of that times t and times t², over the distances up to d.
        let mut sums = Vec::with_capacity(nodes);
        let mut sum = [0.0; 3];
        let weight = |t: f64| match -theta * t > SMALLEST_EXPONENT {
            true => (-theta * t).exp(),
            false => 0.0,
        };
        for distance in 0..nodes {
            let t = self.statistic(distance);
            let weight = weight(t);
            for (sum, power) in sum.iter_mut().zip([1.0, t, t * t]) {
                *sum += weight * power;
            }
            sums.push(sum);
        }
        let extra = beta.exp_m1();
        let mut loss = Loss {
            value: theta * self.total - beta * self.evidence.sink_mass,
            gradient: [self.total, -self.evidence.sink_mass],
            curvature: [0.0; 3],
        };
        for (query, &mass) in self.evidence.mass.iter().enumerate() {
            let visible = self.distances.visible(query);
            let mut moments = sums[query - visible.start];
            let ahead = sums[visible.end - 1 - query];
            // The query itself is in both: t(0) = 0, of weight 1.
            moments[0] -= 1.0;
            moments.iter_mut().zip(ahead).for_each(|(moment, ahead)| *moment += ahead);
            let mut at_sink = [0.0, 0.0];
            if visible.contains(&sink) {
                let t = self.statistic(sink.abs_diff(query));
                let weight = weight(t);
                for (moment, power) in moments.iter_mut().zip([1.0, t, t * t]) {
                    *moment += extra * weight * power;
                }
                at_sink = [weight * (extra + 1.0) / moments[0], t];
            }
            let [z, first, second] = moments;
            let [p, t] = at_sink;
            let mean = first / z;
            loss.value += mass * z.ln();
            loss.gradient[0] -= mass * mean;
            loss.gradient[1] += mass * p;
            loss.curvature[0] += mass * (second / z - mean * mean);
            loss.curvature[1] -= mass * p * (t - mean);
            loss.curvature[2] += mass * p * (1.0 - p);
        }
        loss
    }

    /// The smallest loss by Newton's method from a starting point, over those of θ and β that are free.
    fn smallest(&self, start: [f64; 2], free: [bool; 2], mass: f64) -> Smallest {
        let mut here = Smallest { at: start, loss: self.loss(start) };
        for _ in 0..MOST_STEPS {
            let Some(step) = newton_step(&here.loss, here.at, free) else { break };
            let slope = here.loss.gradient;
            // Half of what the slope alone would gain is what a parabola does.
            if -(slope[0] * step[0] + slope[1] * step[1]) / 2.0 < SMALLEST_GAIN * mass {
                break;
            }
            let mut length = 1.0;
            let bettered = loop {
                let at = [0, 1].map(|x| (here.at[x] + length * step[x]).clamp(0.0, LARGEST));
                let loss = self.loss(at);
                if loss.value < here.loss.value {
                    break Some(Smallest { at, loss });
                }
                length /= 2.0;
                if length < 1e-6 {
                    break None;
                }
            };
            match bettered {
                Some(there) => here = there,
                None => break,
            }
        }
        here
    }
}

/// Newton's step over what is free and is not held by its bound; `None` where nothing is.
fn newton_step(loss: &Loss, at: [f64; 2], free: [bool; 2]) -> Option<[f64; 2]> {
    let moves = |x: usize| {
        let slope = loss.gradient[x];
        free[x] && !(at[x] <= 0.0 && slope >= 0.0) && !(at[x] >= LARGEST && slope <= 0.0)
    };
    let [tt, tb, bb] = loss.curvature;
    let [slope_theta, slope_beta] = loss.gradient;
    // A direction without curvature is flat to the digits there are.
    let alone = |slope: f64, curvature: f64| match curvature > 0.0 {
        true => -slope / curvature,
        false => -slope.signum(),
    };
    let determinant = tt * bb - tb * tb;
    Some(match (moves(0), moves(1)) {
        (false, false) => return None,
        (true, false) => [alone(slope_theta, tt), 0.0],
        (false, true) => [0.0, alone(slope_beta, bb)],
        (true, true) if determinant > 1e-12 * tt * bb => [
            (tb * slope_beta - bb * slope_theta) / determinant,
            (tb * slope_theta - tt * slope_beta) / determinant,
        ],
        (true, true) => [alone(slope_theta, tt), alone(slope_beta, bb)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evidence of a matrix of probabilities, and the matrix's own KL from any weights.
    fn evidence(distances: &Distances, rows: &[Vec<f64>]) -> Evidence {
        let over = |f: &dyn Fn(usize, usize) -> f64| -> f64 {
            let row = |(i, row): (usize, &Vec<f64>)| -> f64 {
                row.iter().enumerate().map(|(j, p)| p * f(i, j)).sum()
            };
            rows.iter().enumerate().map(row).sum()
        };
        let column = |key: usize| over(&|_, j| f64::from(u8::from(j == key)));
        let sink = (0..rows.len()).max_by(|&a, &b| column(a).total_cmp(&column(b))).unwrap();
        let entropy = |row: &Vec<f64>| -> f64 {
            let mass: f64 = row.iter().sum();
            row.iter().filter(|&&p| p > 0.0).map(|p| -p * (p / mass).ln()).sum()
        };
        let within = |&reach: &usize| over(&|i, j| f64::from(u8::from(i.abs_diff(j) <= reach)));
        Evidence {
            mass: rows.iter().map(|row| row.iter().sum()).collect(),
            entropy: rows.iter().map(entropy).sum(),
            distance: over(&|i, j| i.abs_diff(j) as f64),
            logarithm: over(&|i, j| (1.0 + i.abs_diff(j) as f64).ln()),
            within: distances.reaches().iter().map(within).collect(),
            sink,
            sink_mass: column(sink),
        }
    }

    /// Rows in proportion to some weights.
    fn rows(distances: &Distances, weight: &dyn Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
        let row = |query: usize| {
            let visible = distances.visible(query);
            let unseen = visible.start;
            let weights: Vec<f64> = visible.map(|key| weight(query, key)).collect();
            let sum: f64 = weights.iter().sum();
            let seen = weights.into_iter().map(|weight| weight / sum);
            std::iter::repeat_n(0.0, unseen).chain(seen).collect()
        };
        (0..distances.nodes).map(row).collect()
    }

    /// Mean KL of rows from others, by the definition, queries counting by their mass.
    fn kl(rows: &[Vec<f64>], priors: &[Vec<f64>]) -> f64 {
        let (mut sum, mut total) = (0.0, 0.0);
        for (row, prior) in rows.iter().zip(priors) {
            let mass: f64 = row.iter().sum();
            total += mass;
            let pairs = row.iter().zip(prior).filter(|(p, _)| **p > 0.0);
            sum += pairs.map(|(p, prior)| p * (p / mass / prior).ln()).sum::<f64>();
        }
        sum / total
    }

    fn weight(prior: DistancePrior, distance: usize) -> f64 {
        match prior {
            DistancePrior::Flat => 1.0,
            DistancePrior::Geometric { rho } => (1.0 - rho).powi(distance as i32),
            DistancePrior::PowerLaw { exponent } => (1.0 + distance as f64).powf(-exponent),
            DistancePrior::Window { reach, outside } if distance > reach => outside,
            DistancePrior::Window { .. } => 1.0,
        }
    }

    /// A posterior that is one of the priors is told which, with its numbers.
    #[test]
    fn a_prior_is_recognised_by_its_posterior() {
        let priors = [
            DistancePrior::Flat,
            DistancePrior::Geometric { rho: 0.125 },
            DistancePrior::Geometric { rho: 0.9 },
            DistancePrior::PowerLaw { exponent: 1.5 },
            DistancePrior::Window { reach: 8, outside: 0.03 },
        ];
        let window = Visible::Window { left: 20, right: 30 };
        for visible in [Visible::Before, Visible::All, window] {
            let distances = Distances::new(61, visible);
            for prior in priors {
                let posterior = rows(&distances, &|i, j| weight(prior, i.abs_diff(j)));
                let fit = distances.fit(&evidence(&distances, &posterior)).unwrap();
                assert!(fit.distance_kl < 1e-7, "{prior:?} {fit:?}");
                assert!(fit.sink_kl < 1e-7, "{prior:?} {fit:?}");
                let [found, wanted] = [fit.prior, prior].map(|prior| match prior {
                    DistancePrior::Flat => 0.0,
                    DistancePrior::Geometric { rho } => rho,
                    DistancePrior::PowerLaw { exponent } => exponent,
                    DistancePrior::Window { reach, outside } => reach as f64 + outside,
                });
                assert_eq!(fit.prior.name(), prior.name());
                assert!((found - wanted).abs() < 1e-4, "{prior:?} {fit:?}");
            }
        }
    }

    /// Posteriors that are none of the priors: what is found is the KL by its definition, and no other θ and
    /// β of a grid are better.
    #[test]
    fn no_other_numbers_fit_better() {
        let window = Visible::Window { left: 21, right: 5 };
        let visible = [Visible::Before, Visible::All, window];
        for (visible, tilt) in visible.into_iter().flat_map(|v| [(v, 0.3), (v, 2.5)]) {
            let distances = Distances::new(23, visible);
            let mut posterior = rows(&distances, &|i, j| {
                let noise = ((i * 37 + j * 11) as f64).sin();
                let sink = if j == 3 { 1.5 } else { 0.0 };
                (noise * tilt + sink - 0.1 * i.abs_diff(j) as f64).exp()
            });
            // Some queries may pick none.
            for (query, row) in posterior.iter_mut().enumerate() {
                let mass = if query % 3 == 0 { 0.4 } else { 1.0 };
                row.iter_mut().for_each(|p| *p *= mass);
            }
            let evidence = evidence(&distances, &posterior);
            assert_eq!(evidence.sink, 3);
            let fit = distances.fit(&evidence).unwrap();
            let (place, _) = distances.telling_window(&evidence, evidence.mass.iter().sum());
            let reach = distances.reaches()[place];
            let (mut best, mut best_with_sink) = (f64::INFINITY, f64::INFINITY);
            for step in 0..=60 {
                let theta = 0.05 * f64::from(step);
                let priors = [
                    DistancePrior::Geometric { rho: 1.0 - (-theta).exp() },
                    DistancePrior::PowerLaw { exponent: theta },
                    DistancePrior::Window { reach, outside: (-theta).exp() },
                ];
                for prior in priors {
                    for place in 0..=20 {
                        let beta = 0.2 * f64::from(place);
                        let prior = rows(&distances, &|i, j| {
                            let sink = if j == 3 { beta.exp() } else { 1.0 };
                            weight(prior, i.abs_diff(j)) * sink
                        });
                        let kl = kl(&posterior, &prior);
                        best_with_sink = best_with_sink.min(kl);
                        if place == 0 {
                            best = best.min(kl);
                        }
                    }
                }
            }
            let flat = kl(&posterior, &rows(&distances, &|_, _| 1.0));
            assert!((fit.flat_kl - flat).abs() < 1e-12, "{fit:?} {flat}");
            let found = kl(&posterior, &rows(&distances, &|i, j| weight(fit.prior, i.abs_diff(j))));
            assert!((fit.distance_kl - found).abs() < 1e-12, "{fit:?} {found}");
            // The grid is coarse: what is found is better, and hardly.
            for (found, grid) in [(fit.distance_kl, best), (fit.sink_kl, best_with_sink)] {
                assert!(found <= grid + 1e-9 && found > grid - 5e-3, "{fit:?} {grid}");
            }
            assert!(fit.sink_kl < fit.distance_kl && fit.distance_kl < fit.flat_kl);
        }
    }

    #[test]
    fn ends_of_the_scale_are_reached() {
        let distances = Distances::new(9, Visible::Before);
        // Every query stays at itself: no prior of distance is too narrow.
        let own = rows(&distances, &|i, j| f64::from(u8::from(i == j)));
        let fit = distances.fit(&evidence(&distances, &own)).unwrap();
        assert!(fit.distance_kl < 1e-9, "{fit:?}");
        // The farthest key: distance only misleads, and the first key is a sink.
        let first = rows(&distances, &|_, j| f64::from(u8::from(j == 0)));
        let fit = distances.fit(&evidence(&distances, &first)).unwrap();
        assert_eq!((fit.prior, fit.distance_kl), (DistancePrior::Flat, fit.flat_kl));
        assert!(fit.sink_kl < 1e-9, "{fit:?}");
        let one = Distances::new(1, Visible::All);
        let fit = one.fit(&evidence(&one, &[vec![1.0]])).unwrap();
        assert_eq!((fit.prior, fit.flat_kl), (DistancePrior::Flat, 0.0));
        let mut unknown = evidence(&distances, &first);
        unknown.entropy = f64::NAN;
        assert_eq!(distances.fit(&unknown), None);
        unknown.mass.fill(0.0);
        assert_eq!(distances.fit(&unknown), None);
    }

    #[test]
    fn the_commonest_family_stands_for_several_texts() {
        let geometric = |rho| Some(DistancePrior::Geometric { rho });
        let window = Some(DistancePrior::Window { reach: 4, outside: 0.5 });
        let texts = [geometric(0.3), window, None, geometric(0.1), geometric(0.2)];
        let commonest = DistancePrior::commonest(texts.into_iter());
        assert_eq!(commonest, Some(DistancePrior::Geometric { rho: 0.2 }));
        assert_eq!(DistancePrior::commonest([None, None].into_iter()), None);
    }
}
