//! The command line: one file per subcommand. A team's own binary calls the same [`main`] with
//! its workloads.
//!
//! Exit codes: 0 valid, 1 violated, 2 wrong usage or a wrong scenario file, 3 inconclusive, 4 a
//! server does not answer.

mod capsules;
mod doctor;
mod explain;
mod explore;
mod gate;
mod load;
mod migrations;
mod planted;
mod replay;
mod report;
mod run;
mod scenarios;
mod schema;
mod servers;
mod shrink;
mod size;
mod topology;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use redeliver_terminal::{interrupt, out};

use redeliver_harness::registry::Registered;
use redeliver_harness::run::database::{NotReady, ready};
use redeliver_harness::run::existing;
use redeliver_harness::scenario::{Scenario, nothing_to_ask};

/// Wrong usage, or a wrong scenario file.
const USAGE: u8 = 2;
/// A server does not answer, or a file cannot be written.
const ENVIRONMENT: u8 = 4;

#[derive(Debug, Parser)]
#[command(name = "redeliver", version, max_term_width = 100)]
#[command(about = "Tests message workflows the way brokers really behave", long_about = None)]
#[command(after_help = "Exit codes: 0 valid, 1 violated, 2 usage, 3 inconclusive, 4 environment.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Gate(gate::Args),
    Merge(gate::merge::Args),
    Replay(replay::Args),
    Explore(explore::Args),
    Run(run::Args),
    Load(load::Args),
    Check(load::CheckArgs),
    LoadProcess(load::ProcessArgs),
    Size(size::Args),
    Shrink(shrink::Args),
    Explain(explain::Args),
    Report(report::Args),
    Planted(planted::Args),
    Doctor(doctor::Args),
    Migrations(migrations::Args),
    Topology(topology::Args),
    Scenarios(scenarios::Args),
    Schema(schema::Args),
}

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// NDJSON: one object a line.
    Json,
}

/// What every subcommand gets.
struct Context {
    workloads: Vec<Registered>,
    /// What to write in commands that are to be copied.
    program: String,
}

/// Carries out the command line of the process with these workloads.
pub fn main(workloads: Vec<Registered>) -> ExitCode {
    ExitCode::from(main_with(std::env::args_os().collect(), workloads))
}

fn main_with(arguments: Vec<OsString>, workloads: Vec<Registered>) -> u8 {
    // As it was called, with its path: the copied line must work where this one did.
    let program = arguments.first().map_or("redeliver".into(), |name| {
        name.to_string_lossy().into_owned()
    });
    let context = Context { workloads, program };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to be told that telling failed.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(USAGE);
        }
    };
    let code = match cli.command {
        Command::Gate(args) => gate::gate(&args, &context),
        Command::Merge(args) => gate::merge::merge(&args, &context),
        Command::Replay(args) => replay::replay(&args, &context),
        Command::Explore(args) => explore::explore(&args, &context),
        Command::Run(args) => run::run(&args, &context),
        Command::Load(args) => load::load(&args, &context),
        Command::Check(args) => load::check(&args, &context),
        Command::LoadProcess(_) => load::process(&context),
        Command::Size(args) => size::size(&args, &context),
        Command::Shrink(args) => shrink::run(&args, &context),
        Command::Explain(args) => explain::explain(&args, &context),
        Command::Report(args) => report::report(&args, &context),
        Command::Planted(args) => planted::planted(&args, &context),
        Command::Doctor(args) => doctor::doctor(&args, &context),
        Command::Migrations(args) => migrations::migrations(&args, &context),
        Command::Topology(args) => topology::topology(&args, &context),
        Command::Scenarios(args) => scenarios::scenarios(&args, &context),
        Command::Schema(_) => schema::schema(),
    };
    match out::failure() {
        // What was found outranks that it could not be said.
        Some(why) => {
            out::complain(&format!("standard output: {why}"));
            if code == 0 { ENVIRONMENT } else { code }
        }
        None => code,
    }
}

impl Context {
    /// Loads a scenario that is to be run in the seeded world, or tells why it cannot be.
    fn load_to_simulate(&self, path: &Path) -> Result<(Scenario, Registered), u8> {
        let (scenario, workload) = self.load(path)?;
        self.told_of_topology(&scenario, &workload)?;
        match ready((workload.postgres)(), &scenario) {
            Ok(()) => Ok((scenario, workload)),
            Err(NotReady::NothingToAsk) => {
                let error = nothing_to_ask(path);
                out::complain(&error.render(80, out::is_coloured(&std::io::stderr())));
                Err(USAGE)
            }
            Err(NotReady::NoServer(why)) => {
                out::complain(&why);
                Err(ENVIRONMENT)
            }
        }
    }

    /// Tells what of a team's definitions is left out in the seeded world, and what they lack.
    fn told_of_topology(&self, scenario: &Scenario, workload: &Registered) -> Result<(), u8> {
        let (needed, existing) = (workload.topology)(scenario);
        let Some(existing) = existing else {
            return Ok(());
        };
        match existing::ready(&existing, &needed) {
            Ok(ready) => {
                ready.left_out.iter().for_each(|line| out::complain(line));
                Ok(())
            }
            Err(why) => {
                let (program, path) = (&self.program, scenario.path.display());
                out::complain(&format!(
                    "{path}: {why}\n  help: `{program} topology check {path}` says all that can \
                     be better"
                ));
                Err(USAGE)
            }
        }
    }

    /// Loads a scenario together with its workload, or tells what is wrong with it.
    fn load(&self, path: &Path) -> Result<(Scenario, Registered), u8> {
        let names: Vec<_> = self
            .workloads
            .iter()
            .map(|workload| workload.name)
            .collect();
        match Scenario::load(path, &names) {
            Ok(scenario) => {
                let found = redeliver_harness::registry::find(&self.workloads, &scenario.workload);
                let found = *found.expect("loading refuses unknown workloads");
                Ok((scenario, found))
            }
            Err(error) => {
                out::complain(&error.render(80, out::is_coloured(&std::io::stderr())));
                Err(USAGE)
            }
        }
    }
}

#[cfg(test)]
mod tests;
