//! Truncated inference: does the time fall with what is forgotten?
//!
//! `cargo bench -p marginals --bench truncated` prints a table: forgetting attention with all keys and
//! within a mass of 1e-3, beside causal attention. One head, d = 64, f32, one thread. Times are medians
//! over rounds in which every case has its turn, of the processor where the system tells it.

use std::time::Instant;

use marginals::infer::{Exactness, Truncated};
use marginals::potential::Dot;
use marginals::prior::{Causal, Prior, Survival};
use marginals::question::Mean;
use marginals::structure::EachQueryPicksOne;
use marginals::{Error, Model};
use marginals_testkit::generate::Random;
use ndarray::{Array3, Array4};

const WIDTH: usize = 64;
const MASS: f64 = 1e-3;
/// Means of −log f: what is left halves every 7, 35 and 139 keys.
const RATES: [f64; 3] = [0.1, 0.02, 0.005];

/// Seconds the processor has spent on this thread, or that have passed where it does not say.
fn seconds(start: Instant) -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    spent.map_or_else(|| start.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

struct Nodes {
    q: Array4<f32>,
    k: Array4<f32>,
    v: Array4<f32>,
}

/// The mean, and the bound of what was left out.
fn mean(nodes: &Nodes, prior: &dyn Prior<f32>, truncated: bool) -> Result<f64, Error> {
    let model = Model::new(EachQueryPicksOne, prior, Dot::scaled(WIDTH));
    let mut posterior = model.posterior(nodes.q.view(), nodes.k.view())?;
    if truncated {
        posterior = posterior.by(Truncated::within(MASS))?;
    }
    let pass = posterior.pass(Mean(nodes.v.view()))?;
    let exactness = pass.finding().report.exactness;
    std::hint::black_box(pass.into_answer()?);
    Ok(if let Exactness::MassLost(bound) = exactness { bound } else { 0.0 })
}

fn table(queries: usize, rounds: usize) -> Result<(), Error> {
    let mut random = Random::new(queries as u64);
    let mut normal =
        || Array4::from_shape_simple_fn((1, 1, queries, WIDTH), || random.normal() as f32);
    let nodes = Nodes { q: normal(), k: normal(), v: normal() };
    let mut cases: Vec<(String, Box<dyn Prior<f32>>, bool)> =
        vec![("causal".into(), Box::new(Causal), false)];
    for rate in RATES {
        // −log f is exponential: many gates forget nearly nothing, a few much.
        let gates = Array3::from_shape_simple_fn((1, 1, queries), || {
            (rate * random.between(1e-9, 1.0).ln()) as f32
        });
        for truncated in [false, true] {
            let how = if truncated { "truncated" } else { "all keys" };
            let prior = Box::new(Survival::new(gates.clone()));
            cases.push((format!("survival {rate}, {how}"), prior, truncated));
        }
    }
    let start = Instant::now();
    let mut times = vec![Vec::with_capacity(rounds); cases.len()];
    let mut bounds = vec![0.0; cases.len()];
    for round in 0..=rounds {
        for (index, (_, prior, truncated)) in cases.iter().enumerate() {
            // The system counts processor time in ticks: a turn is many of them.
            let (before, mut calls, mut spent) = (seconds(start), 0.0, 0.0);
            while spent < 0.2 {
                bounds[index] = mean(&nodes, prior, *truncated)?;
                calls += 1.0;
                spent = seconds(start) - before;
            }
            // The first round warms up.
            if round > 0 {
                times[index].push(spent / calls);
            }
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_unstable_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let medians: Vec<f64> = times.iter_mut().map(median).collect();
    println!("\nN = M = {queries}");
    println!("{:32} {:>10} {:>10} {:>12}", "", "ms", "of causal", "mass lost ≤");
    for ((name, ..), (time, bound)) in cases.iter().zip(medians.iter().zip(&bounds)) {
        let of_causal = time / medians[0];
        println!("{name:32} {:10.2} {of_causal:10.3} {bound:12.1e}", time * 1e3);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let sizes: &[usize] = if quick { &[1024] } else { &[4096, 8192, 16384] };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    // The thread whose time is taken is the one that works.
    pool.install(|| sizes.iter().try_for_each(|&queries| table(queries, 7)))?;
    Ok(())
}
