//! Every instruction path passes the same suite.

use std::process::Command;

use marginals_kernels::InstructionSet;

/// Names the path to the process that runs the suite on it, and keeps that process from starting more.
const CHOICE: &str = "MARGINALS_INSTRUCTION_SET";

/// The path is chosen once per process, so the suite is run again in a process of its own for each
/// path slower than the one this process uses.
#[test]
fn slower_paths_pass_the_whole_suite() {
    if std::env::var_os(CHOICE).is_some() {
        return;
    }
    let here = InstructionSet::detect();
    let suite = std::env::current_exe().expect("the path of this test");
    for set in InstructionSet::available().into_iter().filter(|set| *set != here) {
        let name = match set {
            InstructionSet::Plain => "plain",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Avx512 => "avx512",
        };
        let run = Command::new(&suite).env(CHOICE, name).output().expect("the suite runs");
        assert!(
            run.status.success(),
            "the {name} path fails:\n{}{}",
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
    }
}
