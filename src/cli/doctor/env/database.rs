//! The database: who may come in, what the user may do, and whether the server does what the
//! pipeline stands on.

use std::time::{Duration, UNIX_EPOCH};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::sheet::{Chain, Finding, Sheet};
use super::{BOUND, LONG, is_cut, port, within};
use crate::harness::run::Secret;
use crate::store::postgres::{PgOptions, PgStore};

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

/// A clock that differs by more is worth a warning: times in a trace would not be in order.
const APART: f64 = 1.0;

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
fn words(error: &sqlx::Error) -> String {
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
fn identifier(name: &str) -> String {
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
        super::sheet::Status::Missing => Err(finding),
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

/// A schema as a run makes it.
struct Patient {
    pool: PgPool,
    store: Option<PgStore>,
    options: PgConnectOptions,
    name: String,
}

type Seen = Result<Finding, sqlx::Error>;

impl Patient {
    fn new(options: PgConnectOptions, name: &str) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(3)
            .acquire_timeout(BOUND)
            .connect_lazy_with(options.clone());
        // The name is ours, and the options are the defaults: nothing to refuse.
        let store = PgStore::with_pool(pool.clone(), PgOptions::in_schema(name)).ok();
        Self {
            pool,
            store,
            options,
            name: name.to_owned(),
        }
    }

    async fn examine(&self, chain: &mut Chain<'_>) {
        let made = self.make().await;
        let has_schema = made.todo.is_none();
        chain.note(&made);
        if has_schema && chain.goes_on() {
            chain.note(&found(within(LONG, self.skip_locked()).await));
        } else {
            chain.skip(if has_schema {
                "stopped"
            } else {
                "database schema is missing"
            });
        }
        if !chain.goes_on() {
            (0..4).for_each(|_| chain.skip("stopped"));
            return;
        }
        chain.note(&found(within(LONG, self.advisory_locks()).await));
        let heard = within(BOUND * 2, self.notify()).await;
        chain.note(&judge_notify(heard));
        chain.note(&found(within(LONG, self.connections()).await));
        chain.note(&found(within(LONG, self.clock()).await));
    }

    /// The schema with all tables of a run.
    async fn make(&self) -> Finding {
        let user = identifier(self.options.get_username());
        let database = self
            .options
            .get_database()
            .unwrap_or(self.options.get_username());
        let todo = format!(
            "GRANT CREATE ON DATABASE {} TO {user};",
            identifier(database)
        );
        let Some(store) = &self.store else {
            return Finding::missing("the name of the schema is refused", todo);
        };
        match within(LONG, store.migrate()).await {
            Ok(Ok(())) => Finding::ok("a schema and the tables of a run were created"),
            Ok(Err(error)) => {
                let seen = error.to_string();
                // A standby, or a database that was set so.
                let todo = match seen.contains("25006") {
                    true => "name a primary server in DATABASE_URL: this one is read-only".into(),
                    false => todo,
                };
                Finding::missing(seen, todo)
            }
            Err(late) => Finding::missing(late, "SELECT * FROM pg_locks WHERE NOT granted;"),
        }
    }

    /// A relay takes rows that no other one holds.
    async fn skip_locked(&self) -> Seen {
        let sql = |text: &str| AssertSqlSafe(text.replace("$schema", &self.name));
        let insert = sql("insert into $schema.migration (version) values (-1), (-2)");
        sqlx::query(insert).execute(&self.pool).await?;
        let take = "select version from $schema.migration where version < 0 order by version \
            limit 1 for update skip locked";
        let (mut one, mut other) = (self.pool.begin().await?, self.pool.begin().await?);
        let first: Option<i32> = sqlx::query_scalar(sql(take))
            .fetch_optional(&mut *one)
            .await?;
        let second: Option<i32> = sqlx::query_scalar(sql(take))
            .fetch_optional(&mut *other)
            .await?;
        one.rollback().await?;
        other.rollback().await?;
        Ok(match (first, second) {
            (Some(-2), Some(-1)) => Finding::ok("two sessions take different rows"),
            seen => Finding::missing(
                format!("two sessions take {seen:?} instead of different rows"),
                "name a PostgreSQL server itself in DATABASE_URL",
            ),
        })
    }

    /// Tables are made by one process at a time.
    async fn advisory_locks(&self) -> Seen {
        let take = "select pg_try_advisory_xact_lock(hashtext('redeliver doctor'), hashtext($1))";
        let take = || sqlx::query_scalar::<_, bool>(take).bind(&self.name);
        let (mut one, mut other) = (self.pool.begin().await?, self.pool.begin().await?);
        let held = take().fetch_one(&mut *one).await?;
        let refused = !take().fetch_one(&mut *other).await?;
        one.rollback().await?;
        let freed = take().fetch_one(&mut *other).await?;
        other.rollback().await?;
        Ok(match held && refused && freed {
            true => Finding::ok("one session holds a lock, another waits for it"),
            false => Finding::missing(
                format!("held {held}, refused to another {refused}, free again {freed}"),
                "name a PostgreSQL server itself in DATABASE_URL",
            ),
        })
    }

    /// A commit wakes relays. Gives how long it took.
    async fn notify(&self) -> Result<Duration, sqlx::Error> {
        let options = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BOUND);
        let pool = options.connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(&format!("{}_doctor", self.name)).await?;
        let began = std::time::Instant::now();
        sqlx::query("select pg_notify($1 || '_doctor', 'wake up')")
            .bind(&self.name)
            .execute(&self.pool)
            .await?;
        listener.recv().await?;
        Ok(began.elapsed())
    }

    /// Counts the connections that a run could still open.
    async fn connections(&self) -> Seen {
        let row = sqlx::query(
            "select current_setting('max_connections')::int, \
                case when r.rolsuper then 0 else \
                    current_setting('superuser_reserved_connections')::int + \
                    coalesce(current_setting('reserved_connections', true)::int, 0) end, \
                (select count(*)::int from pg_stat_activity where datid is not null \
                    and coalesce(backend_type, 'client backend') = 'client backend' \
                    and coalesce(application_name, '') <> $1), \
                r.rolconnlimit, \
                (select count(*)::int from pg_stat_activity where usename = current_user \
                    and application_name <> $1) \
             from pg_roles r where r.rolname = current_user",
        )
        .bind(&self.name)
        .fetch_one(&self.pool)
        .await?;
        let number = |column: usize| row.get::<i32, _>(column);
        let free = number(0) - number(1) - number(2);
        let own = (number(3) >= 0).then(|| number(3) - number(4));
        Ok(judge_connections(
            number(0),
            free,
            own,
            self.options.get_username(),
        ))
    }

    /// Compares the clocks; what the question itself takes is given the benefit of the doubt.
    async fn clock(&self) -> Seen {
        let text = "select extract(epoch from clock_timestamp())::float8";
        let mut connection = self.pool.acquire().await?;
        let before = epoch();
        let there: f64 = sqlx::query_scalar(text).fetch_one(&mut *connection).await?;
        Ok(judge_clock(before, there, epoch()))
    }

    /// Drops the schema and sees that it is gone.
    async fn remove(&self) -> Finding {
        let name = &self.name;
        let dropped = match &self.store {
            Some(store) => within(LONG, store.drop_schema()).await,
            None => Ok(Ok(())),
        };
        let there = "select exists (select from pg_namespace where nspname = $1)";
        let there = sqlx::query_scalar::<_, bool>(there).bind(name);
        let there = within(BOUND, there.fetch_one(&self.pool)).await;
        // Open transactions were given up; nobody waits for long.
        let _ = within(BOUND, self.pool.close()).await;
        let why = match (dropped, there) {
            // Whoever may not drop could not create: only what is there counts.
            (_, Ok(Ok(false))) => return Finding::ok("nothing is left in the database"),
            (Ok(Err(error)), _) => error.to_string(),
            (Err(late), _) | (_, Err(late)) => late,
            (_, Ok(Err(error))) => words(&error),
            (_, Ok(Ok(true))) => "it is still there".to_owned(),
        };
        let todo = format!("DROP SCHEMA IF EXISTS {name} CASCADE;");
        Finding::missing(format!("schema {name} may be left: {why}"), todo)
    }
}

