//! The RabbitMQ transport.
//!
//! Retry, parking and dead lettering are written here once, above the small [`amqp`] port with
//! its two adapters: a real connection, and the simulated broker. What production runs is
//! therefore what is simulated.

pub mod amqp;
#[cfg(feature = "rabbitmq")]
pub mod lapin;
