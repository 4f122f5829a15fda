//! The broker: who it is, who may come in, and what the user may do.

use std::net::SocketAddr;

use lapin::uri::{AMQPScheme, AMQPUri};
use redeliver_sim::broker::Profile;

use super::queues::Patient;
use super::sheet::{Chain, Finding, Sheet};
use super::{BOUND, LONG, is_cut, port, within};
use redeliver_core::secret::Secret;
use redeliver_core::topology::QueueType;
use redeliver_harness::scenario::{profile_name, queue_type_name};
use redeliver_harness::story::quoted;
use redeliver_rabbitmq::amqp::{Amqp, AmqpConnection, AmqpError};
use redeliver_rabbitmq::lapin::{GreetingError, LapinAmqp, greeting};

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

/// Only whether it can be reached, and lets its user in.
pub(super) async fn reach(url: &Secret, sheet: &mut Sheet) {
    arrive(url, &mut Chain::new(sheet, NAMES)).await;
}

/// The checks before anything is made.
async fn arrive(url: &Secret, chain: &mut Chain<'_>) -> Option<Place> {
    let place = chain.must(understand(url))?;
    let at = port::check(&place.host, place.port, "RabbitMQ", "AMQP_URL").await;
    let at = chain.must(at)?;
    let version = chain.must(protocol(at).await)?;
    chain.note(&judge_version(version.as_deref()));
    if !chain.goes_on() {
        return None;
    }
    chain.must(login(&place).await)?;
    Some(place)
}

async fn steps(url: &Secret, name: &str, chain: &mut Chain<'_>) -> Option<()> {
    let place = arrive(url, chain).await?;
    let mut left = Vec::new();
    for queue_type in [QueueType::Quorum, QueueType::Classic] {
        if !chain.goes_on() {
            chain.skip("stopped");
            continue;
        }
        let kind = queue_type_name(queue_type);
        let patient = Patient::new(&place.amqp, &format!("{name}_{kind}"), queue_type);
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
    let seen = format!("these may be left: {}", left.join(", "));
    let todo =
        format!("rabbitmqctl delete_queue -p {vhost} QUEUE; exchanges by the management page");
    Finding::missing(seen, todo)
}
