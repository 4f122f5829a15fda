//! Is a run decided by its seed alone?
//!
//! A seed is run twice; where the two differ, something in the run is decided by something else.

use super::Simulate;
use super::capsule::{Divergence, course, parted};
use crate::run::result::RunResult;
use crate::scenario::Scenario;

/// Two runs of one seed that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrepeatable {
    /// The seed.
    pub seed: u64,
    /// Where their traces part; none where only the runs that kept no trace differed, or where the
    /// world itself knows why.
    pub parted: Option<Divergence>,
    /// The last step before that which both took.
    pub before: Option<String>,
    /// What the world itself has noticed.
    pub noticed: Option<String>,
}

impl std::fmt::Display for Unrepeatable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {} is not decided by the seed alone", self.seed)?;
        if let Some(noticed) = &self.noticed {
            write!(f, ": {noticed}")?;
        }
        if let Some(Divergence { line, kept, now }) = &self.parted {
            let say = |line: &Option<String>| line.clone().unwrap_or_else(|| "(the end)".into());
            write!(f, "\n  two runs part at line {line} of the trace")?;
            if let Some(before) = &self.before {
                write!(f, "\n  both   {}", before.trim_start())?;
            }
            write!(f, "\n  one    {}", say(kept).trim_start())?;
            write!(f, "\n  other  {}", say(now).trim_start())?;
            if let Some(number) = kept.as_deref().and_then(numbered_by_the_server) {
                write!(
                    f,
                    "\n  {number} is a number that PostgreSQL gives as it comes: no seed decides it"
                )?;
            }
        } else if self.noticed.is_none() {
            let text = "\n  the same steps, and other values in the rows or payloads at the end";
            f.write_str(text)?;
        }
        Ok(())
    }
}

/// What a statement in a trace may have asked the server for that is neither data nor the seed's.
fn numbered_by_the_server(line: &str) -> Option<&'static str> {
    const NUMBERS: &[&str] = &[
        "xmin",
        "xmax",
        "cmin",
        "cmax",
        "ctid",
        "tableoid",
        "oid",
        "txid_current",
        "pg_current_xact_id",
        "pg_current_snapshot",
        "txid_current_snapshot",
        "pg_backend_pid",
        "pg_current_wal_lsn",
        "pg_current_wal_insert_lsn",
        "pg_export_snapshot",
    ];
    let (_, sql) = line.split_once(" sql ")?;
    let mut words = sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.find_map(|word| {
        let mut known = NUMBERS.iter();
        known
            .find(|number| number.eq_ignore_ascii_case(word))
            .copied()
    })
}

/// What usually decides where the seed does not.
pub const CAUSES: &str = "Look there for a std HashMap or HashSet that is iterated, the wall clock \
                          (SystemTime, Instant), the operating system's randomness, a thread, or a \
                          `select!` without `biased`. A handler gets time, chance and ids from its \
                          `Cx` and its `env`.";

/// Whether two runs came to the same.
pub fn is_same(one: &RunResult, other: &RunResult) -> bool {
    let told = |run: &RunResult| {
        (
            (
                run.hash,
                run.state,
                run.verdict,
                run.messages,
                run.deliveries,
            ),
            (run.events, run.virtual_ns, run.faults.clone()),
        )
    };
    told(one) == told(other) && one.anomalies == other.anomalies
}

/// Runs a seed twice with everything kept; gives where the two part.
pub fn repeat(simulate: Simulate<'_>, scenario: &Scenario, seed: u64) -> Option<Unrepeatable> {
    let (one, other) = (
        simulate(scenario, seed, true),
        simulate(scenario, seed, true),
    );
    let noticed = [&one, &other].into_iter();
    let noticed = noticed
        .filter_map(|run| run.inconclusive.clone())
        .find(|why| why.contains("cannot be repeated"));
    if is_same(&one, &other) && noticed.is_none() {
        return None;
    }
    let (first, second) = (course(&one.trace), course(&other.trace));
    let parted = parted(&first, &second);
    let before = parted
        .as_ref()
        .and_then(|parted| parted.line.checked_sub(2));
    Some(Unrepeatable {
        seed,
        before: before.and_then(|at| first.get(at).cloned()),
        parted,
        noticed,
    })
}
