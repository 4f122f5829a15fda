//! Losing the server: every session, and, behind an asynchronous replica, the newest commits.

use std::collections::VecDeque;

use super::session::Life;
use super::{Db, Key, Row, TableId};

/// The rows a commit changed, each with its version before.
type Changes = Vec<(TableId, Key, Option<Row>)>;

/// How to take back the newest commits. Keeps nothing while `limit` is zero.
#[derive(Debug, Default)]
pub(super) struct Undo {
    pub(super) limit: usize,
    commits: VecDeque<Changes>,
}

impl Undo {
    pub(super) fn push(&mut self, changes: Changes) {
        if self.commits.len() == self.limit {
            self.commits.pop_front();
        }
        self.commits.push_back(changes);
    }

    pub(super) fn clear(&mut self) {
        self.commits.clear();
    }
}

impl Db {
    /// Lets a replica be up to `commits` behind, so that [`fail_over`](Self::fail_over) may lose
    /// that many. Zero, the default, is synchronous replication: what committed is kept.
    pub fn set_replica_lag(&mut self, commits: usize) {
        self.undo.limit = commits;
        while self.undo.commits.len() > commits {
            self.undo.commits.pop_front();
        }
    }

    /// The server dies and a successor takes over: every session is ended as by
    /// [`terminate_session`](Self::terminate_session), and sequences skip what they had logged
    /// ahead. The newest `lose_last_commits` commits that changed rows never happened, although
    /// their clients were told that they had; answers how many that were, which is fewer only
    /// if fewer are within the replica's lag.
    ///
    /// A restart of the same server is `fail_over(0)`. A sequence never repeats a number here,
    /// while after a lost commit PostgreSQL may.
    pub fn fail_over(&mut self, lose_last_commits: usize) -> usize {
        for place in 0..self.sessions.len() {
            if self.sessions[place].life == Life::Open {
                let id = self.sessions[place].id;
                self.terminate_session(id);
            }
        }
        let mut lost = 0;
        while lost < lose_last_commits
            && let Some(changes) = self.undo.commits.pop_back()
        {
            for (table, key, before) in changes.into_iter().rev() {
                self.table_mut(table).restore(&key, before);
            }
            lost += 1;
        }
        // The successor's replica starts level with it.
        self.undo.clear();
        self.sequences
            .iter_mut()
            .for_each(super::sequence::Sequence::recover);
        lost
    }
}
