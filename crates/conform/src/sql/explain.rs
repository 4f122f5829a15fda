//! Whether the model can explain what was seen.
//!
//! What may differ, and why. Nothing else may.
//!
//! 1. *Whose turn.* Where the end of a transaction lets several statements go on, PostgreSQL wakes
//!    their processes, and the operating system says who is first: all who wait for a unique key,
//!    and of those who wait for an updated row whoever reaches its new version first. The model
//!    has an order; any other is tried too.
//! 2. *The victim of a deadlock* is whoever looks for one first (documentation, 13.3.4: "should
//!    not be relied upon"). Each session looks once for each wait, a millisecond after it began
//!    to. That is mostly the one that closed the cycle. But an earlier one may be late on a busy
//!    machine, and two waits may begin together: where the end of one transaction lets several
//!    statements go on, two of them may close a cycle between them, or a statement may stay
//!    behind in its queue and begin to wait for whoever went on. So any session in the cycle may
//!    be the victim. Nobody else may, and there has to be one; what becomes of the others follows
//!    from who it was.
//! 3. *A session cut at COMMIT* whose client got no answer: both ends are tried, and what is read
//!    later says which it was. (Documentation, 55.2.8, is silent; every client has to live with
//!    it.)

use std::collections::BTreeMap;

use super::answer::{Answer, Seen};
use super::bend::Bend;
use super::model::Model;
use super::program::{Op, Program};
use crate::Divergence;

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
    for _ in 0..ATTEMPTS {
        let attempt = Attempt {
            model: Model::new(program, bend),
            choices: &mut choices,
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
    let mut choices = Choices::default();
    let mut attempt = Attempt {
        model: Model::new(program, None),
        choices: &mut choices,
    };
    let steps = program.all_steps();
    steps
        .map(|(at, op)| attempt.step(at, op, &Seen::default()))
        .collect()
}

struct Attempt<'a> {
    model: Model,
    choices: &'a mut Choices,
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
                self.step(at, op, real)
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

    fn step(&mut self, at: usize, op: Op, real: &Seen) -> Seen {
        let mut woken = BTreeMap::new();
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
            (_, false) => Some(self.statement(at, op, real, &mut woken)),
        };
        self.settle(&Victims::of(real, at), &mut woken);
        Seen { own, woken }
    }

    /// A statement's answer, when all that comes of it has come.
    fn statement(
        &mut self,
        at: usize,
        op: Op,
        real: &Seen,
        woken: &mut BTreeMap<usize, Answer>,
    ) -> Answer {
        let answer = self.model.statement(at, op);
        self.settle(&Victims::of(real, at), woken);
        if answer != Answer::Blocked {
            return answer;
        }
        // A deadlock is looked for long before patience ends.
        let later = woken.remove(&at).or_else(|| self.model.time_out(at));
        later.unwrap_or(Answer::Blocked)
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
    fn settle(&mut self, victims: &Victims, woken: &mut BTreeMap<usize, Answer>) {
        // Those that were let try out of turn, in vain.
        let mut vain = Vec::new();
        loop {
            let mut next = self.model.ready().to_vec();
            let in_turn = next.len();
            next.extend(victims.among(&self.model.deadlocked()));
            let victims_end = next.len();
            if next.is_empty() {
                return;
            }
            if in_turn > 0 {
                let behind = self.model.behind().into_iter();
                next.extend(behind.filter(|at| !vain.contains(at)));
            }
            let pick = self.choices.pick(next.len());
            let at = next[pick];
            let answer = if (in_turn..victims_end).contains(&pick) {
                Some(self.model.sacrifice(at))
            } else {
                self.model.again(at)
            };
            match answer {
                Some(answer) => {
                    vain.clear();
                    woken.insert(at, answer);
                }
                None if pick >= in_turn => vain.push(at),
                None => {}
            }
        }
    }
}

/// Sessions that were told of a deadlock at this step. To try another as a victim is in vain.
struct Victims(Vec<usize>);

impl Victims {
    fn of(real: &Seen, at: usize) -> Self {
        let own = real.own.iter().map(|answer| (at, answer));
        let woken = real.woken.iter().map(|(at, answer)| (*at, answer));
        let all = own.chain(woken);
        let told = all.filter(|(_, answer)| answer.code() == Some("40P01"));
        Self(told.map(|(at, _)| at).collect())
    }

