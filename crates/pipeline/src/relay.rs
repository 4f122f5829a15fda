//! The relay: carries committed outbox rows to the broker.
//!
//! It claims a batch under a lease and a fencing token, publishes it with confirms, and marks
//! only what was confirmed and not returned. A crash between confirm and mark publishes again:
//! a legal duplicate, which the inbox makes harmless. A crash anywhere else loses nothing, since
//! an unmarked row is claimed again when its lease is over.
//!
//! A few batches are on their way at the same time: the next one leaves while the confirms of the
//! last are outstanding. Of an ordered key none does, since the store gives out no row behind one
//! that is claimed.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redeliver_core::boxed::{Boxed, boxed};
use redeliver_core::outbox::{ClaimedRow, RelayClaim};
use redeliver_core::policy::RelayPolicy;
use redeliver_core::ports::{Env, EnvExt, Store, StoreError, Transport, World};

use crate::status::{Gauge, Life};
use flight::{Batch, Lane};

mod flight;

type PublisherOf<W> = <<W as World>::Transport as Transport>::Publisher;

/// So many batches are on their way at the same time at most, each on a connection of its own.
const LANES: usize = 3;

/// A relay that found nothing so often after it was notified stands by: another one is quicker. It
/// only polls then, until it finds something.
const STANDS_BY_AFTER: u32 = 3;

/// A relay process: claims, publishes and marks, batch by batch.
#[derive(Debug)]
pub struct Relay<W: World> {
    world: W,
    policy: RelayPolicy,
    id: Arc<str>,
    gauge: Gauge,
}

/// What the relay has done, or waited for.
enum Event<W: World> {
    /// A look into the outbox has ended; it began then.
    Claimed(Result<Vec<ClaimedRow>, StoreError>, Duration),
    /// A batch has ended, well or not. Others may have waited for it.
    Landed {
        lane: Lane<W>,
        well: bool,
        ordered: bool,
        /// How many looks had begun when it left.
        left_at: u64,
    },
    /// It is time to look again; perhaps because of a notification.
    Look { notified: bool },
}

/// What the relay waits for between two looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// A notification, or the next poll.
    News,
    /// The end of a backoff, whatever comes in meanwhile.
    Backoff(u32),
}

/// Where a relay stands.
struct Course<W: World> {
    /// Those that publish nothing at the moment.
    free: Vec<Lane<W>>,
    /// A look is due as soon as a lane is free for what it finds.
    due: bool,
    /// A look is on its way.
    looks: bool,
    /// Looks that have begun.
    begun: u64,
    wait: Wait,
    failures: u32,
    /// Looks in a row that found nothing after a notification.
    misses: u32,
    notified: bool,
    last_purge: Duration,
}

impl<W: World> Relay<W> {
    /// A relay of this process.
    pub fn new(world: W, policy: RelayPolicy) -> Self {
        let env = world.env();
        let id = Arc::from(format!("{}#{}", env.process(), env.incarnation()));
        Self {
            world,
            policy,
            id,
            gauge: Gauge::default(),
        }
    }

    /// Tells through `gauge` how it is.
    #[must_use]
    pub(crate) fn with_gauge(mut self, gauge: Gauge) -> Self {
        self.gauge = gauge;
        self
    }

    /// Works until the process is asked to stop. What is claimed then is still published or
    /// given back.
    pub async fn run(self) {
        let _life = Life(self.gauge.clone());
        let mut stopping = pin!(self.world.env().stopping());
        let lane = |_| Lane::new(self.world.clone(), self.policy.clone(), self.id.clone());
        let mut course = Course {
            free: (0..LANES).map(lane).collect(),
            due: true,
            looks: false,
            begun: 0,
            wait: Wait::News,
            failures: 0,
            misses: 0,
            notified: false,
            last_purge: self.world.env().elapsed(),
        };
        let (mut doing, mut waiting) = (Doing::default(), None);
        let mut stopped = false;
        loop {
            if !stopped && !course.looks && !course.free.is_empty() {
                if course.due && course.wait == Wait::News {
                    (course.due, course.looks, waiting) = (false, true, None);
                    course.begun += 1;
                    let purges = course.purges(&self.policy, self.world.env().elapsed());
                    doing.add(boxed(self.look(purges)));
                } else if waiting.is_none() {
                    waiting = Some(boxed(self.wait(course.wait, course.stands_by())));
                }
            }
            if stopped && doing.is_empty() {
                return;
            }
            let event = next(&mut doing, &mut waiting);
            let event = match stopped {
                true => event.await,
                false => match until(stopping.as_mut(), event).await {
                    Some(event) => event,
                    None => {
                        (stopped, waiting) = (true, None);
                        continue;
                    }
                },
            };
            if self.take(&mut course, event, &mut doing) {
                waiting = None;
            }
        }
    }

