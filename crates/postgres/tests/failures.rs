//! Errors of a handler, and what the store makes of those of its client.

use redeliver_core::ports::{ServiceError, StoreError};
use redeliver_pipeline::handler::Failure;
use redeliver_postgres::PgStore;

/// An error of a team's own, with the client's beneath it.
#[derive(Debug, thiserror::Error)]
#[error("the charge cannot be noted")]
struct NotNoted(#[source] sqlx::Error);

/// An error that no store knows.
#[derive(Debug, thiserror::Error)]
#[error("the price list is empty")]
struct NoPrices;

fn broken() -> std::io::Error {
    std::io::Error::other("connection reset")
}

fn judged(failure: impl Into<Failure>) -> Failure {
    failure.into().judged::<PgStore>()
}

#[test]
fn the_store_judges_errors_of_its_client() {
    let lost = judged(sqlx::Error::Io(broken()));
    assert!(
        matches!(lost, Failure::Store(StoreError::Transient(_))),
        "{lost:?}"
    );
    let wrong = judged(sqlx::Error::RowNotFound);
    assert!(
        matches!(wrong, Failure::Store(StoreError::Refused(_))),
        "{wrong:?}"
    );
}

/// A database that cannot be reached is no failure of the message: it is parked, uncounted.
#[test]
fn a_pool_without_a_connection_is_no_failure_of_the_message() {
    let none = judged(sqlx::Error::PoolTimedOut);
    assert!(
        matches!(none, Failure::Store(StoreError::Unreachable(_))),
        "{none:?}"
    );
}

#[test]
fn it_finds_them_beneath_a_teams_own() {
    let lost = judged(NotNoted(sqlx::Error::Io(broken())));
    assert!(
        matches!(lost, Failure::Store(StoreError::Transient(_))),
        "{lost:?}"
    );
}

#[test]
fn an_error_that_nobody_knows_is_tried_again() {
    let unknown = judged(NoPrices);
    assert_eq!(unknown.class(), "error");
    assert_eq!(unknown.to_string(), "error: the price list is empty");
    assert!(matches!(unknown, Failure::Transient { .. }), "{unknown:?}");
}

#[test]
fn errors_of_the_ports_are_judged_by_what_they_say() {
    let store = judged(StoreError::InDoubt("cut".into()));
    assert!(
        matches!(store, Failure::Store(StoreError::InDoubt(_))),
        "{store:?}"
    );
    let refused = judged(ServiceError::Refused {
        service: "payments",
        reason: "stolen".to_owned(),
    });
    assert!(
        matches!(
            refused,
            Failure::Poison {
                class: "service-refused",
                ..
            }
        ),
        "{refused:?}"
    );
    let doubt = judged(ServiceError::InDoubt {
        service: "payments",
        reason: "reset".to_owned(),
    });
    assert!(
        matches!(
            doubt,
            Failure::Transient {
                class: "service-in-doubt",
                ..
            }
        ),
        "{doubt:?}"
    );
}