    /// Those of these sessions; the first of them where there is none, since one has to be.
    fn among(&self, deadlocked: &[usize]) -> Vec<usize> {
        let told = deadlocked.iter().copied();
        let told: Vec<usize> = told.filter(|at| self.0.contains(at)).collect();
        match (told.is_empty(), deadlocked.first()) {
            (true, Some(closer)) => vec![*closer],
            _ => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::{Start, Table, Wait};
    use super::*;

    fn lock(id: i64) -> Op {
        Op::Lock {
            table: Table::A,
            id,
        }
    }

    /// Sessions in transactions over two rows. The last step closes a cycle.
    fn program(steps: &[(usize, Op)]) -> Program {
        let row = |id| Start {
            table: Table::A,
            id,
            v: 0,
            named: false,
        };
        let begins = (0..3).map(|session| (session, Op::Begin));
        Program {
            rows: vec![row(1), row(2)],
            impatient: vec![false; 3],
            steps: begins.chain(steps.iter().copied()).collect(),
        }
    }

    fn rows(ids: &[i64]) -> Answer {
        Answer::Rows(ids.iter().map(|id| (*id, 0, None)).collect())
    }

    fn deadlock() -> Answer {
        Answer::Error("40P01".to_owned(), None)
    }

    /// Whether the model explains that this was seen of the last step.
    fn explains(program: &Program, own: Answer, woken: &[(usize, Answer)]) -> bool {
        // What comes later follows from it, and is not asked about.
        let mut seen = in_turn(program);
        seen.truncate(program.steps.len());
        seen[program.steps.len() - 1] = Seen {
            own: Some(own),
            woken: woken.iter().cloned().collect(),
        };
        explain(program, &seen, None).is_none()
    }

    #[test]
    fn the_victim_is_either_of_two_who_wait_for_each_other() {
        let steps = [(0, lock(1)), (1, lock(2)), (0, lock(2)), (1, lock(1))];
        let program = program(&steps);
        assert!(explains(&program, deadlock(), &[(0, rows(&[2]))]));
        assert!(explains(&program, rows(&[1]), &[(0, deadlock())]));
    }

    #[test]
    fn one_in_the_cycle_is_the_victim_and_nobody_else() {
        let (third, closes) = ((2, lock(2)), (1, lock(1)));
        let steps = [(0, lock(1)), (1, lock(2)), (0, lock(2)), third, closes];
        let program = program(&steps);
        assert!(explains(&program, deadlock(), &[(0, rows(&[2]))]));
        assert!(explains(&program, rows(&[1]), &[(0, deadlock())]));
        // It waits for the cycle, and nobody in the cycle for it.
        assert!(!explains(&program, Answer::Blocked, &[(2, deadlock())]));
        assert!(!explains(&program, Answer::Blocked, &[]));
        assert!(!explains(&program, deadlock(), &[(0, deadlock())]));
    }

    #[test]
    fn who_is_ahead_in_the_queue_is_in_the_cycle_too() {
        let (ahead, behind) = ((2, lock(1)), (1, lock(1)));
        let steps = [(0, lock(1)), (1, lock(2)), ahead, behind, (0, lock(2))];
        let program = program(&steps);
        // The cycle is there still, and one of the others ends it.
        assert!(explains(
            &program,
            rows(&[2]),
            &[(1, deadlock()), (2, deadlock())]
        ));
        assert!(!explains(&program, Answer::Blocked, &[(2, deadlock())]));
    }

    #[test]
    fn the_end_of_one_deadlock_may_close_another_cycle() {
        let scan = Op::LockSome {
            table: Table::A,
            by_v: false,
            limit: 3,
            wait: Wait::Block,
        };
        let steps = [
            (2, lock(1)),
            (0, lock(2)),
            (1, scan),
            (0, lock(1)),
            (2, lock(2)),
        ];
        let program = program(&steps);
        let (scanned, locked) = (rows(&[1, 2]), rows(&[1]));
        let one = [(0, locked), (1, deadlock())];
        let other = [(0, deadlock()), (1, scanned)];
        assert!(explains(&program, deadlock(), &one));
        assert!(explains(&program, deadlock(), &other));
    }
}
