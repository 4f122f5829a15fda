//! The broker: who it is, who may come in, and what the user may do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::uri::{AMQPScheme, AMQPUri};
use redeliver_sim::broker::Profile;

use super::sheet::{Chain, Finding, Sheet};
use super::{BOUND, LONG, is_cut, port, within};
use crate::env::live::LiveEnv;
use crate::harness::report::story::quoted;
use crate::harness::run::Secret;
use crate::harness::scenario::{profile_name, queue_type_name};
use crate::pipeline::event::Kind;
use crate::pipeline::topology::{QueueType, Subscription, Topology};
use crate::ports::Transport;
use crate::rabbitmq::amqp::{
    Amqp, AmqpChannel, AmqpConnection, AmqpDelivery, AmqpError, Confirmation, Properties, Publish,
};
use crate::rabbitmq::lapin::{GreetingError, LapinAmqp, LapinChannel, LapinConnection, greeting};
use crate::rabbitmq::probe::Probe;
use crate::rabbitmq::{Names, Options, RabbitMq, topology};

const NAMES: &[&str] = &[
    "broker url",
    "broker port",
    "broker protocol",
    "broker version",
    "broker login",
    "broker quorum queues",
    "broker classic queues",
    "broker clean-up",
];

const SHAPE: &str = "write AMQP_URL as amqp://user:password@host:port/%2f, with / ? # @ of a user, \
    password or virtual host percent-encoded";

/// The broker, and how it is shown.
pub(super) struct Place {
    amqp: LapinAmqp,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) vhost: String,
}

/// Checks the broker.
pub(super) async fn check(url: &Secret, name: &str, sheet: &mut Sheet) {
    let mut chain = Chain::new(sheet, NAMES);
    steps(url, name, &mut chain).await;
    chain.end();
}

async fn steps(url: &Secret, name: &str, chain: &mut Chain<'_>) -> Option<()> {
    let place = chain.must(understand(url))?;
    let at = port::check(&place.host, place.port, "RabbitMQ", "AMQP_URL").await;
    let at = chain.must(at)?;
    let version = chain.must(protocol(at).await)?;
    chain.note(&judge_version(version.as_deref()));
    if !chain.goes_on() {
        return None;
    }
    chain.must(login(&place).await)?;
    let mut left = Vec::new();
    for queue_type in [QueueType::Quorum, QueueType::Classic] {
        if !chain.goes_on() {
            chain.skip("stopped");
            continue;
        }
        let kind = queue_type_name(queue_type);
        let patient = Patient::new(&place, &format!("{name}_{kind}"), queue_type);
        let treated = within(LONG, patient.treat()).await;
        chain.note(&judge(&place, queue_type, treated));
        left.extend(patient.remove().await);
    }
    chain.note(&clean(&place, &left));
    Some(())
}

/// Reads the URL as a run does.
pub(super) fn understand(url: &Secret) -> Result<(Place, Finding), Finding> {
    let wrong = |seen: &str| Finding::missing(seen, SHAPE);
    if is_cut(url) {
        return Err(wrong(
            "a password or virtual host in the URL is not percent-encoded",
        ));
    }
    // The parser's words may repeat the URL.
    let unclear = |_| wrong("the URL cannot be understood");
    let uri: AMQPUri = url.expose().parse().map_err(unclear)?;
    let amqp = LapinAmqp::new(url.expose()).map_err(|_| wrong("the URL cannot be understood"))?;
    if uri.scheme == AMQPScheme::AMQPS {
        let todo = "name the plain port, amqp://…:5672, or a tunnel to it";
        return Err(Finding::missing(
            "amqps:// needs TLS, which this build does not speak",
            todo,
        ));
    }
    // lapin takes a host in brackets for none, and connects to localhost in its place.
    let authority = url.expose().split('/').nth(2).unwrap_or_default();
    if authority
        .rsplit('@')
        .next()
        .is_some_and(|host| host.starts_with('['))
    {
        let todo = "name the host instead of its IPv6 address";
        return Err(Finding::missing(
            "an IPv6 address is not understood by the AMQP client",
            todo,
        ));
    }
    let place = Place {
        amqp,
        host: uri.authority.host,
        port: uri.authority.port,
        user: uri.authority.userinfo.username,
        vhost: uri.vhost,
    };
    let Place {
        host,
        port,
        user,
        vhost,
        ..
    } = &place;
    let seen = format!("user {user} at {host}:{port}, virtual host {vhost:?}");
    Ok((place, Finding::ok(seen)))
}

