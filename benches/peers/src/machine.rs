//! The machine and the versions that results belong to.

use std::path::Path;
use std::process::Command;

use marginals_kernels::InstructionSet;
use serde::{Deserialize, Serialize};

/// What a result cannot be read without.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name, family, model and stepping.
    pub processor: String,
    /// Logical processors.
    pub cores: usize,
    /// The caches, as the kernel names them.
    pub caches: String,
    /// Main memory in bytes.
    pub memory: u64,
    /// The vector instructions our kernels run on.
    pub instruction_set: String,
    /// The kernel of the operating system.
    pub system: String,
    /// Runnable processes over the last minute, before anything was measured.
    pub load: f64,
    /// The compiler that built this engine.
    pub rustc: String,
    /// Flags it was built with beyond the release profile.
    pub rust_flags: String,
    /// The compiler behind torch.compile.
    pub cxx: String,
    /// The revision measured; `-dirty` where the work tree differs from it.
    pub revision: String,
}

impl Machine {
    /// Looks around; what cannot be found out is "unknown" or 0.
    pub fn describe() -> Self {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let of = |name| field(&processor, name).unwrap_or("unknown");
        Self {
            processor: format!(
                "{}, family {} model {} stepping {}",
                of("model name"),
                of("cpu family"),
                of("model"),
                of("stepping")
            ),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            caches: caches(),
            memory: field(&memory, "MemTotal").and_then(kilobytes).unwrap_or(0),
            instruction_set: format!("{:?}", InstructionSet::detect()),
            system: first_line("uname", &["-srm"]),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            rustc: first_line("rustc", &["--version"]),
            rust_flags: std::env::var("RUSTFLAGS").unwrap_or_default(),
            cxx: first_line("g++", &["--version"]),
            revision: revision(),
        }
    }
}

/// The most memory this process ever held, in bytes.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    field(&status, "VmHWM").and_then(kilobytes)
}

/// The value of the first line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key.trim() == name).then_some(value.trim()))
}

/// "123 kB" in bytes.
fn kilobytes(value: &str) -> Option<u64> {
    value.strip_suffix("kB")?.trim().parse::<u64>().ok().map(|count| count * 1024)
}

/// The caches that the first processor sees.
fn caches() -> String {
    let folder = Path::new("/sys/devices/system/cpu/cpu0/cache");
    let read = |index: u32, name: &str| {
        let path = folder.join(format!("index{index}")).join(name);
        std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok()
    };
    let caches: Vec<String> = (0..8)
        .filter_map(|index| {
            let (level, kind) = (read(index, "level")?, read(index, "type")?);
            Some(format!("L{level} {kind} {}", read(index, "size")?))
        })
        .collect();
    caches.join(", ")
}

/// The revision of the work tree.
fn revision() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let hash = first_line("git", &["-C", folder, "rev-parse", "--short=12", "HEAD"]);
    let changes =
        first_line("git", &["-C", folder, "status", "--porcelain", "--untracked-files=no"]);
    if changes.is_empty() { hash } else { format!("{hash}-dirty") }
}

/// The first line a program prints.
fn first_line(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("").to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_files() {
        assert_eq!(field("a : b\nVmHWM:\t  12 kB\n", "VmHWM").and_then(kilobytes), Some(12 * 1024));
        assert_eq!(field("a : b", "c"), None);
    }
}
