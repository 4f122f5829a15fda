//! A team's own workflow: an order is placed, its card is charged.
//!
//! The team's tables come from its own migrations, its handlers use `sqlx` as they would anywhere.
//! [`Naive`] writes past the transaction that it is given, as is soon done; [`Right`] does not.

use redeliver::harness::postgres::Postgres;
use redeliver::harness::workload::{Generator, Request, Workload};
use redeliver::pipeline::event::{Kind, Message};
use redeliver::pipeline::handler::{Consumer, Cx, Failure, Handler};
use redeliver::ports::World;
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

/// Charges in the transaction that it is given.
pub struct Right;

impl<W: World> Handler<W> for Right {
    type Event = OrderPlaced;

    async fn handle(&self, placed: &OrderPlaced, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let sql = cx.sql()?;
        sqlx::query("insert into charges (order_id, cents) values ($1, $2)")
            .bind(&placed.order)
            .bind(placed.cents)
            .execute(&mut *sql)
            .await?;
        sqlx::query("update revenue set cents = cents + $1 where currency = 'EUR'")
            .bind(placed.cents)
            .execute(&mut *sql)
            .await?;
        Ok(())
    }
}

/// Charges through the pool: the charge stands, whatever becomes of the message.
pub struct Naive;

impl<W: World> Handler<W> for Naive {
    type Event = OrderPlaced;

    async fn handle(&self, placed: &OrderPlaced, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        let mut tx = cx.pool()?.begin().await?;
        sqlx::query("insert into charges (order_id, cents) values ($1, $2)")
            .bind(&placed.order)
            .bind(placed.cents)
            .execute(&mut *tx)
            .await?;
        sqlx::query("update revenue set cents = cents + $1 where currency = 'EUR'")
            .bind(placed.cents)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
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
        let charge = Consumer::new("charge");
        vec![match self.naive {
            true => charge.on(Naive),
            false => charge.on(Right),
        }]
    }

    fn requests(&self, generator: &mut Generator) -> Vec<Request> {
        let messages = generator.messages();
        let one = |n: u32| {
            let (order, cents) = (format!("order-{n}"), 100 * i64::from(n));
            Request::emit(generator.when(), &OrderPlaced { order, cents })
        };
        (1..=messages).map(one).collect()
    }

    fn postgres(&self) -> Option<Postgres> {
        Some(Postgres::new().migrations(&MIGRATIONS))
    }
}

/// No order is charged twice.
pub const ONCE: &str = "select order_id from charges group by 1 having count(*) > 1";

/// The books agree with the charges.
pub const BOOKS: &str = "select cents from revenue \
                         where cents <> (select coalesce(sum(cents), 0) from charges)";
