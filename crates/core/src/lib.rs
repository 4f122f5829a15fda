//! For every part of Redeliver, and for a team's own backend: what all of them have in common.
//!
//! At the bottom are plain types and rules without I/O: an [`event`] and its copies, the rows of
//! [`outbox`] and [`inbox`], the [`audit`] chain, [`dead_letter`]s, the [`topology`] that a pipeline
//! needs of a broker, the numbers of a [`policy`] and when to [`retry`]. Above them are the
//! [`ports`], through which everything outside is reached, and what production puts behind two of
//! them: the live clock ([`mod@env`]) and a team's own clients ([`service`]).
//!
//! Nothing here knows the pipeline, a broker or a database.
//!
//! Stability: `event`, `policy`, `ports` and `topology` follow semantic versioning. The rows
//! (`audit`, `inbox`, `outbox`) may gain fields in any minor version.

pub mod audit;
pub mod boxed;
pub mod dead_letter;
pub mod env;
pub mod event;
pub mod inbox;
pub mod outbox;
pub mod policy;
pub mod ports;
pub mod retry;
pub mod secret;
pub mod service;
pub mod topology;
