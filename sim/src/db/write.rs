//! Statements that write one row.

use super::index::Clash;
use super::lock::LockName;
use super::statement::Stop;
use super::{Db, Key, Row, SessionId, SqlError, Step, TableId};

/// What `INSERT … ON CONFLICT DO NOTHING` did.
#[derive(Clone, Debug)]
pub enum Insert {
    /// The row is new.
    Inserted,
    /// A unique key was taken, by this row. PostgreSQL itself returns no row here and leaves it
    /// to a second statement to read it, which may find it changed or gone.
    Conflict(Row),
}

impl Insert {
    /// Whether the row is new.
    pub fn is_inserted(&self) -> bool {
        matches!(self, Self::Inserted)
    }
}

impl Db {
    /// `INSERT … ON CONFLICT DO NOTHING`, for a conflict with any unique key.
    ///
    /// Waits for a transaction that is inserting, updating or deleting the row in conflict, and
    /// then finds a conflict or a free key. A row that is only locked conflicts at once.
    ///
    /// # Errors
    ///
    /// 40P01, 25P02, or the session is gone.
    pub fn insert(
        &mut self,
        session: SessionId,
        table: TableId,
        key: Key,
        row: Row,
    ) -> Result<Step<Insert>, SqlError> {
        self.statement(session, |db, place| {
            if let Some(clash) = db.insert_clash(session, table, &key, &row) {
                let holder = match clash {
                    Clash::Wait(rival) => return Err(Stop::Wait(LockName::Row(table, rival))),
                    Clash::Duplicate { holder, .. } => holder,
                };
                let slot = &db.table(table).rows[&holder];
                let row = slot.visible(session).expect("a duplicate is visible");
                return Ok(Insert::Conflict(row.clone()));
            }
            db.write(place, table, &key, Some(row));
            Ok(Insert::Inserted)
        })
    }

    /// `INSERT`. Waits as [`insert`](Self::insert) does.
    ///
    /// # Errors
    ///
    /// 23505 when a unique key is taken; 40P01, 25P02, or the session is gone.
    pub fn insert_strict(
        &mut self,
        session: SessionId,
        table: TableId,
        key: Key,
        row: Row,
    ) -> Result<Step<()>, SqlError> {
        self.statement(session, |db, place| {
            if let Some(clash) = db.insert_clash(session, table, &key, &row) {
                return Err(refusal(table, clash));
            }
            db.write(place, table, &key, Some(row));
            Ok(())
        })
    }

    /// `INSERT … ON CONFLICT (primary key) DO UPDATE … RETURNING *`: locks the row, then writes
    /// what `change` makes of it; `change` is called once, with the row locked.
    ///
    /// # Errors
    ///
    /// 23505 when another unique key is taken; 40P01, 25P02, or the session is gone.
    pub fn upsert(
        &mut self,
        session: SessionId,
        table: TableId,
        key: Key,
        change: impl FnOnce(Option<&Row>) -> Row,
    ) -> Result<Step<Row>, SqlError> {
        self.statement(session, |db, place| {
            let slot = db.table(table).rows.get(&key);
            if slot.is_some_and(|slot| slot.is_locked_against(session)) {
                return Err(Stop::Wait(LockName::Row(table, key.clone())));
            }
            let row = change(slot.and_then(|slot| slot.visible(session)));
            db.write_checked(place, table, &key, &row)?;
            Ok(row)
        })
    }

    /// `UPDATE … WHERE key = … AND … RETURNING *`. `None` from `change` means that the rest of
    /// the condition is false; then nothing is locked, and the answer is `None`.
    ///
    /// The condition is evaluated first on the version this statement sees, and only if it holds
    /// there is a lock waited for; issued again after the wait, it is evaluated on the version
    /// that the other transaction left (documentation, 13.2.1).
    ///
    /// # Errors
    ///
    /// 23505 when another unique key is taken; 40P01, 25P02, or the session is gone.
    pub fn update(
        &mut self,
        session: SessionId,
        table: TableId,
        key: &Key,
        change: impl FnOnce(&Row) -> Option<Row>,
    ) -> Result<Step<Option<Row>>, SqlError> {
        self.statement(session, |db, place| {
            let Some(slot) = db.table(table).rows.get(key) else {
                return Ok(None);
            };
            let Some(row) = slot.visible(session).and_then(change) else {
                return Ok(None);
            };
            if slot.is_locked_against(session) {
                return Err(Stop::Wait(LockName::Row(table, key.clone())));
            }
            db.write_checked(place, table, key, &row)?;
            Ok(Some(row))
        })
    }

    /// `DELETE … WHERE key = … AND …`: whether a row was deleted. Waits and evaluates as
    /// [`update`](Self::update) does.
    ///
    /// # Errors
    ///
    /// 40P01, 25P02, or the session is gone.
    pub fn delete(
        &mut self,
        session: SessionId,
        table: TableId,
        key: &Key,
        predicate: impl FnOnce(&Row) -> bool,
    ) -> Result<Step<bool>, SqlError> {
        self.statement(session, |db, place| {
            let Some(slot) = db.table(table).rows.get(key) else {
                return Ok(false);
            };
            if !slot.visible(session).is_some_and(predicate) {
                return Ok(false);
            }
            if slot.is_locked_against(session) {
                return Err(Stop::Wait(LockName::Row(table, key.clone())));
            }
            db.write(place, table, key, None);
            Ok(true)
        })
    }

    /// Whether a unique key refuses a new row. The primary key comes first, as it is created
    /// first.
    fn insert_clash(
        &self,
        session: SessionId,
        table: TableId,
        key: &Key,
        row: &Row,
    ) -> Option<Clash> {
        assert!(key.is_storable(), "a bound is no key: {key:?}");
        let table = self.table(table);
        if let Some(slot) = table.rows.get(key) {
            if slot.is_changed() && slot.is_locked_against(session) {
                return Some(Clash::Wait(key.clone()));
            }
            if slot.latest().is_some() {
                let constraint = table.primary.clone();
                return Some(Clash::Duplicate {
                    constraint,
                    holder: key.clone(),
                });
            }
        }
        table.clash(session, key, row)
    }

    /// Writes a version unless a secondary unique index refuses it. The row is locked first, and
    /// stays locked while the statement waits for the other row.
    fn write_checked(
        &mut self,
        place: usize,
        table: TableId,
        key: &Key,
        row: &Row,
    ) -> Result<(), Stop> {
        assert!(key.is_storable(), "a bound is no key: {key:?}");
        let session = self.sessions[place].id;
        if let Some(clash) = self.table(table).clash(session, key, row) {
            if let Some(slot) = self.table_mut(table).rows.get_mut(key)
                && slot.owner.replace(session).is_none()
            {
                self.hold(place, table, key);
            }
            return Err(refusal(table, clash));
        }
        self.write(place, table, key, Some(row.clone()));
        Ok(())
    }

    fn write(&mut self, place: usize, table: TableId, key: &Key, new: Option<Row>) {
        let session = self.sessions[place].id;
        if self.table_mut(table).write(session, key, new) {
            self.hold(place, table, key);
        }
    }
}

fn refusal(table: TableId, clash: Clash) -> Stop {
    match clash {
        Clash::Wait(rival) => Stop::Wait(LockName::Row(table, rival)),
        Clash::Duplicate { constraint, .. } => Stop::Fail(SqlError::unique_violation(constraint)),
    }
}
