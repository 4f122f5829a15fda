//! Whether the model can explain what was seen.
//!
//! What may differ, and why. Nothing else may.
//!
//! 1. *Whose turn.* Where the end of a transaction lets several statements go on, PostgreSQL wakes
//!    their processes, and the operating system says who is first: all who wait for a unique key,
//!    and of those who wait for an updated row whoever reaches its new version first. The model
//!    has an order; any other is tried too.
//! 2. *The victim of a deadlock* is whoever looks for one first (documentation, 13.3.4: "should
//!    not be relied upon"). Here every session looks a millisecond after it began to wait, so it
//!    is the one that closed the cycle, unless a busy machine made an earlier one late. Where the
//!    model has a deadlock at this step, another of the waiting sessions may be the victim.
//! 3. *A session cut at COMMIT* whose client got no answer: both ends are tried, and what is read
//!    later says which it was. (Documentation, 55.2.8, is silent; every client has to live with
//!    it.)

use std::collections::BTreeMap;

use super::answer::{Answer, Seen};
use super::bend::Bend;
use super::model::Model;
use super::program::{Op, Program};
use crate::harness::conform::Divergence;

/// More than any program of four sessions has needed.
const ATTEMPTS: usize = 5_000;

/// The choices that the rules leave open, explored one after the other.
#[derive(Debug, Default)]
struct Choices {
    script: Vec<usize>,
    taken: Vec<(usize, usize)>,
}

impl Choices {
    fn pick(&mut self, of: usize) -> usize {
        if of < 2 {
            return 0;
        }
        let pick = self.script.get(self.taken.len()).copied().unwrap_or(0);
        self.taken.push((pick, of));
        pick
    }

    /// The next way not yet gone; false where there is none.
    fn next(&mut self) -> bool {
        let open = self.taken.iter().rposition(|(pick, of)| pick + 1 < *of);
        let Some(open) = open else { return false };
        self.script = self.taken[..open].iter().map(|(pick, _)| *pick).collect();
        self.script.push(self.taken[open].0 + 1);
        self.taken.clear();
        true
    }
}

/// What the model could have seen instead, if it cannot have seen this.
pub(super) fn explain(program: &Program, seen: &[Seen], bend: Option<Bend>) -> Option<Divergence> {
    let mut choices = Choices::default();
    let mut best: Option<Divergence> = None;
    let mut deadlocks = Vec::new();
    for _ in 0..ATTEMPTS {
        let attempt = Attempt {
            model: Model::new(program, bend),
            choices: &mut choices,
            deadlocks: &mut deadlocks,
        };
        let divergence = attempt.run(program, seen)?;
        if best.as_ref().is_none_or(|best| best.step < divergence.step) {
            best = Some(divergence);
        }
        if !choices.next() {
            break;
        }
    }
    best
}

/// What the model sees of a program when every choice is the first.
pub(super) fn in_turn(program: &Program) -> Vec<Seen> {
    let (mut choices, mut deadlocks) = (Choices::default(), Vec::new());
    let mut attempt = Attempt {
        model: Model::new(program, None),
        choices: &mut choices,
        deadlocks: &mut deadlocks,
    };
    let steps = program.all_steps().enumerate();
    steps
        .map(|(step, (at, op))| attempt.step(step, at, op, &Seen::default()))
        .collect()
}

struct Attempt<'a> {
    model: Model,
    choices: &'a mut Choices,
    /// Steps at which the model has seen a deadlock.
    deadlocks: &'a mut Vec<usize>,
}

impl Attempt<'_> {
    fn run(mut self, program: &Program, seen: &[Seen]) -> Option<Divergence> {
        let mut ended = vec![false; program.impatient.len()];
        for (step, ((at, op), real)) in program.all_steps().zip(seen).enumerate() {
            let over = program.is_over(step, op);
            let model = if over && ended[at] {
                Seen::default()
            } else {
                ended[at] = over && !self.model.waits(at);
                self.step(step, at, op, real)
            };
            if model != *real {
                return Some(Divergence {
                    step,
                    operation: format!("session {at}: {op:?}"),
                    real: format!("{real:?}"),
                    model: format!("{model:?}"),
                });
            }
        }
        None
    }

    fn step(&mut self, step: usize, at: usize, op: Op, real: &Seen) -> Seen {
        let mut woken = BTreeMap::new();
        let other = |(session, answer): (&usize, &Answer)| {
            (answer.code() == Some("40P01")).then_some(*session)
        };
        if let Some(victim) = real.woken.iter().find_map(other)
            && self.deadlocks.contains(&step)
            && self.model.waits(victim)
            && self.choices.pick(2) == 1
        {
            woken.insert(victim, self.model.sacrifice(victim));
        }
        let own = match (op, self.model.waits(at)) {
            (Op::Cancel, true) => {
                woken.extend(self.model.cancel(at).map(|answer| (at, answer)));
                Some(Answer::Done)
            }
            (Op::Cut, _) => {
                self.model.cut(at);
                Some(Answer::Done)
            }
            (Op::Cancel, false) | (_, true) => None,
            (Op::CutAtCommit { .. }, false) => Some(self.cut_at_commit(at, real)),
            (_, false) => Some(self.model.statement(at, op)),
        };
        self.settle(&mut woken);
        let mut answers = woken.values().chain(&own);
        if answers.any(|answer| answer.code() == Some("40P01")) && !self.deadlocks.contains(&step) {
            self.deadlocks.push(step);
        }
        Seen { own, woken }
    }

    fn cut_at_commit(&mut self, at: usize, real: &Seen) -> Answer {
        let lost = real.own == Some(Answer::Lost);
        let mut answer = Answer::Lost;
        if !lost || self.choices.pick(2) == 0 {
            answer = self.model.statement(at, Op::Commit);
        }
        self.model.cut(at);
        if lost { Answer::Lost } else { answer }
    }

    /// Lets sessions go on until none can.
    fn settle(&mut self, woken: &mut BTreeMap<usize, Answer>) {
        // Those that were let try out of turn, in vain.
        let mut vain = Vec::new();
        loop {
            let mut next = self.model.ready().to_vec();
            if next.is_empty() {
                return;
            }
            let in_turn = next.len();
            let behind = self.model.behind().into_iter();
            next.extend(behind.filter(|at| !vain.contains(at)));
            let pick = self.choices.pick(next.len());
            match self.model.again(next[pick]) {
                Some(answer) => {
                    vain.clear();
                    woken.insert(next[pick], answer);
                }
                None if pick >= in_turn => vain.push(next[pick]),
                None => {}
            }
        }
    }
}
