//! Every gradient of a walk, against finite differences of dense powers.

use marginals::question::{Entropy, ExpectedDistance, Kl, Mean};
use marginals_testkit::dense;
use marginals_testkit::generate::{Case, Flavour, Random, Recipe};
use ndarray::{Array1, Array2, Array3, Array4, s};

use crate::contract::bridge;
use crate::contract::runner::for_recipes;
use crate::contract::slopes::{Slopes, numbered};
use crate::walk::case::{heads, pantry, row_of, self_attention, walk, weights};

/// Entries of each tensor that are moved one by one; a random direction moves all of them.
const ENTRIES: usize = 3;

/// Upstream gradients of the questions a loss is made of.
struct Loss {
    mean: Option<Array4<f64>>,
    /// Entropy, KL, distance.
    along: [Option<Array3<f64>>; 3],
}

impl Loss {
    /// Each question with probability ½, at least one; the entropy where `entropy` allows it.
    fn draw(recipe: &Recipe, entropy: bool, random: &mut Random) -> Self {
        let (b, h, n) = (recipe.batch, recipe.heads(), recipe.queries);
        let always = random.integer(0, 3);
        let mut wanted = [0, 1, 2, 3].map(|question| question == always || random.chance(0.5));
        wanted[1] &= entropy;
        wanted[0] |= !wanted.contains(&true);
        let mut rows = |on: bool| on.then(|| Array3::from_shape_fn((b, h, n), |_| random.normal()));
        let along = [rows(wanted[1]), rows(wanted[2]), rows(wanted[3])];
        let shape = (b, h, n, recipe.value_depth);
        let mean = wanted[0].then(|| Array4::from_shape_fn(shape, |_| random.normal()));
        Self { mean, along }
    }

    /// The loss by dense powers, P(h) given as it stands.
    fn of(&self, recipe: &Recipe, case: &Case, hops: &Array2<f64>) -> f64 {
        let mut sum = 0.0;
        for (index, (h, head)) in heads(recipe, case).into_iter().enumerate() {
            let b = index / recipe.heads();
            let own = hops.row(row_of(hops, h));
            let answers = dense::answer(&head);
            let mut power: Array2<f64> = Array2::eye(head.queries());
            for (t, &p) in own.iter().enumerate() {
                if let Some(g) = &self.mean {
                    let g = g.slice(s![b, h, .., ..]);
                    sum += p * (&power.dot(&head.value) * &g).sum();
                }
                let further: f64 = own.iter().skip(t + 1).sum();
                let quantities: [&Array1<f64>; 3] =
                    [&answers.entropy, &answers.kl, &answers.expected_distance];
                for (g, quantity) in self.along.iter().zip(quantities) {
                    if let Some(g) = g {
                        sum += further * (&power.dot(quantity) * &g.slice(s![b, h, ..])).sum();
                    }
                }
                power = power.dot(&answers.marginals);
            }
            if let Some(g) = &self.along[0] {
                let of_hops: f64 =
                    own.iter().map(|p| if *p > 0.0 { -p * p.ln() } else { 0.0 }).sum();
                sum += of_hops * g.slice(s![b, h, ..]).sum();
            }
        }
        sum
    }
}

/// Everything that can be moved.
#[derive(Clone)]
struct Point {
    case: Case,
    /// Weights, or their logarithms.
    weights: Array2<f64>,
    logs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Variable {
    Q,
    K,
    V,
    Weights,
    /// Index in the model's list of parameters.
    Parameter(usize),
}

impl Point {
    fn numbers(&mut self, variable: Variable) -> &mut [f64] {
        const CONTIGUOUS: &str = "generated tensors are in standard layout";
        match variable {
            Variable::Q => self.case.inputs.q.as_slice_mut().expect(CONTIGUOUS),
            Variable::K => self.case.inputs.k.as_slice_mut().expect(CONTIGUOUS),
            Variable::V => self.case.inputs.v.as_slice_mut().expect(CONTIGUOUS),
            Variable::Weights => self.weights.as_slice_mut().expect(CONTIGUOUS),
            Variable::Parameter(index) => self.case.model.parameters_mut().swap_remove(index).1,
        }
    }

