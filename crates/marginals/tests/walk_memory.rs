//! The memory of a long walk, measured: `cargo test --release --test walk_memory -- --ignored
//! --nocapture`. Alone in its binary, so that the peak of the process is its own.

use marginals::potential::Dot;
use marginals::prior::Causal;
use marginals::question::{Entropy, Mean};
use marginals::structure::Walk;
use marginals::{Model, prior::Uniform};
use ndarray::Array4;

/// Nodes and width of one head.
const NODES: usize = 32_768;
const WIDTH: usize = 64;

/// What the process may have held at most, in MB; one N × N matrix of f32 has 4,295.
const LIMIT: f64 = 300.0;

/// The most memory this process ever held, in MB of 10⁶ bytes.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

fn tensor(seed: u64) -> Array4<f32> {
    let mut state = seed;
    Array4::from_shape_simple_fn((1, 1, NODES, WIDTH), || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    })
}

fn check(what: &str) {
    let Some(peak) = peak() else {
        eprintln!("SKIPPED: no /proc/self/status on this system to read the peak from");
        return;
    };
    println!("{what}: peak resident memory {peak:.0} MB");
    assert!(peak < LIMIT, "{what} took {peak:.0} MB, not less than {LIMIT}");
}

#[test]
#[ignore = "a minute of work, and measures the whole process"]
fn a_long_walk_stays_small() {
    let (q, k, v) = (tensor(1), tensor(2), tensor(3));
    check("q, k and v");

    let walk = Walk::uniform(4).expect("four hops");
    let model = Model::new(walk, Uniform, Dot::scaled(WIDTH));
    let posterior = model.posterior(q.view(), k.view()).expect("the same nodes");
    let (mean, entropy) = posterior.ask((Mean(v.view()), Entropy)).expect("answers");
    // Walks of at least one hop forget where they started, nearly: their mean is that of v.
    assert!(mean.iter().all(|x| x.abs() < 0.2));
    let most = 2.0 * (NODES as f32).ln() + 5f32.ln();
    assert!(entropy.iter().all(|&x| x < most && x > 0.95 * most));
    drop((mean, entropy));
    check("mean and entropy, 4 hops, every key possible");

    for hops in [2, 4] {
        let walk = Walk::uniform(hops).expect("some hops");
        let model = Model::new(walk, Causal, Dot::scaled(WIDTH));
        let posterior = model.posterior(q.view(), k.view()).expect("the same nodes");
        let pass = posterior.pass(Mean(v.view())).expect("a pass");
        let gradients = pass.backward(&v).expect("gradients");
        assert!(gradients.q.iter().chain(&gradients.k).all(|g| g.is_finite()));
        check(&format!("forward and backward, {hops} hops, causal"));
    }
}
