//! The Python process that does PyTorch's side, spoken to in lines of JSON.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::side::{Answer, Side};

/// What the worker runs on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Versions {
    /// Python's version.
    pub python: String,
    /// PyTorch's version.
    pub torch: String,
    /// NumPy's version.
    pub numpy: String,
    /// The vector instructions PyTorch chose.
    pub capability: String,
    /// The threads it computes with.
    pub threads: usize,
}

/// One Python process with a fixed number of threads; it ends when this is dropped.
pub struct Worker {
    process: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    /// Where inputs and answers are exchanged.
    scratch: PathBuf,
    /// What it answered to our greeting.
    pub versions: Versions,
}

impl Worker {
    /// Starts `python` on the worker's script with so many threads.
    pub fn start(python: &Path, threads: usize, scratch: &Path) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("torch_worker.py");
        let mut process = Command::new(python)
            .arg(&script)
            .env("OMP_NUM_THREADS", threads.to_string())
            // Generated code has the number of threads in it: nothing may be shared across.
            .env("TORCHINDUCTOR_CACHE_DIR", scratch.join(format!("inductor-{threads}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} could not be started", python.display()))?;
        let requests = process.stdin.take();
        let replies = BufReader::new(process.stdout.take().context("standard output is piped")?);
        let mut worker = Self {
            process,
            requests,
            replies,
            scratch: scratch.to_owned(),
            versions: Versions {
                python: String::new(),
                torch: String::new(),
                numpy: String::new(),
                capability: String::new(),
                threads: 0,
            },
        };
        worker.versions = serde_json::from_value(worker.ask(json!({ "do": "hello" }))?)?;
        ensure!(
            worker.versions.threads == threads,
            "PyTorch took {} threads instead of {threads}",
            worker.versions.threads
        );
        Ok(worker)
    }

    /// Sends a request and waits, idle, for its reply.
    fn ask(&mut self, request: Value) -> Result<Value> {
        let requests = self.requests.as_mut().context("the worker was ended")?;
        writeln!(requests, "{request}").context("the Python worker no longer listens")?;
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            bail!("the Python worker ended in the middle of {request}; see its output above");
        }
        let reply: Value = serde_json::from_str(&line)
            .with_context(|| format!("the Python worker replied {line:?}"))?;
        match reply.get("error") {
            Some(error) => bail!("the Python worker failed at {request}: {error}"),
            None => Ok(reply),
        }
    }

    /// Builds a piece of work in the worker and runs it once.
    pub fn prepare(&mut self, work: &str, inputs: &Path, settings: &Value) -> Result<()> {
        self.ask(json!({
            "do": "prepare", "slot": work, "work": work, "inputs": inputs, "settings": settings,
        }))?;
        Ok(())
    }

    /// Forgets a piece of work.
    pub fn release(&mut self, work: &str) -> Result<()> {
        self.ask(json!({ "do": "release", "slot": work }))?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input ends the worker.
        self.requests = None;
        let _ = self.process.wait();
    }
}

/// One prepared piece of the worker's work as a side.
pub struct TorchSide<'a> {
    /// Who does it.
    pub worker: &'a std::cell::RefCell<Worker>,
    /// What it is called there.
    pub work: &'static str,
}

impl Side for TorchSide<'_> {
    fn time(&mut self, repetitions: usize) -> Result<f64> {
        let request = json!({ "do": "time", "slot": self.work, "repetitions": repetitions });
        let reply = self.worker.borrow_mut().ask(request)?;
        reply["seconds"].as_f64().context("the Python worker gave no time")
    }

    fn answers(&mut self) -> Result<BTreeMap<String, Answer>> {
        let mut worker = self.worker.borrow_mut();
        let path = worker.scratch.join("answers.safetensors");
        worker.ask(json!({ "do": "answer", "slot": self.work, "path": path }))?;
        let bytes = std::fs::read(&path)
            .with_context(|| format!("the worker's answers in {}", path.display()))?;
        std::fs::remove_file(&path)?;
        let tensors = SafeTensors::deserialize(&bytes)?;
        tensors.iter().map(|(name, tensor)| Ok((name.to_owned(), read(&tensor)?))).collect()
    }
}

/// A tensor of the file as numbers.
fn read(tensor: &safetensors::tensor::TensorView<'_>) -> Result<Answer> {
    let data = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F32 => {
            let (numbers, _) = data.as_chunks::<4>();
            Answer::Real(numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
        }
        Dtype::I64 => {
            let (indices, _) = data.as_chunks::<8>();
            Answer::Index(indices.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
        }
        other => bail!("the worker answered in {other:?}"),
    })
}
