//! Whatever a correct pipeline goes through, nobody speaks; and what that costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::checkers::testkit::{CHARGE, Hand, Kit, MAIL, MS, failed, in_doubt, poison, transient};
use crate::checkers::{Index, all, check_all};
use crate::verdict::AnomalyKind;
use crate::watch::history::{Ended, Seen, Settled};
use redeliver_core::dead_letter::Reason;
use redeliver_core::event::Event;
use redeliver_core::ports::PublishOutcome;

/// What happens to one attempt.
#[derive(Clone, Copy, Debug)]
enum Step {
    Succeed,
    Fail,
    Poison,
    CrashInHandler,
    CommitFails,
    CommitInDoubtHappened,
    CommitUnseen,
    Park,
    LateCopy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Succeed),
        3 => Just(Step::Fail),
        1 => Just(Step::Poison),
        1 => Just(Step::CrashInHandler),
        1 => Just(Step::CommitFails),
        1 => Just(Step::CommitInDoubtHappened),
        1 => Just(Step::CommitUnseen),
        1 => Just(Step::Park),
        1 => Just(Step::LateCopy),
    ]
}

/// One message of one consumer, as a correct consumer works on it.
struct Life {
    event: Arc<Event>,
    consumer: &'static str,
    attempt: u32,
    redelivered: bool,
    over: bool,
}

impl Life {
    fn hand(&self, kit: &mut Kit, process: &str) -> Hand {
        let with = (self.attempt, self.redelivered);
        kit.deliver_as(&self.event, process, self.consumer, with)
    }

    /// The gate of the inbox: what died on a redelivery is counted.
    fn begin(&mut self, kit: &mut Kit, process: &str) -> Option<Hand> {
        let hand = self.hand(kit, process);
        if self.attempt > kit.policy.retry.attempts {
            let story = Kit::story(&hand, Reason::KilledWorker);
            let attempts = kit.policy.retry.attempts;
            kit.bury(
                &hand,
                redeliver_core::dead_letter::DeadLetter { attempts, ..story },
            );
            self.over = true;
            return None;
        }
        if self.redelivered {
            kit.noted(&hand, "open");
        }
        Some(hand)
    }

    fn end(&mut self, kit: &mut Kit, hand: &Hand) {
        kit.inbox(hand, Kit::done());
        self.over = true;
    }

    fn go(&mut self, kit: &mut Kit, process: &str, step: Step) {
        let Some(hand) = self.begin(kit, process) else {
            return;
        };
        if matches!(step, Step::CrashInHandler | Step::CommitFails) {
            kit.disturbed.push((kit.now, kit.now));
        }
        match step {
            Step::Succeed => {
                kit.succeed(&hand);
                self.over = true;
            }
            Step::Fail if self.attempt == kit.policy.retry.attempts => {
                kit.run(&hand, transient());
                kit.bury(&hand, Kit::story(&hand, Reason::AttemptsExhausted));
                self.over = true;
            }
            Step::Fail => {
                kit.fail(&hand);
                (self.attempt, self.redelivered) = (self.attempt + 1, false);
            }
            Step::Poison => {
                kit.run(&hand, poison());
                kit.bury(&hand, Kit::story(&hand, Reason::Poison));
                self.over = true;
            }
            Step::CrashInHandler => {
                kit.run(&hand, Ended::Dropped);
                kit.channel += 1;
                self.attempt += u32::from(self.redelivered);
                self.redelivered = true;
            }
            Step::CommitFails | Step::Park => {
                kit.run(&hand, Ended::Ok);
                kit.handled(&hand, Kit::effects(&hand), failed());
                kit.settle(&hand, Settled::Park { delay: 1_000 * MS });
                self.attempt += u32::from(self.redelivered);
                self.redelivered = false;
            }
            Step::CommitInDoubtHappened => {
                kit.run(&hand, Ended::Ok);
                kit.handled(&hand, Kit::effects(&hand), in_doubt());
                kit.settle(&hand, Settled::Park { delay: 1_000 * MS });
                let again = self.hand(kit, process);
                kit.settle(&again, Settled::Done);
                self.end(kit, &hand);
            }
            Step::CommitUnseen => {
                kit.run(&hand, Ended::Ok);
                kit.channel += 1;
                self.redelivered = true;
                let again = self.hand(kit, process);
                kit.settle(&again, Settled::Done);
                self.end(kit, &hand);
            }
            Step::LateCopy => {
                kit.succeed(&hand);
                let copy = self.hand(kit, process);
                kit.settle(&copy, Settled::Done);
                self.over = true;
            }
        }
    }
}

