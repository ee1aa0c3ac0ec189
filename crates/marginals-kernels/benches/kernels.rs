//! Each kernel alone, on operands that stay in cache, on one thread: the rates that a composition
//! of them can hope for.
//!
//! `cargo bench -p marginals-kernels --bench kernels`

mod clock;

use std::time::Instant;

use marginals_kernels::*;

/// Cycles per call, the median of many short runs. Cycles and not seconds, each run against the
/// clock frequency just before it: on a shared machine that moves by a quarter.
fn cycles_per_call(mut work: impl FnMut()) -> f64 {
    let mut samples: Vec<f64> = (0..401)
        .map(|_| {
            let frequency = clock::frequency();
            let start = Instant::now();
            for _ in 0..4 {
                work();
            }
            start.elapsed().as_secs_f64() / 4.0 * frequency
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// Multiply-adds on registers only: what the product can at most reach.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn peak() -> f64 {
    use std::arch::x86_64::*;
    let (a, b) = (_mm512_set1_ps(0.999), _mm512_set1_ps(0.001));
    let steps = 2000;
    let cycles = cycles_per_call(|| {
        let mut sums = [_mm512_set1_ps(1.0); 24];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, *sum, b);
            }
        }
        std::hint::black_box(sums);
    });
    (steps * 24 * 32) as f64 / cycles
}

fn main() {
    let d = 64;
    for set in InstructionSet::available() {
        println!("{set:?}");
        #[cfg(target_arch = "x86_64")]
        if set == InstructionSet::Avx512 {
            // SAFETY: the set is available.
            println!("  multiply-add peak        {:7.1} flops/cycle", unsafe { peak() });
        }
        for (rows, keys) in [(12, 256), (12, 512), (96, 256), (192, 512)] {
            let (q, k) = (wave(rows * d), wave(keys * d));
            let stride = keys + 16;
            let mut scores = Aligned::zeros(rows * stride);
            scores.copy_from_slice(&wave(rows * stride));
            let packed = Panels::pack(set, &k, d, 1, keys, d);
            let cycles = cycles_per_call(|| {
                let a = Strided { data: &q, row_stride: d, depth_stride: 1 };
                let c = TileMut::new(&mut scores, rows, keys, stride);
                gemm(set, Store::Overwrite, a, &packed, 0..d, 0..keys, c);
            });
            let flops = 2.0 * (rows * keys * d) as f64;
            println!("  scores   {rows:4} × {keys:4}     {:7.1} flops/cycle", flops / cycles);
            let packed = Panels::pack(set, &k, keys, d, d, 1);
            let mut out = wave(rows * d);
            let cycles = cycles_per_call(|| {
                let a = Strided { data: &scores, row_stride: stride, depth_stride: 1 };
                let c = TileMut::new(&mut out, rows, d, d);
                gemm(set, Store::Add, a, &packed, 0..keys, 0..d, c);
            });
            println!("  means    {rows:4} × {keys:4}     {:7.1} flops/cycle", flops / cycles);
            let packed = Panels::pack(set, &q, rows, d, d, 1);
            let mut out = wave(keys * d);
            let cycles = cycles_per_call(|| {
                let a = Strided { data: &scores, row_stride: 1, depth_stride: stride };
                let c = TileMut::new(&mut out, keys, d, d);
                gemm(set, Store::Add, a, &packed, 0..rows, 0..d, c);
            });
            println!("  adjoint  {rows:4} × {keys:4}     {:7.1} flops/cycle", flops / cycles);
        }
        let (rows, keys) = (12, 512);
        let source = wave(rows * keys);
        let mut tile = Aligned::zeros(rows * keys);
        tile.copy_from_slice(&source);
        let copy = cycles_per_call(|| {
            tile.copy_from_slice(&source);
            std::hint::black_box(&mut tile);
        });
        for want_score in [false, true] {
            let (mut max, mut sum) = (vec![f32::NEG_INFINITY; rows], vec![0.0; rows]);
            let (mut rescale, mut score) = (vec![0.0; rows], vec![0.0; rows]);
            let cycles = cycles_per_call(|| {
                tile.copy_from_slice(&source);
                let state = OnlineRows {
                    max: &mut max,
                    sum: &mut sum,
                    rescale: &mut rescale,
                    score: want_score.then_some(&mut score[..]),
                    raised: None,
                };
                online_rows(set, TileMut::new(&mut tile, rows, keys, keys), state);
            });
            let rate = (rows * keys) as f64 / (cycles - copy);
            println!("  online_rows, score {want_score:5} {rate:7.2} per cycle");
        }
        double_precision(set);
        row_kernels(set);
        unpacked(set);
    }
}

