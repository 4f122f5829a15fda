//! The table of cases and arms, printed when the last case has ended.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

/// How a case ended on one arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// No server was named.
    LeftOut,
}

type Word = &'static str;

/// Cases of one subject.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(crate) title: Word,
    pub(crate) cases: &'static [Case],
}

/// A behaviour that both arms show.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its test, which is its sentence with `_` for spaces.
    pub(crate) name: Word,
    /// The kinds of queue it is shown on; none where queues do not matter.
    pub(crate) kinds: &'static [Word],
}

static ENDED: Mutex<BTreeMap<(String, Word), BTreeMap<Word, Word>>> = Mutex::new(BTreeMap::new());

const SUITES: &[&[&Suite]] = &[
    crate::store::SUITES,
    crate::sql::SUITES,
    crate::amqp::SUITES,
    crate::operator::SUITES,
    crate::transport::SUITES,
];

/// Runs one arm of a case and keeps how it ended; the last one prints the table.
pub(crate) fn record(module: &'static str, case: Word, run: impl FnOnce() -> Outcome) {
    let (suite, arm) = module.rsplit_once("::").expect("a module of an arm");
    let suite = suite.split_once("::").map_or(suite, |(_, suite)| suite);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let word = match &outcome {
        Ok(Outcome::Passed) => "ok",
        Ok(Outcome::LeftOut) => "left out",
        Err(_) => "FAILED",
    };
    let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
    let row = ended.entry((suite.to_owned(), case)).or_default();
    row.insert(arm, word);
    let cases: usize = SUITES
        .iter()
        .copied()
        .flatten()
        .map(|s| s.cases.len())
        .sum();
    if ended.values().map(BTreeMap::len).sum::<usize>() == 2 * cases {
        println!("{}", table(&ended));
    }
    drop(ended);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

fn table(ended: &BTreeMap<(String, Word), BTreeMap<Word, Word>>) -> String {
    let mut text = format!("\n{:<24}{:<72}{:<12}real\n", "suite", "case", "simulated");
    for ((suite, case), arms) in ended {
        let on = |arm| arms.get(arm).copied().unwrap_or("-");
        let case = case.replace('_', " ");
        let (simulated, real) = (on("simulated"), on("real"));
        writeln!(text, "{suite:<24}{case:<72}{simulated:<12}{real}").expect("a string takes all");
    }
    text += "\nnot shown by any case\n";
    for (what, why) in crate::amqp::NOT_CASES {
        writeln!(text, "{what}: {why}").expect("a string takes all");
    }
    text
}
