//! What a message costs in the broker model: publish, route, enqueue, deliver, ack.
//!
//! `cargo run --release -p redeliver-sim --example broker_cost`

use std::{sync::Arc, time::Instant};

use amq_protocol_types::FieldTable;
use redeliver_sim::broker::{
    Broker, ConsumeOptions, Output, Profile, Properties, Publish, QueueDeclare,
};

const MESSAGES: u32 = 2_000_000;

fn cost(exchange: &str, kind: &str, burst: u32) -> u128 {
    let mut broker = Broker::new(Profile::Rabbit4_0);
    let conn = broker.connect();
    let producer = broker.open_channel(conn).expect("open");
    let consumer = broker.open_channel(conn).expect("open");
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        amq_protocol_types::AMQPValue::LongString(kind.into()),
    );
    let declare = QueueDeclare {
        name: "q".into(),
        durable: true,
        arguments,
        ..Default::default()
    };
    broker.queue_declare(producer, declare).expect("declare");
    if !exchange.is_empty() {
        broker
            .queue_bind(producer, "q", exchange, "q", FieldTable::default())
            .expect("bind");
    }
    broker.confirm_select(producer).expect("confirm");
    broker.basic_qos(consumer, 100, false).expect("qos");
    broker
        .consume(consumer, "q", "c", ConsumeOptions::default())
        .expect("consume");
    let (exchange, key): (Arc<str>, Arc<str>) = (exchange.into(), "q".into());
    let mut outputs = Vec::new();
    let start = Instant::now();
    for _ in 0..MESSAGES / burst {
        for _ in 0..burst {
            let publish = Publish {
                exchange: exchange.clone(),
                routing_key: key.clone(),
                properties: Properties {
                    delivery_mode: Some(2),
                    ..Default::default()
                },
                ..Default::default()
            };
            broker.publish(producer, publish).expect("publish");
        }
        // An ack lets the queue deliver more, so the outputs are read until there are none.
        loop {
            broker.take_outputs(&mut outputs);
            if outputs.is_empty() {
                break;
            }
            for output in outputs.drain(..) {
                if let Output::Deliver { chan, delivery, .. } = output {
                    broker.ack(chan, delivery.tag, false).expect("ack");
                }
            }
        }
    }
    let elapsed = start.elapsed().as_nanos();
    assert_eq!(broker.stats().acked, u64::from(MESSAGES / burst * burst));
    elapsed / u128::from(MESSAGES)
}

fn main() {
    for exchange in ["", "amq.direct", "amq.topic"] {
        for kind in ["classic", "quorum"] {
            for burst in [1, 50, 1000] {
                let ns = cost(exchange, kind, burst);
                println!("{exchange:12} {kind:8} burst {burst:5}: {ns} ns a message");
            }
        }
    }
}
