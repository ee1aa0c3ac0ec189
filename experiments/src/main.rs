//! Experiments on real data: `cargo run --release -p marginals-experiments -- NAME`.
//!
//! Each experiment is a folder beside this crate's sources with its settings (`config.toml`), what
//! it found (`results.json`, `picture.svg`) and what that shows (`README.md`). Data is fetched with
//! `cargo xtask fetch`; the seeds are in the settings.

mod alignment;
mod data;
mod finished;
mod graphs;
mod hopfield_memory;
mod mixture;
mod npz;
mod picture;
mod priors;
mod random;
mod trees;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo run --release -p marginals-experiments -- NAME [CONFIG]

  alignment          words of parallel Bible verses, aligned by EM under four structures
  graphs             GAT and GATv2 on the karate club and weather stations, against PyTorch Geometric
  hopfield-memory    retrieval of half-hidden and noisy digits against N and beta
  mixture            EM on the scikit-learn digits against scikit-learn
  priors             a language model over bytes under seven priors, trained short, measured long
  trees              a dependency parser of Turkish whose heads are a tree, or picked one by one

CONFIG replaces the experiment's own config.toml; results are then written beside it.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("config.toml");
    let config = rest.first().map_or(own, PathBuf::from);
    let outcome = match name.as_str() {
        "alignment" => alignment::run(&config),
        "graphs" => graphs::run(&config),
        "hopfield-memory" => hopfield_memory::run(&config),
        "mixture" => mixture::run(&config),
        "priors" => priors::run(&config),
        "trees" => trees::run(&config),
        _ => {
            eprint!("error: there is no experiment `{name}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The settings in a file.
fn read_config<C: serde::de::DeserializeOwned>(path: &Path) -> Outcome<C> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?)
}

/// Writes a result beside the settings: beside its place first and then renamed.
fn write(config: &Path, name: &str, content: &str) -> Outcome<()> {
    let folder = config.parent().filter(|f| !f.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let path = folder.join(name);
    let fresh = folder.join(format!(".{name}.{}", std::process::id()));
    let written = std::fs::write(&fresh, content).and_then(|()| std::fs::rename(&fresh, &path));
    if written.is_err() {
        // Nothing more can be done about a leftover than to say what went wrong.
        let _ = std::fs::remove_file(&fresh);
    }
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Mean and standard deviation over seeds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
struct Spread {
    mean: f64,
    deviation: f64,
}

impl Spread {
    fn of(list: &[f64]) -> Self {
        let n = list.len() as f64;
        let mean = list.iter().sum::<f64>() / n;
        let square = list.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        let deviation = if list.len() > 1 { (square / (n - 1.0)).sqrt() } else { 0.0 };
        Self { mean, deviation }
    }
}
