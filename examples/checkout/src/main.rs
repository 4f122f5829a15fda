//! The command line, with this team's workload: `gate`, `replay`, `run`, `topology check`, …

use std::process::ExitCode;

use checkout::Checkout;

fn main() -> ExitCode {
    redeliver::cli::main(redeliver::workloads![Checkout { naive: false }])
}
