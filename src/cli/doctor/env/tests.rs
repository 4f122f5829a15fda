//! What needs no server: reading URLs, judging what was seen, and keeping passwords.

use super::sheet::{Finding, Status};
use super::{broker, database, schema};
use redeliver_core::secret::Secret;
use redeliver_rabbitmq::amqp::AmqpError;

const PASSWORD: &str = "sesame";

/// URLs with the password where it belongs, and where it does not.
fn urls(scheme: &str) -> Vec<Secret> {
    [
        "app:sesame@localhost:1/name",
        "app:sesame@localhost:1/",
        "app:sesame@localhost",
        ":sesame@localhost:1/name",
        "app:sesame@:1/name",
        "app:sesame@localhost:notaport/name",
        "app:sesame@localhost:1:2/name",
        "app:sesame@[::1]:1/name",
        "app:sesame@local host/name",
        "app:sesame@localhost:1/na%zzme",
        "app:5/sesame@localhost:1/name",
        "app:5?sesame@localhost:1/name",
        "app:5#sesame@localhost:1/name",
        "app:5@local/sesame@localhost:1/name",
        "app:%zz/sesame@localhost:1/name",
        "app:a b sesame@localhost:1/name",
        "app:sesame@localhost:1/name?sslmode=sesame",
        "localhost:1/name?user=app&password=sesame",
    ]
    .iter()
    .map(|rest| Secret::new(format!("{scheme}://{rest}")))
    .collect()
}

#[track_caller]
fn assert_kept(finding: &Finding) {
    let told = format!("{finding:?}");
    assert!(!told.contains(PASSWORD), "{told}");
}

#[test]
fn passwords_are_never_shown() {
    let schemes = ["amqp", "amqps", "postgres", "postgresql", "http", ""];
    for url in schemes.iter().flat_map(|scheme| urls(scheme)) {
        match broker::understand(&url) {
            Err(finding) => assert_kept(&finding),
            Ok((place, finding)) => {
                assert_kept(&finding);
                for error in [
                    AmqpError::Access("403 ACCESS_REFUSED - Login was refused".into()),
                    AmqpError::Access("530 NOT_ALLOWED - vhost name not found".into()),
                    AmqpError::Access("530 NOT_ALLOWED - access to vhost refused".into()),
                    AmqpError::Connection("reset".into()),
                ] {
                    assert_kept(&broker::refusal(&place, &error));
                }
            }
        }
        match database::understand(&url) {
            Err(finding) => assert_kept(&finding),
            Ok((options, finding)) => {
                assert_kept(&finding);
                for code in [
                    "28P01", "28000", "3D000", "42501", "53300", "57P03", "XX000",
                ] {
                    let advice = database::advice(&options, Some(code));
                    assert!(!advice.contains(PASSWORD), "{advice}");
                }
            }
        }
    }
}

#[test]
fn a_url_that_a_run_would_misread_is_missing() {
    for (url, told) in [
        ("amqps://app:x@localhost", "TLS"),
        ("amqp://app:x@[::1]:5672", "IPv6"),
        ("amqp://app:a/b@localhost", "percent-encoded"),
        ("http://localhost", "understood"),
    ] {
        let Err(finding) = broker::understand(&Secret::new(url)) else {
            panic!("{url} is understood");
        };
        assert_eq!(finding.status, Status::Missing);
        assert!(finding.seen.contains(told), "{url}: {finding:?}");
    }
    for url in ["mysql://localhost/x", "postgres://app:a/b@localhost/x"] {
        let refused = database::understand(&Secret::new(url));
        assert!(refused.is_err(), "{url} is understood");
    }
    // A bracket may be in a password.
    let bracket = Secret::new("amqp://app:[x@localhost");
    assert!(broker::understand(&bracket).is_ok());
}

