//! Looks at servers and at this process while a run goes on.

use std::sync::Arc;

use crate::run::live::{LiveError, Servers};
use crate::watch::file::Gauge;
use redeliver_core::ports::TransportError;
use redeliver_core::topology::Topology;
use redeliver_rabbitmq::amqp::{Amqp, AmqpChannel, AmqpConnection, AmqpError};
use redeliver_rabbitmq::lapin::greeting;
use redeliver_rabbitmq::topology;

/// What waits in the outbox, the inbox and the queues.
pub(super) async fn look(servers: &Servers, needed: &Topology) -> Result<Gauge, LiveError> {
    let backlog = servers.database.store.backlog().await?;
    let queues = depths(servers, needed)
        .await
        .map_err(TransportError::from)?;
    Ok(Gauge {
        outbox: backlog.outbox,
        oldest_ms: backlog.oldest_ms,
        inbox: backlog.inbox,
        queues,
        ..Gauge::default()
    })
}

/// Ready messages of each queue.
async fn depths(servers: &Servers, needed: &Topology) -> Result<Vec<(Arc<str>, u64)>, AmqpError> {
    let rabbit = servers.rabbit();
    let connection = servers.amqp.connect("redeliver look").await?;
    let channel = connection.open_channel().await?;
    let mut depths = Vec::new();
    for spec in topology::queues(rabbit.names(), needed) {
        let ready = u64::from(channel.inspect_queue(&spec.name).await?);
        depths.push((rabbit.names().bare(&spec.name), ready));
    }
    connection.close().await?;
    Ok(depths)
}

/// The versions of both servers, as far as they say.
pub(super) async fn versions(servers: &Servers) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let asked = servers
        .database
        .ask(&[Arc::from("show server_version")])
        .await;
    let first = asked.into_iter().next().and_then(|answer| answer.rows.ok());
    let version = first.and_then(|rows| rows.into_iter().flatten().next().flatten());
    all.extend(version.map(|version| ("PostgreSQL".to_owned(), version)));
    let mut places = tokio::net::lookup_host(servers.amqp.place())
        .await
        .into_iter()
        .flatten();
    if let Some(place) = places.next()
        && let Ok(greeting) = greeting(place).await
        && let Some(version) = greeting.version
    {
        let product = greeting.product.unwrap_or_else(|| "a broker".to_owned());
        all.push((product, version));
    }
    all
}

/// Resident memory in kilobytes and open files of this process, where the system says so.
pub(super) fn own() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64);
    (resident.unwrap_or(0), files)
}
