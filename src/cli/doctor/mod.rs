//! `redeliver doctor`: is there something wrong with the ground that everything else stands on?

mod determinism;
mod env;

use super::Context;

pub(super) use env::why_unreachable;

/// Look for what would make every other result worthless
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Determinism(determinism::Determinism),
    Env(env::Env),
}

pub(super) fn doctor(args: &Args, context: &Context) -> u8 {
    match &args.what {
        What::Determinism(args) => determinism::determinism(args, context),
        What::Env(args) => env::env(args),
    }
}
