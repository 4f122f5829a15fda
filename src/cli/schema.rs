//! `redeliver schema`.

use super::out::Out;
use redeliver_harness::scenario::json_schema;

/// Print the JSON Schema of scenario files
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn schema() -> u8 {
    Out::default().text(&json_schema());
    0
}
