//! A training step through attention: our operation beside Burn's own, each in a process of its own.
//!
//! `cargo bench -p marginals-burn --bench training_step` prints both; with `-- --keep FILE` it also
//! writes the figures as JSON.

use std::process::Command;
use std::time::Instant;

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Distribution, Tensor};
use marginals::spec::ModelSpec;
use marginals_burn::ops::Posterior;

const SHAPE: [usize; 4] = [1, 8, 4096, 64];
const ROUNDS: usize = 5;

/// Forward and backward of one layer's attention.
fn step(which: &str, inputs: &[Tensor<4>; 3]) -> Tensor<4> {
    let [q, k, v] = inputs.clone().map(|tensor| tensor.detach().require_grad());
    let out = match which {
        "ours" => {
            let spec = "structure = \"each-query-picks-one\"\npotential = \"dot\"";
            let spec = ModelSpec::from_toml(spec).expect("a model");
            Posterior::new(spec).mean(q.clone(), k.clone(), v.clone()).expect("sizes fit")
        }
        _ => attention(
            q.clone(),
            k.clone(),
            v.clone(),
            None,
            None,
            AttentionModuleOptions::default(),
        ),
    };
    let gradients = out.sum().backward();
    let of = |tensor: &Tensor<4>| tensor.grad(&gradients).expect("a gradient");
    let (_, _) = (of(&k), of(&v));
    of(&q)
}

/// A line of /proc/self/status, in bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or("");
    let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// One side alone: seconds of each step, and what it adds to the memory that the inputs take.
fn measure(which: &str, threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        let device = Device::flex();
        device.seed(1);
        let taped = device.autodiff();
        let inputs: [Tensor<4>; 3] =
            std::array::from_fn(|_| Tensor::random(SHAPE, Distribution::Normal(0.0, 1.0), &taped));
        // So that they are there before memory is read.
        let _: Vec<f32> = inputs.iter().map(|x| x.clone().sum().into_scalar::<f32>()).collect();
        let before = memory("VmRSS");
        let mut seconds = Vec::new();
        for round in 0..=ROUNDS {
            let start = Instant::now();
            let gradient = step(which, &inputs);
            std::hint::black_box(gradient.into_data());
            // The first is to warm up.
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        let added = memory("VmHWM").saturating_sub(before);
        seconds.sort_unstable_by(f64::total_cmp);
        let found = serde_json::json!({
            "seconds": seconds[ROUNDS / 2], "fastest": seconds[0], "bytes-added": added,
        });
        println!("{found}");
    });
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [only, which, threads] = arguments.as_slice()
        && only == "--only"
    {
        return measure(which, threads.parse().expect("a number of threads"));
    }
    let own = std::env::current_exe().expect("this program");
    let mut all = Vec::new();
    for threads in [1, 2] {
        let side = |which: &str| -> serde_json::Value {
            let threads = threads.to_string();
            let output = Command::new(&own)
                .args(["--only", which, &threads])
                .output()
                .expect("this program again");
            serde_json::from_slice(&output.stdout).expect("figures")
        };
        let (ours, burn) = (side("ours"), side("burn"));
        let seconds = |side: &serde_json::Value| side["seconds"].as_f64().unwrap_or(f64::NAN);
        let megabytes =
            |side: &serde_json::Value| side["bytes-added"].as_f64().unwrap_or(f64::NAN) / 1e6;
        println!(
            "{threads} thread(s): ours {:.3} s, {:.0} MB; Burn's {:.3} s, {:.0} MB; {:.2}×",
            seconds(&ours),
            megabytes(&ours),
            seconds(&burn),
            megabytes(&burn),
            seconds(&burn) / seconds(&ours)
        );
        all.push(serde_json::json!({ "threads": threads, "ours": ours, "burn": burn }));
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--keep") {
        let path = arguments.get(at + 1).expect("a file after --keep");
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name"));
        let cpu = cpu.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
        let kept = serde_json::json!({
            "what": "forward and backward of attention on Burn's flex backend, f32",
            "shape": SHAPE, "rounds": ROUNDS, "processor": cpu, "burn": "0.22.1", "measured": all,
        });
        let text = serde_json::to_string_pretty(&kept).expect("JSON");
        std::fs::write(path, text + "\n").expect("the file can be written");
    }
}
