//! Contract of every structure, held against the list of its edge sets.

use marginals::potential::Dot;
use marginals::prior::Bias;
use marginals::question::{
    ColumnMass, Covariance, Draws, Entropy, ExpectedDistance, JointMarginals, KBest, Kl, LogCount,
    LogEvidence, LogPartition, Map, Marginals, MaxMarginals, MaxScore, Mean, QueryMass, Samples,
    ValueVariance,
};
use marginals::structure::Structure;
use marginals::{Error, Model};
use marginals_testkit::chi_square;
use marginals_testkit::compare::{Tolerance, close};
use marginals_testkit::edge_sets::{EdgeSet, Posterior};
use marginals_testkit::finite_difference;
use marginals_testkit::generate::Random;
use ndarray::{Array2, Array3, Array4, ArrayD, s};

/// A structure of some size, drawn at random.
pub trait Setting {
    /// Batch entries, heads, queries and keys.
    fn sizes(&self) -> [usize; 4];

    /// Scores of its own, which it learns, by name.
    fn own(&self) -> Vec<(&'static str, ArrayD<f64>)>;

    /// The library's structure with these.
    fn structure(&self, own: &[ArrayD<f64>]) -> Box<dyn Structure<f64>>;

    /// Factors of a head.
    fn factors(&self) -> usize {
        1
    }

    /// The edge sets of a factor.
    fn sets(&self, place: (usize, usize), factor: usize, own: &[ArrayD<f64>]) -> Vec<EdgeSet>;

    /// Whether a query has one edge at most.
    fn has_one_edge(&self) -> bool {
        true
    }

    /// Whether more than the best edge set is found.
    fn ranks(&self) -> bool {
        true
    }
}

/// Kind of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Ordinary,
    /// Small whole numbers, so that many edge sets are equally good.
    Ties,
    /// Some edges are impossible.
    Masked,
    /// Most are.
    Scarce,
    /// Scores up to 10⁴ either way.
    Large,
}

impl Flavour {
    pub const ALL: [Self; 5] =
        [Self::Ordinary, Self::Ties, Self::Masked, Self::Scarce, Self::Large];

    /// A log-weight of an edge.
    pub fn score(self, random: &mut Random) -> f64 {
        match self {
            Self::Ordinary => random.normal(),
            Self::Ties => random.integer(0, 1) as f64,
            Self::Masked if random.chance(0.25) => f64::NEG_INFINITY,
            Self::Scarce if random.chance(0.7) => f64::NEG_INFINITY,
            Self::Masked | Self::Scarce => random.normal(),
            Self::Large => random.between(-1e4, 1e4),
        }
    }
}

/// Everything that answers depend on.
#[derive(Clone)]
pub struct Numbers {
    q: Array4<f64>,
    k: Array4<f64>,
    v: Array4<f64>,
    bias: Array4<f64>,
    own: Vec<ArrayD<f64>>,
}

const WIDTH: usize = 2;

impl Numbers {
    pub fn draw(setting: &dyn Setting, flavour: Flavour, random: &mut Random) -> Self {
        let [b, h, n, m] = setting.sizes();
        let content = if flavour == Flavour::Ties { 0.0 } else { 0.8 };
        let mut nodes = |heads, nodes, scale: f64| {
            Array4::from_shape_simple_fn((b, heads, nodes, WIDTH), || scale * random.normal())
        };
        let (q, k, v) = (nodes(h, n, content), nodes(1, m, content), nodes(1, m, 1.0));
        let bias = Array4::from_shape_simple_fn((b, h, n, m), || flavour.score(random));
        let own = setting.own().into_iter().map(|(_, own)| own).collect();
        Self { q, k, v, bias, own }
    }

    /// θ of one head, and log w.
    fn scores(&self, (b, h): (usize, usize)) -> (Array2<f64>, Array2<f64>) {
        let bias = self.bias.slice(s![b, h, .., ..]).to_owned();
        let content = self.q.slice(s![b, h, .., ..]).dot(&self.k.slice(s![b, 0, .., ..]).t());
        (&bias + &content, bias)
    }