fn found(seen: Result<Seen, String>) -> Finding {
    let todo = "look into the server's log";
    match seen {
        Ok(Ok(finding)) => finding,
        Ok(Err(error)) => Finding::missing(words(&error), todo),
        Err(late) => Finding::missing(late, todo),
    }
}

/// Relays also poll: without it a run is slow and not wrong.
fn judge_notify(heard: Result<Result<Duration, sqlx::Error>, String>) -> Finding {
    let why = match heard {
        Ok(Ok(took)) => return Finding::ok(format!("heard after {} ms", took.as_millis())),
        Ok(Err(error)) => words(&error),
        Err(late) => format!("LISTEN hears nothing, {late}"),
    };
    let todo = "name the server itself, not a pooler; relays will poll, and be slower";
    Finding::warning(why, todo)
}

/// `own` is what the user's limit leaves, where there is one.
pub(super) fn judge_connections(all: i32, free: i32, own: Option<i32>, user: &str) -> Finding {
    // And the one that listens.
    let needed = PgOptions::default().connections as i32 + 1;
    let user = identifier(user);
    if let Some(own) = own.filter(|own| *own < needed) {
        let seen = format!("user {user} may open {own} more, a run opens {needed}");
        let todo = format!("ALTER ROLE {user} CONNECTION LIMIT -1;");
        return Finding::missing(seen, todo);
    }
    let seen = format!("{free} of {all} are free, a run opens up to {needed}");
    if free >= needed {
        return Finding::ok(seen);
    }
    let wanted = all + (needed - free).max(100);
    let todo = format!("ALTER SYSTEM SET max_connections = {wanted}; and restart the server");
    Finding::missing(seen, todo)
}

fn epoch() -> f64 {
    UNIX_EPOCH
        .elapsed()
        .map_or(0.0, |since| since.as_secs_f64())
}

/// `there` was read between `before` and `after`.
pub(super) fn judge_clock(before: f64, there: f64, after: f64) -> Finding {
    let apart = there - f64::midpoint(before, after);
    let doubt = (after - before) / 2.0;
    let direction = if apart < 0.0 { "behind" } else { "ahead of" };
    let seen = format!(
        "the server's is {:.3} s {direction} this machine's",
        apart.abs()
    );
    if apart.abs() - doubt <= APART {
        return Finding::ok(seen);
    }
    Finding::warning(seen, "timedatectl set-ntp true, on the one that is wrong")
}
