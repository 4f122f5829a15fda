//! What the database model promises, one behaviour a test.

mod failures;
mod locks;
mod notifications;
mod program;
mod random;
mod unique;
mod visibility;

use redeliver_sim::db::{
    Db, IndexId, Key, Row, SessionId, SqlError, Step, TableDef, TableId, get as value_of, row,
};

/// One row of the table under test: a unique name where there is one, and a number. Negative
/// numbers are outside the partial index.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    name: Option<&'static str>,
    number: i64,
}

struct World {
    db: Db,
    items: TableId,
    open: IndexId,
}

fn world() -> World {
    let mut db = Db::new();
    let def = TableDef::new()
        .unique("items_name_key", |_, row| {
            value_of::<Item>(row).name.map(Key::from)
        })
        .ordered("items_open", |_, row| {
            Some(value_of::<Item>(row).number)
                .filter(|number| *number >= 0)
                .map(Key::Int)
        });
    let items = db.create_table("items", def);
    let open = db.index(items, "items_open");
    World { db, items, open }
}

impl World {
    /// Commits a nameless item.
    fn put(&mut self, id: i64, number: i64) {
        let session = self.db.connect();
        let stored = self
            .db
            .upsert(session, self.items, Key::Int(id), |_| item(number));
        assert!(stored.is_ok_and(|step| !step.is_blocked()));
        self.db.disconnect(session);
    }

    fn begin(&mut self) -> SessionId {
        let session = self.db.connect();
        self.db.begin(session).unwrap();
        session
    }

    /// `UPDATE items SET number = … WHERE id = …`.
    fn set(&mut self, session: SessionId, id: i64, number: i64) -> Result<Step<bool>, SqlError> {
        let step = self.db.update(session, self.items, &Key::Int(id), |old| {
            Some(row(Item {
                number,
                ..value_of::<Item>(old).clone()
            }))
        })?;
        Ok(match step {
            Step::Done(new) => Step::Done(new.is_some()),
            Step::Blocked => Step::Blocked,
        })
    }

    /// The number a session sees.
    fn number(&mut self, session: SessionId, id: i64) -> Option<i64> {
        let row = self.db.get(session, self.items, &Key::Int(id)).unwrap();
        row.map(|row| value_of::<Item>(&row).number)
    }

    fn committed(&self) -> Vec<(i64, i64)> {
        self.db.committed(self.items).map(numbers).collect()
    }

    fn woken(&mut self) -> Vec<SessionId> {
        let mut woken = Vec::new();
        self.db.take_woken(&mut woken);
        self.db.check_invariants();
        woken
    }
}

fn item(number: i64) -> Row {
    row(Item { name: None, number })
}

fn named(name: &'static str, number: i64) -> Row {
    row(Item {
        name: Some(name),
        number,
    })
}

fn numbers<'a>((key, row): (&'a Key, &'a Row)) -> (i64, i64) {
    let Key::Int(id) = key else {
        panic!("items have integer keys")
    };
    (*id, value_of::<Item>(row).number)
}

fn ids(rows: &[(Key, Row)]) -> Vec<i64> {
    rows.iter()
        .map(|(key, row)| numbers((key, row)).0)
        .collect()
}

const DONE: Result<Step<bool>, SqlError> = Ok(Step::Done(true));
const NO_ROW: Result<Step<bool>, SqlError> = Ok(Step::Done(false));
const BLOCKED: Result<Step<bool>, SqlError> = Ok(Step::Blocked);

fn code<T>(result: Result<T, SqlError>) -> &'static str {
    result.err().map_or("00000", |error| error.code)
}
