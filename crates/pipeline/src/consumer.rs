//! The consumer: bounded workers, one transaction for inbox row and effects, ack after commit.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::handler::Consumer;
use crate::relay::until;
use crate::status::{Gauge, Life};
use batch::InHand;
use order::Overdue;
use redeliver_core::policy::Policy;
use redeliver_core::ports::{
    Delivery, Env, EnvExt, Receiver, Settlement, Store, Transport, TransportError, World,
};

mod attempt;
mod batch;
mod order;
mod work;

type ReceiverOf<W> = <<W as World>::Transport as Transport>::Receiver;

/// Runs one consumer in this process.
#[derive(Debug)]
pub struct Runner<W: World> {
    shared: Arc<Shared<W>>,
    gauge: Gauge,
}

/// What all workers of a runner share.
#[derive(Debug)]
pub(crate) struct Shared<W: World> {
    pub(crate) world: W,
    pub(crate) consumer: Consumer<W>,
    pub(crate) policy: Policy,
    /// Unique for each process start.
    pub(crate) worker: Arc<str>,
}

impl<W: World> Runner<W> {
    /// A runner of `consumer`.
    pub fn new(world: W, consumer: Consumer<W>, policy: Policy) -> Self {
        let env = world.env();
        let worker = Arc::from(format!("{}#{}", env.process(), env.incarnation()));
        Self {
            shared: Arc::new(Shared {
                world,
                consumer,
                policy,
                worker,
            }),
            gauge: Gauge::default(),
        }
    }

    /// Tells through `gauge` how it is.
    #[must_use]
    pub(crate) fn with_gauge(mut self, gauge: Gauge) -> Self {
        self.gauge = gauge;
        self
    }

    /// Works until the process is asked to stop, then drains: takes nothing new, lets work in
    /// hand end within the deadline, and gives the rest back to the queue.
    pub async fn run(self) {
        let _life = Life(self.gauge.clone());
        let env = self.shared.world.env().clone();
        let mut stopping = pin!(env.stopping());
        let mut failures = 0u32;
        loop {
            let queue = self.shared.consumer.name().clone();
            let open = self.shared.world.transport().receiver(
                &self.shared.worker,
                &queue,
                self.shared.policy.consumer.prefetch,
            );
            let receiver = match until(stopping.as_mut(), open).await {
                None => return,
                Some(Ok(receiver)) => receiver,
                Some(Err(error)) => {
                    tracing::warn!(%error, %queue, "cannot subscribe");
                    failures += 1;
                    let wait = Duration::from_millis(100 << failures.min(8));
                    if until(stopping.as_mut(), env.sleep(wait)).await.is_none() {
                        return;
                    }
                    continue;
                }
            };
            failures = 0;
            self.gauge.works(true);
            let crew = Crew::start(&self.shared, &receiver);
            if until(stopping.as_mut(), crew.gone()).await.is_none() {
                crew.drain(&env, &receiver, self.shared.policy.consumer.drain)
                    .await;
                return;
            }
            self.gauge.works(false);
            receiver.close().await;
        }
    }
}

