//! Where the work stands that has not ended, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::{Legs, Way, With, Work};

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The request is begun, and not committed.
    Request,
    /// The event is committed, and not published.
    Outbox,
    /// It is published, and was not delivered to this consumer.
    Queue(Arc<str>),
    /// A worker of this consumer has it, or had it when it died.
    Worker(Arc<str>),
    /// It waits for its next attempt at this consumer.
    Retry(Arc<str>),
    /// It waits in the store for its turn at this consumer.
    Turn(Arc<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("request"),
            Self::Outbox => f.write_str("outbox"),
            Self::Queue(consumer) => write!(f, "queue of {consumer}"),
            Self::Worker(consumer) => write!(f, "worker of {consumer}"),
            Self::Retry(consumer) => write!(f, "retry of {consumer}"),
            Self::Turn(consumer) => write!(f, "turn at {consumer}"),
        }
    }
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The place.
    pub place: Place,
    /// Workflows of which something stands there.
    pub workflows: u64,
    /// Those of them that have stood there for longer than a message may.
    pub stuck: u64,
    /// For how long the first of them has stood there, in nanoseconds.
    pub longest: u64,
}

#[derive(Default)]
struct Here {
    all: BTreeSet<Uuid>,
    stuck: BTreeSet<Uuid>,
    longest: u64,
}

impl Legs {
    /// Where everything stands that has not ended, at the time `now`; what has stood at one place
    /// for longer than `bound` is stuck.
    pub fn standing(&self, now: u64, bound: u64) -> Vec<Standing> {
        let mut places: BTreeMap<Place, Here> = BTreeMap::new();
        let ways = self.events.values().filter(|way| way.committed.is_some());
        for (way, chain) in ways.filter_map(|way| Some((way, way.chain?))) {
            for work in way.works.iter().filter(|work| !work.ended) {
                let (place, since) = stands(way, work);
                let here = places.entry(place).or_default();
                let stood = now.saturating_sub(since);
                here.longest = here.longest.max(stood);
                here.all.insert(chain);
                if stood > bound {
                    here.stuck.insert(chain);
                }
            }
        }
        let mut all: Vec<_> = places
            .into_iter()
            .map(|(place, here)| Standing {
                place,
                workflows: here.all.len() as u64,
                stuck: here.stuck.len() as u64,
                longest: here.longest,
            })
            .collect();
        let stood = self.due.values().map(|due| now.saturating_sub(*due));
        if let Some(longest) = stood.clone().max() {
            let request = Standing {
                place: Place::Request,
                workflows: self.due.len() as u64,
                stuck: stood.filter(|stood| *stood > bound).count() as u64,
                longest,
            };
            all.insert(0, request);
        }
        all
    }
}

fn stands(way: &Way, work: &Work) -> (Place, u64) {
    let consumer = || work.consumer.clone();
    match (work.with, way.published) {
        (With::Worker, _) => (Place::Worker(consumer()), work.since),
        (With::Turn, _) => (Place::Turn(consumer()), work.since),
        (With::Delay, _) => (Place::Retry(consumer()), work.since),
        (With::Nobody, Some(published)) => (Place::Queue(consumer()), published),
        (With::Nobody, None) => (Place::Outbox, way.committed.unwrap_or(work.since)),
    }
}