/// Asks for the broker's own words; gives its version.
async fn protocol(at: SocketAddr) -> Result<(Option<String>, Finding), Finding> {
    let todo = "AMQP_URL must name the AMQP port of RabbitMQ (5672, not 15672 nor a TLS port)";
    let seen = match within(BOUND, greeting(at)).await {
        Ok(Ok(greeting)) => {
            let product = greeting
                .product
                .as_deref()
                .unwrap_or("a broker without a name");
            let finding = Finding::ok(format!("{product} speaks AMQP 0-9-1"));
            // Rules of another broker are not those of the model.
            let version = greeting.version.filter(|_| product == "RabbitMQ");
            return Ok((version, finding));
        }
        Ok(Err(error @ GreetingError::Lost(_))) => format!("the connection was lost: {error}"),
        Ok(Err(error)) => error.to_string(),
        Err(late) => format!("something listens, but {late}: no AMQP, or a TLS port"),
    };
    Err(Finding::missing(seen, todo))
}

/// From 3.10 on quorum queues know a TTL and dead-letter at least once, which delays stand on.
pub(super) fn judge_version(version: Option<&str>) -> Finding {
    let Some(version) = version else {
        let seen = "unknown: it does not say that it is RabbitMQ, or which version";
        return Finding::warning(seen, "expect differences: only RabbitMQ is modelled");
    };
    let mut parts = version.split(['.', '-', '+']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        let todo = "expect differences: docs/fidelity.md lists what depends on it";
        return Finding::warning(format!("{version:?}, which cannot be read"), todo);
    };
    let profile = match (major, minor) {
        (..3, _) | (3, ..10) => {
            let todo = "install RabbitMQ 3.10 or newer: docker compose up --wait rabbitmq";
            let seen = format!("RabbitMQ {version}: its quorum queues have no TTL");
            return Finding::missing(seen, todo);
        }
        (3, 10 | 11) => Profile::Rabbit3_10,
        (3, _) => Profile::Rabbit3_13,
        (4, ..3) => Profile::Rabbit4_0,
        (4, 3) => Profile::Rabbit4_3,
        _ => {
            let todo = "expect differences: docs/fidelity.md lists what depends on the version";
            return Finding::warning(format!("RabbitMQ {version}: newer than any profile"), todo);
        }
    };
    let profile = profile_name(profile);
    Finding::ok(format!(
        "RabbitMQ {version}, simulated by broker = {profile:?}"
    ))
}

async fn login(place: &Place) -> Result<((), Finding), Finding> {
    let connected = match within(BOUND * 2, place.amqp.connect("redeliver doctor")).await {
        Ok(connected) => connected,
        Err(late) => {
            let seen = format!("AMQP is spoken, but the login gets {late}");
            return Err(Finding::missing(
                seen,
                "rabbitmqctl status; rabbitmqctl list_connections",
            ));
        }
    };
    match connected {
        Ok(connection) => {
            // That it can be closed is not what was asked.
            let _ = within(BOUND, connection.close()).await;
            let Place { user, vhost, .. } = place;
            let seen = format!("user {user} may use virtual host {vhost:?}");
            Ok(((), Finding::ok(seen)))
        }
        Err(error) => Err(refusal(place, &error)),
    }
}

