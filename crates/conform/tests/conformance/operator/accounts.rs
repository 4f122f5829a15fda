//! What an account of a service may do. Whoever may not hears 403 and loses the channel.

use std::time::Duration;

use redeliver_conform::probe::Probe;
use redeliver_core::ports::Env;
use redeliver_rabbitmq::amqp::{
    Amqp, AmqpChannel, AmqpConnection, AmqpError, Confirmation, ExchangeKind,
};
use redeliver_sim::broker::{Account, Pattern};

use super::{Lab, Operator};
use crate::amqp::{Channel, code, message, spec, to_queue, word};
use crate::lab::bounded;

crate::cases!(operator "Permissions":
    an_unknown_account_is_refused,
    declaring_and_deleting_need_configure [classic],
    publishing_needs_write_on_the_exchange [classic],
    taking_messages_needs_read_on_the_queue [classic],
    binding_needs_write_on_the_queue_and_read_on_the_exchange [classic],
    a_dead_letter_exchange_needs_write_on_it_and_read_on_the_queue [quorum],
    asking_for_what_is_there_needs_nothing [classic],
    a_topic_permission_looks_at_the_routing_key [classic],
    a_permission_that_is_taken_away_counts_on_a_channel_that_has_rested [classic],
);

fn only(name: &str) -> Pattern {
    Pattern::Prefix(name.into())
}

fn may(configure: Pattern, write: Pattern, read: Pattern) -> Account {
    Account {
        configure,
        write,
        read,
        topics: Vec::new(),
    }
}

type Guest<O> = <<O as Operator>::Client as Amqp>::Connection;

/// A connection of a new account, and its name.
async fn guest<A: Amqp, E: Env, O: Operator>(
    lab: &Lab<A, E, O>,
    account: &Account,
) -> (Guest<O>, String) {
    let name = lab.name();
    lab.operator.account(&name, account);
    let client = lab.operator.client(&name);
    let connection = bounded(&lab.env, "a connection", client.connect("guest")).await;
    (connection.expect("it may log in"), name)
}

async fn open<C: AmqpConnection>(connection: &C) -> C::Channel {
    connection.open_channel().await.expect("a channel")
}

/// How a publish ends.
async fn sent<C: AmqpChannel>(
    env: &impl Env,
    channel: &C,
    exchange: &str,
    key: &str,
) -> Result<Confirmation, AmqpError> {
    channel.confirm_select().await?;
    let confirm = channel.publish(message(exchange, key, "1")).await?;
    bounded(env, "an answer", confirm).await
}

async fn an_unknown_account_is_refused<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>) {
    let refused = lab.operator.client("nobody").connect("guest").await;
    assert!(matches!(refused.map(drop), Err(AmqpError::Access(_))));
}

async fn declaring_and_deleting_need_configure<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>) {
    let (mine, other, exchange) = (lab.name(), lab.name(), lab.name());
    let account = may(only(&mine), Pattern::All, Pattern::All);
    let (guest, _) = guest(&lab, &account).await;
    let channel = open(&guest).await;
    let declared = channel.declare_queue(&spec(&mine, "classic", &[])).await;
    assert_eq!(declared, Ok(0));
    let refused = channel.declare_queue(&spec(&other, "classic", &[])).await;
    assert_eq!(code(refused), 403);
    let channel = open(&guest).await;
    let refused = channel.declare_exchange(&exchange, ExchangeKind::Direct);
    assert_eq!(code(refused.await), 403);
    let (_connection, owner) = lab.channel().await;
    let declared = owner.declare_queue(&spec(&other, "classic", &[])).await;
    assert_eq!(declared, Ok(0));
    let channel = open(&guest).await;
    assert_eq!(code(channel.delete_queue(&other).await), 403);
    let channel = open(&guest).await;
    assert_eq!(code(channel.delete_exchange(&exchange).await), 403);
    open(&guest).await.delete_queue(&mine).await.unwrap();
}

async fn publishing_needs_write_on_the_exchange<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>) {
    let (_connection, owner) = lab.channel().await;
    let (mine, other) = (lab.name(), lab.name());
    let queue = lab.queue(&owner, "classic", &[]).await;
    for exchange in [&mine, &other] {
        let declared = owner.declare_exchange(exchange, ExchangeKind::Fanout);
        declared.await.unwrap();
        owner.bind_queue(&queue, exchange, "").await.unwrap();
    }
    let account = may(Pattern::Nothing, only(&mine), Pattern::Nothing);
    let (guest, _) = guest(&lab, &account).await;
    let sent = async |exchange: &str, key: &str| {
        let channel = open(&guest).await;
        sent(&lab.env, &channel, exchange, key).await
    };
    assert_eq!(sent(&mine, "").await, Ok(Confirmation::Ack));
    assert_eq!(code(sent(&other, "").await), 403);
    // The default exchange has a name for this: amq.default.
    assert_eq!(code(sent("", &queue).await), 403);
    // Nobody is told what does not exist.
    assert_eq!(code(sent(&lab.name(), "").await), 403);
    lab.until_ready(&owner, &queue, 1).await;
}

async fn taking_messages_needs_read_on_the_queue<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>)
where
    Channel<O::Client>: Probe,
{
    let (_connection, owner) = lab.confirming().await;
    let mine = lab.queue(&owner, "classic", &[]).await;
    let other = lab.queue(&owner, "classic", &[]).await;
    for queue in [&mine, &other] {
        lab.put(&owner, queue, &["1"]).await;
    }
    let account = may(Pattern::Nothing, Pattern::Nothing, only(&mine));
    let (guest, _) = guest(&lab, &account).await;
    let channel = open(&guest).await;
    assert!(channel.get(&mine).await.unwrap().is_some());
    let _consumer = channel.consume(&mine, "c").await.unwrap();
    assert_eq!(code(channel.get(&other).await), 403);
    let channel = open(&guest).await;
    assert_eq!(code(channel.consume(&other, "c").await.map(drop)), 403);
    let channel = open(&guest).await;
    assert_eq!(code(channel.purge(&other).await), 403);
    assert_eq!(owner.inspect_queue(&other).await, Ok(1));
}