#[test]
fn a_refused_login_says_what_to_do() {
    let place = |url: &str| broker::understand(&Secret::new(url)).map(|(place, _)| place);
    let place = place("amqp://app:x@localhost/orders").unwrap_or_else(|f| panic!("{f:?}"));
    let todo = |words: &str| {
        let finding = broker::refusal(&place, &AmqpError::Access(words.to_owned()));
        assert_eq!(finding.status, Status::Missing);
        finding.todo.unwrap_or_default()
    };
    assert!(todo("403 ACCESS_REFUSED").contains("rabbitmqctl change_password app PASSWORD"));
    let missing = todo("530 NOT_ALLOWED - vhost orders not found");
    assert!(
        missing.contains("rabbitmqctl add_vhost orders"),
        "{missing}"
    );
    let refused = todo("530 NOT_ALLOWED - access to vhost 'orders' refused for user 'app'");
    assert!(
        refused.starts_with("rabbitmqctl set_permissions -p orders app"),
        "{refused}"
    );

    let url = Secret::new("postgres://odd%22name@localhost/orders");
    let (options, _) = database::understand(&url).unwrap_or_else(|f| panic!("{f:?}"));
    let advice = |code| database::advice(&options, Some(code));
    assert!(advice("28P01").contains("ALTER ROLE \"odd\"\"name\" LOGIN PASSWORD"));
    assert_eq!(
        advice("3D000"),
        "CREATE DATABASE \"orders\" OWNER \"odd\"\"name\";"
    );
    assert!(advice("42501").starts_with("GRANT CONNECT ON DATABASE \"orders\""));
}

#[test]
fn versions_are_held_against_what_is_known() {
    for (version, status, told) in [
        (Some("3.9.29"), Status::Missing, "TTL"),
        (Some("3.10.8"), Status::Ok, "rabbitmq-3.10"),
        (Some("3.13.7"), Status::Ok, "rabbitmq-3.13"),
        (Some("4.0.0-rc.1"), Status::Ok, "rabbitmq-4.0"),
        (Some("4.2.2"), Status::Ok, "rabbitmq-4.0"),
        (Some("4.3.5"), Status::Ok, "rabbitmq-4.3"),
        (Some("4.4.0"), Status::Warning, "newer"),
        (Some("5.0.0"), Status::Warning, "newer"),
        (Some("tip"), Status::Warning, "cannot be read"),
        (None, Status::Warning, "unknown"),
    ] {
        let finding = broker::judge_version(version);
        assert_eq!(finding.status, status, "{version:?}: {finding:?}");
        assert!(finding.seen.contains(told), "{version:?}: {finding:?}");
    }
    let status = |number| database::judge_version(number, "").status;
    assert_eq!(status(120_022), Status::Missing);
    assert_eq!(status(130_000), Status::Ok);
    assert_eq!(status(180_006), Status::Ok);
    assert_eq!(status(190_000), Status::Warning);
}

#[test]
fn clocks_and_connections_are_judged_at_their_bounds() {
    let clock = |before, there, after| schema::judge_clock(before, there, after).status;
    assert_eq!(clock(100.0, 100.0, 100.0), Status::Ok);
    assert_eq!(clock(100.0, 101.1, 100.0), Status::Warning);
    assert_eq!(clock(100.0, 98.9, 100.0), Status::Warning);
    // A slow answer proves nothing.
    assert_eq!(clock(100.0, 103.0, 104.0), Status::Ok);

    let connections = |free, own| schema::judge_connections(100, free, own, "app");
    assert_eq!(connections(11, None).status, Status::Ok);
    assert_eq!(connections(10, None).status, Status::Missing);
    assert_eq!(connections(50, Some(10)).status, Status::Missing);
    assert_eq!(connections(50, Some(11)).status, Status::Ok);
    let todo = connections(1, None).todo.unwrap_or_default();
    assert!(
        todo.starts_with("ALTER SYSTEM SET max_connections = 200"),
        "{todo}"
    );
}
