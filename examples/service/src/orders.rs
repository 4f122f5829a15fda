//! The team's own work: an order is placed, and it is charged.

use redeliver::pipeline::client::Client;
use redeliver::pipeline::event::{Kind, Message};
use redeliver::pipeline::handler::{Cx, Failure, Handler};
use redeliver::ports::World;
use redeliver::postgres::Sql;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// The team's own tables. All statements here find them by the `search_path`.
pub(crate) const TABLES: &str = include_str!("../tables.sql");

/// A request as it comes, and the event that follows from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    pub(crate) order: String,
    pub(crate) cents: i64,
}

impl Message for OrderPlaced {
    const TYPE: &'static str = "order.placed";
    const KIND: Kind = Kind::Fact;
    fn key(&self) -> String {
        self.order.clone()
    }
}

impl OrderPlaced {
    /// What is wrong with it, if anything. An event cannot be refused any more: its handler would
    /// fail each time, and it would end in the dead letters.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(1..=64).contains(&self.order.len()) || !self.order.bytes().all(fits) {
            return Some("order is 1 to 64 letters, digits, '-', '_' or '.'");
        }
        (self.cents < 1).then_some("cents is at least 1")
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// The order stands, by this request or by the same one before.
    Stands,
    /// An order of this id stands, with another amount.
    Differs,
}

/// Places an order: its row and its event, in one transaction. Its id is the idempotency key.
pub(crate) async fn place<W: World>(
    client: &Client<W>,
    placed: &OrderPlaced,
) -> Result<Placed, Failure> {
    let mut request = client.begin(&placed.order).await?;
    let mut cx = request.cx();
    // The same request may be under way elsewhere: this waits for it.
    const ORDER: &str = "insert into orders (order_id, cents) values ($1, $2) \
                         on conflict (order_id) do nothing";
    let inserted = sqlx::query(ORDER)
        .bind(&placed.order)
        .bind(placed.cents)
        .execute(cx.sql()?)
        .await?;
    if inserted.rows_affected() == 1 {
        cx.emit(placed).await?;
        request.commit().await?;
        return Ok(Placed::Stands);
    }
    // An order that is there has its event: both were committed at once.
    let cents: i64 = sqlx::query_scalar("select cents from orders where order_id = $1")
        .bind(&placed.order)
        .fetch_one(cx.sql()?)
        .await?;
    request.rollback().await;
    Ok(match cents == placed.cents {
        true => Placed::Stands,
        false => Placed::Differs,
    })
}

/// The amount of an order, and whether it is charged; none where there is no such order.
pub(crate) async fn find(pool: &PgPool, order: &str) -> Result<Option<(i64, bool)>, sqlx::Error> {
    const FOUND: &str = "\
        select cents, exists (select from charges c where c.order_id = o.order_id) \
        from orders o where o.order_id = $1";
    sqlx::query_as(FOUND).bind(order).fetch_optional(pool).await
}

/// Charges an order.
pub(crate) struct Charge;

impl<W: World> Handler<W> for Charge {
    type Event = OrderPlaced;

    /// The row is committed together with the fact that this event is done. The event may be
    /// delivered again; it is charged once.
    async fn handle(&self, placed: &OrderPlaced, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
        sqlx::query("insert into charges (order_id, cents) values ($1, $2)")
            .bind(&placed.order)
            .bind(placed.cents)
            .execute(cx.sql()?)
            .await?;
        Ok(())
    }
}
