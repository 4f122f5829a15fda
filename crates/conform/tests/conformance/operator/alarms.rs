//! A node that runs out of memory or disk.

use std::time::Duration;

use redeliver_core::ports::{Env, EnvExt};
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, Confirmation};

use super::{Lab, Operator, Resource};
use crate::amqp::{body, to_queue};
use crate::lab::bounded;

crate::cases!(operator "Alarms":
    a_node_without_memory_stops_publishers_and_not_consumers [classic],
    a_node_without_disk_stops_publishers_and_not_consumers [classic],
    what_was_sent_during_an_alarm_is_taken_in_order_when_it_ends [classic],
    a_connection_that_published_during_an_alarm_hears_nothing_until_it_ends [classic],
);

const A_WHILE: Duration = Duration::from_millis(700);

async fn only_publishers_stop<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>, resource: Resource) {
    let (_connection, publishing) = lab.confirming().await;
    let (_other, consuming) = lab.channel().await;
    let queue = lab.queue(&publishing, "classic", &[]).await;
    lab.put(&publishing, &queue, &["1", "2"]).await;
    lab.operator.exhaust(resource, true);
    let late = publishing.publish(to_queue(&queue, "3")).await.unwrap();
    let mut late = std::pin::pin!(late);
    assert!(lab.env.timeout(A_WHILE, late.as_mut()).await.is_none());
    consuming.qos(1).await.unwrap();
    let mut consumer = consuming.consume(&queue, "c").await.unwrap();
    for text in ["1", "2"] {
        let got = lab.next(&mut consumer).await;
        assert_eq!(body(&got), text);
        // Only after the ack is there room for the next.
        consuming.ack(got.tag, false).await.unwrap();
    }
    lab.operator.exhaust(resource, false);
    let confirmed = bounded(&lab.env, "the late confirm", late).await;
    assert_eq!(confirmed, Ok(Confirmation::Ack));
    assert_eq!(body(&lab.next(&mut consumer).await), "3");
}

async fn a_node_without_memory_stops_publishers_and_not_consumers<A: Amqp, E: Env, O: Operator>(
    lab: Lab<A, E, O>,
) {
    only_publishers_stop(lab, Resource::Memory).await;
}

async fn a_node_without_disk_stops_publishers_and_not_consumers<A: Amqp, E: Env, O: Operator>(
    lab: Lab<A, E, O>,
) {
    only_publishers_stop(lab, Resource::Disk).await;
}

async fn what_was_sent_during_an_alarm_is_taken_in_order_when_it_ends<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    let (_connection, publishing) = lab.confirming().await;
    let (_other, observer) = lab.channel().await;
    let queue = lab.queue(&publishing, "classic", &[]).await;
    lab.operator.exhaust(Resource::Memory, true);
    // A client writes nothing on a connection that it knows to be blocked, so the later ones may
    // wait before they are written.
    let send = async |text| publishing.publish(to_queue(&queue, text)).await?.await;
    let all = async { tokio::join!(biased; send("1"), send("2"), send("3")) };
    let mut all = std::pin::pin!(all);
    assert!(lab.env.timeout(A_WHILE, all.as_mut()).await.is_none());
    // The first one may have been read before the broker noticed.
    assert!(observer.inspect_queue(&queue).await.unwrap() <= 1);
    lab.operator.exhaust(Resource::Memory, false);
    let confirmed = bounded(&lab.env, "the confirms", all).await;
    let ack = Ok(Confirmation::Ack);
    assert_eq!(confirmed, (ack.clone(), ack.clone(), ack));
    assert_eq!(lab.bodies(&observer, &queue, 3).await, ["1", "2", "3"]);
}

async fn a_connection_that_published_during_an_alarm_hears_nothing_until_it_ends<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    let (_connection, publishing) = lab.confirming().await;
    let queue = lab.queue(&publishing, "classic", &[]).await;
    lab.operator.exhaust(Resource::Memory, true);
    // It still answers, until it publishes.
    assert_eq!(publishing.inspect_queue(&queue).await, Ok(0));
    let confirm = publishing.publish(to_queue(&queue, "1")).await.unwrap();
    let asked = lab.env.timeout(A_WHILE, publishing.inspect_queue(&queue));
    assert_eq!(asked.await, None);
    lab.operator.exhaust(Resource::Memory, false);
    let confirmed = bounded(&lab.env, "the confirm", confirm).await;
    assert_eq!(confirmed, Ok(Confirmation::Ack));
    lab.until_ready(&publishing, &queue, 1).await;
}