    fn tensors(&mut self) -> Vec<&mut [f64]> {
        let mut all: Vec<&mut [f64]> = vec![
            self.q.as_slice_mut().unwrap(),
            self.k.as_slice_mut().unwrap(),
            self.v.as_slice_mut().unwrap(),
            self.bias.as_slice_mut().unwrap(),
        ];
        all.extend(self.own.iter_mut().map(|own| own.as_slice_mut().unwrap()));
        all
    }
}

/// Answers of all factors and heads, flat.
#[derive(Default)]
struct Truth {
    log_partition: Vec<f64>,
    log_evidence: Vec<f64>,
    entropy: Vec<f64>,
    kl: Vec<f64>,
    log_count: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
    marginals: Vec<f64>,
    column: Vec<f64>,
    mass: Vec<f64>,
    distance: Vec<f64>,
    max_marginals: Vec<f64>,
    joint: Vec<f64>,
    covariance: Vec<f64>,
    /// Best sets of every factor.
    ranked: Vec<Vec<(f64, EdgeSet)>>,
}

fn truth(setting: &dyn Setting, numbers: &Numbers, edge: (usize, usize)) -> Truth {
    let [b, h, n, m] = setting.sizes();
    let mut all = Truth::default();
    let far = Array2::from_shape_fn((n, m), |(i, j)| (i as f64 - j as f64).abs());
    for place in (0..b).flat_map(|b| (0..h).map(move |h| (b, h))) {
        let (scores, bias) = numbers.scores(place);
        let v = numbers.v.slice(s![place.0, 0, .., ..]).to_owned();
        let mut marginals = Array2::<f64>::zeros((n, m));
        let mut joint = Array2::<f64>::zeros((n, m));
        let mut highest = Array2::from_elem((n, m), f64::NEG_INFINITY);
        let (mut mean, mut variance) =
            (Array2::<f64>::zeros((n, WIDTH)), Array2::<f64>::zeros((n, WIDTH)));
        for factor in 0..setting.factors() {
            let sets = setting.sets(place, factor, &numbers.own);
            let posterior = Posterior::new(&sets, &scores);
            let prior = Posterior::new(&sets, &bias);
            let evidence = match posterior.log_partition {
                f64::NEG_INFINITY => f64::NEG_INFINITY,
                z => z - prior.log_partition,
            };
            let content = |set: &EdgeSet| -> f64 {
                set.edges.iter().map(|&(i, j)| scores[[i, j]] - bias[[i, j]]).sum()
            };
            all.log_partition.push(posterior.log_partition);
            all.log_evidence.push(evidence);
            all.entropy.push(posterior.entropy());
            all.kl.push(match evidence {
                f64::NEG_INFINITY => 0.0,
                evidence => posterior.expect(content) - evidence,
            });
            all.log_count.push(posterior.log_count());
            let ranked = posterior.ranked();
            let log_z = posterior.log_partition;
            all.ranked.push(ranked.iter().map(|(x, set)| (x - log_z, (*set).clone())).collect());
            marginals += &posterior.marginals();
            if setting.factors() == 1 || factor == edge.0 {
                joint += &posterior.joint(edge);
            } else {
                // Factors are independent.
                let of_edge = setting.sets(place, edge.0, &numbers.own);
                let of_edge = Posterior::new(&of_edge, &scores).marginals();
                let p = of_edge.get(edge).copied().unwrap_or(0.0);
                joint += &(posterior.marginals() * p);
            }
            highest.zip_mut_with(&posterior.max_marginals(), |a, b| *a = a.max(*b));
            let (own_mean, own_variance) = posterior.gathered(&v);
            mean += &own_mean;
            variance += &own_variance;
        }
        all.mean.extend(&mean);
        all.variance.extend(&variance);
        all.column.extend(marginals.sum_axis(ndarray::Axis(0)));
        all.mass.extend(marginals.sum_axis(ndarray::Axis(1)));
        all.distance.extend((&marginals * &far).sum_axis(ndarray::Axis(1)));
        all.max_marginals.extend(&highest);
        all.joint.extend(&joint);
        // Of q·k with the values, where queries have one edge at most.
        for i in 0..n {
            for c in 0..WIDTH {
                let f = |j: usize| scores[[i, j]] - bias[[i, j]];
                let sum = |x: &dyn Fn(usize) -> f64| -> f64 {
                    (0..m)
                        .filter(|&j| marginals[[i, j]] > 0.0)
                        .map(|j| marginals[[i, j]] * x(j))
                        .sum()
                };
                let (of_f, of_v) = (sum(&f), sum(&|j| v[[j, c]]));
                all.covariance.push(sum(&|j| f(j) * v[[j, c]]) - of_f * of_v);
            }
        }
        all.marginals.extend(marginals);
    }
    all
}

