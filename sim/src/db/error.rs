//! What a statement answers when it cannot be done.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// An error as PostgreSQL reports it (PostgreSQL documentation, appendix A, "Error Codes").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// The SQLSTATE, five characters.
    pub code: &'static str,
    /// The primary message, worded as PostgreSQL words it where that is known.
    pub message: Cow<'static, str>,
    /// The violated constraint, for class 23.
    pub constraint: Option<Arc<str>>,
}

impl SqlError {
    /// `unique_violation`.
    pub const UNIQUE_VIOLATION: &'static str = "23505";
    /// `in_failed_sql_transaction`.
    pub const IN_FAILED_TRANSACTION: &'static str = "25P02";
    /// `serialization_failure`. READ COMMITTED never raises it; a fault may.
    pub const SERIALIZATION_FAILURE: &'static str = "40001";
    /// `deadlock_detected`.
    pub const DEADLOCK_DETECTED: &'static str = "40P01";
    /// `lock_not_available`, from `NOWAIT` or `lock_timeout`.
    pub const LOCK_NOT_AVAILABLE: &'static str = "55P03";
    /// `query_canceled`, from `statement_timeout` or a cancel request.
    pub const QUERY_CANCELED: &'static str = "57014";
    /// `admin_shutdown`: the server ended the session.
    pub const ADMIN_SHUTDOWN: &'static str = "57P01";
    /// `connection_does_not_exist`: the client itself had closed the session.
    pub const CONNECTION_DOES_NOT_EXIST: &'static str = "08003";

    /// An error without a constraint, for a caller that injects one.
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            constraint: None,
        }
    }

    /// Whether the same transaction, run again from its beginning, may succeed.
    ///
    /// Says nothing about whether a commit that was cut took place: after a lost connection the
    /// outcome of `COMMIT` is in doubt, and that is for the caller to resolve.
    pub fn is_transient(&self) -> bool {
        let class = self.code.get(..2);
        matches!(class, Some("08" | "40" | "53"))
            || matches!(
                self.code,
                Self::LOCK_NOT_AVAILABLE
                    | Self::QUERY_CANCELED
                    | Self::ADMIN_SHUTDOWN
                    | "57P02"
                    | "57P03"
            )
    }

    /// Whether the session is gone, so that only a new connection helps.
    pub fn ends_session(&self) -> bool {
        self.code.starts_with("08") || matches!(self.code, Self::ADMIN_SHUTDOWN | "57P02" | "57P03")
    }

    pub(super) fn unique_violation(constraint: Arc<str>) -> Self {
        Self {
            code: Self::UNIQUE_VIOLATION,
            message: format!("duplicate key value violates unique constraint \"{constraint}\"")
                .into(),
            constraint: Some(constraint),
        }
    }

    pub(super) fn in_failed_transaction() -> Self {
        Self::new(
            Self::IN_FAILED_TRANSACTION,
            "current transaction is aborted, commands ignored until end of transaction block",
        )
    }

    pub(super) fn deadlock_detected() -> Self {
        Self::new(Self::DEADLOCK_DETECTED, "deadlock detected")
    }

    pub(super) fn lock_not_available(table: &str) -> Self {
        Self::new(
            Self::LOCK_NOT_AVAILABLE,
            format!("could not obtain lock on row in relation \"{table}\""),
        )
    }

    pub(super) fn query_canceled() -> Self {
        Self::new(
            Self::QUERY_CANCELED,
            "canceling statement due to statement timeout",
        )
    }

    pub(super) fn admin_shutdown() -> Self {
        Self::new(
            Self::ADMIN_SHUTDOWN,
            "terminating connection due to administrator command",
        )
    }

    pub(super) fn no_such_session() -> Self {
        Self::new(Self::CONNECTION_DOES_NOT_EXIST, "connection does not exist")
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for SqlError {}
