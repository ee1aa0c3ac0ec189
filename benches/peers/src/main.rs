//! Our engine and PyTorch in alternation: `cargo xtask bench peers`.

mod alternate;
mod engine;
mod inputs;
mod machine;
mod memory;
mod report;
mod side;
mod slots;
mod streaming;
mod structured;
mod work;
mod worker;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::json;

use alternate::Rounds;
use engine::Engine;
use inputs::Inputs;
use report::{Measurement, PeerResult, Results};
use side::{Difference, Side};
use streaming::StreamingRead;
use work::{CASES, Case, Peer, Size, Structured, Suite, Task};
use worker::{TorchSide, Worker};

/// Measure this engine and PyTorch in alternation.
#[derive(Parser)]
struct Arguments {
    /// Benchmark to run.
    #[arg(value_enum, default_value = "peers")]
    suite: Suite,
    /// Small sizes and few rounds: whether it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// Print README's table from the newest results and measure nothing.
    #[arg(long)]
    table: bool,
    /// Only the cases of these names; the results are shown, not kept.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Numbers of threads, on both sides alike.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// A Python interpreter with the packages of requirements.txt.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// A folder for inputs, answers and compiled code; it may grow to some gigabytes.
    #[arg(long, default_value = "target/bench-scratch")]
    scratch: PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// One long forward pass in this process, described as JSON.
    #[command(hide = true)]
    Memory {
        #[arg(long)]
        queries: usize,
        #[arg(long)]
        threads: usize,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Part::Memory { queries, threads }) = arguments.part {
        println!("{}", serde_json::to_string(&memory::run(queries, threads)?)?);
        return Ok(());
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("results");
    if arguments.table {
        print!("{}", Results::newest(&kept, arguments.suite)?.readme_table());
        return Ok(());
    }
    let results = measure(&arguments)?;
    // Parts and quick runs are no record of anything.
    let whole = !arguments.quick && arguments.only.is_empty();
    let path = results.write(if whole { &kept } else { &arguments.scratch })?;
    println!("\n{}", results.markdown());
    println!("{} {}", if whole { "kept as" } else { "not a whole run; left in" }, path.display());
    let disagreements = results.disagreements();
    ensure!(disagreements.is_empty(), "the answers differ:\n{}", disagreements.join("\n"));
    Ok(())
}

/// Runs every case that was asked for.
fn measure(arguments: &Arguments) -> Result<Results> {
    let start = Instant::now();
    let machine = machine::Machine::describe();
    let suite = arguments.suite;
    let memory = (suite == Suite::Peers).then_some("memory");
    let cases = || CASES.iter().filter(|case| case.suite() == suite);
    let names: Vec<&str> = cases().map(|case| case.name).chain(memory).collect();
    if let Some(unknown) = arguments.only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("there is no case `{unknown}`; there are {}", names.join(", "));
    }
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|o| o == name);
    std::fs::create_dir_all(&arguments.scratch)
        .with_context(|| format!("{} cannot be made", arguments.scratch.display()))?;
    // The worker runs elsewhere and needs the whole path.
    let scratch = arguments.scratch.canonicalize()?;

    let mut teams = Vec::new();
    for &threads in &arguments.threads {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let worker = Worker::start(&arguments.python, threads, &scratch)?;
        teams.push(Team { pool, worker: RefCell::new(worker) });
    }
    let (mut measurements, mut failures) = (Vec::new(), Vec::new());
    for case in cases().filter(|case| wanted(case.name)) {
        for size in case.sizes(arguments.quick) {
            let with_scores = matches!(
                case.task,
                Task::BiasBackward | Task::Structured(_) | Task::StructuredBackward(_)
            );
            let mut inputs = Inputs::draw(size, with_scores);
            match case.task {
                Task::Slots(_) => inputs.draw_weights(slots::weights(size.dim)),
                Task::Structured(of) | Task::StructuredBackward(of) => {
                    inputs.draw_weights(structured::weights(of, size.keys));
                }
                _ => {}
            }
            let shared = scratch.join("inputs.safetensors");
            inputs.write(&shared)?;
            for team in &teams {
                let (measurement, failed) =
                    team.measure(case, size, &inputs, &shared, arguments.quick)?;
                eprintln!("[{:>4.0} s] {}", start.elapsed().as_secs_f64(), summary(&measurement));
                for failure in &failed {
                    eprintln!("NOT MEASURED: {failure}");
                }
                measurements.push(measurement);
                failures.extend(failed);
            }
            std::fs::remove_file(&shared)?;
        }
    }
    let memory = match arguments.threads.iter().max() {
        Some(&threads) if suite == Suite::Peers && wanted("memory") => {
            let queries = if arguments.quick { 16_384 } else { 131_072 };
            Some(memory::measure(queries, threads)?)
        }
        _ => None,
    };
    Ok(Results {
        suite: suite.word().to_owned(),
        date: time::OffsetDateTime::now_utc().date().to_string(),
        quick: arguments.quick,
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        machine,
        peer: teams.first().map(|team| team.worker.borrow().versions.clone()),
        measurements,
        failures,
        memory,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Both engines at one number of threads.
struct Team {
    pool: ThreadPool,
    worker: RefCell<Worker>,
}

impl Team {
    /// Measures one case at one size. What a peer fails at is told, and the others go on.
    fn measure(
        &self,
        case: &Case,
        size: Size,
        inputs: &Inputs,
        shared: &Path,
        quick: bool,
    ) -> Result<(Measurement, Vec<String>)> {
        let mut failures = Vec::new();
        let mut ours = Engine::new(case.task, inputs, &self.pool);
        let our_answers = ours.answers()?;
        let mut bytes = None;
        let mut others: Vec<(&Peer, Box<dyn Side + '_>)> = Vec::new();
        for peer in case.peers {
            let side: Box<dyn Side + '_> = match peer {
                Peer::Torch { limit, .. } if size.queries > *limit => continue,
                Peer::Torch { work, .. } => {
                    let settings = match case.task {
                        Task::Window(keys) => json!({ "window": keys }),
                        Task::Slots(iterations) => json!({ "iterations": iterations }),
                        Task::Transport(times) => {
                            json!({ "times": times, "tolerance": structured::TOLERANCE })
                        }
                        Task::Structured(Structured::Subsets(k))
                        | Task::StructuredBackward(Structured::Subsets(k)) => json!({ "k": k }),
                        _ => json!({}),
                    };
                    let prepared = self.worker.borrow_mut().prepare(work, shared, &settings);
                    if let Err(failure) = prepared {
                        // torch.compile needs a C++ compiler, for one.
                        let size = size.queries;
                        failures.push(format!("{work}, N = {size}: {failure:#}"));
                        continue;
                    }
                    Box::new(TorchSide { worker: &self.worker, work })
                }
                Peer::Ourselves { task, .. } => Box::new(Engine::new(*task, inputs, &self.pool)),
                Peer::StreamingRead => {
                    let buffers = [&inputs.k, &inputs.v].into_iter().filter_map(|t| t.as_slice());
                    let read = StreamingRead { pool: &self.pool, buffers: buffers.collect() };
                    bytes = Some(read.bytes());
                    Box::new(read)
                }
            };
            others.push((peer, side));
        }
        let mut differences = Vec::new();
        for (peer, side) in &mut others {
            let compared = match peer {
                Peer::Torch { .. } | Peer::Ourselves { same_answer: true, .. } => {
                    Some(Difference::between(&our_answers, &side.answers()?)?)
                }
                // Asked all the same: it warms the side up.
                Peer::Ourselves { .. } | Peer::StreamingRead => side.answers().map(|_| None)?,
            };
            differences.push(compared);
        }
        let rounds = {
            let mut sides: Vec<&mut dyn Side> = vec![&mut ours];
            sides.extend(others.iter_mut().map(|(_, side)| &mut **side as &mut dyn Side));
            Rounds::measure(&mut sides, quick)?
        };
        let peers =
            others.iter().zip(differences).enumerate().map(|(index, ((peer, _), difference))| {
                PeerResult {
                    title: peer.title().to_owned(),
                    timing: rounds.timing(index + 1),
                    ratio: rounds.ratio(index + 1, 0),
                    difference,
                }
            });
        let measurement = Measurement {
            case: case.name.to_owned(),
            title: case.title.to_owned(),
            shape: [1, size.heads, size.queries, size.keys, size.dim],
            threads: self.pool.current_num_threads(),
            rounds: rounds.count(),
            ours: rounds.timing(0),
            bytes,
            peers: peers.collect(),
        };
        for (peer, _) in &others {
            if let Peer::Torch { work, .. } = peer {
                self.worker.borrow_mut().release(work)?;
            }
        }
        Ok((measurement, failures))
    }
}

/// A line that says how it went.
fn summary(measurement: &Measurement) -> String {
    let peers: Vec<String> =
        measurement.peers.iter().map(|peer| format!("{} {:.2}×", peer.title, peer.ratio)).collect();
    let ours = measurement.ours.median * 1e3;
    format!("{}: ours {ours:.2} ms; {}", measurement.label(), peers.join(", "))
}
