//! Path questions, against all paths written out.

use marginals::Posterior;
use marginals::infer::walk::Event;
use marginals::question::{Entropy, EventProbability, ExpectedDistance, Hops, Kl, Mean, Paths};
use marginals_testkit::compare::close;
use marginals_testkit::generate::{Random, Recipe};
use marginals_testkit::{Head, distance, enumerate};
use ndarray::{Array2, Array3, s};

use crate::contract::bridge;
use crate::contract::runner::for_recipes;
use crate::walk::case::{
    EXACT, Path, every_path, heads, normalised, pantry, row_of, self_attention, walk, weights,
};

/// Cases per question.
const CASES: u32 = 400;

/// A probability below this has lost digits to gradual underflow, and is no condition to divide by.
const UNDERFLOW: f64 = 1e-290;

/// Calls `f` with the library's posterior, P(h) by head, the heads in order and a source of chance.
fn with_walk(
    recipe: &Recipe,
    salt: u64,
    f: impl FnOnce(
        &Posterior<'_, f64>,
        &Array2<f64>,
        &[(usize, Head)],
        &mut Random,
    ) -> Result<(), String>,
) -> Result<(), String> {
    let recipe = self_attention(recipe);
    let mut random = Random::new(recipe.seed ^ salt);
    let weights = weights(&recipe, 3, true, &mut random);
    let walk = walk(&weights, random.chance(0.5))?;
    let case = recipe.build();
    let model = bridge::walk::<f64>(&case.model, walk);
    let (q, k) = (case.inputs.q.view(), case.inputs.k.view());
    let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
    f(&posterior, &normalised(&weights), &heads(&recipe, &case), &mut random)
}

/// What is true of a walk from `start`.
fn holds(wanted: &Wanted, path: &Path, start: usize) -> bool {
    wanted.edges.iter().all(|&(step, from, to)| path.edge(start, step) == Some((from, to)))
        && wanted.hops.is_none_or(|h| path.hops() == h)
        && (!wanted.arrives || path.end(start).is_some())
        && wanted.end.is_none_or(|j| path.end(start) == Some(j))
}

/// An event, in the test's own words.
#[derive(Clone, Debug, Default)]
struct Wanted {
    edges: Vec<(usize, usize, usize)>,
    hops: Option<usize>,
    arrives: bool,
    end: Option<usize>,
}

impl Wanted {
    fn draw(nodes: usize, hops: usize, random: &mut Random) -> Self {
        let node = |random: &mut Random| random.integer(0, nodes as i64 - 1) as usize;
        let step = |random: &mut Random| random.integer(0, hops as i64) as usize;
        let count = random.integer(0, 2);
        Self {
            edges: (0..count).map(|_| (step(random), node(random), node(random))).collect(),
            hops: random.chance(0.3).then(|| step(random)),
            arrives: random.chance(0.3),
            end: random.chance(0.4).then(|| node(random)),
        }
    }

    fn event(&self) -> Event {
        let mut event = Event::any();
        for &(step, from, to) in &self.edges {
            event = event.using(step, from, to);
        }
        if let Some(hops) = self.hops {
            event = event.with_hops(hops);
        }
        if self.arrives {
            event = event.arriving();
        }
        match self.end {
            Some(node) => event.ending_at(node),
            None => event,
        }
    }
}

/// `f` of every head and start, in the order of the library's answers.
fn by_start(
    heads: &[(usize, Head)],
    hops: &Array2<f64>,
    mut f: impl FnMut(&Head, usize, &[Path], &[f64]),
) {
    for (h, head) in heads {
        let own = hops.row(row_of(hops, *h)).to_vec();
        for (start, paths) in every_path(head, &own).iter().enumerate() {
            f(head, start, paths, &own);
        }
    }
}

#[test]
fn paths_have_probabilities_that_sum_to_one() {
    for_recipes(CASES, &pantry((1..=4).collect()), |recipe| {
        with_walk(recipe, 1, |_, hops, heads, _| {
            let mut sums = Vec::new();
            by_start(heads, hops, |_, _, paths, _| sums.push(paths.iter().map(|p| p.p).sum()));
            close("sum over paths", &sums, &vec![1.0; sums.len()], EXACT)
        })
    });
}

