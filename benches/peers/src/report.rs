//! Results: kept as JSON by date, shown as tables.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::alternate::Timing;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::side::Difference;
use crate::work::Suite;
use crate::worker::Versions;

/// Everything one run measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Word for what was measured: `peers`, or `structured`.
    #[serde(default = "attention")]
    pub suite: String,
    /// The day, as YYYY-MM-DD in UTC.
    pub date: String,
    /// Whether this was the short run, whose figures nobody should quote.
    pub quick: bool,
    /// The version of this engine.
    pub engine: String,
    /// Where it ran.
    pub machine: Machine,
    /// What it ran against.
    pub peer: Option<Versions>,
    /// One entry for each case, size and number of threads.
    pub measurements: Vec<Measurement>,
    /// What a peer could not do, and why.
    pub failures: Vec<String>,
    /// The memory that a long sequence takes.
    pub memory: Option<Memory>,
    /// How long all of it took, in seconds.
    pub seconds: f64,
}

/// Suite of results that name none.
fn attention() -> String {
    Suite::Peers.word().to_owned()
}

/// One case at one size on so many threads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// The case's name on the command line.
    pub case: String,
    /// The case's name in tables.
    pub title: String,
    /// [batch, heads, queries, keys, dim].
    pub shape: [usize; 5],
    /// Threads on both sides.
    pub threads: usize,
    /// Rounds, each with every side once.
    pub rounds: usize,
    /// Our time.
    pub ours: Timing,
    /// The bytes of keys and values, where reading them is the bound.
    pub bytes: Option<usize>,
    /// The others' times.
    pub peers: Vec<PeerResult>,
}

/// How another did at the same work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerResult {
    /// Who.
    pub title: String,
    /// Its time.
    pub timing: Timing,
    /// The median over the rounds of its time over ours: above 1 we are faster.
    pub ratio: f64,
    /// How far the answers lie apart, where both computed the same.
    pub difference: Option<Difference>,
}

impl Measurement {
    /// How a table calls its size.
    fn size(&self) -> String {
        let [_, _, queries, keys, _] = self.shape;
        if queries == keys { format!("N = {queries}") } else { format!("{queries} × {keys}") }
    }

    /// The case, size and threads, for messages.
    pub fn label(&self) -> String {
        let threads = if self.threads == 1 { "thread" } else { "threads" };
        format!("{}, {}, {} {threads}", self.title, self.size(), self.threads)
    }
}

impl Results {
    /// Whether every pair of sides computed the same.
    pub fn disagreements(&self) -> Vec<String> {
        let mut found = Vec::new();
        for measurement in &self.measurements {
            for peer in &measurement.peers {
                if let Some(difference) = peer.difference.as_ref().filter(|d| !d.agrees()) {
                    let label = measurement.label();
                    found.push(format!("{label}, against {}: {difference:?}", peer.title));
                }
            }
        }
        if let Some(memory) =
            self.memory.as_ref().filter(|m| m.difference.is_nan() || m.difference > 1e-4)
        {
            found.push(format!("the long sequence is off by {}", memory.difference));
        }
        found
    }