pub const EXACT: Tolerance = Tolerance { relative: 1e-10, absolute: 1e-10 };

/// Answers of the library against those of the list.
pub fn agrees(setting: &dyn Setting, flavour: Flavour, random: &mut Random) -> Result<(), String> {
    let told = |e: Error| e.to_string();
    let [b, h, n, m] = setting.sizes();
    let numbers = Numbers::draw(setting, flavour, random);
    let edge = (
        random.integer(0, n.max(1) as i64 - 1) as usize,
        random.integer(0, m.max(1) as i64 - 1) as usize,
    );
    let expected = truth(setting, &numbers, edge);
    let model =
        Model::new(setting.structure(&numbers.own), Bias::new(numbers.bias.view()), Dot::new(1.0));
    let posterior = model.posterior(numbers.q.view(), numbers.k.view()).map_err(told)?;
    let v = numbers.v.view();
    let questions = (
        (Mean(v), LogPartition, LogEvidence, Entropy, Kl),
        (ColumnMass, QueryMass, ExpectedDistance, Marginals, LogCount, MaxScore),
    );
    let ((mean, log_partition, log_evidence, entropy, kl), of_edges) =
        posterior.ask(questions).map_err(told)?;
    let (column, mass, distance, marginals, log_count, max_score) = of_edges;
    let flat3 = |x: &Array3<f64>| x.iter().copied().collect::<Vec<_>>();
    let flat4 = |x: &Array4<f64>| x.iter().copied().collect::<Vec<_>>();
    close("log-partition", &flat3(&log_partition), &expected.log_partition, EXACT)?;
    close("log-evidence", &flat3(&log_evidence), &expected.log_evidence, EXACT)?;
    // A difference of numbers of the size of the scores has their rounding.
    let size = if flavour == Flavour::Large { 1e-10 * 1e4 } else { 1e-10 };
    let of_scores = Tolerance { relative: 1e-10, absolute: size };
    close("entropy", &flat3(&entropy), &expected.entropy, of_scores)?;
    close("kl", &flat3(&kl), &expected.kl, of_scores)?;
    close("mean", &flat4(&mean), &expected.mean, EXACT)?;
    close("marginals", &flat4(&marginals), &expected.marginals, EXACT)?;
    close("column-mass", &flat3(&column), &expected.column, EXACT)?;
    close("query-mass", &flat3(&mass), &expected.mass, EXACT)?;
    close("expected-distance", &flat3(&distance), &expected.distance, EXACT)?;
    close("log-count", &flat3(&log_count), &expected.log_count, EXACT)?;
    for ((batch, head, i), &score) in max_score.score.indexed_iter() {
        let row = numbers.scores((batch, head)).0;
        let highest = row.row(i).iter().copied().fold(f64::NEG_INFINITY, f64::max);
        close("max-score", &[score], &[highest], EXACT)?;
    }
    if setting.has_one_edge() {
        let r = numbers.q.view();
        let (variance, covariance) =
            posterior.ask((ValueVariance(v), Covariance::with_score(v, r, 1.0))).map_err(told)?;
        close("value-variance", &flat4(&variance), &expected.variance, of_scores)?;
        close("covariance", &flat4(&covariance), &expected.covariance, of_scores)?;
    } else {
        let refused = posterior.ask(ValueVariance(v)).err();
        assert!(matches!(refused, Some(Error::NotAnswerable { .. })), "{refused:?}");
    }
    if n > 0 && m > 0 {
        let joint = posterior.ask(JointMarginals { edge }).map_err(told)?;
        close("joint-marginals", &flat4(&joint), &expected.joint, EXACT)?;
    }
    best_agree(setting, &posterior, &expected)?;
    if setting.ranks() {
        let highest = posterior.ask(MaxMarginals).map_err(told)?;
        close("max-marginals", &flat4(&highest), &expected.max_marginals, EXACT)?;
    }
    // Draws are possible sets.
    let draws = posterior.ask(Samples { count: 3, seed: 5 }).map_err(told)?;
    for factor in 0..b * h * setting.factors() {
        for draw in 0..3 {
            let edges = edges_of(&draws, setting, draw, factor);
            let ranked = &expected.ranked[factor];
            let nothing = ranked.is_empty() && edges.is_empty();
            if !(nothing || ranked.iter().any(|(_, set)| set.edges == edges)) {
                return Err(format!("draw {draw} of factor {factor} is impossible: {edges:?}"));
            }
        }
    }
    Ok(())
}

