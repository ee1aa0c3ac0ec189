//! The kernels' definitions, in the plainest code there is.

/// c (+)= a b for row-major `b`.
pub fn gemm(
    add: bool,
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
    depth: usize,
    old: f64,
    at: (usize, usize),
) -> f64 {
    let sum: f64 = (0..depth).map(|d| a(at.0, d) * b(d, at.1)).sum();
    if add { old + sum } else { sum }
}

/// Running statistics of one row.
#[derive(Clone, Copy, Debug)]
pub struct Online {
    pub max: f64,
    pub sum: f64,
    pub rescale: f64,
    pub score: f64,
}

/// Folds `row` in and replaces it by its exponentials.
pub fn online_row(row: &mut [f64], state: &mut Online) {
    let old = state.max;
    let new = row.iter().fold(old, |most, &x| most.max(x));
    let factor = if old == new || old == f64::NEG_INFINITY { 1.0 } else { (old - new).exp() };
    let before = state.sum;
    let (mut total, mut moment) = (0.0, 0.0);
    for x in row {
        let e = if *x == f64::NEG_INFINITY { 0.0 } else { (*x - new).exp() };
        total += e;
        if e != 0.0 {
            moment += e * (*x - new);
        }
        *x = e;
    }
    let fallen = if old == f64::NEG_INFINITY { 0.0 } else { (old - new).max(f64::MIN) * factor };
    *state = Online {
        max: new,
        sum: before * factor + total,
        rescale: factor,
        score: state.score * factor + before * fallen + moment,
    };
}

/// exp(θ − log Z), log Z = max + log Σ.
pub fn probability(score: f64, max: f64, log_sum: f64) -> f64 {
    if score.is_nan() {
        score
    } else if score == f64::NEG_INFINITY || max == f64::NEG_INFINITY {
        0.0
    } else {
        (score - max - log_sum).exp()
    }
}

/// σ(θ) and log(1 + e^θ).
pub fn logistic(score: f64) -> (f64, f64) {
    let e = (-score.abs()).exp();
    let p = if score >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
    // `f64::max` would lose NaN.
    let positive = if score < 0.0 { 0.0 } else { score };
    (p, positive + e.ln_1p())
}

/// w · x, where a weight of 0 gives 0.
pub fn weighted(w: f64, x: f64) -> f64 {
    if w == 0.0 { 0.0 } else { w * x }
}

/// The posterior and the score gradient of one edge.
pub fn backward(
    score: f64,
    quantity: f64,
    (max, log_sum): (f64, f64),
    weight: Option<f64>,
    centre: f64,
) -> (f64, f64) {
    if score == f64::NEG_INFINITY || max == f64::NEG_INFINITY {
        return (0.0, 0.0);
    }
    let log_p = score - max - log_sum;
    let p = log_p.exp();
    let f = quantity - centre + weight.map_or(0.0, |w| w * log_p);
    (p, if p == 0.0 { 0.0 } else { p * f })
}

/// The state of one row of offers, and on the way back what is known of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offers {
    pub log_left: f64,
    pub mass: f64,
    pub entropy: f64,
    pub seen: f64,
}

/// log σ(θ) and log(1 − σ(θ)).
fn offer(score: f64) -> (f64, f64) {
    let (_, accepting) = logistic(-score);
    let (_, passing) = logistic(score);
    (-accepting, -passing)
}

/// Offers the columns of a row from the last to the first; writes the probabilities.
pub fn stick_breaking_row(row: &mut [f64], state: &mut Offers) {
    for x in row.iter_mut().rev() {
        let (log_accepted, log_passed) = offer(*x);
        let entropy =
            -weighted(log_accepted.exp(), log_accepted) - weighted(log_passed.exp(), log_passed);
        state.entropy += state.log_left.exp() * entropy;
        *x = if *x == f64::NEG_INFINITY { 0.0 } else { (state.log_left + log_accepted).exp() };
        state.mass += *x;
        state.log_left += log_passed;
    }
}

/// The probabilities (in place of f) and the gradients (in place of θ) of such a row.
pub fn stick_breaking_backward(
    scores: &mut [f64],
    quantities: &mut [f64],
    state: &mut Offers,
    (expected, of_left, weight): (f64, f64, f64),
) {
    for (x, f) in scores.iter_mut().zip(quantities).rev() {
        let (log_accepted, log_passed) = offer(*x);
        let log_p = state.log_left + log_accepted;
        let p = if *x == f64::NEG_INFINITY { 0.0 } else { log_p.exp() };
        let own = if p == 0.0 { 0.0 } else { p * (*f + weight * log_p) };
        state.seen += own;
        let later = expected - state.seen + of_left;
        *x = weighted(log_passed.exp(), own) - weighted(log_accepted.exp(), later);
        *f = p;
        state.log_left += log_passed;
    }
}
