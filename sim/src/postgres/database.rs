//! A database of its own for one world at a time, made fresh before each.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::backend::{Backend, Side};
use super::server::{Server, Unavailable, own};
use super::wire;

/// Tables in which migrations keep their books: they say which tables there are, not what is in
/// them.
const BOOKS: &str = "'_sqlx_migrations', 'migration', 'refinery_schema_history', \
                     '__diesel_schema_migrations', 'flyway_schema_history'";

/// Lets a copy know when what is in its catalogue changes, but for temporary tables.
const NOTE_CHANGES: &str = "\
    create schema redeliver_kept; \
    create table redeliver_kept.changed (); \
    create function redeliver_kept.note() returns event_trigger language plpgsql \
        security definer as $$ begin \
        if tg_event = 'sql_drop' then \
            if exists (select from pg_event_trigger_dropped_objects() where not is_temporary) then \
                insert into redeliver_kept.changed default values; \
            end if; \
        elsif exists (select from pg_event_trigger_ddl_commands() \
                where schema_name is distinct from 'pg_temp') then \
            insert into redeliver_kept.changed default values; \
        end if; end $$; \
    create event trigger redeliver_changed on ddl_command_end \
        execute function redeliver_kept.note(); \
    create event trigger redeliver_dropped on sql_drop \
        execute function redeliver_kept.note()";

/// After so many worlds the catalogue, which every emptied table has made longer, is cleaned.
const CLEAN_EVERY: u32 = 100;

/// A database of the private server. A thread keeps one from world to world.
#[derive(Debug)]
pub struct Database {
    pub(super) server: Arc<Server>,
    pub(super) name: String,
    pub(super) side: Side,
    idle: Vec<Backend>,
    core: Option<usize>,
    /// Under which clients' sockets lie.
    pub(super) sockets: PathBuf,
    fresh: Fresh,
    worlds: u32,
}

/// How the database is made fresh.
#[derive(Debug, Default)]
struct Fresh {
    /// The database that it is a copy of.
    of: String,
    /// Tables with rows that the migrations have put there, and how these are put back.
    filled: Vec<(String, String)>,
    /// Puts all sequences back.
    sequences: Option<String>,
}

impl Database {
    /// A new, empty one.
    ///
    /// # Errors
    /// Where the server does not do it.
    pub fn empty(server: &Arc<Server>) -> Result<Self, Unavailable> {
        Self::create(server, "template0")
    }

    /// A copy of another one, to which nobody may be connected: see [`Database::close`].
    ///
    /// # Errors
    /// Where the server does not do it.
    pub fn copy(server: &Arc<Server>, of: &str) -> Result<Self, Unavailable> {
        let mut copy = Self::create(server, of)?;
        copy.fresh = Fresh::of(&mut copy.side, of).map_err(failed)?;
        Ok(copy)
    }