/// The edges of one set of a factor.
fn edges_of(
    draws: &Draws,
    setting: &dyn Setting,
    set: usize,
    factor: usize,
) -> Vec<(usize, usize)> {
    let [_, h, n, m] = setting.sizes();
    let head = factor / setting.factors();
    let (b, h) = (head / h, head % h);
    let queries = match setting.factors() {
        1 => 0..n,
        _ => factor % setting.factors()..factor % setting.factors() + 1,
    };
    let mut edges = Vec::new();
    for i in queries {
        match draws {
            Draws::Choices(keys) => {
                let key = keys[[set, b, h, i]];
                edges.extend((key >= 0).then_some((i, key as usize)));
            }
            Draws::Sets(bits) => {
                edges.extend((0..m).filter(|&j| bits[[set, b, h, i, j]] == 1).map(|j| (i, j)));
            }
        }
    }
    edges
}

/// MAP and the k best: the sets themselves, ties included, and their log-probabilities.
fn best_agree(
    setting: &dyn Setting,
    posterior: &marginals::Posterior<'_, f64>,
    expected: &Truth,
) -> Result<(), String> {
    const K: usize = 4;
    let count = if setting.ranks() { K } else { 1 };
    let best = posterior.ask(KBest(count)).map_err(|e| e.to_string())?;
    let of_factors: Vec<f64> = best.log_probability.iter().copied().collect();
    for (factor, ranked) in expected.ranked.iter().enumerate() {
        for rank in 0..count {
            let log_p = of_factors[factor * count + rank];
            let edges = edges_of(&best.sets, setting, rank, factor);
            let Some((expected_log_p, _)) = ranked.get(rank) else {
                if log_p != f64::NEG_INFINITY || !edges.is_empty() {
                    return Err(format!("rank {rank} of factor {factor}: {edges:?} at {log_p}"));
                }
                continue;
            };
            close(
                format!("log p of rank {rank}"),
                &[log_p],
                &[*expected_log_p],
                Tolerance { relative: 1e-9, absolute: 1e-9 },
            )?;
            // Which of several sets of one score comes first is told by its edges, where scores are whole
            // numbers and sums of them exact; elsewhere rounding may tell.
            let tied: Vec<_> =
                ranked.iter().filter(|(x, _)| (x - expected_log_p).abs() < 1e-9).collect();
            if !tied.iter().any(|(_, set)| set.edges == edges) {
                return Err(format!("rank {rank} of factor {factor}: {edges:?} is not {tied:?}"));
            }
        }
    }
    if setting.has_one_edge() {
        let map = posterior.ask(Map).map_err(|e| e.to_string())?;
        let as_draw = Draws::Choices(map.insert_axis(ndarray::Axis(0)));
        for (factor, ranked) in expected.ranked.iter().enumerate() {
            let edges = edges_of(&as_draw, setting, 0, factor);
            let best = edges_of(&best.sets, setting, 0, factor);
            if edges != best || ranked.is_empty() && !edges.is_empty() {
                return Err(format!("map of factor {factor} is {edges:?}, the best set {best:?}"));
            }
        }
    } else {
        let refused = posterior.ask(Map).err();
        assert!(matches!(refused, Some(Error::NotAnswerable { .. })), "{refused:?}");
    }
    Ok(())
}