    /// P(h).
    fn hops(&self) -> Array2<f64> {
        let weights = if self.logs { self.weights.mapv(f64::exp) } else { self.weights.clone() };
        crate::walk::case::normalised(&weights)
    }
}

/// The library's gradients by variable.
fn gradients(point: &mut Point, loss: &Loss) -> Result<Vec<(String, Variable, Vec<f64>)>, String> {
    let weights = if point.logs { point.weights.mapv(f64::exp) } else { point.weights.clone() };
    let walk = walk(&weights, point.logs)?;
    let case = &point.case;
    let model = bridge::walk::<f64>(&case.model, walk);
    let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
    let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
    let questions = (Mean(v), Entropy, Kl, ExpectedDistance);
    let pass = posterior.pass(questions).map_err(|e| e.to_string())?;
    let [entropy, kl, distance] = loss.along.each_ref().map(|g| g.as_ref().map(|g| g.view()));
    let mean = loss.mean.as_ref().map(|g| g.view());
    let found = pass.backward((mean, entropy, kl, distance)).map_err(|e| e.to_string())?;
    let flat = |x: &Array4<f64>| x.iter().copied().collect::<Vec<_>>();
    let mut out = vec![
        ("q".to_owned(), Variable::Q, flat(&found.q)),
        ("k".to_owned(), Variable::K, flat(&found.k)),
    ];
    if let Some(v) = found.v() {
        out.push(("v".to_owned(), Variable::V, flat(v)));
    } else if loss.mean.is_some() {
        return Err("no gradient of v".into());
    }
    let name = if point.logs { "walk.log-weights" } else { "walk.weights" };
    let of_weights = found.parameter(name).ok_or("no gradient of the weights")?;
    out.push((name.into(), Variable::Weights, of_weights.iter().copied().collect()));
    let listed: Vec<&str> = point.case.model.clone().parameters_mut().iter().map(|p| p.0).collect();
    for (index, name) in numbered(&listed).into_iter().enumerate() {
        let gradient = found.parameter(&name).ok_or_else(|| format!("no gradient of {name}"))?;
        out.push((name, Variable::Parameter(index), gradient.iter().copied().collect()));
    }
    if found.parameters.len() != listed.len() + 1 {
        return Err(format!("{} gradients of parameters", found.parameters.len()));
    }
    Ok(out)
}

fn check(recipe: &Recipe, zeros: bool, slopes: &Slopes) -> Result<(), String> {
    let recipe = &self_attention(recipe);
    let mut random = Random::new(recipe.seed ^ 0x77);
    // The entropy of the number of hops has no slope in a weight of 0.
    let loss = Loss::draw(recipe, !zeros, &mut random);
    let logs = !zeros && random.chance(0.5);
    let mut weights = weights(recipe, 4, zeros, &mut random);
    if logs {
        weights.mapv_inplace(f64::ln);
        if random.chance(0.3) {
            weights[[0, 0]] = f64::NEG_INFINITY;
        }
    }
    let mut point = Point { case: recipe.build(), weights, logs };
    for (name, variable, found) in gradients(&mut point, &loss)? {
        let x = point.numbers(variable).to_vec();
        let mut moved = point.clone();
        slopes.check(&name, (&x, &found), ENTRIES, &mut random, |x| {
            moved.numbers(variable).copy_from_slice(x);
            loss.of(recipe, &moved.case, &moved.hops())
        })?;
    }
    Ok(())
}

fn agree(zeros: bool, cases: u32) {
    let mut pantry = pantry((1..=4).collect());
    pantry.flavours = vec![Flavour::Ordinary];
    pantry.depths = vec![1, 2, 3];
    let slopes = Slopes::default();
    for_recipes(cases, &pantry, |recipe| check(recipe, zeros, &slopes));
    slopes.assert_settled(500);
}

#[test]
fn agree_with_finite_differences() {
    agree(false, 400);
}

#[test]
fn agree_with_finite_differences_where_some_numbers_of_hops_are_impossible() {
    agree(true, 200);
}

/// Several blocks of queries and keys.
#[test]
fn agree_around_tile_edges() {
    let mut pantry = pantry(vec![65, 97, 130]);
    pantry.flavours = vec![Flavour::Ordinary];
    pantry.depths = vec![2, 5];
    pantry.batches = 1;
    let slopes = Slopes::default();
    for_recipes(3, &pantry, |recipe| check(recipe, false, &slopes));
    slopes.assert_settled(20);
}
