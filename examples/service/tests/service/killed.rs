//! The service is killed while it works. Every order is charged once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redeliver_testing::eventually;
use tokio::task::JoinSet;

use crate::child::{Running, get, place};
use crate::world::World;

/// How often it is killed.
const KILLS: usize = 3;
/// Who places orders at the same time, without a pause.
const CLIENTS: usize = 8;
/// Answers between two kills, at least.
const ANSWERS: usize = 40;

/// What a client has sent until an answer was missing.
struct Sent {
    accepted: Vec<String>,
    open: String,
}

#[tokio::test]
async fn every_order_is_charged_once_however_often_the_service_is_killed() {
    let Some(world) = World::new() else { return };
    let (mut orders, mut open) = (Vec::new(), Vec::new());
    for round in 0..KILLS {
        for sent in killed_under_load(&world, round).await {
            orders.extend(sent.accepted);
            open.push(sent.open);
        }
    }

    let mut service = Running::start(&world.namespace).await;
    // Nobody knows what became of the open ones. The others are sent again, too: answers get lost.
    orders.append(&mut open);
    for order in &orders {
        placed(&service.address, order).await;
    }
    eventually("charges of all orders", || async {
        let charges = world.charges().await;
        (orders.iter().all(|order| charges.contains_key(order))).then_some(())
    })
    .await;
    eventually("an empty outbox", || async {
        drained(&world).await.then_some(())
    })
    .await;

    // What lies in the queue before a last order is delivered before it. The drain ends it.
    placed(&service.address, "last").await;
    orders.push("last".to_owned());
    eventually("the charge of the last order", || async {
        world.charges().await.contains_key("last").then_some(())
    })
    .await;
    service.terminate().await;
    eventually("no readiness", || async {
        let answer = get(&service.address, "/readyz").await;
        (!answer.is_ok_and(|(status, _)| status == 200)).then_some(())
    })
    .await;
    assert_eq!(service.ended().await.code(), Some(0));

    let charges = world.charges().await;
    let counts = orders.iter().map(|order| (order, charges.get(order)));
    let wrong: Vec<_> = counts.filter(|(_, count)| *count != Some(&1)).collect();
    assert!(wrong.is_empty(), "not charged once: {wrong:?}");
    assert_eq!(
        charges.len(),
        orders.len(),
        "what nobody has ordered is charged"
    );
    assert!(drained(&world).await);
    let dead = "select count(*) from inbox where state = 'dead'";
    assert_eq!(world.count(dead).await, 0, "dead letters");
    world.remove().await;
}

async fn drained(world: &World) -> bool {
    let waiting = "select count(*) from outbox where published_at is null";
    world.count(waiting).await == 0
}

/// Starts the service, lets clients place orders, and kills it while all of them do: some orders
/// of this round are charged by then.
async fn killed_under_load(world: &World, round: usize) -> Vec<Sent> {
    let service = Running::start(&world.namespace).await;
    let before = world.charges().await.len();
    let answers = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (address, answers) = (service.address.clone(), answers.clone());
        clients.spawn(orders_until_killed(
            address,
            format!("order-{round}-{number}"),
            answers,
        ));
    }
    eventually("answers and charges", || async {
        let answered = answers.load(Ordering::Relaxed) >= ANSWERS;
        (answered && world.charges().await.len() > before).then_some(())
    })
    .await;
    service.kill().await;
    clients.join_all().await
}

async fn orders_until_killed(address: String, name: String, answers: Arc<AtomicUsize>) -> Sent {
    let mut accepted = Vec::new();
    loop {
        let order = format!("{name}-{}", accepted.len());
        match place(&address, &order, 990).await {
            Ok((202, _)) => {
                answers.fetch_add(1, Ordering::Relaxed);
                accepted.push(order);
            }
            Ok(answer) => panic!("{order} was not accepted: {answer:?}"),
            Err(_) => {
                return Sent {
                    accepted,
                    open: order,
                };
            }
        }
    }
}

/// Sends a request until it is accepted.
async fn placed(address: &str, order: &str) {
    eventually("an order's acceptance", || async {
        let answer = place(address, order, 990).await;
        answer.is_ok_and(|(status, _)| status == 202).then_some(())
    })
    .await;
}
