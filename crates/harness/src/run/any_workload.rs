//! A workload without its type.
//!
//! A run is compiled once, in this crate, for every world that it can run in; it reaches the
//! workload through these traits. Were it generic over the workload, a team's tests would compile
//! clients, relays, workers, set-up and judgement again for each workload. The price is one box a
//! request.

use crate::run::assembly::{Shipped, WorldOf};
use crate::team::invariant::Invariant;
use crate::team::postgres::Postgres;
use crate::team::request::{Generator, Request};
use crate::team::totals::Totals;
use crate::team::workload::{ServiceModel, Workload};
use crate::verdict::Anomaly;
use crate::watch::reading::FinalReading;
use redeliver_core::ports::World;
use redeliver_core::topology::Subscription;
use redeliver_definitions::Existing;
use redeliver_pipeline::handler::{Boxed, Consumer, Cx, Failure};

/// The part of a [`Workload`] that is the same in every world. Each method gives what the method
/// of that name gives there.
pub trait Facts: Send + Sync + 'static {
    /// [`Workload::NAME`].
    fn name(&self) -> &'static str;
    /// [`Workload::TOKIO`].
    fn tokio(&self) -> bool;
    /// The queues of its consumers.
    fn subscriptions(&self) -> Vec<Subscription>;
    /// See [`Workload::requests`].
    fn requests(&self, generator: &mut Generator) -> Vec<Request>;
    /// See [`Workload::postgres`].
    fn postgres(&self) -> Option<Postgres>;
    /// See [`Workload::topology`].
    fn topology(&self) -> Option<Existing>;
    /// See [`Workload::services`].
    fn services(&self) -> Vec<ServiceModel>;
    /// See [`Workload::transitions`].
    fn transitions(&self) -> &'static [(&'static str, &'static str)];
    /// See [`Workload::final_states`].
    fn final_states(&self) -> &'static [&'static str];
    /// See [`Workload::invariants`].
    fn invariants(&self) -> Vec<Invariant>;
    /// See [`Workload::check`].
    fn check(&self, accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly>;
    /// [`Workload::IN_PARTS`].
    fn in_parts(&self) -> bool;
    /// See [`Workload::totals`].
    fn totals(&self, accepted: &[Request], reading: &FinalReading) -> Totals;
    /// See [`Workload::check_totals`].
    fn check_totals(&self, totals: &Totals) -> Vec<Anomaly>;
}

/// A [`Workload`] in the world `W`.
pub trait AnyWorkload<W: World>: Facts {
    /// See [`Workload::consumers`].
    fn consumers(&self) -> Vec<Consumer<W>>;

    /// See [`Workload::submit`].
    ///
    /// # Errors
    /// As there.
    fn submit<'a>(
        &'a self,
        request: &'a Request,
        cx: &'a mut Cx<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>>;
}

impl<L: Workload> Facts for L {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn tokio(&self) -> bool {
        L::TOKIO
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        let consumers = Workload::consumers::<WorldOf<Shipped>>(self);
        consumers.iter().map(Consumer::subscription).collect()
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        Workload::requests(self, generator)
    }

    fn postgres(&self) -> Option<Postgres> {
        Workload::postgres(self)
    }

    fn topology(&self) -> Option<Existing> {
        Workload::topology(self)
    }

    fn services(&self) -> Vec<ServiceModel> {
        Workload::services(self)
    }

    fn transitions(&self) -> &'static [(&'static str, &'static str)] {
        Workload::transitions(self)
    }

    fn final_states(&self) -> &'static [&'static str] {
        Workload::final_states(self)
    }

    fn invariants(&self) -> Vec<Invariant> {
        Workload::invariants(self)
    }

    fn check(&self, accepted: &[Request], reading: &FinalReading) -> Vec<Anomaly> {
        Workload::check(self, accepted, reading)
    }

    fn in_parts(&self) -> bool {
        L::IN_PARTS
    }

    fn totals(&self, accepted: &[Request], reading: &FinalReading) -> Totals {
        Workload::totals(self, accepted, reading)
    }

    fn check_totals(&self, totals: &Totals) -> Vec<Anomaly> {
        Workload::check_totals(self, totals)
    }
}

impl<L: Workload, W: World> AnyWorkload<W> for L {
    fn consumers(&self) -> Vec<Consumer<W>> {
        Workload::consumers::<W>(self)
    }

    fn submit<'a>(
        &'a self,
        request: &'a Request,
        cx: &'a mut Cx<'_, W>,
    ) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(Workload::submit(self, request, cx))
    }
}
