//! The forward and backward passes of one attention head, composed from the kernels as a streaming
//! driver would, on one thread. Prints GFLOP/s (4 N² D forward, 10 N² D backward) per block shape
//! after comparing some rows with attention worked out in f64.
//!
//! `cargo bench -p marginals-kernels --bench strip`; `-- N D` for other sizes. Runs on every
//! instruction set, or on the one that `MARGINALS_INSTRUCTION_SET` names.

mod clock;

use marginals_kernels::*;

/// How many queries and keys a driver takes at a time.
#[derive(Clone, Copy)]
struct Blocks {
    queries: usize,
    strip: usize,
    keys: usize,
}

fn pseudo_random(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

struct Head {
    n: usize,
    d: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

struct Forward {
    output: Vec<f32>,
    max: Vec<f32>,
    log_sum: Vec<f32>,
    mean_score: Vec<f32>,
}

/// What a thread keeps from head to head.
struct Workspace {
    panels: [Panels<f32>; 5],
    strips: [Aligned<f32>; 2],
}

impl Workspace {
    fn new() -> Self {
        Self {
            panels: std::array::from_fn(|_| Panels::empty()),
            strips: std::array::from_fn(|_| Aligned::zeros(0)),
        }
    }
}

fn forward(
    set: InstructionSet,
    workspace: &mut Workspace,
    head: &Head,
    blocks: Blocks,
    want_score: bool,
) -> Forward {
    let &Head { n, d, ref q, ref k, ref v } = head;
    let Workspace { panels: [keys, values, ..], strips: [scores, _] } = workspace;
    keys.repack(set, k, d, 1, n, d);
    values.repack(set, v, n, d, d, 1);
    let mut output = vec![0.0; n * d];
    let (mut max, mut sum) = (vec![f32::NEG_INFINITY; n], vec![0.0; n]);
    let (mut rescale, mut score) = (vec![0.0; n], vec![0.0; n]);
    let stride = blocks.keys + 16;
    scores.resize(blocks.strip * stride);
    for first_query in (0..n).step_by(blocks.queries) {
        let last_query = n.min(first_query + blocks.queries);
        for first_key in (0..n).step_by(blocks.keys) {
            let width = blocks.keys.min(n - first_key);
            for i in (first_query..last_query).step_by(blocks.strip) {
                let rows = blocks.strip.min(last_query - i);
                let a = Strided { data: &q[i * d..], row_stride: d, depth_stride: 1 };
                let tile = TileMut::new(scores, rows, width, stride);
                gemm(set, Store::Overwrite, a, keys, 0..d, first_key..first_key + width, tile);
                let state = OnlineRows {
                    max: &mut max[i..i + rows],
                    sum: &mut sum[i..i + rows],
                    rescale: &mut rescale[i..i + rows],
                    score: want_score.then_some(&mut score[i..i + rows]),
                    raised: None,
                };
                online_rows(set, TileMut::new(scores, rows, width, stride), state);
                let out = &mut output[i * d..(i + rows) * d];
                scale_rows(set, TileMut::new(out, rows, d, d), &rescale[i..i + rows]);
                let p = Strided { data: scores, row_stride: stride, depth_stride: 1 };
                let out = TileMut::new(out, rows, d, d);
                gemm(set, Store::Add, p, values, first_key..first_key + width, 0..d, out);
            }
        }
    }
    for i in 0..n {
        output[i * d..][..d].iter_mut().for_each(|x| *x /= sum[i]);
    }
    Forward {
        output,
        log_sum: sum.iter().map(|s| s.ln()).collect(),
        max: max.clone(),
        mean_score: (0..n).map(|i| max[i] + score[i] / sum[i]).collect(),
    }
}

/// Largest error of the output, the log-partition and the mean score on every 97th row.
fn error(head: &Head, got: &Forward, want_score: bool) -> f64 {
    let &Head { n, d, ref q, ref k, ref v } = head;
    let mut worst = 0f64;
    for i in (0..n).step_by(97) {
        let scores: Vec<f64> = (0..n)
            .map(|j| (0..d).map(|c| f64::from(q[i * d + c]) * f64::from(k[j * d + c])).sum())
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|x| (x - max).exp()).sum();
        let log_partition = max + sum.ln();
        for c in 0..d {
            let mean: f64 =
                (0..n).map(|j| (scores[j] - log_partition).exp() * f64::from(v[j * d + c])).sum();
            worst = worst.max((mean - f64::from(got.output[i * d + c])).abs());
        }
        worst = worst.max((log_partition - f64::from(got.max[i] + got.log_sum[i])).abs());
        if want_score {
            let mean: f64 = scores.iter().map(|x| (x - log_partition).exp() * x).sum();
            worst = worst.max((mean - f64::from(got.mean_score[i])).abs());
        }
    }
    worst
}

struct Gradients {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// The gradients of ⟨upstream, output⟩.
fn backward(
    set: InstructionSet,
    workspace: &mut Workspace,
    head: &Head,
    blocks: Blocks,
    forward: &Forward,
    upstream: &[f32],
) -> Gradients {
    let &Head { n, d, ref q, ref k, ref v } = head;
    let Workspace { panels, strips: [scores, quantities] } = workspace;
    let [keys_across, values_across, keys, queries, upstreams] = panels;
    keys_across.repack(set, k, d, 1, n, d);
    values_across.repack(set, v, d, 1, n, d);
    keys.repack(set, k, n, d, d, 1);
    queries.repack(set, q, n, d, d, 1);
    upstreams.repack(set, upstream, n, d, d, 1);
    let mut centre = vec![0.0; n];
    let output = Tile::new(&forward.output, n, d, d);
    dot_rows(set, Tile::new(upstream, n, d, d), output, &mut centre);
    let mut gradients = Gradients { q: vec![0.0; n * d], k: vec![0.0; n * d], v: vec![0.0; n * d] };
    let stride = blocks.keys + 16;
    scores.resize(blocks.queries * stride);
    quantities.resize(blocks.queries * stride);
    for first_query in (0..n).step_by(blocks.queries) {
        let last_query = n.min(first_query + blocks.queries);
        for first_key in (0..n).step_by(blocks.keys) {
            let width = blocks.keys.min(n - first_key);
            let all_keys = first_key..first_key + width;
            for i in (first_query..last_query).step_by(blocks.strip) {
                let rows = blocks.strip.min(last_query - i);
                let at = (i - first_query) * stride;
                let (score, quantity) = (&mut scores[at..], &mut quantities[at..]);
                let a = Strided { data: &q[i * d..], row_stride: d, depth_stride: 1 };
                let c = TileMut::new(score, rows, width, stride);
                gemm(set, Store::Overwrite, a, keys_across, 0..d, all_keys.clone(), c);
                let a = Strided { data: &upstream[i * d..], row_stride: d, depth_stride: 1 };
                let c = TileMut::new(quantity, rows, width, stride);
                gemm(set, Store::Overwrite, a, values_across, 0..d, all_keys.clone(), c);
                softmax_backward(
                    set,
                    TileMut::new(score, rows, width, stride),
                    TileMut::new(quantity, rows, width, stride),
                    LogPartition { max: &forward.max[i..], log_sum: &forward.log_sum[i..] },
                    None,
                    &centre[i..],
                );
                let a = Strided { data: score, row_stride: stride, depth_stride: 1 };
                let c = TileMut::new(&mut gradients.q[i * d..], rows, d, d);
                gemm(set, Store::Add, a, keys, all_keys.clone(), 0..d, c);
            }
            let all_queries = first_query..last_query;
            let a = Strided { data: scores, row_stride: 1, depth_stride: stride };
            let c = TileMut::new(&mut gradients.k[first_key * d..], width, d, d);
            gemm(set, Store::Add, a, queries, all_queries.clone(), 0..d, c);
            let a = Strided { data: quantities, row_stride: 1, depth_stride: stride };
            let c = TileMut::new(&mut gradients.v[first_key * d..], width, d, d);
            gemm(set, Store::Add, a, upstreams, all_queries, 0..d, c);
        }
    }
    gradients
}

/// Largest error of the gradients of every 97th query, key and value.
fn gradient_error(head: &Head, forward: &Forward, upstream: &[f32], got: &Gradients) -> f64 {
    let &Head { n, d, ref q, ref k, ref v } = head;
    let dot = |a: &[f32], i: usize, b: &[f32], j: usize| -> f64 {
        (0..d).map(|c| f64::from(a[i * d + c]) * f64::from(b[j * d + c])).sum()
    };
    let p = |i, j| (dot(q, i, k, j) - f64::from(forward.max[i] + forward.log_sum[i])).exp();
    let centre: Vec<f64> = (0..n).map(|i| dot(upstream, i, &forward.output, i)).collect();
    let mut worst = 0f64;
    for x in (0..n).step_by(97) {
        let (mut dq, mut dk, mut dv) = (vec![0.0; d], vec![0.0; d], vec![0.0; d]);
        for y in 0..n {
            let by_query = p(x, y) * (dot(upstream, x, v, y) - centre[x]);
            let weight = p(y, x);
            let by_key = weight * (dot(upstream, y, v, x) - centre[y]);
            for c in 0..d {
                dq[c] += by_query * f64::from(k[y * d + c]);
                dk[c] += by_key * f64::from(q[y * d + c]);
                dv[c] += weight * f64::from(upstream[y * d + c]);
            }
        }
        for c in 0..d {
            for (expected, got) in [(dq[c], &got.q), (dk[c], &got.k), (dv[c], &got.v)] {
                worst = worst.max((expected - f64::from(got[x * d + c])).abs());
            }
        }
    }
    worst
}

/// The least seconds and the least cycles of several runs.
fn least(repeats: usize, mut work: impl FnMut()) -> (f64, f64) {
    let mut least = (f64::INFINITY, f64::INFINITY);
    for _ in 0..repeats {
        let before = clock::frequency();
        let start = clock::processor_time();
        work();
        let seconds = clock::processor_time() - start;
        let cycles = seconds * before.min(clock::frequency());
        least = (least.0.min(seconds), least.1.min(cycles));
    }
    least
}

fn rate(flops: f64, (seconds, cycles): (f64, f64)) -> String {
    format!("{:6.1} GFLOP/s ({:4.1} flops per cycle)", flops / seconds / 1e9, flops / cycles)
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|x| x.parse().ok()).collect();
    let n = sizes.first().copied().unwrap_or(4096);
    let d = sizes.get(1).copied().unwrap_or(64);
    let mut q = pseudo_random(n * d, 1);
    q.iter_mut().for_each(|x| *x *= 3.0 / (d as f32).sqrt());
    let head = Head { n, d, q, k: pseudo_random(n * d, 2), v: pseudo_random(n * d, 3) };
    let mut workspace = Workspace::new();
    let sets = match std::env::var_os("MARGINALS_INSTRUCTION_SET") {
        Some(_) => vec![InstructionSet::detect()],
        None => InstructionSet::available(),
    };
    for set in sets {
        let repeats = if set == InstructionSet::Plain { 1 } else { 9 };
        println!("{set:?}, N = {n}, D = {d}");
        // The one block shape per instruction set first, then its neighbours.
        let shapes = [
            (192, 24, 512),
            (96, 12, 256),
            (96, 12, 512),
            (192, 12, 512),
            (192, 24, 256),
            (192, 48, 128),
            (192, 48, 256),
            (384, 24, 512),
        ];
        let shapes = if set == InstructionSet::Avx512 { &shapes[..] } else { &shapes[..1] };
        for &(queries, strip, keys) in shapes {
            let blocks = Blocks { queries, strip, keys };
            let flops = 4.0 * (n * n * d) as f64;
            let mut line = format!("  forward  {queries:4} × {strip:3} × {keys:4}:");
            for want_score in [false, true] {
                let e = error(
                    &head,
                    &forward(set, &mut workspace, &head, blocks, want_score),
                    want_score,
                );
                assert!(e < 2e-5, "error {e:e}");
                let time = least(repeats, || {
                    std::hint::black_box(forward(set, &mut workspace, &head, blocks, want_score));
                });
                line += &rate(flops, time);
                line += if want_score { " with scores" } else { ", " };
            }
            println!("{line}");
        }
        let shapes = [
            (192, 12, 256),
            (96, 12, 256),
            (192, 24, 256),
            (192, 24, 128),
            (384, 24, 128),
            (192, 12, 512),
            (384, 12, 256),
        ];
        let shapes = if set == InstructionSet::Avx512 { &shapes[..] } else { &shapes[..1] };
        let upstream = pseudo_random(n * d, 4);
        for &(queries, strip, keys) in shapes {
            let blocks = Blocks { queries, strip, keys };
            let result = forward(set, &mut workspace, &head, blocks, false);
            let flops = 10.0 * (n * n * d) as f64;
            let e = gradient_error(
                &head,
                &result,
                &upstream,
                &backward(set, &mut workspace, &head, blocks, &result, &upstream),
            );
            assert!(e < 1e-4, "error {e:e}");
            let time = least(repeats, || {
                std::hint::black_box(backward(
                    set,
                    &mut workspace,
                    &head,
                    blocks,
                    &result,
                    &upstream,
                ));
            });
            println!("  backward {queries:4} × {strip:3} × {keys:4}: {}", rate(flops, time));
        }
    }
}
