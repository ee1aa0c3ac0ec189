//! The `marginals` command. All of it is in the library beside it, which is compiled while its
//! dependencies still are; a program waits for the last of them.

use std::process::ExitCode;

fn main() -> ExitCode {
    marginals_cli::main()
}
