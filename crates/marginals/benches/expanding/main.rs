//! Expanding attention over long contexts: does the time follow the window, or the number of keys?
//!
//! `cargo bench -p marginals --bench expanding` prints the tables; with `-- docs/expanding.svg` it
//! also draws them, written beside and renamed; with `-- --quick` the sizes are small. One head,
//! d = 64, f32, one thread. Times are the least of several runs, of the processor where the system
//! tells it: neighbours take turns, not time.

mod chart;

use std::time::Instant;

use chart::{Chart, Curve};
use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::{BetaGeometric, Causal, Combine};
use marginals::question::Mean;
use marginals::structure::EachQueryPicksOne;
use marginals::zoo::expanding::{Expanded, Expanding, Inference};
use ndarray::{Array2, Array4, s};

const WIDTH: usize = 64;
/// Largest log-potential.
const SHARPNESS: f32 = 6.0;
/// Positions over which content changes.
const LOCALITY: f64 = 24.0;

/// Content that drifts along the sequence: every key is a unit vector correlated with its
/// neighbours, and every query looks for keys like the one beside it.
fn content(count: usize) -> [Array4<f32>; 3] {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    let kept = (-1.0 / LOCALITY).exp();
    let mut walk = Array2::<f64>::zeros((count, WIDTH));
    for i in 0..count {
        for c in 0..WIDTH {
            let before = if i == 0 { 0.0 } else { walk[[i - 1, c]] };
            walk[[i, c]] = kept * before + (1.0 - kept * kept).sqrt() * uniform();
        }
    }
    let mut k = Array4::zeros((1, 1, count, WIDTH));
    for (i, row) in walk.rows().into_iter().enumerate() {
        let length = row.dot(&row).sqrt();
        k.slice_mut(s![0, 0, i, ..]).assign(&row.mapv(|x| (x / length) as f32));
    }
    let v = Array4::from_shape_simple_fn((1, 1, count, WIDTH), || uniform() as f32);
    [k.mapv(|x| x * SHARPNESS), k, v]
}

