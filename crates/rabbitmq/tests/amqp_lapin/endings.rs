//! Connections that end: nothing that was open stays open.

use std::process::Stdio;

use redeliver_rabbitmq::amqp::{
    Amqp, AmqpChannel, AmqpConnection, AmqpConsumer, AmqpError, Confirmation, Incoming,
};
use redeliver_rabbitmq::lapin::{LapinAmqp, LapinChannel, LapinConsumer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{Broker, put, to_queue, with_broker, word};
use redeliver_testing::{bounded, eventually, unique};

fn is_lost(error: &AmqpError) -> bool {
    matches!(error, AmqpError::Connection(_))
}

/// Checks that everything on a channel of a lost connection says so.
async fn all_is_lost(channel: &LapinChannel, consumer: &mut LapinConsumer, queue: &str) {
    let error = bounded("the consumer's end", async {
        loop {
            match consumer.next().await {
                Ok(Incoming::Delivery(_)) => {}
                Ok(Incoming::Cancelled) => panic!("a lost connection is no cancelled consumer"),
                Err(error) => return error,
            }
        }
    });
    let error = error.await;
    assert!(is_lost(&error), "{error:?}");
    for error in [
        channel.ack(1, false).await.unwrap_err(),
        channel
            .publish(to_queue(queue, "x"))
            .await
            .map(drop)
            .unwrap_err(),
        channel.inspect_queue(queue).await.unwrap_err(),
        channel.close().await.unwrap_err(),
    ] {
        assert!(is_lost(&error), "{error:?}");
    }
}

/// Passes everything on until told to cut.
async fn proxy(broker: &Broker, mut cut: watch::Receiver<bool>) -> LapinAmqp {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (login, tail) = broker.url.rsplit_once('@').expect("a login");
    let (address, vhost) = tail.split_once('/').expect("a vhost");
    let address = address.to_owned();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            _ = cut.wait_for(|cut| *cut) => {}
        }
    });
    LapinAmqp::new(&format!("{login}@127.0.0.1:{port}/{vhost}")).unwrap()
}

/// Publishes without waiting for anything, and gives the number.
async fn burst(channel: &LapinChannel, queue: &str) -> u32 {
    for n in 0..600 {
        let confirm = channel.publish(to_queue(queue, &n.to_string())).await;
        drop(confirm.unwrap());
    }
    600
}

#[tokio::test]
async fn what_was_published_before_a_close_is_there_after_it() {
    with_broker(|broker| async move {
        let (_connection, look) = broker.channel().await;
        for kind in ["classic", "quorum"] {
            for whole in [true, false] {
                let queue = broker.queue(&look, &[("x-queue-type", word(kind))]).await;
                let (connection, channel) = broker.confirming().await;
                let sent = burst(&channel, &queue).await;
                match whole {
                    true => bounded("the close", connection.close()).await.unwrap(),
                    false => bounded("the close", channel.close()).await.unwrap(),
                }
                // Whoever waits for the close need not wait for anything else.
                let there = look.inspect_queue(&queue).await;
                assert_eq!(there, Ok(sent), "{kind}, the whole connection: {whole}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_cut_resolves_every_open_confirm_and_ends_the_consumer() {
    with_broker(|broker| async move {
        let (_connection, other) = broker.channel().await;
        let queue = broker.queue(&other, &[]).await;
        let (cut, cutting) = watch::channel(false);
        let connection = proxy(&broker, cutting).await.connect("test").await.unwrap();
        let channel = connection.open_channel().await.unwrap();
        channel.confirm_select().await.unwrap();
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        let mut confirms = Vec::new();
        for n in 0..500 {
            let target = if n % 5 == 0 { "no-such-queue" } else { &*queue };
            confirms.push((n, channel.publish(to_queue(target, "x")).await.unwrap()));
        }
        cut.send(true).unwrap();
        let (mut acked, mut lost) = (0, 0);
        for (n, confirm) in confirms {
            match bounded("an answer", confirm).await {
                Ok(Confirmation::Ack) if n % 5 != 0 => acked += 1,
                Ok(Confirmation::Returned { .. }) if n % 5 == 0 => {}
                Err(error) if is_lost(&error) => lost += 1,
                other => panic!("{n}: {other:?}"),
            }
        }
        all_is_lost(&channel, &mut consumer, &queue).await;
        assert!(is_lost(&connection.open_channel().await.unwrap_err()));
        assert!(is_lost(&connection.close().await.unwrap_err()));
        let there = eventually("the messages", async || {
            let ready = other.inspect_queue(&queue).await.unwrap();
            (ready >= acked).then_some(ready)
        })
        .await;
        assert!(
            there <= acked + lost,
            "{there} there, {acked} acked, {lost} in doubt"
        );
    })
    .await;
}

#[tokio::test]
async fn closing_a_connection_ends_what_is_on_it() {
    with_broker(|broker| async move {
        let (connection, channel) = broker.confirming().await;
        let queue = broker.queue(&channel, &[]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        connection.close().await.unwrap();
        all_is_lost(&channel, &mut consumer, &queue).await;
    })
    .await;
}

/// Runs rabbitmqctl; gives its output, or nothing where there is none.
async fn rabbitmqctl(arguments: &[&str]) -> Option<String> {
    let program = redeliver_testing::server("REDELIVER_RABBITMQCTL")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = bounded("rabbitmqctl", command.output())
        .await
        .expect("it can be run");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn the_broker_closes_a_connection() {
    with_broker(|broker| async move {
        let name = unique("closed-by-broker");
        let connection = broker.amqp.connect(&name).await.unwrap();
        let channel = connection.open_channel().await.unwrap();
        channel.confirm_select().await.unwrap();
        let queue = broker.queue(&channel, &[]).await;
        put(&channel, &queue, &["1"]).await;
        let mut consumer = channel.consume(&queue, "tag").await.unwrap();
        assert!(matches!(consumer.next().await, Ok(Incoming::Delivery(_))));
        let list = ["-q", "list_connections", "pid", "client_properties"];
        let Some(list) = rabbitmqctl(&list).await else {
            return;
        };
        let line = list
            .lines()
            .find(|line| line.contains(&name))
            .expect("it is listed");
        let id = line.split_whitespace().next().expect("its id");
        rabbitmqctl(&["-q", "close_connection", id, "a test"]).await;
        all_is_lost(&channel, &mut consumer, &queue).await;
        let (_connection, channel) = broker.channel().await;
        let back = eventually("it", async || channel.get(&queue).await.unwrap()).await;
        assert!(back.redelivered);
    })
    .await;
}
