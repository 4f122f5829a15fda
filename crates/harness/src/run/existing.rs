//! A team's definitions in the simulated broker.

use std::sync::{Arc, Mutex, PoisonError};

use redeliver_rabbitmq::amqp::{AMQPValue, FieldTable};
use redeliver_sim::broker::{
    Account, Broker, ChanId, ExchangeDeclare, ExchangeKind, Expression, Pattern, QueueDeclare,
};
use serde_json::{Map, Value};

use redeliver_core::topology::Topology;
use redeliver_definitions::Existing;
use redeliver_definitions::audit::{compare, expanded};
use redeliver_definitions::definitions::{Definitions, Exchange, Queue, is_in};

/// Definitions that a run can be made with.
#[derive(Debug)]
pub struct Ready {
    there: Definitions,
    /// What of them is left out in the seeded world, since no model knows it.
    pub left_out: Vec<String>,
}

type Outcome = Result<Arc<Ready>, Lacking>;

/// What stands in the way of a run, each with the command that mends it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the workload's definitions lack what its pipeline needs:\n  {}", .0.join("\n  "))]
pub struct Lacking(Arc<[String]>);

/// What was looked at before: every seed of a scenario asks the same.
static LOOKED_AT: Mutex<Vec<(Existing, Topology, Outcome)>> = Mutex::new(Vec::new());

/// How many are kept.
const KEPT: usize = 8;

/// Whether a run can be made with these definitions.
///
/// # Errors
/// [`Lacking`] with all that stands in the way.
pub fn ready(existing: &Existing, topology: &Topology) -> Outcome {
    let mut kept = LOOKED_AT.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |(e, t, _): &&(Existing, Topology, Outcome)| e == existing && t == topology;
    if let Some((_, _, outcome)) = kept.iter().find(same) {
        return outcome.clone();
    }
    let looked = look_at(existing, topology);
    let outcome: Outcome = looked.map(Arc::new).map_err(|why| Lacking(why.into()));
    if kept.len() == KEPT {
        drop(kept.remove(0));
    }
    kept.push((existing.clone(), topology.clone(), outcome.clone()));
    outcome
}

fn look_at(existing: &Existing, topology: &Topology) -> Result<Ready, Vec<String>> {
    let there = existing.read().map_err(|error| vec![error.to_string()])?;
    let found = compare(existing, topology, &there);
    let stops = found.iter().filter(|finding| finding.grade.stops());
    let stops: Vec<_> = stops.map(ToString::to_string).collect();
    if !stops.is_empty() {
        return Err(stops);
    }
    let mut broker = Broker::new(redeliver_sim::broker::Profile::default());
    let left_out = load(&mut broker, existing, &there)?;
    Ok(Ready { there, left_out })
}

impl Ready {
    /// Puts them into the broker of a world.
    pub(crate) fn load(&self, broker: &mut Broker, existing: &Existing) {
        load(broker, existing, &self.there).expect("an empty broker has taken them before");
    }
}

/// Puts definitions into a broker; gives what is left out, since no model knows it.
///
/// # Errors
/// What the broker refuses.
fn load(
    broker: &mut Broker,
    existing: &Existing,
    there: &Definitions,
) -> Result<Vec<String>, Vec<String>> {
    let connection = broker.connect();
    let channel = broker
        .open_channel(connection)
        .map_err(|e| vec![format!("{e:?}")])?;
    let mut loading = Loading {
        broker,
        channel,
        existing,
        there,
        left_out: Vec::new(),
        refused: Vec::new(),
    };
    loading.all();
    let Loading {
        left_out, refused, ..
    } = loading;
    broker.close_connection(connection).ok();
    if refused.is_empty() {
        Ok(left_out)
    } else {
        Err(refused)
    }
}

struct Loading<'a> {
    broker: &'a mut Broker,
    channel: ChanId,
    existing: &'a Existing,
    there: &'a Definitions,
    left_out: Vec<String>,
    refused: Vec<String>,
}

