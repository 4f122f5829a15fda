//! Requests: what starts a workflow.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use redeliver_core::event::Message;
use redeliver_pipeline::handler::Draft;

/// A request from outside: what starts a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When, after the start of the run.
    pub at: Duration,
    /// Its idempotency key. Two requests with the same key are one piece of work, sent twice by
    /// its client.
    pub key: Arc<str>,
    /// The event that it emits.
    pub draft: Draft,
}

impl Request {
    /// A request that emits `message`, under its type and key as idempotency key.
    ///
    /// # Panics
    /// If the message cannot be encoded as JSON.
    pub fn emit<M: Message>(at: Duration, message: &M) -> Self {
        let draft = Draft::of(message).expect("a workload's own message is JSON");
        let key = Arc::from([M::TYPE, ":", &message.key()].concat());
        Self { at, key, draft }
    }
}

/// Seeded chance for making requests: ChaCha8 over the run's seed.
#[derive(Debug)]
pub struct Generator {
    rng: rand_chacha::ChaCha8Rng,
    /// Requests that other parts of the run have before these.
    before: u32,
    messages: u32,
    over: Duration,
}

impl Generator {
    /// A generator for `messages` requests spread over `over`.
    pub fn new(seed: u64, messages: u32, over: Duration) -> Self {
        use rand_chacha::rand_core::SeedableRng;
        Self {
            rng: rand_chacha::ChaCha8Rng::seed_from_u64(seed),
            before: 0,
            messages,
            over,
        }
    }

    /// The same for a part of a run, with so many requests in the parts before it.
    #[must_use]
    pub(crate) fn behind(mut self, before: u32) -> Self {
        self.before = before;
        self
    }

    /// How many requests are asked for.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// The numbers of the requests that are asked for: from 1, unless this is a later part of a
    /// long run, whose requests are made as they are needed. Keys made of them are in no other part.
    pub fn numbers(&self) -> RangeInclusive<u32> {
        self.before + 1..=self.before + self.messages
    }

    /// 64 bits of chance.
    pub fn bits(&mut self) -> u64 {
        use rand_chacha::rand_core::Rng;
        self.rng.next_u64()
    }

    /// A number in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time within the span over which requests arrive.
    pub fn when(&mut self) -> Duration {
        Duration::from_nanos(self.below(redeliver_core::ports::env::nanos(self.over)))
    }

    /// As many requests as are asked for, each of which emits one event, at times of the seed's
    /// choice. `make` gets their [numbers](Generator::numbers).
    pub fn each<E: Message>(&mut self, mut make: impl FnMut(u32) -> E) -> Vec<Request> {
        let all = self.numbers();
        all.map(|number| Request::emit(self.when(), &make(number)))
            .collect()
    }
}