    /// Writes `<date>-<suite>.json` and `.md` into `folder`.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}-{}.json", self.date, self.suite));
        replace(&path, &(serde_json::to_string_pretty(self)? + "\n"))?;
        replace(&path.with_extension("md"), &self.markdown())?;
        Ok(path)
    }

    /// The newest results of a suite in `folder`.
    pub fn newest(folder: &Path, suite: Suite) -> Result<Self> {
        let suite = suite.word();
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .with_context(|| format!("there is no folder of results at {}", folder.display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.to_string_lossy().ends_with(&format!("-{suite}.json")))
            .collect();
        // Dates are written so that they sort.
        paths.sort();
        let path = paths.pop().with_context(|| {
            format!("there are no results in {}; run `cargo xtask bench {suite}`", folder.display())
        })?;
        let results: Self = serde_json::from_str(&std::fs::read_to_string(&path)?)
            .with_context(|| format!("{} is not a file of results", path.display()))?;
        ensure!(!results.measurements.is_empty(), "{} holds no measurement", path.display());
        Ok(results)
    }

    /// Everything as a page.
    pub fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut page = format!("# Beside PyTorch, {}\n\n", self.date);
        if self.quick {
            page += "A quick run: fewer rounds and smaller sizes; not to be quoted.\n\n";
        }
        page += match self.suite == attention() {
            true => "Batch 1, dimension 64, f32; 8 heads except in the memory case. ",
            false => "Scores in f32: 32 chains and trees; subsets for each of the queries. ",
        };
        page += "Each round measures every\n\
            side once, all others idle; times are medians over the rounds (least in brackets). The ratio\n\
            is the median over the rounds of the peer's time over ours: above 1, ours is faster. The\n\
            difference is the largest |ours − theirs| in any answer, relative to the largest |theirs|\n\
            where that is above 1.\n\n";
        page += "| work | size | threads | rounds | ours, ms | peer | peer, ms | ratio | difference |\n";
        page += "|---|---|--:|--:|--:|---|--:|--:|--:|\n";
        for m in &self.measurements {
            for peer in &m.peers {
                let _ = writeln!(
                    page,
                    "| {} | {} | {} | {} | {} | {} | {} | {:.2} | {} |",
                    m.title,
                    m.size(),
                    m.threads,
                    m.rounds,
                    milliseconds(m.ours),
                    peer.title,
                    milliseconds(peer.timing),
                    peer.ratio,
                    peer.difference
                        .as_ref()
                        .map_or("–".to_owned(), |d| format!("{:.0e}", d.worst())),
                );
            }
        }
        page.push('\n');
        for m in self.measurements.iter().filter(|m| m.bytes.is_some()) {
            let _ = writeln!(page, "{}.  ", bandwidth(m));
        }
        if let Some(memory) = &self.memory {
            let _ = writeln!(page, "\n{}", describe_memory(memory));
        }
        if !self.failures.is_empty() {
            let _ = writeln!(page, "\n## Not measured\n\n- {}", self.failures.join("\n- "));
        }
        let _ = writeln!(
            page,
            "\n## Machine\n\n- {}, {} cores, {}, {:.1} GiB of memory; {}\n- load before: {}\n\
             - marginals {} at {}, {}, `{}`, flags `{}`",
            machine.processor,
            machine.cores,
            machine.caches,
            machine.memory as f64 / (1u64 << 30) as f64,
            machine.system,
            machine.load,
            self.engine,
            machine.revision,
            machine.rustc,
            machine.instruction_set,
            machine.rust_flags,
        );
        if let Some(peer) = &self.peer {
            let _ = writeln!(
                page,
                "- PyTorch {} ({}), NumPy {}, Python {}; {}",
                peer.torch, peer.capability, peer.numpy, peer.python, machine.cxx
            );
        }
        let _ = writeln!(page, "- the whole run took {:.0} s", self.seconds);
        page
    }

    /// README's table: the size that every peer was asked for, one line for each case and peer.
    pub fn readme_table(&self) -> String {
        let mut threads: Vec<usize> = self.measurements.iter().map(|m| m.threads).collect();
        threads.sort_unstable();
        threads.dedup();
        let mut table = "| work | size | against |".to_owned();
        for count in &threads {
            let plural = if *count == 1 { "" } else { "s" };
            let _ = write!(table, " {count} thread{plural} |");
        }
        table += &format!("\n|---|---|---|{}\n", "--:|".repeat(threads.len()));
        let mut seen = Vec::new();
        for measurement in &self.measurements {
            if seen.contains(&&measurement.case) {
                continue;
            }
            seen.push(&measurement.case);
            let of_case = || self.measurements.iter().filter(|m| m.case == measurement.case);
            let shown = of_case()
                .find(|m| m.shape[2] == 4096)
                .or(of_case().next_back())
                .unwrap_or(measurement);
            for peer in &shown.peers {
                let _ = write!(table, "| {} | {} | {} |", shown.title, shown.size(), peer.title);
                for &count in &threads {
                    let ratio = of_case()
                        .find(|m| m.shape == shown.shape && m.threads == count)
                        .and_then(|m| m.peers.iter().find(|p| p.title == peer.title))
                        .map_or("–".to_owned(), |p| format!("{:.2}×", p.ratio));
                    let _ = write!(table, " {ratio} |");
                }
                table.push('\n');
            }
        }
        if let Some(memory) = &self.memory {
            let _ = writeln!(table, "\n{}", describe_memory(memory));
        }
        let _ = writeln!(
            table,
            "\nMeasured on {} with {} cores on {}; above 1×, ours is faster. Every size, the spread and \
             the differences between the answers: [benches/results](benches/results).",
            self.machine.processor, self.machine.cores, self.date
        );
        table
    }
}

/// Median and least time.
fn milliseconds(timing: Timing) -> String {
    format!("{:.2} ({:.2})", timing.median * 1e3, timing.minimum * 1e3)
}

/// How fast keys and values were read.
fn bandwidth(m: &Measurement) -> String {
    let rate = |seconds: f64| m.bytes.unwrap_or(0) as f64 / seconds / 1e9;
    let mut text = format!("{}: ours reads {:.1} GB/s", m.label(), rate(m.ours.median));
    for peer in &m.peers {
        let _ = write!(text, ", {} {:.1}", peer.title, rate(peer.timing.median));
    }
    text
}

/// The memory of a long sequence, in a sentence.
fn describe_memory(memory: &Memory) -> String {
    format!(
        "One head, N = {}, d = {}, forward with entropy: {:.0} MB of memory at the peak, of which {:.0} MB \
         are inputs and answers; {:.1} s on {} threads; sampled rows within {:.0e} of the same in f64.",
        memory.queries,
        memory.dim,
        memory.peak_resident_bytes as f64 / 1e6,
        memory.tensor_bytes as f64 / 1e6,
        memory.seconds,
        memory.threads,
        memory.difference
    )
}

/// Writes a file beside its place and moves it there, so that no reader sees half of it.
fn replace(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("partial");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}
