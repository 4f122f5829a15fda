//! A team's own workflow: an order is placed, its card is charged.
//!
//! The team's queues are those of `definitions.json`, its tables come from its own migrations, its
//! handlers use `sqlx` as they would anywhere, its payment service is faked as it fakes it in other
//! tests. [`Naive`] notes the charge as soon as it has it, as is soon done; [`Right`] notes it in
//! the transaction that it is given. `docs/tutorial.md` goes from the one to the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redeliver::harness::prelude::*;
use serde::{Deserialize, Serialize};
use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderPlaced {
    pub order: String,
    pub cents: i64,
}

impl Message for OrderPlaced {
    const TYPE: &'static str = "order.placed";
    const KIND: Kind = Kind::Fact;
    fn key(&self) -> String {
        self.order.clone()
    }
}

/// What the payment service says of a charge.
async fn charge<W: World>(placed: &OrderPlaced, cx: &Outside<'_, W>) -> Result<String, Failure> {
    let request = format!("{} {}", placed.order, placed.cents);
    let reply = cx.call("payments", "charge", request).await?;
    Ok(String::from_utf8_lossy(&reply.payload).into_owned())
}

/// Charges, and notes it at once: the note stands, whatever becomes of the message.
pub struct Naive;

impl<W: World> OutsideHandler<W> for Naive {
    type Event = OrderPlaced;
    type Answer = ();

    async fn call(&self, placed: &OrderPlaced, cx: &Outside<'_, W>) -> Result<(), Failure> {
        let reference = charge(placed, cx).await?;
        sqlx::query("insert into charges (order_id, cents, reference) values ($1, $2, $3)")
            .bind(&placed.order)
            .bind(placed.cents)
            .bind(reference)
            .execute(&cx.pool()?)
            .await?;
        Ok(())
    }

    async fn apply(&self, _: &OrderPlaced, (): (), _: &mut Cx<'_, W>) -> Result<(), Failure> {
        Ok(())
    }
}

/// Charges, and notes it together with the fact that this message is done.
pub struct Right;

impl<W: World> OutsideHandler<W> for Right {
    type Event = OrderPlaced;
    type Answer = String;

    async fn call(&self, placed: &OrderPlaced, cx: &Outside<'_, W>) -> Result<String, Failure> {
        charge(placed, cx).await
    }

    async fn apply(
        &self,
        placed: &OrderPlaced,
        reference: String,
        cx: &mut Cx<'_, W>,
    ) -> Result<(), Failure> {
        let sql = cx.sql()?;
        sqlx::query("insert into charges (order_id, cents, reference) values ($1, $2, $3)")
            .bind(&placed.order)
            .bind(placed.cents)
            .bind(reference)
            .execute(&mut *sql)
            .await?;
        sqlx::query("update revenue set cents = cents + $1 where currency = 'EUR'")
            .bind(placed.cents)
            .execute(&mut *sql)
            .await?;
        Ok(())
    }
}

/// The payment service as this team fakes it: a key that it knows is not charged again.
#[derive(Default)]
pub struct FakePayments {
    charged: BTreeMap<Arc<str>, usize>,
}

impl Fake for FakePayments {
    fn call(&mut self, call: &ServiceCall, _at: Duration) -> Told {
        let next = self.charged.len() + 1;
        match self.charged.get(&call.idempotency_key) {
            Some(number) => Told::Known(format!("charge-{number}").into()),
            None => {
                self.charged.insert(call.idempotency_key.clone(), next);
                Told::Did(format!("charge-{next}").into())
            }
        }
    }
}

/// The workload with either handler.
#[derive(Clone, Copy)]
pub struct Checkout {
    pub naive: bool,
}

impl Workload for Checkout {
    const NAME: &'static str = "checkout";

    fn consumers<W: World>(&self) -> Vec<Consumer<W>> {
        let consumer = Consumer::new("charge");
        vec![match self.naive {
            true => consumer.on_outside(Naive),
            false => consumer.on_outside(Right),
        }]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        generator.each(|n| {
            let (order, cents) = (format!("order-{n}"), 100 * i64::from(n));
            OrderPlaced { order, cents }
        })
    }

    fn postgres(&self) -> Option<Postgres> {
        Some(Postgres::new().migrations(&MIGRATIONS))
    }

    fn topology(&self) -> Option<Existing> {
        let existing = Existing::definitions(include_str!("../definitions.json"))
            .user("checkout")
            .exchange("order", "shop.orders")
            .queue("charge", "shop.charge")
            .dead("charge", "shop.charge.failed");
        Some(existing)
    }

    fn services(&self) -> Vec<ServiceModel> {
        vec![ServiceModel::new("payments").fake(FakePayments::default)]
    }
}

/// No order is charged twice.
pub const ONCE: &str = "select order_id from charges group by 1 having count(*) > 1";

/// The books agree with the charges.
pub const BOOKS: &str = "select cents from revenue \
                         where cents <> (select coalesce(sum(cents), 0) from charges)";
