//! Each kernel alone, on operands that stay in cache, on one thread: the rates that a composition
//! of them can hope for.
//!
//! `cargo bench -p marginals-kernels --bench kernels`

use std::time::Instant;

use marginals_kernels::*;

/// Seconds that 4000 cycles take: a chain of multiplications, each waiting three for the last, and exclusive ors, each one.
fn calibrate() -> f64 {
    let mut x = std::hint::black_box(3u64);
    let start = Instant::now();
    for _ in 0..1000 {
        // A square: the compiler has no closed form for the chain.
        x = x.wrapping_mul(x) ^ 5;
    }
    std::hint::black_box(x);
    start.elapsed().as_secs_f64()
}

/// Cycles per call, the median of many short runs. Cycles and not seconds, each run against the
/// clock frequency just before it: on a shared machine that moves by a quarter.
fn cycles_per_call(mut work: impl FnMut()) -> f64 {
    let mut samples: Vec<f64> = (0..401)
        .map(|_| {
            let frequency = 4000.0 / calibrate().min(calibrate());
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
    }
}