/// Products and exponentials in f64, half as many to a vector.
fn double_precision(set: InstructionSet) {
    let (rows, keys, d) = (24, 256, 64);
    let wave = |n| wave(n).into_iter().map(f64::from).collect::<Vec<f64>>();
    let (q, k) = (wave(rows * d), wave(keys * d));
    let packed = Panels::pack(set, &k, d, 1, keys, d);
    let mut scores = Aligned::zeros(rows * keys);
    let cycles = cycles_per_call(|| {
        let a = Strided { data: &q, row_stride: d, depth_stride: 1 };
        let c = TileMut::new(&mut scores, rows, keys, keys);
        gemm(set, Store::Overwrite, a, &packed, 0..d, 0..keys, c);
    });
    let flops = 2.0 * (rows * keys * d) as f64;
    println!("  scores in f64            {:7.1} flops/cycle", flops / cycles);
    let cycles = cycles_per_call(|| {
        scores.fill(-1.0);
        exp_rows(
            set,
            TileMut::new(&mut scores, rows, keys, keys),
            LogPartition { max: &q, log_sum: &q },
        );
    });
    println!("  exp_rows in f64          {:7.2} cycles per element", cycles / (rows * keys) as f64);
}

/// The elementwise kernels on a strip that stays in the first-level cache, per element.
fn row_kernels(set: InstructionSet) {
    let (rows, keys) = (12, 256);
    let mut tile = Aligned::zeros(rows * keys);
    let mut other = Aligned::zeros(rows * keys);
    let (source, ones) = (wave(rows * keys), vec![1.0; keys]);
    let mut sums = vec![0.0; keys];
    let elements = (rows * keys) as f64;
    let report = |name: &str, cycles: f64| {
        println!("  {name:24} {:7.2} cycles per element", cycles / elements);
    };
    macro_rules! measure {
        ($name:literal, $call:expr) => {
            let cycles = cycles_per_call(|| {
                tile.copy_from_slice(&source);
                $call;
            });
            report($name, cycles);
        };
    }
    measure!("copying only", std::hint::black_box(&mut tile));
    measure!(
        "exp_rows",
        exp_rows(
            set,
            TileMut::new(&mut tile, rows, keys, keys),
            LogPartition { max: &ones, log_sum: &ones }
        )
    );
    measure!(
        "exp_columns",
        exp_columns(
            set,
            TileMut::new(&mut tile, rows, keys, keys),
            LogPartition { max: &ones, log_sum: &ones }
        )
    );
    measure!("logistic_rows", {
        logistic_rows(set, TileMut::new(&mut tile, rows, keys, keys), &mut sums);
    });
    measure!("online_columns", {
        let mut max = vec![f32::NEG_INFINITY; keys];
        let state = OnlineColumns { max: &mut max, sum: &mut sums };
        online_columns(set, Tile::new(&tile, rows, keys, keys), state);
    });
    measure!("dot_rows", {
        let (w, x) = (Tile::new(&tile, rows, keys, keys), Tile::new(&other, rows, keys, keys));
        dot_rows(set, w, x, &mut sums);
    });
    measure!("dot_columns", {
        let (w, x) = (Tile::new(&tile, rows, keys, keys), Tile::new(&other, rows, keys, keys));
        dot_columns(set, w, x, &mut sums);
    });
    measure!("softmax_backward", {
        let score = TileMut::new(&mut tile, rows, keys, keys);
        let quantity = TileMut::new(&mut other, rows, keys, keys);
        let log_partition = LogPartition { max: &ones, log_sum: &ones };
        softmax_backward(set, score, quantity, log_partition, None, &ones);
    });
    let mut log_left = vec![0.0; rows];
    measure!("stick_breaking_rows", {
        log_left.fill(0.0);
        let state = StickBreaking { log_left: &mut log_left, mass: Some(&mut sums), entropy: None };
        stick_breaking_rows(set, TileMut::new(&mut tile, rows, keys, keys), state);
    });
    let mut seen = vec![0.0; rows];
    measure!("stick_breaking_backward", {
        let score = TileMut::new(&mut tile, rows, keys, keys);
        let quantity = TileMut::new(&mut other, rows, keys, keys);
        log_left.fill(0.0);
        seen.fill(0.0);
        let state = StickBreakingBackward {
            log_left: &mut log_left,
            seen: &mut seen,
            expected: &ones,
            of_left: &ones,
            score_weight: None,
        };
        stick_breaking_backward(set, score, quantity, state);
    });
    let draw = Draw { seed: 1, batch: 0, head: 0, query: 0, sample: 0 };
    let mut sample = 0;
    let cycles = cycles_per_call(|| {
        sample += 1;
        std::hint::black_box(gumbel_argmax(set, &source, 0, Draw { sample, ..draw }, None));
    });
    report("gumbel_argmax", cycles);
    let (keys, depth) = (256, 64);
    let source = wave(keys * depth);
    let mut panels = Panels::<f32>::empty();
    for (name, transposed) in [("repack, transposing", true), ("repack as it is", false)] {
        let cycles = cycles_per_call(|| match transposed {
            true => panels.repack(set, &source, depth, 1, keys, depth),
            false => panels.repack(set, &source, keys, depth, depth, 1),
        });
        println!("  {name:24} {:7.2} cycles per element", cycles / source.len() as f64);
    }
}

