//! The database: who may come in, what the user may do, and whether the server does what the
//! pipeline stands on.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row};

use super::schema::Patient;
use super::sheet::{Chain, Finding, Sheet, Status};
use super::{BOUND, is_cut, port, within};
use redeliver_core::secret::Secret;

const NAMES: &[&str] = &[
    "database url",
    "database port",
    "database login",
    "database version",
    "database schema",
    "database skip locked",
    "database advisory locks",
    "database notify",
    "database connections",
    "database clock",
    "database clean-up",
];

const SHAPE: &str = "write DATABASE_URL as postgres://user:password@host:port/name, with / ? # @ \
    of a user, password or name percent-encoded";

/// Checks the database.
pub(super) async fn check(url: &Secret, name: &str, sheet: &mut Sheet) {
    let mut chain = Chain::new(sheet, NAMES);
    if let Some(options) = arrive(url, &mut chain).await {
        let options = options.application_name(name);
        let patient = Patient::new(options, name);
        patient.examine(&mut chain).await;
        let removed = patient.remove().await;
        chain.note(&removed);
    }
    chain.end();
}

/// Only whether it can be reached, and lets its user in.
pub(super) async fn reach(url: &Secret, sheet: &mut Sheet) {
    arrive(url, &mut Chain::new(sheet, NAMES)).await;
}

/// The checks before anything is made.
async fn arrive(url: &Secret, chain: &mut Chain<'_>) -> Option<PgConnectOptions> {
    let options = chain.must(understand(url))?;
    let port = match options.get_socket() {
        Some(socket) => Ok((
            (),
            Finding::ok(format!("by the Unix socket in {}", socket.display())),
        )),
        None => port::check(
            options.get_host(),
            options.get_port(),
            "PostgreSQL",
            "DATABASE_URL",
        )
        .await
        .map(|(_, finding)| ((), finding)),
    };
    chain.must(port)?;
    let mut connection = chain.must(login(&options).await)?;
    let version = version(&mut connection).await;
    // The pool makes connections of its own; how this one ends does not matter.
    let _ = within(BOUND, connection.close()).await;
    chain.must(version)?;
    Some(options)
}

/// Reads the URL as a run does.
pub(super) fn understand(url: &Secret) -> Result<(PgConnectOptions, Finding), Finding> {
    let wrong = |seen: &str| Finding::missing(seen, SHAPE);
    let text = url.expose();
    if is_cut(url) {
        return Err(wrong(
            "a password or name in the URL is not percent-encoded",
        ));
    }
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
    {
        return Err(wrong("the URL does not begin with postgres://"));
    }
    // The parser's words may repeat the URL.
    let options: PgConnectOptions = text
        .parse()
        .map_err(|_| wrong("the URL cannot be understood"))?;
    let (user, host, port) = (
        options.get_username(),
        options.get_host(),
        options.get_port(),
    );
    let database = options.get_database().unwrap_or(user);
    let seen = format!("user {user} at {host}:{port}, database {database:?}");
    Ok((options, Finding::ok(seen)))
}

async fn login(options: &PgConnectOptions) -> Result<(PgConnection, Finding), Finding> {
    match within(BOUND, PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => {
            let user = options.get_username();
            let database = options.get_database().unwrap_or(user);
            let seen = format!("user {user} may use database {database:?}");
            Ok((connection, Finding::ok(seen)))
        }
        Ok(Err(error)) => Err(refusal(options, &error)),
        Err(late) => {
            let seen = format!("something listens, but the login gets {late}");
            let todo =
                "DATABASE_URL must name the port of PostgreSQL (5432); is the server overloaded?";
            Err(Finding::missing(seen, todo))
        }
    }
}

/// What to do about a refused login.
fn refusal(options: &PgConnectOptions, error: &sqlx::Error) -> Finding {
    let code = error.as_database_error().and_then(|error| error.code());
    let todo = advice(options, code.as_deref());
    let seen = match code {
        Some(code) => format!("{} ({code})", words(error)),
        None => words(error),
    };
    Finding::missing(seen, todo)
}

/// The server's own words, without sqlx's before them.
pub(super) fn words(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

/// What to do about an error at login with this SQLSTATE.
pub(super) fn advice(options: &PgConnectOptions, code: Option<&str>) -> String {
    let user = identifier(options.get_username());
    let database = identifier(options.get_database().unwrap_or(options.get_username()));
    match code {
        Some("28P01") => format!(
            "correct the password in DATABASE_URL, or set it: \
             ALTER ROLE {user} LOGIN PASSWORD '…'; or CREATE ROLE for a role that is not there"
        ),
        Some("28000") => format!(
            "CREATE ROLE {user} LOGIN PASSWORD '…'; where there is one, allow this machine in \
             pg_hba.conf and SELECT pg_reload_conf();"
        ),
        Some("3D000") => format!("CREATE DATABASE {database} OWNER {user};"),
        Some("42501") => format!("GRANT CONNECT ON DATABASE {database} TO {user};"),
        Some("53300") => {
            "close other connections, or ALTER SYSTEM SET max_connections = 200; and restart"
                .to_owned()
        }
        Some("57P03") => "wait until the server has started, then try again".to_owned(),
        Some(_) => "look the code up in PostgreSQL's appendix of error codes".to_owned(),
        None => "DATABASE_URL must name the port of PostgreSQL (5432); TLS (sslmode=require) is \
            not spoken by this build"
            .to_owned(),
    }
}

/// A quoted identifier, for commands that are shown; nothing here is sent to a server.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn version(connection: &mut PgConnection) -> Result<((), Finding), Finding> {
    let text =
        "select current_setting('server_version_num')::int, current_setting('server_version')";
    let todo = "is this PostgreSQL itself, and not something that speaks its protocol?";
    let row = match within(BOUND, sqlx::query(text).fetch_one(connection)).await {
        Ok(Ok(row)) => row,
        Ok(Err(error)) => return Err(Finding::missing(words(&error), todo)),
        Err(late) => return Err(Finding::missing(late, todo)),
    };
    let (number, version): (i32, String) = (row.get(0), row.get(1));
    let finding = judge_version(number, &version);
    match finding.status {
        Status::Missing => Err(finding),
        _ => Ok(((), finding)),
    }
}

/// The store is written for 13 and newer; 18 is the newest that is run against.
pub(super) fn judge_version(number: i32, version: &str) -> Finding {
    let seen = format!("PostgreSQL {version}");
    match number / 10_000 {
        ..13 => Finding::missing(
            seen,
            "install PostgreSQL 13 or newer: docker compose up --wait postgres",
        ),
        13..=18 => Finding::ok(seen),
        _ => Finding::warning(
            seen,
            "newer than any version this was tried with: expect differences",
        ),
    }
}
