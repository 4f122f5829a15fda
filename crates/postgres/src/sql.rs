//! A handler's own SQL.

use sqlx::postgres::{PgConnection, PgPool};

use redeliver_core::ports::store::{Behind, StoreError};

/// Own SQL in handlers: brought into scope, it gives `Cx` and `Outside` the connections of their
/// store. An error of `sqlx` becomes a failure by `?`, and is judged as the pipeline judges those of
/// its own statements.
///
/// ```
/// use redeliver_pipeline::handler::{Cx, Failure};
/// use redeliver_core::ports::World;
/// use redeliver_postgres::Sql;
///
/// async fn charge<W: World>(order: &str, cx: &mut Cx<'_, W>) -> Result<(), Failure> {
///     sqlx::query("insert into charges (order_id) values ($1)")
///         .bind(order)
///         .execute(cx.sql()?)
///         .await?;
///     Ok(())
/// }
/// ```
pub trait Sql: Behind {
    /// The connection of the transaction. What it does is committed with all else that this handler
    /// does, or not at all; a statement that fails ends the transaction.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where there is no SQL behind this world: in the seeded world, for a
    /// workload that names no `postgres`; and outside of a transaction.
    fn sql(&mut self) -> Result<&mut PgConnection, StoreError> {
        let connection = self.connection().and_then(|native| native.downcast_mut());
        connection.ok_or_else(no_sql)
    }

    /// The connections of the store, for SQL that is to stand whatever becomes of this attempt.
    /// What it does is neither undone with the transaction nor done only once. Where a handler
    /// leaves the database it is for reads beside the call: effects belong into
    /// `OutsideHandler::apply`.
    ///
    /// # Errors
    /// As [`Sql::sql`].
    fn pool(&self) -> Result<PgPool, StoreError> {
        let pool = Behind::pool(self).and_then(|native| native.downcast_ref::<PgPool>());
        pool.cloned().ok_or_else(no_sql)
    }
}

impl<T: Behind + ?Sized> Sql for T {}

fn no_sql() -> StoreError {
    let text = "the database of this world is a model that takes no SQL; a workload with SQL of its \
                own says so by `Workload::postgres`";
    StoreError::Refused(text.to_owned())
}