/// The mean as Σ p v over walks, entropy as −Σ p log p, KL as Σ p log(p / prior), distance as Σ p
/// length: together, in the passes of one.
#[test]
fn expectations() {
    for_recipes(CASES, &pantry((1..=4).collect()), |recipe| {
        let recipe = self_attention(recipe);
        let v = recipe.build().inputs.v;
        with_walk(&recipe, 2, |posterior, hops, heads, _| {
            let questions = (Mean(v.view()), Entropy, Kl, ExpectedDistance);
            let (mean, entropy, kl, length) =
                posterior.ask(questions).map_err(|e| e.to_string())?;
            let mut expected: [Vec<f64>; 4] = Default::default();
            by_start(heads, hops, |head, start, paths, _| {
                let log = |p: f64| if p == 0.0 { 0.0 } else { p.ln() };
                let mut mean = vec![0.0; head.value.ncols()];
                let (mut entropy, mut kl, mut length) = (0.0, 0.0, 0.0);
                for path in paths {
                    if let Some(j) = path.end(start) {
                        for (sum, v) in mean.iter_mut().zip(head.value.row(j)) {
                            *sum += path.p * v;
                        }
                    }
                    entropy -= path.p * log(path.p);
                    if path.p > 0.0 {
                        kl += path.p * (path.p.ln() - path.prior.ln());
                    }
                    let edges = (0..path.hops()).filter_map(|t| path.edge(start, t));
                    length += path.p * edges.map(|(i, j)| distance(i, j, 0) as f64).sum::<f64>();
                }
                expected[0].extend(mean);
                for (list, x) in expected[1..].iter_mut().zip([entropy, kl, length]) {
                    list.push(x);
                }
            });
            let flat = |x: &Array3<f64>| x.iter().copied().collect::<Vec<_>>();
            let mean: Vec<f64> = mean.iter().copied().collect();
            close("mean", &mean, &expected[0], EXACT)?;
            close("entropy", &flat(&entropy), &expected[1], EXACT)?;
            // A prior that underflows has no logarithm to compare with.
            if expected[2].iter().all(|x| x.is_finite()) {
                close("kl", &flat(&kl), &expected[2], EXACT)?;
            }
            close("distance", &flat(&length), &expected[3], EXACT)?;
            let alone = posterior.ask(Entropy).map_err(|e| e.to_string())?;
            close("entropy alone", &flat(&alone), &expected[1], EXACT)
        })
    });
}

#[test]
fn log_probabilities_of_given_paths() {
    for_recipes(CASES, &pantry((1..=4).collect()), |recipe| {
        with_walk(recipe, 3, |posterior, hops, heads, random| {
            let nodes = heads[0].1.queries();
            let path = |random: &mut Random| -> Vec<usize> {
                let length = random.integer(1, 5);
                (0..length).map(|_| random.integer(0, nodes as i64 - 1) as usize).collect()
            };
            let paths: Vec<Vec<usize>> = (0..6).map(|_| path(random)).collect();
            let found = posterior.ask(Paths(paths.clone())).map_err(|e| e.to_string())?;
            let found: Vec<f64> = found.iter().copied().collect();
            let mut expected = Vec::new();
            for (h, head) in heads {
                let log_partition = enumerate::answer(head).log_partition;
                for path in &paths {
                    let own = hops.row(row_of(hops, *h));
                    let p = own.get(path.len() - 1).copied().unwrap_or(0.0);
                    let step = |e: &[usize]| match head.theta(e[0], e[1]) {
                        f64::NEG_INFINITY => f64::NEG_INFINITY,
                        theta => theta - log_partition[e[0]],
                    };
                    let sum: f64 = path.windows(2).map(step).sum();
                    expected.push(if p == 0.0 { f64::NEG_INFINITY } else { p.ln() + sum });
                }
            }
            if let Some(x) = found.iter().find(|x| x.is_nan() || **x > 0.0) {
                return Err(format!("a log-probability is {x}"));
            }
            // Large scores leave their rounding in the difference from a large log Z.
            let size = heads.iter().flat_map(|(_, head)| head.log_potential.iter());
            let size = size.fold(1.0, |m: f64, x| m.max(x.abs()));
            close(
                "log p(path)",
                &found,
                &expected,
                marginals_testkit::compare::Tolerance { relative: 1e-10, absolute: 1e-13 * size },
            )
        })
    });
}