/// What to do about a refused login.
pub(super) fn refusal(place: &Place, error: &AmqpError) -> Finding {
    let (user, vhost) = (quoted(&place.user), quoted(&place.vhost));
    let AmqpError::Access(words) = error else {
        let todo = "look into the broker's log: it says why it ended the connection";
        return Finding::missing(error.to_string(), todo);
    };
    let todo = if words.starts_with("403") {
        format!(
            "correct the password in AMQP_URL (guest is let in from localhost only), or set it: \
             rabbitmqctl change_password {user} PASSWORD, or rabbitmqctl add_user {user} PASSWORD"
        )
    } else if place.vhost.is_empty() {
        "end AMQP_URL in /%2f for the default virtual host: a bare / names an empty one".to_owned()
    } else if words.contains("not found") {
        format!("rabbitmqctl add_vhost {vhost}; {}", permissions(place))
    } else {
        permissions(place)
    };
    Finding::missing(words.clone(), todo)
}

/// The fewest rights that a run can do with. Dead letters and delays go by the default exchange.
fn permissions(place: &Place) -> String {
    let (user, vhost) = (quoted(&place.user), quoted(&place.vhost));
    format!(
        "rabbitmqctl set_permissions -p {vhost} {user} '^redeliver_run_' \
         '^(redeliver_run_.*|amq\\.default)$' '^redeliver_run_'"
    )
}

fn judge(
    place: &Place,
    queue_type: QueueType,
    treated: Result<Result<(), String>, String>,
) -> Finding {
    let Err(seen) = treated.flatten() else {
        let seen = "declared, bound, confirmed, delayed, delivered, dead-lettered";
        return Finding::ok(seen);
    };
    let todo = match (seen.contains("ACCESS_REFUSED"), queue_type) {
        (true, _) => permissions(place),
        (false, QueueType::Quorum) => "rabbitmqctl cluster_status: quorum queues need most nodes; \
            without them: redeliver run --queue-type classic"
            .to_owned(),
        (false, QueueType::Classic) => {
            "rabbitmq-diagnostics alarms: a full disk or memory blocks publishers; then the \
             broker's log"
                .to_owned()
        }
    };
    Finding::missing(seen, todo)
}

fn clean(place: &Place, left: &[String]) -> Finding {
    if left.is_empty() {
        return Finding::ok("nothing is left on the broker");
    }
    let vhost = quoted(&place.vhost);
    let seen = format!("could not be removed: {}", left.join(", "));
    let todo =
        format!("rabbitmqctl delete_queue -p {vhost} QUEUE; exchanges by the management page");
    Finding::missing(seen, todo)
}

/// A topology as a run declares it, as small as can be.
struct Patient {
    amqp: LapinAmqp,
    names: Names,
    topology: Topology,
    options: Options,
}

const DOMAIN: &str = "asked";
const EVENT: &str = "asked.how";
const CONSUMER: &str = "patient";
const RUNG: Duration = Duration::from_millis(20);

impl Patient {
    fn new(place: &Place, name: &str, queue_type: QueueType) -> Self {
        Self {
            amqp: place.amqp.clone(),
            names: Names::new(name),
            topology: Topology {
                exchanges: vec![DOMAIN.into()],
                subscriptions: vec![Subscription {
                    consumer: CONSUMER.into(),
                    types: vec![(EVENT.into(), Kind::Fact)],
                }],
                rungs: vec![RUNG],
                queue_type,
            },
            options: Options {
                namespace: name.to_owned(),
                rungs: vec![RUNG],
                confirm_timeout: BOUND,
                max_payload: 1024,
            },
        }
    }

