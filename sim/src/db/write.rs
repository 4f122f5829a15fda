//! Statements that write one row.

use super::index::Clash;
use super::lock::LockName;
use super::resume::Resume;
use super::statement::Stop;
use super::table::SlotNo;
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
            let behind = db.checked_to(place, table).and_then(|index| {
                let rows = db.table(table);
                rows.clash_from(index, session, &key, &row)
            });
            let clash = match behind {
                Some((index, clash)) => (Some(index), clash),
                // All have been looked through; now it is for all of them at once.
                None => match db.place_for(session, table, &key, &row) {
                    Ok(at) => {
                        db.write(place, table, at, &key, Some(row));
                        return Ok(Insert::Inserted);
                    }
                    Err(clash) => clash,
                },
            };
            let holder = match clash {
                (index, Clash::Wait(rival)) => {
                    let check = index.map(|index| Resume::Check { table, index });
                    db.sessions[place].resume = check;
                    return Err(Stop::Wait(LockName::Transaction(rival)));
                }
                (_, Clash::Duplicate { holder, .. }) => holder,
            };
            let (_, slot) = db
                .table(table)
                .find(&holder)
                .expect("a duplicate is in its table");
            let row = slot.visible(session).expect("a duplicate is visible");
            Ok(Insert::Conflict(row.clone()))
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
            match db.place_for(session, table, &key, &row) {
                Ok(at) => {
                    db.write(place, table, at, &key, Some(row));
                    Ok(())
                }
                Err((None, clash)) => Err(refusal(clash)),
                Err((Some(_), _)) => {
                    let at = db.table(table).find(&key).map(|(at, _)| at);
                    db.write_checked(place, table, at, &key, &row)
                }
            }
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
            let found = db.table(table).find(&key);
            if let Some((_, slot)) = found
                && let Some(owner) = slot.owner.filter(|owner| *owner != session)
            {
                // A row that is changing is waited for by its key, one that is locked in its
                // queue; either way the statement then begins anew.
                return Err(Stop::Wait(if slot.is_changed() {
                    LockName::Transaction(owner)
                } else {
                    LockName::Row(table, key.clone())
                }));
            }
            let row = change(found.and_then(|(_, slot)| slot.visible(session)));
            let at = found.map(|(at, _)| at);
            db.write_checked(place, table, at, &key, &row)?;
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
            match db.reach(place, table, key, change)? {
                Some((at, Some(row))) => {
                    db.write_checked(place, table, Some(at), key, &row)?;
                    Ok(Some(row))
                }
                _ => Ok(None),
            }
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
            match db.reach(place, table, key, |row| predicate(row).then_some(()))? {
                Some((at, Some(()))) => {
                    db.write(place, table, Some(at), key, None);
                    Ok(true)
                }
                _ => Ok(false),
            }
        })
    }

    /// Finds the row that an update or delete is about, free to be written, and what `judge` says
    /// of it. After a wait the row is locked first and judged then, and stays locked even if it
    /// no longer fits.
    fn reach<T>(
        &mut self,
        place: usize,
        table: TableId,
        key: &Key,
        judge: impl FnOnce(&Row) -> Option<T>,
    ) -> Result<Option<(SlotNo, Option<T>)>, Stop> {
        let session = self.sessions[place].id;
        let waited = self.waited_for(place, table, key);
        let Some((at, slot)) = self.table(table).find(key) else {
            return Ok(None);
        };
        let born = waited.unwrap_or_else(|| slot.born(session));
        if !slot.is_version_of(session, born) {
            return Ok(None);
        }
        let locked = slot.is_locked_against(session);
        if waited.is_some() {
            if locked {
                return Err(self.wait_for_row(place, table, key, born));
            }
            let judged = slot.visible(session).and_then(judge);
            self.lock(place, table, at);
            return Ok(Some((at, judged)));
        }
        let judged = slot.visible(session).and_then(judge);
        if locked && judged.is_some() {
            return Err(self.wait_for_row(place, table, key, born));
        }
        Ok(Some((at, judged)))
    }

    /// The slot a new row may go to, if its key has one, unless a unique key refuses the row: the
    /// primary key, which is the first as it is created first, or the index of that number.
    fn place_for(
        &self,
        session: SessionId,
        table: TableId,
        key: &Key,
        row: &Row,
    ) -> Result<Option<SlotNo>, (Option<usize>, Clash)> {
        let table = self.table(table);
        let found = table.find(key);
        if let Some((_, slot)) = found {
            if slot.is_changed()
                && let Some(owner) = slot.owner.filter(|owner| *owner != session)
            {
                return Err((None, Clash::Wait(owner)));
            }
            if slot.latest().is_some() {
                let constraint = table.primary.clone();
                let holder = key.clone();
                return Err((None, Clash::Duplicate { constraint, holder }));
            }
        }
        match table.clash(session, key, row) {
            Some((number, clash)) => Err((Some(number), clash)),
            None => Ok(found.map(|(at, _)| at)),
        }
    }

    /// Writes a version unless a secondary unique index refuses it. Where that has to be waited
    /// for, the version stands in the table meanwhile.
    fn write_checked(
        &mut self,
        place: usize,
        table: TableId,
        at: Option<SlotNo>,
        key: &Key,
        row: &Row,
    ) -> Result<(), Stop> {
        let session = self.sessions[place].id;
        let Some((number, clash)) = self.table(table).clash(session, key, row) else {
            self.write(place, table, at, key, Some(row.clone()));
            return Ok(());
        };
        if matches!(clash, Clash::Wait(_)) {
            let rows = self.table_mut(table);
            let at = at.unwrap_or_else(|| rows.create(key.clone()));
            if rows.write_half(session, at, row.clone(), number) {
                self.hold(place, table, at);
            }
            self.sessions[place].resume = Some(Resume::Half { table, at });
        }
        Err(refusal(clash))
    }

    /// Writes a version of the row in this slot, or of a row that has none yet.
    fn write(
        &mut self,
        place: usize,
        table: TableId,
        at: Option<SlotNo>,
        key: &Key,
        new: Option<Row>,
    ) {
        let session = self.sessions[place].id;
        let rows = self.table_mut(table);
        let at = at.unwrap_or_else(|| rows.create(key.clone()));
        if rows.write(session, at, new) {
            self.hold(place, table, at);
        }
    }
}

fn refusal(clash: Clash) -> Stop {
    match clash {
        Clash::Wait(rival) => Stop::Wait(LockName::Transaction(rival)),
        Clash::Duplicate { constraint, .. } => Stop::Fail(SqlError::unique_violation(constraint)),
    }
}
