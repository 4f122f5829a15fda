//! Who waits for whom on the server: how a step is known to be blocked, and not merely slow.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Row};

use crate::Failure;

/// Every wait for a lock that a transaction holds to its end, with who holds it. One reading of
/// `pg_locks` is one moment: PostgreSQL locks its whole lock table for it. Short waits inside the
/// server (for the queue of NOTIFY, say) are of other types, and are not waits here.
const WAITS: &str = "\
    with l as materialized ( \
        select locktype, database, relation, page, tuple, transactionid, classid, objid, \
            objsubid, pid, granted \
        from pg_locks \
        where locktype in ('transactionid', 'tuple', 'advisory', 'spectoken')) \
    select w.pid as waiter, h.pid as holder from l w left join l h on h.granted \
        and h.pid <> w.pid \
        and (h.locktype, h.database, h.relation, h.page, h.tuple, h.transactionid, h.classid, \
            h.objid, h.objsubid) is not distinct from (w.locktype, w.database, w.relation, \
            w.page, w.tuple, w.transactionid, w.classid, w.objid, w.objsubid) \
    where not w.granted";

/// The waits of one moment: who waits, and for whom.
#[derive(Debug)]
pub(crate) struct Waits(BTreeMap<i32, BTreeSet<i32>>);

pub(crate) fn failed(error: impl std::fmt::Display) -> Failure {
    Failure(format!("the database could not be asked: {error}"))
}

impl Waits {
    pub(crate) async fn read(control: &mut PgConnection) -> Result<Self, Failure> {
        let rows = sqlx::query(WAITS)
            .fetch_all(control)
            .await
            .map_err(failed)?;
        let mut waits: BTreeMap<i32, BTreeSet<i32>> = BTreeMap::new();
        for row in rows {
            let holders = waits
                .entry(row.try_get("waiter").map_err(failed)?)
                .or_default();
            holders.extend(row.try_get::<Option<i32>, _>("holder").map_err(failed)?);
        }
        Ok(Self(waits))
    }

    /// Whether the session waits, in the end for sessions that do not wait themselves: what is in
    /// a cycle is about to be ended as a deadlock.
    pub(crate) fn is_settled(&self, pid: i32) -> bool {
        let Some(first) = self.0.get(&pid) else {
            return false;
        };
        let mut seen = BTreeSet::from([pid]);
        let mut next: Vec<i32> = first.iter().copied().collect();
        if next.is_empty() {
            return false;
        }
        while let Some(at) = next.pop() {
            if at == pid {
                return false;
            }
            if seen.insert(at) {
                next.extend(self.0.get(&at).into_iter().flatten());
            }
        }
        true
    }

    /// Those of these sessions that wait.
    pub(crate) fn among(&self, pids: &[i32]) -> Vec<i32> {
        let waiting = pids.iter().filter(|pid| self.0.contains_key(pid));
        waiting.copied().collect()
    }
}