    /// Sends a message each way that a run sends one.
    async fn treat(&self) -> Result<(), String> {
        let env = LiveEnv::process("doctor", 0);
        let transport = RabbitMq::new(self.amqp.clone(), env, self.options.clone());
        let declared = transport.declare(&self.topology).await;
        declared.map_err(|error| format!("declaring: {error}"))?;
        let (connection, channel) = self.open().await.map_err(|error| error.to_string())?;
        let confirms = channel.confirm_select().await;
        confirms.map_err(|error| format!("asking for confirms: {error}"))?;
        let work = self.names.queue(CONSUMER);
        let dead = self.names.dead(CONSUMER);
        let delay = self.names.delay(RUNG);
        let ways: [(&str, Arc<str>, &str, &str); 3] = [
            ("an event", self.names.exchange(DOMAIN), EVENT, &work),
            ("a retry", delay, &work, &work),
            ("a dead letter", "".into(), &dead, &dead),
        ];
        for (what, exchange, key, queue) in ways {
            publish(&channel, exchange, key)
                .await
                .map_err(|why| format!("publishing {what}: {why}"))?;
            let back = get(&channel, queue).await;
            let back = back.map_err(|why| format!("reading {what} back: {why}"))?;
            let acked = channel.ack(back.tag, false).await;
            acked.map_err(|error| format!("acknowledging {what}: {error}"))?;
        }
        // What is not closed in order is closed all the same.
        let _ = connection.close().await;
        Ok(())
    }

    async fn open(&self) -> Result<(LapinConnection, LapinChannel), AmqpError> {
        let connection = self.amqp.connect("redeliver doctor").await?;
        let channel = connection.open_channel().await?;
        Ok((connection, channel))
    }

    /// Removes what was made; gives the names of what is still there, or may be.
    async fn remove(&self) -> Vec<String> {
        let specs = topology::queues(&self.names, &self.topology);
        let queues = specs.iter().map(|spec| (true, spec.name.clone()));
        let exchanges = [self.names.exchange(DOMAIN), self.names.delay(RUNG)];
        let exchanges = exchanges.into_iter().map(|name| (false, name));
        let mut left = Vec::new();
        for (is_queue, name) in queues.chain(exchanges) {
            let gone = within(BOUND, self.remove_one(is_queue, &name)).await;
            if gone != Ok(Ok(true)) {
                let kind = if is_queue { "queue" } else { "exchange" };
                left.push(format!("{kind} {name}"));
            }
        }
        left
    }

    /// Over a connection of its own: an error ends the channel, and the check may have ended the
    /// connection. Whoever may not delete could not declare either, so it is looked for after all.
    async fn remove_one(&self, is_queue: bool, name: &str) -> Result<bool, AmqpError> {
        let (connection, channel) = self.open().await?;
        let removed = match is_queue {
            true => channel.delete_queue(name).await,
            false => channel.delete_exchange(name).await,
        };
        let gone = match removed {
            Ok(()) => true,
            Err(_) => {
                let channel = connection.open_channel().await?;
                let found = match is_queue {
                    true => channel.inspect_queue(name).await.map(drop),
                    false => channel.inspect_exchange(name).await,
                };
                matches!(found, Err(AmqpError::Channel { code: 404, .. }))
            }
        };
        let _ = connection.close().await;
        Ok(gone)
    }
}

async fn publish(channel: &LapinChannel, exchange: Arc<str>, key: &str) -> Result<(), String> {
    let message = Publish {
        exchange,
        routing_key: key.into(),
        mandatory: true,
        properties: Properties {
            delivery_mode: Some(2),
            ..Properties::default()
        },
        body: Bytes::from_static(b"how do you do"),
    };
    let confirm = channel.publish(message).await.map_err(|e| e.to_string())?;
    let confirmed = within(BOUND, confirm).await;
    match confirmed.map_err(|late| format!("the confirm: {late}"))? {
        Ok(Confirmation::Ack) => Ok(()),
        Ok(other) => Err(format!("not confirmed but {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Looks again until it is there: a confirmed message may take a moment, a delayed one has to.
async fn get(channel: &LapinChannel, queue: &str) -> Result<AmqpDelivery, String> {
    let look = async {
        loop {
            match channel.get(queue).await {
                Ok(Some(delivery)) => return Ok(delivery),
                Ok(None) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    within(BOUND, look).await.flatten()
}
