//! A topology that a team has already: what stands on its broker, and what of it is for what.

use std::borrow::Cow;
use std::time::Duration;

use crate::definitions::{Definitions, NotDefinitions};
use redeliver_rabbitmq::topology::Names;

/// The definitions of a broker, with the names in them that a pipeline takes for its own.
///
/// ```
/// use redeliver_definitions::Existing;
///
/// let existing = Existing::definitions(r#"{"queues": [], "exchanges": []}"#)
///     .user("shop")
///     .exchange("order", "shop.orders")
///     .queue("charge", "payments.charge")
///     .dead("charge", "payments.charge.failed");
/// assert_eq!(&*existing.names().queue("charge"), "payments.charge");
/// ```
///
/// In production the same names go to the transport:
/// `RabbitMq::new(amqp, env, options).with_names(existing.names().clone())`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Existing {
    text: Cow<'static, str>,
    vhost: String,
    user: Option<String>,
    names: Names,
}

impl Existing {
    /// The text of a `definitions.json`, as `rabbitmqctl export_definitions` writes it.
    pub fn definitions(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            text: text.into(),
            vhost: "/".to_owned(),
            user: None,
            names: Names::new("redeliver"),
        }
    }

    /// The virtual host; `/` unless said.
    pub fn vhost(mut self, vhost: &str) -> Self {
        vhost.clone_into(&mut self.vhost);
        self
    }

    /// The account of the pipeline's processes. Without one they may do everything.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// What names begin with that are not given; `redeliver` unless said.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.names = self.names.within_namespace(namespace);
        self
    }

    /// The exchange of a domain: of `order.placed` the domain is `order`.
    pub fn exchange(mut self, domain: &str, name: &str) -> Self {
        self.names = self.names.with_exchange(domain, name);
        self
    }

    /// The work queue of a consumer.
    pub fn queue(mut self, consumer: &str, name: &str) -> Self {
        self.names = self.names.with_queue(consumer, name);
        self
    }

    /// The dead-letter queue of a consumer.
    pub fn dead(mut self, consumer: &str, name: &str) -> Self {
        self.names = self.names.with_dead(consumer, name);
        self
    }

    /// Exchange and queue of a rung of the delay ladder.
    pub fn delay(mut self, rung: Duration, exchange: &str, queue: &str) -> Self {
        self.names = self.names.with_delay(rung, exchange, queue);
        self
    }

    /// The same names on a broker with other definitions.
    pub fn over(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.text = text.into();
        self
    }

    /// Reads the definitions.
    ///
    /// # Errors
    /// What is wrong with them, and where.
    pub fn read(&self) -> Result<Definitions, NotDefinitions> {
        Definitions::read(&self.text)
    }

    /// The names, for the transport.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// See [`Existing::vhost`].
    pub fn vhost_name(&self) -> &str {
        &self.vhost
    }

    /// See [`Existing::user`].
    pub fn user_name(&self) -> Option<&str> {
        self.user.as_deref()
    }
}
