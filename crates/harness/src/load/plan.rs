//! Which faults of a scenario a load run is given: which kinds the servers of this run allow, and when
//! the timed ones happen.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redeliver_private::{Broker, Database};
use redeliver_sim::fault::{Event, Kind};

use crate::run::live::{Servers, chaos};
use crate::run::swarm;
use crate::scenario::{Scenario, format_duration};
use redeliver_core::ports::env::nanos;

/// Kinds that strike calls of processes.
pub(super) const OF_PROCESSES: [Kind; 5] = [
    Kind::DuplicatePublish,
    Kind::LatePublish,
    Kind::LateDelivery,
    Kind::Crash,
    Kind::Pause,
];
/// Kinds that strike calls at the outside services.
pub(super) const OF_SERVICES: [Kind; 3] =
    [Kind::ServiceFails, Kind::ServiceInDoubt, Kind::SlowService];

/// All kinds that strike by chance.
fn by_chance() -> Vec<Kind> {
    [&OF_PROCESSES[..], &OF_SERVICES, &[Kind::SlowStart]].concat()
}

/// Servers that nobody else uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Private {
    pub(super) broker: Option<Arc<Mutex<Broker>>>,
    pub(super) database: Option<Arc<Mutex<Database>>>,
}

impl Private {
    /// Those of this run, where `scripts/services` says how to control them.
    pub(super) fn of(servers: &Servers) -> Self {
        let said = redeliver_private::said();
        let (host, port) = servers.amqp.place();
        let ours = |host: &str| matches!(host, "127.0.0.1" | "localhost" | "::1");
        let broker = Broker::new(&said).filter(|broker| ours(host) && broker.port() == port);
        let (host, port) = servers.database.place();
        let database = Database::new(&said);
        let database = database.filter(|database| ours(host) && database.port() == port);
        Self {
            broker: broker.map(|it| Arc::new(Mutex::new(it))),
            database: database.map(|it| Arc::new(Mutex::new(it))),
        }
    }

    /// Kinds that happen at a time, as far as these servers can be given them.
    fn events(&self) -> Vec<Kind> {
        let mut kinds = vec![
            Kind::Crash,
            Kind::Pause,
            Kind::RollingDeploy,
            Kind::ServiceDown,
            Kind::Partition,
        ];
        if self.broker.is_some() {
            kinds.extend([
                Kind::BrokerRestart,
                Kind::BrokerKill,
                Kind::BlockedPublishers,
            ]);
        }
        if self.database.is_some() {
            kinds.push(Kind::FailOver);
        }
        kinds
    }

    /// What a scenario asks for and a run that sends for so long is not given.
    pub(super) fn not_given(&self, scenario: &Scenario, seed: u64, lasts: Duration) -> Vec<String> {
        let mut names = chaos::beyond(scenario, &by_chance(), &self.events());
        let planned = self.planned(scenario, seed, lasts);
        for event in &scenario.events {
            let name = event.kind.as_str();
            if self.events().contains(&event.kind) && !planned.iter().any(|known| known == name) {
                names.push(format!("{name} within {}", format_duration(lasts)));
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// The kinds of faults that a run which sends for so long is to be given.
    pub(super) fn planned(&self, scenario: &Scenario, seed: u64, lasts: Duration) -> Vec<String> {
        let rules = swarm::draw(scenario, seed).rules.into_iter();
        let rules = rules.filter(|rule| chaos::can_strike(rule, &by_chance()));
        let timed = self.timed(scenario, seed, lasts).into_iter();
        let kinds = rules
            .map(|rule| rule.kind)
            .chain(timed.map(|event| event.kind));
        let kinds: BTreeSet<_> = kinds.map(Kind::as_str).collect();
        kinds.into_iter().map(str::to_owned).collect()
    }

    /// The timed faults of a run that sends for so long, in the order of their times after the first
    /// request.
    pub(super) fn timed(&self, scenario: &Scenario, seed: u64, lasts: Duration) -> Vec<Event> {
        let kinds = self.events();
        let (round, lasts) = (nanos(scenario.faults_until).max(1), nanos(lasts));
        let mut all = Vec::new();
        for (number, begins) in
            (0u64..).zip((0..lasts).step_by(usize::try_from(round).unwrap_or(usize::MAX)))
        {
            let drawn = swarm::draw(scenario, seed.wrapping_add(number)).events;
            let mut drawn: Vec<_> = drawn
                .into_iter()
                .map(|event| Event {
                    at: event.at + begins,
                    ..event
                })
                .collect();
            // One that would last beyond the sending would strike nothing.
            drawn.retain(|it| kinds.contains(&it.kind) && it.at.saturating_add(it.lasts) <= lasts);
            all.extend(drawn);
        }
        all.sort_by_key(|event| event.at);
        all
    }
}
