//! The gate as pages for a browser: one for all of it, and one for each violated scenario.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::report::{Effort, again, page, write};
use super::Context;
use super::ending::Ending;
use redeliver_harness::explore::commit;
use redeliver_harness::registry::Registered;
use redeliver_harness::report::page::gate::{Gate, render};
use redeliver_harness::report::{Tally, Violation};
use redeliver_harness::run::halt;

/// Less than for one run alone: a red gate may have many.
const EFFORT: Effort = Effort {
    runs: 1_000,
    draws: 10,
};

/// Once the gate was stopped.
const NO_EFFORT: Effort = Effort { runs: 0, draws: 0 };

/// Pages as they are written.
#[derive(Debug)]
pub(super) struct Pages {
    folder: PathBuf,
    /// The file of each scenario that is violated.
    files: Vec<Option<String>>,
    failed: Option<String>,
}

impl Pages {
    /// Into this folder, which need not be there yet.
    pub(super) fn into(folder: &Path) -> Self {
        let made = std::fs::create_dir_all(folder);
        Self {
            folder: folder.to_owned(),
            files: Vec::new(),
            failed: made.err().map(|why| format!("{}: {why}", folder.display())),
        }
    }

    /// The page of a scenario's violated run, where it has one to be told.
    pub(super) fn add(
        &mut self,
        tally: &Tally,
        worst: Option<&Violation>,
        workload: &Registered,
        (context, stop): (&Context, &AtomicBool),
    ) -> Option<PathBuf> {
        let file = worst.map(|worst| {
            let of = |effort| {
                let run = (workload.simulate)(&tally.scenario, worst.seed, true);
                let again = again(&context.program, &tally.scenario, &run);
                page(&tally.scenario, workload, &run, &again, None, effort)
            };
            let stopped = || stop.load(Ordering::Relaxed);
            let mut text = (!stopped()).then(|| of(EFFORT));
            if stopped() {
                // What runs that were halted say is worth nothing.
                halt::clear();
                text = None;
            }
            let text = text.unwrap_or_else(|| of(NO_EFFORT));
            let name = self.free(&format!("{}-{}", tally.scenario.name, worst.seed));
            self.write(&name, &text);
            name
        });
        let written = file.as_ref().map(|name| self.folder.join(name));
        self.files.push(file);
        written
    }

    /// A page that another one wrote, taken into this folder.
    pub(super) fn take(&mut self, page: Option<&Path>, name: &str) {
        let name = page.map(|page| {
            let name = self.free(name);
            let taken = std::fs::copy(page, self.folder.join(&name));
            if let (None, Err(why)) = (&self.failed, taken) {
                self.failed = Some(format!("{}: {why}", page.display()));
            }
            name
        });
        self.files.push(name);
    }

    /// A name that no page has yet: scenarios of two folders may share theirs.
    fn free(&self, stem: &str) -> String {
        let taken = |name: &String| self.files.iter().flatten().any(|file| file == name);
        let names = (1..).map(|n: u32| match n {
            1 => format!("{stem}.html"),
            n => format!("{stem}-{n}.html"),
        });
        let mut free = names.filter(|name| !taken(name));
        free.next().expect("numbers do not end")
    }

    fn write(&mut self, name: &str, text: &str) {
        if self.failed.is_none() {
            self.failed = write(&self.folder.join(name), text).err();
        }
    }

    /// The page of the gate.
    pub(super) fn finish(mut self, ending: &Ending<'_>) -> Result<(), String> {
        let text = render(&Gate {
            tallies: ending.tallies,
            judgement: ending.judgement,
            stories: ending.stories,
            pages: &self.files,
            canaries: &ending.canaries.describe(),
            wall: ending.wall,
            interrupted: ending.interrupted,
            commit: &commit(),
        });
        self.write("index.html", &text);
        match self.failed {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }
}