async fn binding_needs_write_on_the_queue_and_read_on_the_exchange<A: Amqp, E: Env, O: Operator>(
    lab: Lab<A, E, O>,
) {
    let (_connection, owner) = lab.channel().await;
    let queue = lab.queue(&owner, "classic", &[]).await;
    let exchange = lab.name();
    let declared = owner.declare_exchange(&exchange, ExchangeKind::Direct);
    declared.await.unwrap();
    let none = || Pattern::Nothing;
    let accounts = [
        (may(none(), only(&queue), only(&exchange)), true),
        (may(none(), none(), only(&exchange)), false),
        (may(none(), only(&queue), none()), false),
    ];
    for (account, allowed) in accounts {
        let (guest, _) = guest(&lab, &account).await;
        let bound = open(&guest).await;
        let bound = bound.bind_queue(&queue, &exchange, "key").await;
        let unbound = open(&guest).await;
        let unbound = unbound.unbind_queue(&queue, &exchange, "key").await;
        if allowed {
            assert_eq!((bound, unbound), (Ok(()), Ok(())));
        } else {
            assert_eq!((code(bound), code(unbound)), (403, 403));
        }
    }
}

async fn a_dead_letter_exchange_needs_write_on_it_and_read_on_the_queue<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    let queue = lab.name();
    let dead = [("x-dead-letter-exchange", word("amq.fanout"))];
    let none = || Pattern::Nothing;
    let accounts = [
        (may(only(&queue), none(), only(&queue)), false),
        (may(only(&queue), only("amq.fanout"), none()), false),
        (may(only(&queue), only("amq.fanout"), only(&queue)), true),
    ];
    for (account, allowed) in accounts {
        let (guest, _) = guest(&lab, &account).await;
        let channel = open(&guest).await;
        let declared = channel.declare_queue(&spec(&queue, "quorum", &dead)).await;
        if allowed {
            assert_eq!(declared, Ok(0));
        } else {
            assert_eq!(code(declared), 403);
        }
    }
}

async fn asking_for_what_is_there_needs_nothing<A: Amqp, E: Env, O: Operator>(lab: Lab<A, E, O>)
where
    Channel<O::Client>: Probe,
{
    let (_connection, owner) = lab.confirming().await;
    let queue = lab.queue(&owner, "classic", &[]).await;
    lab.put(&owner, &queue, &["1"]).await;
    let nothing = may(Pattern::Nothing, Pattern::Nothing, Pattern::Nothing);
    let (guest, _) = guest(&lab, &nothing).await;
    let channel = open(&guest).await;
    assert_eq!(channel.inspect_queue(&queue).await, Ok(1));
    assert_eq!(channel.inspect_exchange("amq.direct").await, Ok(()));
    assert_eq!(code(channel.inspect_queue(&lab.name()).await), 404);
}

async fn a_topic_permission_looks_at_the_routing_key<A: Amqp, E: Env, O: Operator>(
    lab: Lab<A, E, O>,
) {
    let (_connection, owner) = lab.channel().await;
    let queue = lab.queue(&owner, "classic", &[]).await;
    let exchange = lab.name();
    let declared = owner.declare_exchange(&exchange, ExchangeKind::Topic);
    declared.await.unwrap();
    let account = Account {
        topics: vec![(exchange.as_str().into(), only("orders."), only("orders."))],
        ..may(Pattern::Nothing, Pattern::All, Pattern::All)
    };
    let (guest, _) = guest(&lab, &account).await;
    let bound = async |key: &str| {
        let channel = open(&guest).await;
        channel.bind_queue(&queue, &exchange, key).await
    };
    assert_eq!(bound("orders.paid").await, Ok(()));
    assert_eq!(code(bound("bills.paid").await), 403);
    let sent = async |key: &str| {
        let channel = open(&guest).await;
        sent(&lab.env, &channel, &exchange, key).await
    };
    assert_eq!(sent("orders.paid").await, Ok(Confirmation::Ack));
    assert_eq!(code(sent("bills.paid").await), 403);
    lab.until_ready(&owner, &queue, 1).await;
}

async fn a_permission_that_is_taken_away_counts_on_a_channel_that_has_rested<
    A: Amqp,
    E: Env,
    O: Operator,
>(
    lab: Lab<A, E, O>,
) {
    let (_connection, owner) = lab.channel().await;
    let queue = lab.queue(&owner, "classic", &[]).await;
    let all = may(Pattern::All, Pattern::All, Pattern::All);
    let (guest, name) = guest(&lab, &all).await;
    let channel = open(&guest).await;
    channel.confirm_select().await.unwrap();
    let publish = async || {
        let confirm = channel.publish(to_queue(&queue, "1")).await?;
        bounded(&lab.env, "an answer", confirm).await
    };
    assert_eq!(publish().await, Ok(Confirmation::Ack));
    let read_only = may(Pattern::Nothing, Pattern::Nothing, Pattern::All);
    lab.operator.account(&name, &read_only);
    // A channel remembers what it was allowed until it has nothing to do for a while.
    let mut refused = Ok(Confirmation::Ack);
    for _ in 0..4 {
        lab.env.sleep(Duration::from_secs(4)).await;
        refused = publish().await;
        if refused.is_err() {
            break;
        }
    }
    assert_eq!(code(refused), 403);
}
