//! What a run does in the database, as small as can be, and what it needs of the server beyond
//! its login.

use std::time::{Duration, UNIX_EPOCH};

use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};

use super::database::{identifier, words};
use super::sheet::{Chain, Finding};
use super::{BOUND, LONG, within};
use redeliver_postgres::{PgOptions, PgStore};

/// A clock that differs by more is worth a warning: times in a trace would not be in order.
const APART: f64 = 1.0;

/// A schema as a run makes it.
pub(super) struct Patient {
    pool: PgPool,
    store: Option<PgStore>,
    options: PgConnectOptions,
    name: String,
}

type Seen = Result<Finding, sqlx::Error>;

impl Patient {
    pub(super) fn new(options: PgConnectOptions, name: &str) -> Self {
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

    pub(super) async fn examine(&self, chain: &mut Chain<'_>) {
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
        let log = "look into the server's log";
        let Some(store) = &self.store else {
            return Finding::missing("the name of the schema is refused", log);
        };
        let seen = match within(LONG, store.migrate()).await {
            Ok(Ok(())) => return Finding::ok("a schema and the tables of a run were created"),
            Ok(Err(error)) => error.to_string(),
            Err(late) => {
                return Finding::missing(late, "SELECT * FROM pg_locks WHERE NOT granted;");
            }
        };
        let (user, database) = (self.options.get_username(), self.options.get_database());
        let todo = if seen.contains("42501") {
            let (user, database) = (identifier(user), identifier(database.unwrap_or(user)));
            format!("GRANT CREATE ON DATABASE {database} TO {user};")
        } else if seen.contains("25006") {
            // A standby, or a database that was set so.
            "name a primary server in DATABASE_URL: this one is read-only".to_owned()
        } else {
            log.to_owned()
        };
        Finding::missing(seen, todo)
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
    pub(super) async fn remove(&self) -> Finding {
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