/// Of equally good sets the first, where all scores are whole numbers.
pub fn ties_go_to_the_first(setting: &dyn Setting, random: &mut Random) -> Result<(), String> {
    let numbers = Numbers::draw(setting, Flavour::Ties, random);
    let expected = truth(setting, &numbers, (0, 0));
    let model =
        Model::new(setting.structure(&numbers.own), Bias::new(numbers.bias.view()), Dot::new(1.0));
    let posterior =
        model.posterior(numbers.q.view(), numbers.k.view()).map_err(|e| e.to_string())?;
    let count = if setting.ranks() { 4 } else { 1 };
    let best = posterior.ask(KBest(count)).map_err(|e| e.to_string())?;
    for (factor, ranked) in expected.ranked.iter().enumerate() {
        for (rank, (_, set)) in ranked.iter().take(count).enumerate() {
            let edges = edges_of(&best.sets, setting, rank, factor);
            if edges != set.edges {
                return Err(format!(
                    "rank {rank} of factor {factor}: {edges:?} for {:?}",
                    set.edges
                ));
            }
        }
    }
    Ok(())
}

/// Gradients of a random linear functional of all answers, against finite differences of the list's.
pub fn gradients_agree(
    setting: &dyn Setting,
    flavour: Flavour,
    random: &mut Random,
) -> Result<(), String> {
    let told = |e: Error| e.to_string();
    let [b, h, n, m] = setting.sizes();
    let f = setting.factors();
    let numbers = Numbers::draw(setting, flavour, random);
    let first = truth(setting, &numbers, (0, 0));
    // A factor of which nothing is possible has a log-partition that nothing moves.
    let mut factors = || -> Array3<f64> {
        let all =
            first.log_partition.iter().map(|z| if z.is_finite() { random.normal() } else { 0.0 });
        Array3::from_shape_vec((b, h, f), all.collect()).unwrap()
    };
    let [of_z, of_evidence, of_entropy, of_kl] = [(); 4].map(|()| factors());
    let mut queries =
        |last: usize| Array4::from_shape_simple_fn((b, h, n, last), || random.normal());
    let (of_mean, of_variance, of_marginals) = (queries(WIDTH), queries(WIDTH), queries(m));
    let of_distance = queries(1).index_axis_move(ndarray::Axis(3), 0);
    let of_column = Array3::from_shape_simple_fn((b, h, m), || random.normal());
    let spreads = setting.has_one_edge();
    let loss = |numbers: &Numbers| {
        let truth = truth(setting, numbers, (0, 0));
        let dot = |answer: &[f64], upstream: &mut dyn Iterator<Item = &f64>| -> f64 {
            answer.iter().zip(upstream).filter(|(_, g)| **g != 0.0).map(|(x, g)| x * g).sum()
        };
        let mut loss = dot(&truth.log_partition, &mut of_z.iter())
            + dot(&truth.log_evidence, &mut of_evidence.iter())
            + dot(&truth.entropy, &mut of_entropy.iter())
            + dot(&truth.kl, &mut of_kl.iter())
            + dot(&truth.mean, &mut of_mean.iter())
            + dot(&truth.marginals, &mut of_marginals.iter())
            + dot(&truth.column, &mut of_column.iter())
            + dot(&truth.distance, &mut of_distance.iter());
        if spreads {
            loss += dot(&truth.variance, &mut of_variance.iter());
        }
        loss
    };
    let model =
        Model::new(setting.structure(&numbers.own), Bias::new(numbers.bias.view()), Dot::new(1.0));
    let posterior = model.posterior(numbers.q.view(), numbers.k.view()).map_err(told)?;
    let v = numbers.v.view();
    let plain = (Mean(v), LogPartition, LogEvidence, Entropy, Kl);
    let edges = (Marginals, ColumnMass, ExpectedDistance);
    let upstream = (
        (&of_mean, &of_z, &of_evidence, &of_entropy, &of_kl),
        (&of_marginals, &of_column, &of_distance),
    );
    let gradients = match spreads {
        true => {
            let pass = posterior.pass((plain, edges, ValueVariance(v))).map_err(told)?;
            pass.backward((upstream.0, upstream.1, &of_variance)).map_err(told)?
        }
        false => posterior.pass((plain, edges)).map_err(told)?.backward(upstream).map_err(told)?,
    };
    let mut found: Vec<(String, Vec<f64>)> = vec![
        ("q".into(), gradients.q.iter().copied().collect()),
        ("k".into(), gradients.k.iter().copied().collect()),
        ("v".into(), gradients.v().ok_or("no gradient of v")?.iter().copied().collect()),
    ];
    let names = setting.own().into_iter().map(|(name, _)| name);
    for name in std::iter::once("bias").chain(names) {
        let gradient = gradients.parameter(name).ok_or(format!("no gradient of {name}"))?;
        found.push((name.into(), gradient.iter().copied().collect()));
    }
    if found.iter().flat_map(|(_, g)| g).any(|g| !g.is_finite()) {
        return Err("a gradient that is not finite".into());
    }
    if flavour == Flavour::Large {
        // Flat almost everywhere, and steep where it is not.
        return Ok(());
    }
    for (tensor, (name, found)) in found.iter().enumerate() {
        let mut at = numbers.clone();
        let x = at.tensors()[tensor].to_vec();
        let entries: Vec<usize> = match x.len() {
            0 => Vec::new(),
            length => (0..4).map(|_| random.integer(0, length as i64 - 1) as usize).collect(),
        };
        let expected = finite_difference::gradient_at(&x, entries.iter().copied(), |x| {
            at.tensors()[tensor].copy_from_slice(x);
            loss(&at)
        });
        for (entry, expected) in entries.into_iter().zip(expected) {
            let allowed = 1e-6 * expected.value.abs().max(1.0) + 10.0 * expected.error;
            if (found[entry] - expected.value).abs() > allowed {
                return Err(format!(
                    "gradient of {name}[{entry}] is {:e}, by differences {expected:?}",
                    found[entry]
                ));
            }
        }
    }
    Ok(())
}