/// Seconds the processor has spent on this thread, or that have passed where it does not say.
fn seconds(start: Instant) -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = spent.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    spent.map_or_else(|| start.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

/// The least time of `runs`, and the last answer. A run is as many calls as take a fifth of a
/// second: the system counts processor time in ticks.
fn time<R>(runs: usize, mut f: impl FnMut() -> R) -> (f64, R) {
    let start = Instant::now();
    let mut least = f64::INFINITY;
    let mut answer = f();
    for _ in 0..runs.max(1) {
        let (before, mut calls) = (seconds(start), 0.0);
        loop {
            answer = f();
            calls += 1.0;
            let spent = seconds(start) - before;
            if spent > 0.2 {
                least = least.min(spent / calls);
                break;
            }
        }
    }
    (least, answer)
}

struct Row {
    keys: usize,
    window: f64,
    seconds: f64,
}

fn median<X: Copy + PartialOrd>(list: impl Iterator<Item = X>) -> X {
    let mut list: Vec<X> = list.collect();
    list.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    list[list.len() / 2]
}

fn measure(settings: &Expanding, [q, k, v]: &[Array4<f32>; 3], runs: usize) -> Row {
    let potential = Dot::new(1.0);
    let attend = || settings.attend(&potential, q.view(), k.view(), v.view()).expect("valid input");
    let (seconds, found): (f64, Expanded<'_, f32>) = time(runs, attend);
    let keys = k.dim().2;
    let mean = found.window.iter().sum::<usize>() as f64 / keys as f64;
    let lost = found.lost.iter().copied().fold(0.0, f64::max);
    println!(
        "{:>10} {keys:>7} {mean:>9.0} {:>7} {:>9.1} {:>9.2} {:>8} {lost:>9.1e} {:>8.3}",
        match settings.inference {
            Inference::Exact => "exact",
            Inference::MeanField(_) => "mean field",
        },
        found.window.iter().max().copied().unwrap_or(0),
        1e3 * seconds,
        1e6 * seconds / keys as f64,
        median(found.steps.iter().copied()),
        median(found.rho_mean.iter().copied()),
    );
    Row { keys, window: mean, seconds }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let quick = arguments.iter().any(|a| a == "--quick");
    let picture = arguments.iter().find(|a| a.ends_with(".svg"));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let chart = pool.install(|| run(quick));
    if let Some(path) = picture {
        let beside = format!("{path}.part");
        std::fs::write(&beside, chart)
            .and_then(|()| std::fs::rename(&beside, path))
            .unwrap_or_else(|error| {
                eprintln!("{path} could not be written: {error}");
                std::process::exit(1)
            });
    }
}

fn run(quick: bool) -> String {
    let (largest, runs) = if quick { (4096, 1) } else { (65_536, 5) };
    let all = content(largest);
    let first = |n: usize| all.each_ref().map(|x| x.slice(s![.., .., ..n, ..]).to_owned());
    let settings = Expanding::new(12.0, 12.0).with_tolerance(1e-4);
    let field = |settings: &Expanding| settings.clone().with_inference(Inference::mean_field());
    println!(
        "{:>10} {:>7} {:>9} {:>7} {:>9} {:>9} {:>8} {:>9} {:>8}",
        "inference", "N", "window", "widest", "ms", "µs/query", "steps", "lost ≤", "E[ρ]"
    );
    let sizes: Vec<usize> = (0..5).map(|k| largest >> (4 - k)).collect();
    let mut by_size: [Vec<Row>; 3] = Default::default();
    for &n in &sizes {
        let input = first(n);
        by_size[0].push(measure(&settings, &input, runs));
        by_size[1].push(measure(&field(&settings), &input, runs));
        let [q, k, v] = &input;
        let prior = Causal.and(BetaGeometric::new(12.0, 12.0));
        let model = Model::new(EachQueryPicksOne, prior, Dot::new(1.0));
        let (seconds, _) = time(if n > 20_000 { 1 } else { runs }, || {
            let posterior = model.posterior(q.view(), k.view()).expect("valid input");
            posterior.ask(Mean(v.view())).expect("valid input")
        });
        println!(
            "{:>10} {n:>7} {:>9} {:>17.1} {:>9.2}",
            "every key",
            "",
            1e3 * seconds,
            1e6 * seconds / n as f64
        );
        by_size[2].push(Row { keys: n, window: n as f64 / 2.0, seconds });
    }
    println!("\nN = {largest}, by window");
    let mut by_window: [Vec<Row>; 2] = Default::default();
    for beta in [40.0, 120.0, 240.0, 480.0, 960.0, 1920.0] {
        let settings = Expanding::new(12.0, beta).with_tolerance(1e-4);
        by_window[0].push(measure(&settings, &all, runs.min(3)));
        by_window[1].push(measure(&field(&settings), &all, runs.min(2)));
    }
    let curve = |name, class, rows: &[Row], x: fn(&Row) -> f64| Curve {
        name,
        class,
        points: rows.iter().map(|row| (x(row), 1e6 * row.seconds / row.keys as f64)).collect(),
    };
    let per_size: fn(&Row) -> f64 = |row| row.keys as f64;
    let per_window: fn(&Row) -> f64 = |row| row.window;
    chart::page(&[
        Chart {
            title: "By context length, same prior".to_owned(),
            x: "keys N",
            y: "µs per query",
            curves: vec![
                curve("every key", "a", &by_size[2], per_size),
                curve("mean field", "b", &by_size[1], per_size),
                curve("exact", "c", &by_size[0], per_size),
            ],
        },
        Chart {
            title: format!("By window, at {largest} keys"),
            x: "keys in the window (mean)",
            y: "µs per query",
            curves: vec![
                curve("mean field", "b", &by_window[1], per_window),
                curve("exact", "c", &by_window[0], per_window),
            ],
        },
    ])
}
