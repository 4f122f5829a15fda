//! The built-in binary: the command line with the built-in workloads.

use std::process::ExitCode;

use redeliver::workloads::{Deposits, Onboarding, Orders};

fn main() -> ExitCode {
    redeliver::cli::main(redeliver::workloads![Orders, Onboarding, Deposits])
}
