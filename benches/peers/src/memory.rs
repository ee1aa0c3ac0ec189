//! How much memory a long sequence takes: a process of its own, asked by the kernel's count.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayView1, s};
use serde::{Deserialize, Serialize};

use crate::engine;
use crate::inputs::Inputs;
use crate::machine::peak_resident_bytes;
use crate::work::Size;

/// One head over a long sequence, mean and entropy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// N, and as many keys.
    pub queries: usize,
    /// D.
    pub dim: usize,
    /// Threads it ran on.
    pub threads: usize,
    /// How long the one forward pass took.
    pub seconds: f64,
    /// The most memory the process ever held.
    pub peak_resident_bytes: u64,
    /// What inputs and answers alone take.
    pub tensor_bytes: u64,
    /// The largest difference of sampled rows from the same rows in f64, mean and entropy.
    pub difference: f64,
}

/// Runs this program again to measure `queries` rows by themselves.
pub fn measure(queries: usize, threads: usize) -> Result<Memory> {
    let output = Command::new(std::env::current_exe()?)
        .args(["memory", "--queries", &queries.to_string(), "--threads", &threads.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the memory measurement failed ({})", output.status);
    serde_json::from_slice(&output.stdout).context("what the memory measurement printed")
}

/// The measurement itself, in a process that does nothing else.
pub fn run(queries: usize, threads: usize) -> Result<Memory> {
    let size = Size { heads: 1, queries, keys: queries, dim: 64 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let (q, k, v) = pool.install(|| {
        let Inputs { q, k, v, .. } = Inputs::draw_forward(size);
        (q, k, v)
    });
    let start = Instant::now();
    let (mean, entropy) =
        pool.install(|| engine::mean_and_entropy(q.view(), k.view(), v.view()))?;
    let seconds = start.elapsed().as_secs_f64();
    // Before the check below, which needs memory of its own.
    let peak_resident_bytes =
        peak_resident_bytes().context("/proc/self/status does not tell the peak memory")?;
    let tensors = [q.len(), k.len(), v.len(), mean.len(), entropy.len()];

    let mut difference = 0.0_f64;
    for row in (0..queries).step_by((queries / 16).max(1)) {
        let (expected, expected_entropy) = from_the_definition(
            q.slice(s![0, 0, row, ..]),
            k.slice(s![0, 0, .., ..]),
            v.slice(s![0, 0, .., ..]),
        );
        for (&got, want) in mean.slice(s![0, 0, row, ..]).iter().zip(expected) {
            difference = worse(difference, (f64::from(got) - want).abs());
        }
        difference = worse(difference, (f64::from(entropy[[0, 0, row]]) - expected_entropy).abs());
    }
    Ok(Memory {
        queries,
        dim: size.dim,
        threads,
        seconds,
        peak_resident_bytes,
        tensor_bytes: tensors.iter().sum::<usize>() as u64 * size_of::<f32>() as u64,
        difference,
    })
}

/// The larger of the two; NaN is the largest.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Mean and entropy of one row by p = exp(θ) / Σ exp(θ), θ = q·k / √D, in f64.
fn from_the_definition(
    q: ArrayView1<'_, f32>,
    k: ndarray::ArrayView2<'_, f32>,
    v: ndarray::ArrayView2<'_, f32>,
) -> (Vec<f64>, f64) {
    let scale = 1.0 / (q.len() as f64).sqrt();
    let dot = |key: ArrayView1<'_, f32>| -> f64 {
        q.iter().zip(key).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let scores: Vec<f64> = k.rows().into_iter().map(|key| scale * dot(key)).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    let log_partition = largest + sum.ln();
    let mut mean = vec![0.0; v.ncols()];
    let mut entropy = 0.0;
    for (score, value) in scores.iter().zip(v.rows()) {
        let log_p = score - log_partition;
        entropy -= log_p.exp() * log_p;
        for (sum, &value) in mean.iter_mut().zip(value) {
            *sum += log_p.exp() * f64::from(value);
        }
    }
    (mean, entropy)
}
