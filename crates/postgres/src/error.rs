//! From what PostgreSQL or the connection says to what the pipeline does about it.

use sqlx::Error;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use redeliver_core::ports::store::StoreError;

/// The SQLSTATE, where the server gave one.
fn sqlstate(error: &Error) -> Option<String> {
    match error {
        Error::Database(e) => e.code().map(|c| c.into_owned()),
        _ => None,
    }
}

/// The session is over: the server ended it (57P01 to 57P05, 25P03) or it is lost (class 08).
fn session_over(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("57P") || code == "25P03"
}

/// Whether nothing more is to be expected from this connection.
pub(super) fn connection_lost(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => true,
        _ => sqlstate(error).is_some_and(|code| session_over(&code)),
    }
}

/// The server's words without values of rows: DETAIL may hold keys and whole rows.
fn words(error: &Error) -> String {
    let Error::Database(told) = error else {
        return error.to_string();
    };
    let code = told.code().unwrap_or_default();
    let hint = told.try_downcast_ref::<PgDatabaseError>();
    match hint.and_then(PgDatabaseError::hint) {
        Some(hint) => format!("{} ({code}); {hint}", told.message()),
        None => format!("{} ({code})", told.message()),
    }
}

/// An error in a script, with the line of it that the server could not carry out.
pub(super) fn in_script(error: &Error, script: &str) -> StoreError {
    let position = error.as_database_error().and_then(|told| {
        let told = told.try_downcast_ref::<PgDatabaseError>()?;
        match told.position()? {
            PgErrorPosition::Original(position) => Some(position),
            PgErrorPosition::Internal { .. } => None,
        }
    });
    // The server counts characters, from 1.
    let line = position.map(|position| {
        let before = script.chars().take(position - 1);
        before.filter(|c| *c == '\n').count()
    });
    match (
        within(error),
        line.and_then(|line| script.lines().nth(line)),
    ) {
        (StoreError::Refused(words), Some(line)) => {
            StoreError::Refused(format!("{words}, at: {}", line.trim()))
        }
        (error, _) => error,
    }
}

/// Whether the same statement may succeed later: class 40 (serialization, deadlock), 55P03 (lock
/// time-out), 57014 (statement time-out), class 53 (no resources), 25P02 never.
fn may_pass(code: &str) -> bool {
    code.starts_with("40") || code.starts_with("53") || matches!(code, "55P03" | "57014")
}

/// An error while getting a connection.
pub(super) fn connecting(error: Error) -> StoreError {
    match &error {
        Error::Database(_) => {
            let code = sqlstate(&error).unwrap_or_default();
            if may_pass(&code) || session_over(&code) {
                StoreError::Unreachable(words(&error))
            } else {
                StoreError::Refused(words(&error))
            }
        }
        Error::Configuration(_) => StoreError::Refused(words(&error)),
        _ => StoreError::Unreachable(words(&error)),
    }
}

/// An error of a statement inside a transaction that was not committed.
pub(crate) fn within(error: &Error) -> StoreError {
    if connection_lost(error) {
        return StoreError::Transient(words(error));
    }
    match sqlstate(error) {
        Some(code) if may_pass(&code) => StoreError::Transient(words(error)),
        _ => StoreError::Refused(words(error)),
    }
}

/// An error that a handler met in statements of its own, on a connection of its transaction or of
/// the store's pool.
pub(crate) fn of_a_handler(error: &Error) -> StoreError {
    match error {
        Error::PoolTimedOut | Error::PoolClosed => StoreError::Unreachable(error.to_string()),
        _ => within(error),
    }
}

/// An error of a statement that is a transaction of its own, or of COMMIT: where the session was
/// lost, it may have happened. A server that shuts down answers a COMMIT with 57P01 even if it
/// has carried it out.
pub(super) fn alone_ref(error: &Error) -> StoreError {
    if connection_lost(error) {
        return StoreError::InDoubt(words(error));
    }
    within(error)
}

/// See [`alone_ref`].
pub(super) fn alone(error: Error) -> StoreError {
    alone_ref(&error)
}

/// A value in a column that cannot be what was written.
pub(super) fn corrupt(what: impl std::fmt::Display) -> StoreError {
    StoreError::Refused(format!("unexpected value in the database: {what}"))
}
