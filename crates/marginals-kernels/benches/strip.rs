//! The forward and backward passes of one attention head, composed from the kernels as a streaming
//! driver would, on one thread. Prints GFLOP/s (4 N² D forward, 10 N² D backward) per block shape
//! after comparing some rows with attention worked out in f64.
//!
//! `cargo bench -p marginals-kernels --bench strip`; `-- N D` for other sizes.

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
    log_partition: Vec<f32>,
    mean_score: Vec<f32>,
}

fn forward(set: InstructionSet, head: &Head, blocks: Blocks, want_score: bool) -> Forward {
    let &Head { n, d, ref q, ref k, ref v } = head;
    let keys = Panels::pack(set, k, d, 1, n, d);
    let values = Panels::pack(set, v, n, d, d, 1);
    let mut output = vec![0.0; n * d];
    let (mut max, mut sum) = (vec![f32::NEG_INFINITY; n], vec![0.0; n]);
    let (mut rescale, mut score) = (vec![0.0; n], vec![0.0; n]);
    let stride = blocks.keys + 16;
    let mut scores = Aligned::zeros(blocks.strip * stride);
    for first_query in (0..n).step_by(blocks.queries) {
        let last_query = n.min(first_query + blocks.queries);
        for first_key in (0..n).step_by(blocks.keys) {
            let width = blocks.keys.min(n - first_key);
            for i in (first_query..last_query).step_by(blocks.strip) {
                let rows = blocks.strip.min(last_query - i);
                let a = Strided { data: &q[i * d..], row_stride: d, depth_stride: 1 };
                let tile = TileMut::new(&mut scores, rows, width, stride);
                gemm(set, Store::Overwrite, a, &keys, 0..d, first_key..first_key + width, tile);
                let state = OnlineRows {
                    max: &mut max[i..i + rows],
                    sum: &mut sum[i..i + rows],
                    rescale: &mut rescale[i..i + rows],
                    score: want_score.then_some(&mut score[i..i + rows]),
                    raised: None,
                };
                online_rows(set, TileMut::new(&mut scores, rows, width, stride), state);
                let out = &mut output[i * d..(i + rows) * d];
                scale_rows(set, TileMut::new(out, rows, d, d), &rescale[i..i + rows]);
                let p = Strided { data: &scores, row_stride: stride, depth_stride: 1 };
                let out = TileMut::new(out, rows, d, d);
                gemm(set, Store::Add, p, &values, first_key..first_key + width, 0..d, out);
            }
        }
    }
    for i in 0..n {
        output[i * d..][..d].iter_mut().for_each(|x| *x /= sum[i]);
    }
    Forward {
        output,
        log_partition: max.iter().zip(&sum).map(|(m, s)| m + s.ln()).collect(),
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
        worst = worst.max((log_partition - f64::from(got.log_partition[i])).abs());
        if want_score {
            let mean: f64 = scores.iter().map(|x| (x - log_partition).exp() * x).sum();
            worst = worst.max((mean - f64::from(got.mean_score[i])).abs());
        }
    }
    worst
}

/// Shortest of several runs, in seconds this thread was given: neighbours on a shared machine take
/// turns, not time.
fn shortest(repeats: usize, mut work: impl FnMut()) -> f64 {
    (0..repeats)
        .map(|_| {
            let start = processor_time();
            work();
            processor_time() - start
        })
        .fold(f64::INFINITY, f64::min)
}

#[cfg(unix)]
fn processor_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(not(unix))]
fn processor_time() -> f64 {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed().as_secs_f64()
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|x| x.parse().ok()).collect();
    let n = sizes.first().copied().unwrap_or(4096);
    let d = sizes.get(1).copied().unwrap_or(64);
    let mut q = pseudo_random(n * d, 1);
    q.iter_mut().for_each(|x| *x *= 3.0 / (d as f32).sqrt());
    let head = Head { n, d, q, k: pseudo_random(n * d, 2), v: pseudo_random(n * d, 3) };
    for set in InstructionSet::available() {
        let repeats = if set == InstructionSet::Plain { 1 } else { 9 };
        println!("{set:?}, N = {n}, D = {d}");
        for (queries, strip, keys) in [
            (96, 12, 256),
            (96, 12, 512),
            (192, 12, 256),
            (192, 12, 512),
            (192, 24, 256),
            (192, 24, 512),
            (192, 48, 256),
            (192, 96, 256),
            (384, 12, 512),
        ] {
            if set != InstructionSet::Avx512 && (queries, keys) != (192, 512) {
                continue;
            }
            let blocks = Blocks { queries, strip, keys };
            let flops = 4.0 * (n * n * d) as f64;
            let mut line = format!("  forward  {queries:4} × {strip:3} × {keys:4}:");
            for want_score in [false, true] {
                let e = error(&head, &forward(set, &head, blocks, want_score), want_score);
                assert!(e < 2e-5, "error {e:e}");
                let seconds = shortest(repeats, || {
                    std::hint::black_box(forward(set, &head, blocks, want_score));
                });
                line += &format!(
                    " {:6.1} GFLOP/s{}",
                    flops / seconds / 1e9,
                    if want_score { " with scores" } else { "," }
                );
            }
            println!("{line}");
        }
    }
}