    fn create(server: &Arc<Server>, of: &str) -> Result<Self, Unavailable> {
        let number = server.next_database();
        let name = format!("world_{number}");
        let mut first = Side::open(server, "postgres")?;
        // One at a time: the server refuses two copies of one database at once.
        first
            .rows("select pg_advisory_lock(7263)")
            .and_then(|_| first.rows(&format!("create database {name} template {of}")))
            .map_err(failed)?;
        drop(first);
        let sockets = server.folder().join(format!("s{number}"));
        std::fs::create_dir(&sockets)
            .and_then(|()| own(&sockets))
            .map_err(failed)?;
        let side = Side::open(server, &name)?;
        let core = own_core();
        side.pin(core);
        Ok(Self {
            server: server.clone(),
            name,
            side,
            idle: Vec::new(),
            core,
            sockets,
            fresh: Fresh::default(),
            worlds: 0,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Ends all connections to it, so that it can be copied; gives its name.
    ///
    /// # Errors
    /// Where the server does not do it.
    pub fn close(self) -> Result<String, Unavailable> {
        let Self { server, name, .. } = self;
        let mut first = Side::open(&server, "postgres")?;
        // Sessions that were just let go of are on their way out.
        let rest = format!(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{name}'"
        );
        for _ in 0..1_000 {
            let rows = first.rows(&rest).map_err(failed)?;
            if rows.first().and_then(|row| row[0].as_deref()) == Some("0") {
                return Ok(name);
            }
        }
        Err(Unavailable::new(format!("sessions of {name} do not end")))
    }

    /// Puts it back to where its migrations have left it.
    ///
    /// # Errors
    /// Where the server does not do it.
    pub fn refresh(&mut self) -> Result<(), Unavailable> {
        if self.fresh.is_lost(&mut self.side).map_err(failed)? {
            return self.renew();
        }
        self.fresh.restore(&mut self.side).map_err(failed)?;
        self.worlds += 1;
        if self.worlds.is_multiple_of(CLEAN_EVERY) {
            for table in ["pg_class", "pg_index", "pg_attribute", "pg_statistic"] {
                self.side.rows(&format!("vacuum {table}")).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Takes a new copy in its place.
    fn renew(&mut self) -> Result<(), Unavailable> {
        let copy = Self::copy(&self.server, &self.fresh.of)?;
        let old = std::mem::replace(self, copy);
        std::fs::remove_dir_all(&old.sockets).map_err(failed)?;
        let name = old.close()?;
        let mut first = Side::open(&self.server, "postgres")?;
        let dropped = first.rows(&format!("drop database {name}"));
        dropped.map(drop).map_err(failed)
    }

    /// The rows of a statement, outside of any world. For the looks of those who judge.
    ///
    /// # Errors
    /// With the server's message.
    pub fn rows(&mut self, sql: &str) -> io::Result<Vec<Vec<Option<String>>>> {
        self.side.rows(sql)
    }

    /// A session for a client that says this, and whose chance comes from there.
    pub(super) fn session(
        &mut self,
        startup: &Arc<[u8]>,
        now: i64,
        chance: u64,
    ) -> io::Result<Result<Backend, Vec<u8>>> {
        // The one that was used last knows most of the tables still.
        let known = self.idle.iter().rposition(|idle| idle.startup == *startup);
        let mut backend = match known {
            Some(at) => self.idle.remove(at),
            None => match Backend::open(&self.server, startup, true)? {
                Ok(backend) => {
                    backend.pin(self.core);
                    backend
                }
                Err(answer) => return Ok(Err(answer)),
            },
        };
        backend.set_now(now)?;
        backend.set_chance(chance)?;
        backend.forget_timers()?;
        // A double has 53 bits.
        let seed = (chance >> 11) as f64 / (1_u64 << 53) as f64;
        backend.ask(&wire::query(&format!("select setseed({seed})")), 1)?;
        Ok(Ok(backend))
    }

    /// Takes a session back whose client has gone.
    pub(super) fn take_back(&mut self, mut backend: Backend) {
        backend.go_on();
        if backend.reset().is_ok() && backend.status == b'I' {
            self.idle.push(backend);
        }
    }

    pub(super) fn core(&self) -> Option<usize> {
        self.core
    }
}

fn failed(error: impl std::fmt::Display) -> Unavailable {
    Unavailable::new(format!("the private PostgreSQL: {error}"))
}

/// A core of those that this program may use; another one for each database.
fn own_core() -> Option<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    cores.get(next % cores.len().max(1)).copied()
}

impl Fresh {
    /// Looks at a database as its migrations have left it.
    fn of(side: &mut Side, of: &str) -> io::Result<Self> {
        let mut fresh = Self {
            of: of.to_owned(),
            ..Self::default()
        };
        side.rows(NOTE_CHANGES)?;
        let tables = side.rows(&format!(
            "select quote_ident(n.nspname), quote_ident(c.relname), \
                (select string_agg(quote_ident(attname), ', ' order by attnum) \
                 from pg_attribute where attrelid = c.oid and attnum > 0 \
                    and not attisdropped and attgenerated = '') \
             from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
                and c.relname not in ({BOOKS}) and pg_relation_size(c.oid) > 0 \
             order by c.oid"
        ))?;
        for (at, table) in tables.iter().enumerate() {
            let [Some(schema), Some(name), Some(columns)] = &table[..] else {
                continue;
            };
            let full = format!("{schema}.{name}");
            let kept = format!("redeliver_kept.t{at}");
            side.rows(&format!("create table {kept} as table {full}"))?;
            let back = format!(
                "insert into {full} ({columns}) overriding system value \
                 select {columns} from {kept}"
            );
            fresh.filled.push((full, back));
        }
        let sequences = side.rows(
            "select format('select format(''setval(%%L, %%s, %%L)'', %L, last_value, is_called) \
                from %1$s', format('%I.%I', schemaname, sequencename)) \
             from pg_sequences order by schemaname, sequencename",
        )?;
        let mut calls = Vec::new();
        for call in sequences.into_iter().flatten().flatten() {
            // Not from pg_sequences: that knows no value which was set, but never given out.
            calls.extend(side.rows(&call)?.into_iter().flatten().flatten());
        }
        fresh.sequences = (!calls.is_empty()).then(|| format!("select {}", calls.join(", ")));
        // What was just done is no change.
        side.rows("truncate redeliver_kept.changed")?;
        Ok(fresh)
    }

    /// Whether a run has changed what tables there are, which cannot be put back.
    fn is_lost(&self, side: &mut Side) -> io::Result<bool> {
        if self.of.is_empty() {
            return Ok(false);
        }
        let noted = side.rows("select 1 from redeliver_kept.changed limit 1")?;
        Ok(!noted.is_empty())
    }

    fn restore(&self, side: &mut Side) -> io::Result<()> {
        let used = side.rows(&format!(
            "select quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
             from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where c.relkind = 'r' and n.nspname !~ '^pg_' \
                and n.nspname not in ('information_schema', 'redeliver_kept') \
                and c.relname not in ({BOOKS}) and pg_relation_size(c.oid) > 0 \
             order by c.oid"
        ))?;
        let used: Vec<String> = used.into_iter().flatten().flatten().collect();
        // No trigger has a say.
        let mut all = vec!["set local session_replication_role = replica".to_owned()];
        if !used.is_empty() {
            all.push(format!("truncate {} cascade", used.join(", ")));
        }
        all.extend(self.filled.iter().map(|(_, back)| back.clone()));
        if all.len() > 1 {
            side.rows(&all.join("; "))?;
        }
        if let Some(sequences) = &self.sequences {
            side.rows(sequences)?;
        }
        Ok(())
    }
}
