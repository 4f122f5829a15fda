//! A program on the simulated store, in a world of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use redeliver_sim::{Options, World, with};

use super::Seen;
use super::bend::Bend;
use super::client::{Client, Said};
use super::program::{Op, Program};
use redeliver_simulated::store::{SimStore, Tables};

/// Longer than any operation takes that does not wait, and far shorter than a lock time-out.
const MOMENT: u64 = 50_000_000;
/// So many moments and no end: the model has forgotten somebody.
const PATIENCE: usize = 40;

enum Turn {
    Idle(Client<SimStore>),
    Busy,
    Ended(Client<SimStore>, Option<Said>),
}

type Turns = Rc<RefCell<Vec<Turn>>>;

/// What is seen of each step in the world of that seed. A world that stands still ends the list.
pub(super) fn run(program: &Program, seed: u64, bend: Option<Bend>) -> Vec<Seen> {
    let options = Options {
        seed,
        step_limit: 1_000_000,
        ..Options::default()
    };
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (sink, program) = (seen.clone(), program.clone());
    World::run(&options, async move {
        let store = SimStore::new(with(|w| w.database(Tables::create)));
        let client = |number| Turn::Idle(Client::new(store.clone(), number));
        let turns: Turns = Rc::new(RefCell::new((0..program.clients).map(client).collect()));
        for (step, (at, op)) in program.all_steps().into_iter().enumerate() {
            let op = bend.map_or(op, |bend| bend.bent(op));
            let Some(next) = turn(&turns, step, at, op).await else {
                return;
            };
            sink.borrow_mut().push(next);
        }
    });
    Rc::unwrap_or_clone(seen).into_inner()
}

async fn turn(turns: &Turns, step: usize, at: usize, op: Op) -> Option<Seen> {
    let before = std::mem::replace(&mut turns.borrow_mut()[at], Turn::Busy);
    let Turn::Idle(mut client) = before else {
        return Some(Seen::default());
    };
    let sink = turns.clone();
    // A name of its own: which of two tasks runs first is drawn by their names.
    redeliver_sim::spawn(&format!("client {at}"), async move {
        let said = client.run(step, op).await;
        sink.borrow_mut()[at] = Turn::Ended(client, said);
    });
    let mut woken = settle(turns).await?;
    let own = match woken.remove(&at) {
        Some(own) => own,
        None => Some((false, super::BLOCKED.to_owned())),
    };
    let woken = woken.into_iter().filter_map(|(at, said)| Some((at, said?)));
    Some(Seen {
        own,
        woken: woken.collect(),
    })
}

async fn settle(turns: &Turns) -> Option<BTreeMap<usize, Option<Said>>> {
    for _ in 0..PATIENCE {
        redeliver_sim::sleep(MOMENT).await;
        let busy = turns
            .borrow()
            .iter()
            .filter(|t| matches!(t, Turn::Busy))
            .count();
        if busy == with(|w| w.sql.db.waiting()) {
            with(|w| w.sql.db.check_invariants());
            return Some(collect(turns));
        }
    }
    None
}

fn collect(turns: &Turns) -> BTreeMap<usize, Option<Said>> {
    let mut said = BTreeMap::new();
    for (at, turn) in turns.borrow_mut().iter_mut().enumerate() {
        *turn = match std::mem::replace(turn, Turn::Busy) {
            Turn::Ended(client, what) => {
                said.insert(at, what);
                Turn::Idle(client)
            }
            other => other,
        };
    }
    said
}