    /// Goes on after an event; gives whether there is something else to wait for.
    fn take<'a>(
        &'a self,
        course: &mut Course<W>,
        event: Event<W>,
        doing: &mut Doing<'a, Event<W>>,
    ) -> bool {
        match event {
            Event::Look { notified } => {
                (course.due, course.wait, course.notified) = (true, Wait::News, notified);
                true
            }
            Event::Claimed(Ok(rows), claimed_at) => {
                course.looks = false;
                self.gauge.works(true);
                if rows.is_empty() {
                    course.failures = 0;
                    course.misses += u32::from(std::mem::take(&mut course.notified));
                    return true;
                }
                (course.misses, course.notified) = (0, false);
                course.due |= rows.len() >= self.policy.batch as usize;
                let mut lane = course.free.pop().expect("a lane was free for this look");
                let batch = Batch { rows, claimed_at };
                let left_at = course.begun;
                doing.add(boxed(async move {
                    let ordered = batch.is_ordered();
                    let well = lane.fly(batch).await;
                    Event::Landed {
                        lane,
                        well,
                        ordered,
                        left_at,
                    }
                }));
                true
            }
            Event::Claimed(Err(error), _) => {
                tracing::warn!(%error, "the outbox cannot be read");
                course.looks = false;
                self.failed(course);
                true
            }
            Event::Landed {
                lane,
                well,
                ordered,
                left_at,
            } => {
                course.free.push(lane);
                if well {
                    course.failures = 0;
                    // Behind an ordered row a look that came meanwhile left others where they were.
                    course.due |= ordered && course.begun > left_at;
                } else {
                    self.failed(course);
                }
                !well
            }
        }
    }

    fn failed(&self, course: &mut Course<W>) {
        course.failures += 1;
        (course.due, course.wait) = (true, Wait::Backoff(course.failures));
        self.gauge.works(false);
    }

    /// Looks for rows, and removes old ones now and then.
    async fn look(&self, purges: bool) -> Event<W> {
        let store = self.world.store();
        if purges {
            let (age, limit) = (self.policy.retention, self.policy.purge_batch);
            if let Err(error) = store.outbox_purge(age, limit).await {
                tracing::warn!(%error, "old outbox rows stay for now");
            }
        }
        let claimed_at = self.world.env().elapsed();
        let claim = RelayClaim {
            relay: self.id.clone(),
            limit: self.policy.batch,
            lease: self.policy.lease,
        };
        let claimed = store.outbox_claim(&claim).await;
        Event::Claimed(claimed, claimed_at)
    }

    async fn wait(&self, wait: Wait, stands_by: bool) -> Event<W> {
        let (env, store) = (self.world.env(), self.world.store());
        let notified = match wait {
            Wait::News if !stands_by => {
                let notified = env.timeout(self.policy.poll, store.outbox_wait()).await;
                notified.is_some()
            }
            Wait::News => {
                env.sleep(self.policy.poll).await;
                false
            }
            Wait::Backoff(failures) => {
                env.sleep(backoff(&self.policy, failures)).await;
                false
            }
        };
        Event::Look { notified }
    }
}

impl<W: World> Course<W> {
    fn stands_by(&self) -> bool {
        self.misses >= STANDS_BY_AFTER
    }

    /// Whether it is time to remove old rows.
    fn purges(&mut self, policy: &RelayPolicy, now: Duration) -> bool {
        let due = now.saturating_sub(self.last_purge) >= policy.purge_every;
        if due {
            self.last_purge = now;
        }
        due
    }
}

/// How long to wait after so many failures in a row.
fn backoff(policy: &RelayPolicy, failures: u32) -> Duration {
    let factor = 1u32 << failures.saturating_sub(1).min(16);
    let wait = policy.backoff.saturating_mul(factor);
    wait.min(policy.backoff_cap)
}

/// What is being done at the same time: few things, looked at in the order in which they began.
struct Doing<'a, T>(Vec<Boxed<'a, T>>);

impl<T> Default for Doing<'_, T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, T> Doing<'a, T> {
    fn add(&mut self, one: Boxed<'a, T>) {
        self.0.push(one);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<T> {
        for at in 0..self.0.len() {
            if let Poll::Ready(done) = self.0[at].as_mut().poll(cx) {
                drop(self.0.remove(at));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    }
}

/// The first of all this that ends.
async fn next<T>(doing: &mut Doing<'_, T>, waiting: &mut Option<Boxed<'_, T>>) -> T {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = doing.poll(cx) {
            return Poll::Ready(done);
        }
        let Some(wait) = waiting else {
            return Poll::Pending;
        };
        let waited = wait.as_mut().poll(cx);
        if waited.is_ready() {
            *waiting = None;
        }
        waited
    })
    .await
}

/// Runs `work` unless `stop` completes first; `None` then.
pub async fn until<S: Future, F: Future>(
    mut stop: std::pin::Pin<&mut S>,
    work: F,
) -> Option<F::Output> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}
