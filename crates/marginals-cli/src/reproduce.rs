//! `marginals reproduce`: the paper's toy problems, trained here and now.

mod chart;
mod claims;
mod document;
mod edges;
mod expanding;
mod job;
mod kept;
mod multihop;
mod random;
mod report;
mod spread;
mod terminal;
mod training;
mod windows;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use marginals_burn::train::{ThreadsError, run_all};

use self::document::{Document, Scale};
use self::job::{Finished, Job};
use self::kept::{Kept, KeptError};
use crate::output::{self, PrintError, WriteError};
use crate::{interruption, message, progress};

/// Repeat the published toy experiments with multihop and expanding attention, over many seeds
///
/// Trains every layer on the problems of "Attention: Marginal Probability is All You Need?" (arXiv
/// 2304.04556), and beside them what the framework predicts beyond the paper. Writes reproduce.json, a
/// self-contained report.html and its figures next to a table on the terminal. The same seeds give the
/// same numbers at any number of threads. Runs that are finished when it is stopped are kept, and the same
/// command goes on from them.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which problem
    #[arg(value_enum, default_value_t = Which::All)]
    which: Which,
    /// A small run that shows that everything works: few steps, few settings, and 2 seeds unless said
    /// otherwise. It is too short to judge any claim by
    #[arg(long)]
    quick: bool,
    /// Seeds, from 0 on, each with its own task, sequences and weights [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: Option<u64>,
    /// Where reproduce.json, report.html and the figures go
    #[arg(long, value_name = "DIR", default_value = "reproduce")]
    out: PathBuf,
    /// Threads to use; without it, as many as there are cores
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// A toy problem, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// A chain of three vectors among distractors
    Multihop,
    /// One informative vector somewhere behind the last
    Expanding,
    /// Both
    All,
}

/// Why an experiment did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ReproduceError {
    #[error(transparent)]
    Model(#[from] marginals::Error),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Print(#[from] PrintError),
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error("{0} with `--threads`")]
    Threads(#[from] ThreadsError),
    #[error("the report could not be put together: {0}")]
    Report(#[from] minijinja::Error),
    #[error("the results could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Said where runs are kept when the command is stopped.
const GOES_ON: &str = "; the same command goes on from there";
/// The results as data.
const DATA: &str = "reproduce.json";

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), ReproduceError> {
    interruption::ends_the_command(GOES_ON);
    output::refuse_report_of_others(&arguments.out, DATA)?;
    output::prepare_folder(&arguments.out)?;
    let scale = if arguments.quick { Scale::quick() } else { Scale::full() };
    let seeds = arguments.seeds.unwrap_or(if arguments.quick { 2 } else { 10 });
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = arguments.threads.and_then(|t| NonZeroUsize::new(t.into())).unwrap_or(cores);

    let kept = Kept::open(&arguments.out, &scale)?;
    let jobs = jobs(arguments.which, &scale, seeds);
    let before: Vec<Option<Finished>> = jobs.iter().map(|job| kept.of(job)).collect();
    let left: Vec<Job> =
        jobs.iter().zip(&before).filter(|(_, run)| run.is_none()).map(|(job, _)| *job).collect();
    let there = jobs.len() - left.len();
    if there > 0 {
        message::note(&format!("{there} of {} runs were finished before", jobs.len()));
    }
    let bar = progress::resume(there, jobs.len(), "run", Duration::ZERO);
    let finished = run_all(&left, threads, |job| -> Result<Finished, ReproduceError> {
        let finished = work(job, &scale)?;
        kept.add(&finished)?;
        bar.inc(1);
        Ok(finished)
    })?;
    bar.finish_and_clear();

    let (mut walks, mut expansions) = (Vec::new(), Vec::new());
    let mut finished = finished.into_iter();
    for run in before.into_iter().filter_map(|run| run.or_else(|| finished.next())) {
        match run {
            Finished::Multihop(run) => walks.push(run),
            Finished::Expanding(run) => expansions.push(run),
        }
    }
    let document = Document::new(arguments.quick, seeds, &scale, walks, expansions);
    let figures = report::figures(&document);
    let page = report::render(&document, &figures)?;
    let json = serde_json::to_vec_pretty(&document)?;
    for figure in &figures {
        let path = arguments.out.join(format!("{}.svg", figure.name));
        output::write_whole(&path, crate::chart::alone(&figure.svg).as_bytes())?;
    }
    let (data, report) = (arguments.out.join(DATA), arguments.out.join("report.html"));
    output::write_whole(&data, &json)?;
    output::write_whole(&report, page.as_bytes())?;
    kept.finish(&jobs);
    let table = terminal::table(&document);
    let [report, data] = [report, data].map(|path| path.display().to_string());
    let [report, data] = [&report, &data].map(|path| message::on_one_line(path));
    output::print(&format!("{table}\nReport: {report}\nData:   {data}\n"))?;
    Ok(())
}

/// Every run there is to do, the longest first, so that no thread is left with one at the end.
fn jobs(which: Which, scale: &Scale, seeds: u64) -> Vec<Job> {
    let mut jobs = Vec::new();
    if which != Which::Multihop {
        for &dimension in scale.dimensions.iter().rev() {
            for &p in &scale.p {
                let setting = expanding::Setting { dimension, p };
                let own = expanding::Mechanism::ALL.into_iter().filter(|mechanism| {
                    mechanism.is_published() || dimension == scale.dimensions[0]
                });
                for mechanism in own {
                    jobs.extend((0..seeds).map(|seed| Job::Expanding(mechanism, setting, seed)));
                }
            }
        }
    }
    if which != Which::Expanding {
        for mechanism in multihop::Mechanism::ALL {
            jobs.extend((0..seeds).map(|seed| Job::Multihop(mechanism, seed)));
        }
    }
    jobs
}

fn work(job: &Job, scale: &Scale) -> Result<Finished, marginals::Error> {
    match *job {
        Job::Multihop(mechanism, seed) => {
            let run = multihop::run(mechanism, seed, &scale.multihop, scale.held_out);
            Ok(Finished::Multihop(run?))
        }
        Job::Expanding(mechanism, setting, seed) => {
            let run =
                expanding::run(mechanism, setting, seed, &scale.expanding, scale.held_out / 4);
            Ok(Finished::Expanding(run?))
        }
    }
}
