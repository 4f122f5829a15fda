//! What most tests of a workload name: `use redeliver_harness::prelude::*;`.

pub use redeliver_core::event::{Kind, Message};
pub use redeliver_core::policy::Policy;
pub use redeliver_core::ports::{Row, ServiceCall, World};
pub use redeliver_definitions::Existing;
pub use redeliver_pipeline::handler::{Consumer, Cx, Failure, Handler, Outside, OutsideHandler};
pub use redeliver_postgres::Sql;
pub use redeliver_sim::fault::{Event as FaultEvent, Kind as Fault, Rule, Seam};

pub use crate::check::Check;
pub use crate::team::fake::{Fake, Told};
pub use crate::team::invariant::{Evidence, Invariant};
pub use crate::team::postgres::Postgres;
pub use crate::team::request::{Generator, Request};
pub use crate::team::totals::Totals;
pub use crate::team::workload::{ServiceModel, Workload};
pub use crate::verdict::{Anomaly, AnomalyKind};
pub use crate::watch::reading::FinalReading;