/// Draws of every factor against exact probabilities.
pub fn draws_follow(setting: &dyn Setting, flavour: Flavour, random: &mut Random) {
    const COUNT: usize = 100_000;
    let numbers = Numbers::draw(setting, flavour, random);
    let expected = truth(setting, &numbers, (0, 0));
    let model =
        Model::new(setting.structure(&numbers.own), Bias::new(numbers.bias.view()), Dot::new(1.0));
    let posterior = model.posterior(numbers.q.view(), numbers.k.view()).unwrap();
    let draws = posterior.ask(Samples { count: COUNT, seed: 11 }).unwrap();
    for (factor, ranked) in expected.ranked.iter().enumerate() {
        // Several sets may have the same edges, and differ in what else they are.
        let mut kinds: Vec<(Vec<(usize, usize)>, f64)> = Vec::new();
        for (log_p, set) in ranked {
            match kinds.iter_mut().find(|(edges, _)| *edges == set.edges) {
                Some((_, p)) => *p += log_p.exp(),
                None => kinds.push((set.edges.clone(), log_p.exp())),
            }
        }
        let mut counts = vec![0u64; kinds.len()];
        for draw in 0..COUNT {
            let edges = edges_of(&draws, setting, draw, factor);
            let index = kinds.iter().position(|(own, _)| *own == edges);
            if let Some(index) = index {
                counts[index] += 1;
            } else {
                assert!(ranked.is_empty() && edges.is_empty(), "an impossible draw {edges:?}");
            }
        }
        if !ranked.is_empty() {
            let p: Vec<f64> = kinds.iter().map(|(_, p)| *p).collect();
            let chance = chi_square::p_value(&counts, &p);
            assert!(chance > 1e-4, "factor {factor}: a chance of {chance:e}");
        }
    }
}

/// Runs `check` on many cases, naming the first that fails.
pub fn for_cases(
    cases: u64,
    make: impl Fn(&mut Random, Flavour) -> Box<dyn Setting>,
    check: impl Fn(&dyn Setting, Flavour, &mut Random) -> Result<(), String>,
) {
    for seed in 0..cases {
        let flavour = Flavour::ALL[seed as usize % Flavour::ALL.len()];
        let mut random = Random::new(seed * 7919 + 13);
        let setting = make(&mut random, flavour);
        if let Err(message) = check(&*setting, flavour, &mut random) {
            panic!("seed {seed}, {flavour:?}, sizes {:?}: {message}", setting.sizes());
        }
    }
}
