//! The built-in binary: the command line with the built-in workloads.

use std::process::ExitCode;

fn main() -> ExitCode {
    redeliver::cli::main(redeliver::workloads::all())
}
