//! The executor: same seed, same order; crashes, pauses, time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use redeliver_sim::fault::{Kind, Rule, Seam};
use redeliver_sim::{Options, World, sleep, spawn, with, yield_now};

fn order(seed: u64, tokio: bool) -> (Vec<u32>, u64) {
    let log = Rc::new(RefCell::new(Vec::new()));
    let sink = log.clone();
    let options = Options {
        seed,
        tokio,
        ..Options::default()
    };
    let (done, outcome) = World::run(&options, async move {
        for i in 0..5u32 {
            let sink = sink.clone();
            spawn(&format!("t{i}"), async move {
                for _ in 0..3 {
                    sink.borrow_mut().push(i);
                    yield_now().await;
                }
                sleep(1_000 * u64::from(i)).await;
                sink.borrow_mut().push(10 + i);
            });
        }
        sleep(1_000_000_000).await;
        with(|w| w.trace("end", [1, 2], String::new));
    });
    assert!(done.is_some());
    (log.take(), outcome.hash)
}

#[test]
fn the_same_seed_gives_the_same_order_and_another_seed_another() {
    assert_eq!(order(1, false), order(1, false));
    assert_ne!(order(1, false).0, order(2, false).0);
    assert_eq!(order(1, true), order(1, true));
    assert_eq!(
        order(1, false).0,
        order(1, true).0,
        "tokio does not change the order"
    );
}

#[test]
fn time_jumps_to_the_next_timer_and_cancelled_timers_do_not_move_it() {
    let (_, outcome) = World::run(&Options::default(), async {
        let mut long = Box::pin(sleep(3_600_000_000_000));
        std::future::poll_fn(|cx| {
            let _ = long.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
        drop(long);
        sleep(5_000).await;
        sleep(1).await;
    });
    assert_eq!(outcome.now, 5_001);
}

#[test]
fn tokio_timers_work_and_time_never_runs_behind_them() {
    let options = Options {
        tokio: true,
        ..Options::default()
    };
    let (times, _) = World::run(&options, async {
        let mut times = Vec::new();
        for _ in 0..3 {
            sleep(300_500).await;
            let before = with(|w| w.now());
            tokio::time::sleep(Duration::from_millis(7)).await;
            times.push((before, with(|w| w.now())));
        }
        times
    });
    let times = times.expect("the run ends");
    assert!(
        times
            .iter()
            .all(|(a, b)| (6_000_000..9_000_000).contains(&(b - a))),
        "{times:?}"
    );
}

#[test]
fn a_detached_tokio_task_is_refused() {
    let options = Options {
        tokio: true,
        ..Options::default()
    };
    let (_, outcome) = World::run(&options, async {
        tokio::spawn(std::future::pending::<()>());
        sleep(10_000_000).await;
    });
    assert!(
        outcome
            .unrepeatable
            .expect("noticed")
            .contains("tokio::spawn")
    );
}

#[test]
fn a_crashed_process_loses_its_tasks_and_starts_again() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let sink = log.clone();
    let (_, outcome) = World::run(&Options::default(), async move {
        let worker = with(|w| {
            w.add_process("worker-1", move |incarnation| {
                let sink = sink.clone();
                Box::pin(async move {
                    sink.borrow_mut().push((incarnation, "start"));
                    sleep(1_000).await;
                    sink.borrow_mut().push((incarnation, "end"));
                })
            })
        });
        sleep(500).await;
        with(|w| w.crash(worker, Some(100)));
        sleep(5_000).await;
    });
    assert_eq!(*log.borrow(), [(0, "start"), (1, "start"), (1, "end")]);
    assert!(outcome.panics.is_empty());
}

#[test]
fn a_paused_process_stands_still_while_the_world_goes_on() {
    let (woke, _) = World::run(&Options::default(), async {
        let woke = Rc::new(std::cell::Cell::new(0));
        let sink = woke.clone();
        let worker = with(|w| {
            w.add_process("worker-1", move |_| {
                let sink = sink.clone();
                Box::pin(async move {
                    sleep(1_000).await;
                    sink.set(with(|w| w.now()));
                })
            })
        });
        sleep(10).await;
        with(|w| w.pause(worker, 50_000));
        sleep(1_000_000).await;
        woke.take()
    });
    assert_eq!(woke, Some(50_010));
}

#[test]
fn a_panicking_task_ends_alone_and_is_reported() {
    let (done, outcome) = World::run(&Options::default(), async {
        spawn("bad", async { panic!("on purpose") });
        sleep(1_000).await;
        1
    });
    assert_eq!(done, Some(1));
    assert_eq!(outcome.panics, ["task bad: on purpose"]);
}

#[test]
fn a_world_in_which_nothing_can_happen_is_stuck_not_hanging() {
    let (done, outcome) = World::run(&Options::default(), std::future::pending::<()>());
    assert!(done.is_none() && outcome.stuck);
}

#[test]
fn a_hot_loop_is_a_livelock() {
    let options = Options {
        step_limit: 1_000,
        ..Options::default()
    };
    let (done, outcome) = World::run(&options, async {
        loop {
            yield_now().await;
        }
    });
    let _: Option<()> = done;
    assert!(outcome.livelock);
}

#[test]
fn a_rule_strikes_its_message_and_nothing_after_the_heal() {
    let rule = Rule {
        subject: Some("order-2".into()),
        ..Rule::new(Kind::Abort, 1_000_000)
    };
    let options = Options {
        rules: vec![rule],
        ..Options::default()
    };
    let (struck, outcome) = World::run(&options, async {
        let struck = Rc::new(RefCell::new(Vec::new()));
        let sink = struck.clone();
        with(|w| {
            w.add_process("p", move |_| {
                let sink = sink.clone();
                Box::pin(async move {
                    for subject in ["order-1", "order-2", "order-2"] {
                        let hit = with(|w| {
                            w.enter_work(subject, 1);
                            w.strike(Seam::Statement).is_some()
                        });
                        sink.borrow_mut().push(hit);
                        if sink.borrow().len() == 2 {
                            with(|w| w.heal());
                        }
                        sleep(10).await;
                    }
                })
            })
        });
        sleep(1_000).await;
        struck.take()
    });
    assert_eq!(struck, Some(vec![false, true, false]));
    assert_eq!(outcome.faults, [(Kind::Abort, 1)]);
}