impl Loading<'_> {
    fn all(&mut self) {
        let (there, vhost) = (self.there, self.existing.vhost_name());
        for exchange in &there.exchanges {
            if is_in(exchange.vhost.as_ref(), vhost) && !exchange.name.starts_with("amq.") {
                let told = self.exchange(exchange);
                self.note(&format!("exchange {}", exchange.name), told);
            }
        }
        for queue in &there.queues {
            if is_in(queue.vhost.as_ref(), vhost) {
                let told = self.queue(queue);
                self.note(&format!("queue {}", queue.name), told);
            }
        }
        for binding in &there.bindings {
            if is_in(binding.vhost.as_ref(), vhost) && !binding.source.is_empty() {
                let told = self.binding(binding);
                let what = format!("binding {} -> {}", binding.source, binding.destination);
                self.note(&what, told);
            }
        }
        if let Err(why) = self.account() {
            self.refused.push(why);
        }
    }

    /// What is left out is said; a refusal of the broker closes the channel.
    fn note(&mut self, what: &str, told: Result<Option<String>, String>) {
        match told {
            Ok(None) => {}
            Ok(Some(why)) => self.left_out.push(format!("{what} is left out: {why}")),
            Err(why) => {
                self.refused.push(format!("{what}: {why}"));
                let connection = self.broker.connect();
                if let Ok(channel) = self.broker.open_channel(connection) {
                    self.channel = channel;
                }
            }
        }
    }

    fn exchange(&mut self, exchange: &Exchange) -> Result<Option<String>, String> {
        let vhost = self.existing.vhost_name();
        let unmodelled = self.there.unmodelled_exchange(vhost, exchange)?;
        let kind = match exchange.kind.as_str() {
            "direct" => ExchangeKind::Direct,
            "fanout" => ExchangeKind::Fanout,
            "topic" => ExchangeKind::Topic,
            "headers" => ExchangeKind::Headers,
            "x-consistent-hash" => ExchangeKind::ConsistentHash,
            _ => return Ok(Some(not_modelled(&unmodelled))),
        };
        if !unmodelled.is_empty() {
            return Ok(Some(not_modelled(&unmodelled)));
        }
        let alternate = self.there.alternate(vhost, exchange)?;
        let declare = ExchangeDeclare {
            name: exchange.name.as_str().into(),
            kind,
            durable: exchange.durable,
            internal: exchange.internal,
            alternate: alternate.as_deref().map(Into::into),
            ..ExchangeDeclare::default()
        };
        let declared = self.broker.exchange_declare(self.channel, declare);
        declared.map(|()| None).map_err(|closed| closed.text)
    }

    fn queue(&mut self, queue: &Queue) -> Result<Option<String>, String> {
        let vhost = self.existing.vhost_name();
        let unmodelled = self.there.unmodelled(vhost, queue)?;
        if !unmodelled.is_empty() {
            return Ok(Some(not_modelled(&unmodelled)));
        }
        let settings = self.there.settings(vhost, queue)?;
        // A routing key for dead letters that go nowhere means nothing in a policy.
        let dead = settings.contains_key("dead-letter-exchange");
        let settings = settings
            .into_iter()
            .filter(|(key, setting)| {
                dead || key != "dead-letter-routing-key" || setting.policy.is_none()
            })
            .map(|(key, setting)| (format!("x-{key}"), setting.value));
        let declare = QueueDeclare {
            name: queue.name.as_str().into(),
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            arguments: table(&settings.collect())?,
            ..QueueDeclare::default()
        };
        let declared = self.broker.queue_declare(self.channel, declare);
        declared.map(|_| None).map_err(|closed| closed.text)
    }

    fn binding(
        &mut self,
        binding: &redeliver_definitions::definitions::Binding,
    ) -> Result<Option<String>, String> {
        if binding.destination_type != "queue" {
            return Ok(Some(
                "bindings between exchanges are not modelled".to_owned(),
            ));
        }
        let (source, queue) = (&*binding.source, &*binding.destination);
        if !self.broker.queue_names().any(|name| **name == *queue) {
            return Ok(Some(format!("there is no queue {queue}")));
        }
        let known = self.there.exchange(self.existing.vhost_name(), source);
        let skipped = format!("exchange {source} is left out:");
        let is_skipped = self.left_out.iter().any(|line| line.starts_with(&skipped));
        if !source.starts_with("amq.") && (known.is_none() || is_skipped) {
            return Ok(Some(format!("there is no exchange {source}")));
        }
        let (key, arguments) = (&*binding.routing_key, table(&binding.arguments)?);
        let bound = self
            .broker
            .queue_bind(self.channel, queue, source, key, arguments);
        bound.map(|()| None).map_err(|closed| closed.text)
    }

    fn account(&mut self) -> Result<(), String> {
        let Some(user) = self.existing.user_name() else {
            return Ok(());
        };
        let vhost = self.existing.vhost_name();
        let pattern = |text: &str| {
            let expression = Expression::new(text);
            let expression = expression.map_err(|why| format!("user {user}: {text}: {why}"))?;
            Ok::<_, String>(Pattern::Expression(expression))
        };
        let own = self.there.permissions.iter();
        let mut own = own.filter(|own| own.user == user && is_in(own.vhost.as_ref(), vhost));
        let Some(own) = own.next() else {
            return Err(format!("user {user} has no permissions in {vhost}"));
        };
        let mut topics = Vec::new();
        for own in &self.there.topic_permissions {
            if own.user == user && is_in(own.vhost.as_ref(), vhost) {
                let [write, read] =
                    [&own.write, &own.read].map(|text| pattern(&expanded(text, user, vhost)));
                topics.push((own.exchange.as_str().into(), write?, read?));
            }
        }
        let account = Account {
            configure: pattern(&own.configure)?,
            write: pattern(&own.write)?,
            read: pattern(&own.read)?,
            topics,
        };
        self.broker.set_account(user, account);
        Ok(())
    }
}

fn not_modelled(what: &[String]) -> String {
    format!("{} is not modelled", what.join(" and "))
}

fn table(arguments: &Map<String, Value>) -> Result<FieldTable, String> {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            Value::Bool(on) => AMQPValue::Boolean(*on),
            Value::Number(n) if n.is_i64() => AMQPValue::LongLongInt(n.as_i64().unwrap_or(0)),
            other => return Err(format!("{name} is {other}, which no model knows")),
        };
        table.insert(name.as_str().into(), value);
    }
    Ok(table)
}