/// Probabilities and conditionals of random events: joint edges, ends, numbers of hops.
#[test]
fn events() {
    for_recipes(CASES, &pantry((1..=4).collect()), |recipe| {
        with_walk(recipe, 4, |posterior, hops, heads, random| {
            let nodes = heads[0].1.queries();
            let most = hops.ncols() - 1;
            let wanted: Vec<Wanted> = (0..8).map(|_| Wanted::draw(nodes, most, random)).collect();
            let given = Wanted::draw(nodes, most, random);
            let events: Vec<Event> = wanted.iter().map(Wanted::event).collect();
            let (found, conditional) = posterior
                .ask((
                    EventProbability { events: &events, given: Event::any() },
                    EventProbability { events: &events, given: given.event() },
                ))
                .map_err(|e| e.to_string())?;
            let (mut p, mut of_given) = (Vec::new(), Vec::new());
            let mut usable = Vec::new();
            by_start(heads, hops, |_, start, paths, _| {
                let sum = |f: &dyn Fn(&Path) -> bool| -> f64 {
                    paths.iter().filter(|path| f(path)).map(|path| path.p).sum()
                };
                let condition = sum(&|path| holds(&given, path, start));
                for wanted in &wanted {
                    p.push(sum(&|path| holds(wanted, path, start)));
                    let both = sum(&|p| holds(wanted, p, start) && holds(&given, p, start));
                    of_given.push(if condition == 0.0 { 0.0 } else { both / condition });
                    usable.push(condition == 0.0 || condition > UNDERFLOW);
                }
            });
            let found: Vec<f64> = found.iter().copied().collect();
            close("probability", &found, &p, EXACT)?;
            let conditional: Vec<f64> = conditional.iter().copied().collect();
            if let Some(x) = conditional.iter().find(|x| !(0.0..=1.0).contains(*x)) {
                return Err(format!("a conditional probability is {x}"));
            }
            let keep = |list: &[f64]| -> Vec<f64> {
                let pairs = list.iter().zip(&usable);
                pairs.filter(|(_, keep)| **keep).map(|(x, _)| *x).collect()
            };
            // What underflowed in one product and not in another is not compared.
            close("conditional", &keep(&conditional), &keep(&of_given), EXACT)
        })
    });
}

/// The posterior over the number of hops: given nothing, given that the walk arrives, given where.
#[test]
fn numbers_of_hops() {
    for_recipes(CASES, &pantry((1..=4).collect()), |recipe| {
        with_walk(recipe, 5, |posterior, hops, heads, random| {
            let nodes = heads[0].1.queries();
            let end = random.integer(0, nodes as i64 - 1) as usize;
            let unconditional = Wanted::default();
            let arriving = Wanted { arrives: true, ..Wanted::default() };
            let ending = Wanted { end: Some(end), ..Wanted::default() };
            for given in [unconditional, arriving, ending] {
                let found =
                    posterior.ask(Hops { given: given.event() }).map_err(|e| e.to_string())?;
                let (mut expected, mut at) = (Vec::new(), 0);
                let found: Vec<f64> = found.iter().copied().collect();
                let mut kept = Vec::new();
                by_start(heads, hops, |_, start, paths, own| {
                    let mut mass = vec![0.0; own.len()];
                    for path in paths.iter().filter(|path| holds(&given, path, start)) {
                        mass[path.hops()] += path.p;
                    }
                    let sum: f64 = mass.iter().sum();
                    if sum == 0.0 || sum > UNDERFLOW {
                        let p = |x: f64| if sum == 0.0 { 0.0 } else { x / sum };
                        expected.extend(mass.into_iter().map(p));
                        kept.extend_from_slice(&found[at..at + own.len()]);
                    }
                    at += own.len();
                });
                close(format!("hops given {given:?}"), &kept, &expected, EXACT)?;
            }
            Ok(())
        })
    });
}

/// The edge probabilities of one step, over all edges: P(hops > t) less what is lost before.
#[test]
fn edges_of_a_step_sum_to_what_is_not_lost() {
    for_recipes(100, &pantry((2..=4).collect()), |recipe| {
        with_walk(recipe, 6, |posterior, hops, heads, _| {
            let nodes = heads[0].1.queries();
            let step = hops.ncols() - 2;
            let events: Vec<Event> = (0..nodes * nodes)
                .map(|e| Event::any().using(step, e / nodes, e % nodes))
                .collect();
            let last = [Event::any().with_hops(step + 1).arriving()];
            let (all, arrived) = posterior
                .ask((
                    EventProbability { events: &events, given: Event::any() },
                    EventProbability { events: &last, given: Event::any() },
                ))
                .map_err(|e| e.to_string())?;
            let arrived: Vec<f64> = arrived.slice(s![.., .., .., 0]).iter().copied().collect();
            let sums: Vec<f64> = all.sum_axis(ndarray::Axis(3)).iter().copied().collect();
            close("sum over edges", &sums, &arrived, EXACT)
        })
    });
}
