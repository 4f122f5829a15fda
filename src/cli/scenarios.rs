//! `redeliver scenarios`.

use std::path::PathBuf;

use super::out::{self, Out};
use super::{Context, USAGE};
use redeliver_harness::scenario::discover;
use redeliver_harness::words::wrap;

/// List scenarios with the questions that they answer
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenario files, or directories of them
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
}

pub(super) fn scenarios(args: &Args, context: &Context) -> u8 {
    let files = match discover(&args.paths) {
        Ok(files) => files,
        Err(why) => {
            out::complain(&why);
            return USAGE;
        }
    };
    let (mut out, mut code) = (Out::default(), 0);
    for path in files {
        match context.load(&path) {
            Ok((scenario, _)) => {
                out.line(&format!("{}  ({})", path.display(), scenario.workload));
                for line in wrap(scenario.question.split(' ').map(str::to_owned), 74) {
                    out.line(&format!("    {line}"));
                }
            }
            Err(wrong) => code = wrong,
        }
    }
    code
}