/// The workers of one subscription.
struct Crew {
    stop: Arc<watch::Sender<bool>>,
    alive: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

/// Held by each worker: however one ends, the others stop as well and the crew is replaced.
struct Membership {
    stop: Arc<watch::Sender<bool>>,
    _alive: mpsc::Sender<()>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Crew {
    fn start<W: World>(shared: &Arc<Shared<W>>, receiver: &ReceiverOf<W>) -> Self {
        let stop = Arc::new(watch::Sender::new(false));
        let (alive, seen) = mpsc::channel(1);
        let member = || Membership {
            stop: stop.clone(),
            _alive: alive.clone(),
        };
        let env = shared.world.env();
        let overdue = Arc::new(Overdue::default());
        for i in 0..shared.policy.consumer.workers {
            let (shared, receiver, member) = (shared.clone(), receiver.clone(), member());
            let (overdue, stopped) = (overdue.clone(), stop.subscribe());
            env.spawn(&format!("{}/{i}", shared.consumer.name()), async move {
                work_until_stopped(&shared, &receiver, &overdue, stopped).await;
                drop(member);
            });
        }
        let (looker, of_looker, mut stopped) = (shared.clone(), member(), stop.subscribe());
        env.spawn(&format!("{}/order", shared.consumer.name()), async move {
            order::look_until_stopped(&looker, &overdue, &mut stopped).await;
            drop(of_looker);
        });
        let (purger, member, mut stopped) = (shared.clone(), member(), stop.subscribe());
        env.spawn(&format!("{}/purge", shared.consumer.name()), async move {
            purge_until_stopped(&purger, &mut stopped).await;
            drop(member);
        });
        Self {
            stop,
            alive: tokio::sync::Mutex::new(seen),
        }
    }

    /// Completes when the subscription is broken and every worker has let go of it.
    async fn gone(&self) {
        self.alive.lock().await.recv().await;
    }

    async fn drain<E: Env, R: Receiver>(&self, env: &E, receiver: &R, limit: Duration) {
        if let Err(error) = receiver.cancel().await {
            tracing::info!(%error, "the subscription was gone before the drain");
        }
        self.stop.send_replace(true);
        if env.timeout(limit, self.gone()).await.is_none() {
            tracing::warn!(
                ?limit,
                "work was still in hand when the drain was over; it returns"
            );
        }
        receiver.close().await;
    }
}

async fn work_until_stopped<W: World>(
    shared: &Shared<W>,
    receiver: &ReceiverOf<W>,
    overdue: &Overdue,
    mut stopped: watch::Receiver<bool>,
) {
    let stop = stopped.clone();
    loop {
        let end = pin!(async {
            // An error means that the crew is gone: stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        let next = first(async { Ok(overdue.next().await) }, receiver.receive());
        let delivery = match until(end, next).await {
            None => return,
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => {
                tracing::info!(%error, "the subscription ended");
                return;
            }
        };
        let handled = match delivery.kept {
            true => order::take_on(shared, receiver, &delivery, &stop).await,
            false => handle_ready(shared, receiver, delivery, &stop).await,
        };
        if let Err(error) = handled {
            // What is unsettled comes back only when the channel closes.
            tracing::warn!(%error, "a delivery could not be settled");
            receiver.close().await;
            return;
        }
    }
}

/// Handles a delivery, and with it what else is there where its handler takes several at once.
async fn handle_ready<W: World>(
    shared: &Shared<W>,
    receiver: &ReceiverOf<W>,
    first: Delivery,
    stopped: &watch::Receiver<bool>,
) -> Result<(), TransportError> {
    let InHand { batches, mut alone } = batch::take_ready(shared, receiver, first).await;
    for batch in batches {
        alone.append(&mut batch::handle(shared, receiver, batch).await?);
    }
    for (at, delivery) in alone.iter().enumerate() {
        // What is not begun goes back to the queue.
        if at > 0 && *stopped.borrow() {
            break;
        }
        handle(shared, receiver, delivery, stopped).await?;
    }
    Ok(())
}

/// Handles one delivery, settles it, and takes on what waits behind it.
async fn handle<W: World>(
    shared: &Shared<W>,
    receiver: &ReceiverOf<W>,
    delivery: &Delivery,
    stopped: &watch::Receiver<bool>,
) -> Result<(), TransportError> {
    let decision = work::decide(shared, delivery, None).await;
    let kept = matches!(decision.settlement, Settlement::Kept);
    settle(shared, receiver, delivery, decision.settlement).await?;
    let Ok(event) = &delivery.event else {
        return Ok(());
    };
    if decision.passed || (kept && order::is_next(shared, event).await) {
        order::follow(shared, receiver, &event.order_scope(), stopped).await?;
    }
    Ok(())
}

async fn settle<W: World>(
    shared: &Shared<W>,
    receiver: &ReceiverOf<W>,
    delivery: &Delivery,
    settlement: Settlement,
) -> Result<(), TransportError> {
    let dead = matches!(settlement, Settlement::DeadLetter(_));
    receiver.settle(delivery, settlement).await?;
    if dead {
        work::dead_letter_published(shared, delivery).await;
    }
    Ok(())
}

async fn purge_until_stopped<W: World>(shared: &Shared<W>, stopped: &mut watch::Receiver<bool>) {
    let (every, age) = (
        shared.policy.consumer.purge_every,
        shared.policy.consumer.dedup_window,
    );
    loop {
        let stop = pin!(async {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        if until(stop, shared.world.env().sleep(every)).await.is_none() {
            return;
        }
        if let Err(error) = shared.world.store().inbox_purge(age, 1_000).await {
            tracing::warn!(%error, "old inbox rows stay for now");
        }
    }
}

/// The outcome of whichever ends first; of `one` where both have.
async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    std::future::poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => other.as_mut().poll(cx),
    })
    .await
}

/// What a future gives without being waited for; it is dropped then.
pub async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(out) => Poll::Ready(Some(out)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Runs handler code; a panic in it becomes an `Err` with its message.
pub(crate) async fn contained<F: Future>(work: F) -> Result<F::Output, String> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        // The future is not polled again after a panic, so a broken state of it is never seen.
        match std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Poll::Ready(Err(
                    text.unwrap_or_else(|| "a panic without message".to_owned())
                ))
            }
        }
    })
    .await
}
