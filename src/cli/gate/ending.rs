//! The end of a gate, or of many shards of one: told, written, and as an exit code.

use std::path::Path;
use std::time::Duration;

use super::canary::Canaries;
use super::{ENVIRONMENT, Format, Out, STORIES, github, junit, out};
use redeliver_harness::report::{NOT_COVERED, Tally, json, reached, table};
use redeliver_harness::verdict::{Judgement, Verdict};
use redeliver_harness::watch::reached::matrix;

/// What a gate came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending<'a> {
    /// One for each scenario.
    pub(super) tallies: &'a [Tally],
    /// The story of each that is violated.
    pub(super) stories: &'a [Option<String>],
    /// Over all.
    pub(super) judgement: &'a Judgement,
    pub(super) canaries: &'a Canaries,
    pub(super) wall: Duration,
    pub(super) interrupted: bool,
    /// What to write in commands that are to be copied.
    pub(super) program: &'a str,
}

impl Ending<'_> {
    /// Tells it on standard output.
    pub(super) fn tell(&self, format: Format, with_reached: bool, out: &mut Out) {
        let Self {
            tallies,
            judgement,
            canaries,
            wall,
            ..
        } = *self;
        if format == Format::Json {
            let sung = json::Canaries {
                planted: canaries.all,
                silent: &canaries.silent,
            };
            let summary = json::summary(tallies, judgement, wall, self.interrupted, Some(sung));
            out.line(&summary);
            return;
        }
        let told: Vec<_> = self.stories.iter().flatten().collect();
        for story in told.iter().take(STORIES) {
            out.line(story);
        }
        match told.len().saturating_sub(STORIES) {
            0 => {}
            1 => out.line("(1 more scenario is violated)\n"),
            more => out.line(&format!("({more} more scenarios are violated)\n")),
        }
        let colour = out::is_coloured(&std::io::stdout());
        out.text(&table::render(tallies, judgement, wall, colour));
        if with_reached {
            out.text(&format!("\n{}\n", matrix(&reached(tallies).0)));
        }
        out.line(&canaries.describe());
        out.line(NOT_COVERED);
    }

    /// Writes the other reports; gives the exit code. Pages are written already, if at all.
    pub(super) fn write(
        &self,
        junit: Option<&Path>,
        pages: Option<Result<(), String>>,
        github: bool,
    ) -> u8 {
        let written = junit.map(|path| junit::write(path, self));
        let told = github.then(|| github::tell(self));
        let all = [written, pages, told].into_iter().flatten();
        if let Some(why) = all.filter_map(Result::err).next() {
            out::complain(&why);
            if self.judgement.verdict != Verdict::Violated {
                return ENVIRONMENT;
            }
        }
        if !self.tallies.is_empty() && self.tallies.iter().all(Tally::is_empty_part) {
            // More shards than seeds are no failure of this one.
            out::complain("no seeds in this shard: nothing was measured; `redeliver merge` judges");
            return match self.interrupted || !self.canaries.is_awake() {
                true => self.judgement.verdict.exit_code(),
                false => 0,
            };
        }
        self.judgement.verdict.exit_code()
    }
}