/// A correct run: two consumers, ordered and unordered messages, each with its own fate.
fn correct(fates: &[(bool, Vec<Step>)]) -> Kit {
    let mut kit = Kit::with(&[CHARGE, MAIL]);
    // The messages are handled one after another, so some wait long for no reason.
    kit.policy.relay.poll = std::time::Duration::from_secs(3600);
    let mut lives = Vec::new();
    let mut sequence = 0;
    for (i, (ordered, steps)) in fates.iter().enumerate() {
        let key = format!("order-{i}");
        sequence += u64::from(*ordered);
        let event = match ordered {
            true => kit.ordered(&key, sequence),
            false => kit.event(&key),
        };
        let dropped = steps.len() == 5;
        kit.emit(&event, if dropped { in_doubt() } else { Seen::Ok });
        kit.outbox(&event, true);
        if steps.len() == 4 {
            kit.publish(&event, PublishOutcome::InDoubt("lost".to_owned()));
        }
        kit.publish(&event, PublishOutcome::Confirmed);
        lives.push((event, steps));
    }
    for (event, steps) in lives {
        for (consumer, process) in [(CHARGE, "worker-1"), (MAIL, "worker-2")] {
            let mut life = Life {
                event: event.clone(),
                consumer,
                attempt: 1,
                redelivered: false,
                over: false,
            };
            for step in steps.iter().chain(std::iter::repeat(&Step::Fail)) {
                if life.over {
                    break;
                }
                life.go(&mut kit, process, *step);
            }
        }
    }
    kit
}

fn fates() -> impl Strategy<Value = Vec<(bool, Vec<Step>)>> {
    let fate = (any::<bool>(), prop::collection::vec(step(), 0..6));
    prop::collection::vec(fate, 0..12)
}

proptest! {
    #[test]
    fn a_correct_history_never_alarms(fates in fates()) {
        let found = correct(&fates).check();
        prop_assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn a_correct_history_that_is_cut_off_alarms_nobody_but_the_patient(
        fates in fates(), cut in 0usize..400,
    ) {
        let mut kit = correct(&fates);
        kit.settled = false;
        kit.history.entries.truncate(cut);
        let fault = crate::watch::history::What::Fault { kind: "crash", at: String::new() };
        kit.add("", fault);
        let found = kit.check();
        // Letters and rows at the end know more than the history that was cut off.
        let early = |kind| kind != AnomalyKind::Misfiled && kind != AnomalyKind::Reordered;
        prop_assert!(!found.iter().any(|a| early(a.kind)), "{found:#?}");
    }

    #[test]
    fn whatever_is_taken_away_is_missed(
        fates in prop::collection::vec((any::<bool>(), Just(vec![Step::Succeed])), 1..12),
        at in any::<prop::sample::Index>(),
    ) {
        let mut kit = correct(&fates);
        let row = kit.reading.store.inbox.remove(at.index(kit.reading.store.inbox.len()));
        let work = (row.consumer, row.idempotency_key);
        kit.history.entries.retain(|entry| match &entry.what {
            crate::watch::history::What::Commit { on, .. } => {
                (&on.consumer, &on.subject) != (&work.0, &work.1)
            }
            _ => true,
        });
        let found = kit.check();
        let lost = |a: &&crate::verdict::Anomaly| a.kind == AnomalyKind::Lost;
        let lost: Vec<_> = found.iter().filter(lost).collect();
        prop_assert_eq!(lost.len(), 2, "{:#?}", found); // lost, and the balance
    }
}

fn quickest<T>(work: impl Fn() -> T) -> Duration {
    let round = |_| {
        let begin = Instant::now();
        std::hint::black_box(work());
        begin.elapsed()
    };
    (0..20).map(round).min().expect("there are rounds")
}

#[test]
fn a_run_of_a_hundred_messages_is_judged_in_little_time() {
    let steps = [
        Step::LateCopy,
        Step::Fail,
        Step::CrashInHandler,
        Step::Succeed,
        Step::Park,
    ];
    let fates: Vec<_> = (0..100)
        .map(|i| (i % 3 == 0, steps[i % 5..].to_vec()))
        .collect();
    let kit = correct(&fates);
    let view = kit.view();
    let found = check_all(&view);
    assert!(found.is_empty(), "{found:#?}");
    let index = Index::new(&view);
    let mut told = format!("{} entries", kit.history.entries.len());
    told += &format!(", all {:?}", quickest(|| check_all(&view).len()));
    told += &format!(", index {:?}", quickest(|| Index::new(&view)));
    for checker in all() {
        let cost = quickest(|| checker.check(&view, &index).len());
        told += &format!(", {} {cost:?}", checker.name());
    }
    println!("{told}");
}