/// One query against a cache of keys and values much larger than any cache of the processor, beside
/// a plain sum over the same memory.
fn unpacked(set: InstructionSet) {
    for depth in [64, 128] {
        let keys = (1 << 28) / 4 / depth;
        let cache = vec![1.0f32; keys * depth];
        let bytes = (cache.len() * 4) as f64;
        let query = wave(depth);
        let mut scores = vec![0.0; keys];
        let mut out = vec![0.0; depth];
        let seconds = |work: &mut dyn FnMut()| {
            (0..7)
                .map(|_| {
                    let start = clock::processor_time();
                    work();
                    clock::processor_time() - start
                })
                .fold(f64::INFINITY, f64::min)
        };
        // From four places at once, which no single stream of loads outruns.
        let quarters: Vec<&[f32]> = cache.chunks_exact(cache.len() / 4).collect();
        let reading = seconds(&mut || {
            let mut sums = [[0.0f32; 32]; 4];
            for start in (0..quarters[0].len()).step_by(32) {
                for (sums, quarter) in sums.iter_mut().zip(&quarters) {
                    for (sum, x) in sums.iter_mut().zip(&quarter[start..start + 32]) {
                        *sum += x;
                    }
                }
            }
            std::hint::black_box(sums);
        });
        let scoring = seconds(&mut || {
            let q = Tile::new(&query, 1, depth, depth);
            let c = TileMut::new(&mut scores, 1, keys, keys);
            scores_unpacked(set, q, &cache, depth, 0..keys, c);
        });
        let gathering = seconds(&mut || {
            let w = Tile::new(&scores, 1, keys, keys);
            let c = TileMut::new(&mut out, 1, depth, depth);
            accumulate_unpacked(set, w, &cache, depth, 0..keys, c);
        });
        let rate = |seconds: f64| bytes / seconds / 1e9;
        println!(
            "  unpacked, D = {depth:3}: a sum reads {:5.1} GB/s, scores {:5.1}, means {:5.1}",
            rate(reading),
            rate(scoring),
            rate(gathering)
        );
    }
}
